//! Short-lived tokens: what they are good for, signed (HMAC-SHA256, RFC 2104) under a key that all replicas share.
//!
//! One names the robot's token it was traded for by that token's hash, so that whoever reads it looks again whether
//! that still counts: revocation works on these too. Of what the robot may it carries what was asked for. One for
//! nobody in particular names none, and is good for what anyone may.

use std::time::Duration;

use artifactapi_model::{Digest, Timestamp, account::Scopes};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};

/// How each begins; the number is the version of what follows.
pub(super) const PREFIX: &str = "aapi-s1.";
/// How long one is good.
pub(super) const LIFE: Duration = Duration::from_secs(300);
/// How far clocks of replicas may be apart (RS-95).
const LEEWAY: Duration = Duration::from_secs(60);
/// Longest that is read, in bytes.
const MAX_LENGTH: usize = 8 << 10;

/// What a short-lived token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// Hash of the robot's token; `None` = nobody in particular.
    pub(super) token: Option<Digest>,
    /// What it is good for.
    pub(super) scopes: Scopes,
    /// When it was made.
    pub(super) issued: Timestamp,
}

/// The same on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Milliseconds since 1970.
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tok: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scp: Vec<(String, Vec<artifactapi_model::account::Action>)>,
}

/// Makes and reads them.
pub(super) struct Signer {
    key: hmac::Key,
}

impl Signer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Signer { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The token that says `claims`.
    pub(super) fn sign(&self, claims: &Claims) -> String {
        let scp =
            claims.scopes.iter().map(|(name, actions)| (name.to_string(), actions.iter().copied().collect()));
        let wire = Wire { iat: claims.issued.0, tok: claims.token.map(Digest::to_hex), scp: scp.collect() };
        // Strings and numbers always serialise.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default());
        let text = format!("{PREFIX}{payload}");
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, text.as_bytes()));
        format!("{text}.{mac}")
    }

    /// What `text` says, if it was signed with this key and is good at `now`.
    pub(super) fn read(&self, text: &str, now: Timestamp) -> Option<Claims> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (signed, mac) = text.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &mac).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(signed.strip_prefix(PREFIX)?).ok()?;
        let Wire { iat, tok, scp } = serde_json::from_slice(&payload).ok()?;
        let issued = Timestamp(iat);
        let is_over = now >= issued + LIFE + LEEWAY;
        let is_to_come = issued > now + LEEWAY;
        if is_over || is_to_come {
            return None;
        }
        let token = tok.map(|hex| hex.parse()).transpose().ok()?;
        let scope =
            |(name, actions): (String, Vec<_>)| Some((name.parse().ok()?, actions.into_iter().collect()));
        Some(Claims { token, scopes: scp.into_iter().map(scope).collect::<Option<_>>()?, issued })
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::account::Action;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn claims() -> Claims {
        Claims {
            token: Some(Digest::of(b"token")),
            scopes: Scopes::from([("tools".parse().unwrap(), [Action::Pull, Action::Push].into())]),
            issued: NOW,
        }
    }

    #[test]
    fn what_is_signed_is_read_for_as_long_as_it_lives() {
        let signer = Signer::new(&[1; 32]);
        let text = signer.sign(&claims());
        assert!(text.is_ascii() && text.starts_with(PREFIX) && !text.contains(['+', '/', '=']));
        assert_eq!(signer.read(&text, NOW), Some(claims()));
        let nobody = Claims { token: None, scopes: Scopes::new(), issued: NOW };
        assert_eq!(signer.read(&signer.sign(&nobody), NOW), Some(nobody));
        for (at, good) in
            [(-61_000, false), (-60_000, true), (300_000, true), (359_999, true), (360_000, false)]
        {
            assert_eq!(signer.read(&text, Timestamp(NOW.0 + at)).is_some(), good, "{at}");
        }
        assert_eq!(Signer::new(&[2; 32]).read(&text, NOW), None, "another key");
    }

    proptest! {
        #[test]
        fn nothing_can_be_changed(at in any::<proptest::sample::Index>(), other in "[A-Za-z0-9._-]") {
            let signer = Signer::new(&[1; 32]);
            let text = signer.sign(&claims());
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &other);
            // The last character of a MAC has bits that do not count.
            if changed != text && at + 1 < text.len() {
                prop_assert_eq!(signer.read(&changed, NOW), None, "{}", changed);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,80}|aapi-s1\\.[A-Za-z0-9_.-]{0,80}") {
            prop_assert_eq!(Signer::new(&[1; 32]).read(&text, NOW), None);
        }
    }
}
