//! Codes by which twins recognise each other: HMAC-SHA-256 (RFC 2104) under the shared key.

use artifactapi_model::{ArtifactKey, Epoch, RepoId};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use url::form_urlencoded;

/// Length of a code, in bytes.
pub(super) const LENGTH: usize = 32;

/// The shared key.
#[derive(Clone)]
pub struct PeerKey(hmac::Key);

/// What is asked: which fill, and a number used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) key: ArtifactKey,
    pub(super) nonce: String,
}

impl Question {
    /// About the fill of `key`. `None` when the machine has no random numbers.
    pub(super) fn new(key: &ArtifactKey) -> Option<Self> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).ok()?;
        Some(Question { key: key.clone(), nonce: hex::encode(nonce) })
    }

    /// As the query of a URL.
    pub(super) fn to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("repo", &self.key.repo.0.to_string())
            .append_pair("epoch", &self.key.epoch.0.to_string())
            .append_pair("path", &self.key.path)
            .append_pair("nonce", &self.nonce)
            .finish()
    }

    /// Reads such a query.
    pub(super) fn of_query(query: &str) -> Option<Self> {
        let find =
            |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, v)| v);
        let key = ArtifactKey {
            repo: RepoId(find("repo")?.parse().ok()?),
            epoch: Epoch(find("epoch")?.parse().ok()?),
            path: find("path")?.into(),
        };
        Some(Question { key, nonce: find("nonce")?.into_owned() })
    }
}

impl PeerKey {
    /// The key made of `secret`, which every replica has.
    pub fn new(secret: &[u8]) -> Self {
        PeerKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The asker's code over its query, in hex.
    pub(super) fn of_question(&self, query: &str) -> String {
        hex::encode(self.sign(b"question", &[query.as_bytes()]).as_ref())
    }

    /// Whether `code` is the asker's over `query`; takes the same time whatever is wrong.
    pub(super) fn is_of_question(&self, query: &str, code: &str) -> bool {
        let Ok(code) = hex::decode(code) else { return false };
        hmac::verify(&self.0, &message(b"question", &[query.as_bytes()]), &code).is_ok()
    }

    /// The answerer's code over what it said of the body and how it ended.
    pub(super) fn of_answer(&self, nonce: &str, head: &[u8], end: &[u8]) -> hmac::Tag {
        self.sign(b"answer", &[nonce.as_bytes(), head, end])
    }

    /// Whether `code` is the answerer's.
    pub(super) fn is_of_answer(&self, nonce: &str, head: &[u8], end: &[u8], code: &[u8]) -> bool {
        hmac::verify(&self.0, &message(b"answer", &[nonce.as_bytes(), head, end]), code).is_ok()
    }

    fn sign(&self, purpose: &[u8], parts: &[&[u8]]) -> hmac::Tag {
        hmac::sign(&self.0, &message(purpose, parts))
    }
}

/// The parts with their lengths, so that no two lists of parts are the same message.
fn message(purpose: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in std::iter::once(&purpose).chain(parts) {
        message.extend((part.len() as u64).to_be_bytes());
        message.extend(*part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let key = ArtifactKey { repo: RepoId(-3), epoch: Epoch(9), path: "a b/ü%2f&?x=1#".into() };
        let question = Question::new(&key).unwrap();
        assert_eq!(Question::of_query(&question.to_query()), Some(question));
        for bad in ["", "repo=1", "repo=x&epoch=1&path=a&nonce=b", "repo=1&epoch=1&nonce=b"] {
            assert_eq!(Question::of_query(bad), None, "{bad}");
        }
    }

    #[test]
    fn codes_hold_for_one_key_and_one_message() {
        let (ours, theirs) = (PeerKey::new(&[1; 32]), PeerKey::new(&[2; 32]));
        let code = ours.of_question("repo=1");
        assert!(ours.is_of_question("repo=1", &code));
        assert!(!ours.is_of_question("repo=2", &code));
        assert!(!theirs.is_of_question("repo=1", &code));
        assert!(!ours.is_of_question("repo=1", "zz"));
        let code = ours.of_answer("n", b"head", b"end");
        assert!(ours.is_of_answer("n", b"head", b"end", code.as_ref()));
        assert!(!ours.is_of_answer("n", b"hea", b"dend", code.as_ref()));
        assert!(!ours.is_of_answer("m", b"head", b"end", code.as_ref()));
        assert!(!ours.is_of_question("n", &hex::encode(code.as_ref())));
    }
}
