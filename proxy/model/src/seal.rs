//! Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key from outside, bound to where they are stored.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    rand::{SecureRandom, SystemRandom},
};

/// Form and version of what is sealed.
const PREFIX: &str = "sealed:v1:";
/// Fewest characters of a key in text form that is not 32 encoded bytes.
const MIN_PASSPHRASE: usize = 32;

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key given is too short.
    #[error("it must be 32 random bytes in base64 or hex, or at least {MIN_PASSPHRASE} characters")]
    WeakKey,
    /// It was sealed under another key.
    #[error("it was sealed with another encryption key")]
    OtherKey,
    /// It is no sealed text, or was changed, or belongs elsewhere.
    #[error("it is damaged or was stored for something else")]
    Damaged,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// Seals and opens texts under one key.
#[derive(Clone)]
pub struct Sealer {
    key: LessSafeKey,
    id: String,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.id)
    }
}

impl Sealer {
    /// A sealer under `key`: 32 bytes in base64 or hex, or a passphrase of at least 32 characters.
    ///
    /// # Errors
    /// [`SealError::WeakKey`].
    pub fn new(key: &str) -> Result<Self, SealError> {
        let key = key.trim();
        let decoded =
            hex::decode(key).ok().or_else(|| STANDARD.decode(key).ok()).filter(|raw| raw.len() == 32);
        let bytes = match decoded {
            Some(raw) => raw,
            None if key.chars().count() >= MIN_PASSPHRASE => {
                digest::digest(&digest::SHA256, key.as_bytes()).as_ref().to_vec()
            }
            None => return Err(SealError::WeakKey),
        };
        let id = hex::encode(
            &digest::digest(&digest::SHA256, &[b"id:".as_slice(), &bytes].concat()).as_ref()[..4],
        );
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::WeakKey)?;
        Ok(Sealer { key: LessSafeKey::new(key), id })
    }

    /// Names the key without telling anything about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals `secret` for `place` (a row's name): moved elsewhere it cannot be opened.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn seal(&self, place: &str, secret: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .map_err(|_| SealError::NoRandomness)?;
        Ok(format!("{PREFIX}{}:{}", self.id, STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens what [`Sealer::seal`] made for `place`.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::Damaged`].
    pub fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let (id, text) =
            sealed.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).ok_or(SealError::Damaged)?;
        if id != self.id {
            return Err(SealError::OtherKey);
        }
        let bytes = STANDARD.decode(text).map_err(|_| SealError::Damaged)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut body = body.to_vec();
        let opened =
            self.key.open_in_place(nonce, Aad::from(place), &mut body).map_err(|_| SealError::Damaged)?;
        Ok(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_same_key_and_place_open_it() {
        let sealer = Sealer::new(KEY).unwrap();
        let sealed = sealer.seal("Secret default/a", b"password").unwrap();
        assert!(!sealed.contains("password"));
        assert_ne!(sealed, sealer.seal("Secret default/a", b"password").unwrap(), "a nonce each");
        assert_eq!(sealer.open("Secret default/a", &sealed).unwrap(), b"password");
        assert_eq!(sealer.open("Secret default/b", &sealed), Err(SealError::Damaged));
        let other = Sealer::new("a passphrase that is long enough for this").unwrap();
        assert_eq!(other.open("Secret default/a", &sealed), Err(SealError::OtherKey));
        for at in [PREFIX.len() + 9, PREFIX.len() + 30, sealed.len() - 2] {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(sealer.open("Secret default/a", &changed), Err(SealError::Damaged), "{at}");
        }
        for foreign in ["", "password", "sealed:v1:", "sealed:v1:00:AA=="] {
            assert!(sealer.open("", foreign).is_err());
        }
    }

    #[test]
    fn weak_keys_are_refused() {
        for weak in ["", "short", "c2hvcnQ=", &"x".repeat(31)] {
            assert_eq!(Sealer::new(weak).unwrap_err(), SealError::WeakKey, "{weak}");
        }
        let hex = Sealer::new(KEY).unwrap();
        let base64 = Sealer::new(&STANDARD.encode(hex::decode(KEY).unwrap())).unwrap();
        assert_eq!(hex.id(), base64.id(), "two spellings of one key");
    }
}
