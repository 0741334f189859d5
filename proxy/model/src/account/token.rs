//! The secret a robot shows: `aapi_`, 40 random characters, and a checksum of both.
//!
//! The prefix lets scanners of source code find a token that was lost; the checksum lets us turn away what is none
//! without asking the database. Only the SHA-256 of a token is ever stored: with 238 random bits nothing slower is
//! needed.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

use crate::digest::Digest;

/// How every token begins.
pub const PREFIX: &str = "aapi_";
/// Random characters.
const RANDOM: usize = 40;
/// Characters of the checksum: 62^6 is more than 2^32.
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// A token in the clear. It is shown once, when it is made, and never again.
#[derive(Clone)]
pub struct RobotToken(SecretString);

impl fmt::Debug for RobotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RobotToken({})", self.id())
    }
}

impl RobotToken {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let random = SystemRandom::new();
        let mut text = PREFIX.to_owned();
        let mut bytes = [0; 64];
        while text.len() < PREFIX.len() + RANDOM {
            random.fill(&mut bytes).map_err(|_| NoRandomness)?;
            // 248 is the largest multiple of 62 in a byte: each character is as likely as any other.
            let even = bytes.iter().filter(|byte| **byte < 248);
            let characters = even.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
            text.extend(characters.take(PREFIX.len() + RANDOM - text.len()));
        }
        text.push_str(&check_of(&text));
        Ok(RobotToken(text.into()))
    }

    /// Reads one; `None` for what cannot be a token of ours, whatever the database holds.
    pub fn parse(text: &str) -> Option<Self> {
        let is_long = text.len() == PREFIX.len() + RANDOM + CHECK;
        if !is_long || !text.starts_with(PREFIX) || !text.is_ascii() {
            return None;
        }
        let (body, check) = text.split_at(PREFIX.len() + RANDOM);
        let is_random = body[PREFIX.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_random && check == check_of(body)).then(|| RobotToken(text.into()))
    }

    /// The text, to be handed to its owner.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the database knows it by.
    pub fn hash(&self) -> Digest {
        Digest::of(self.expose().as_bytes())
    }

    /// What people call it.
    pub fn id(&self) -> TokenId {
        TokenId::of(&self.hash())
    }
}

/// CRC-32 in base 62, with leading zeros.
fn check_of(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % 62];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// Names a token without letting anyone use it: the beginning of its hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

/// Hex digits of a [`TokenId`].
const ID: usize = 12;

/// A text that is no token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's id is 12 hex digits, as `token list` shows them")]
pub struct InvalidTokenId;

impl TokenId {
    /// The id of the token with this hash.
    pub fn of(hash: &Digest) -> Self {
        let mut hex = hash.to_hex();
        hex.truncate(ID);
        TokenId(hex)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = InvalidTokenId;
    fn from_str(text: &str) -> Result<Self, InvalidTokenId> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID && text.bytes().all(hex) {
            Ok(TokenId(text.to_owned()))
        } else {
            Err(InvalidTokenId)
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_token_is_read_again_and_tells_nothing() {
        let (one, two) = (RobotToken::generate().unwrap(), RobotToken::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), 51);
        let read = RobotToken::parse(one.expose()).unwrap();
        assert_eq!((read.hash(), read.id()), (one.hash(), one.id()));
        assert_eq!(one.id().as_str().parse(), Ok(one.id()));
        let shown = format!("{one:?}");
        assert!(!shown.contains(&one.expose()[5..]), "{shown}");
    }

    #[test]
    fn the_form_does_not_change() {
        // Tokens that are out there must be read by every later release; the checksum was computed elsewhere.
        let text = format!("aapi_{}1NzlWF", "0123456789".repeat(4));
        assert_eq!(RobotToken::parse(&text).map(|token| token.expose().to_owned()), Some(text));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(random in "[0-9A-Za-z]{40}") {
            let body = format!("{PREFIX}{random}");
            let text = format!("{body}{}", check_of(&body));
            prop_assert!(RobotToken::parse(&text).is_some_and(|token| token.expose() == text));
        }

        #[test]
        fn one_wrong_character_is_noticed(random in "[0-9A-Za-z]{40}", at in 0..51_usize, other in "[0-9A-Za-z_]") {
            let body = format!("{PREFIX}{random}");
            let mut text = format!("{body}{}", check_of(&body));
            if text[at..=at] != other {
                text.replace_range(at..=at, &other);
                prop_assert!(RobotToken::parse(&text).is_none(), "{}", text);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}|aapi_\\PC{0,50}") {
            let _ = RobotToken::parse(&text);
            let _ = text.parse::<TokenId>();
        }
    }
}
