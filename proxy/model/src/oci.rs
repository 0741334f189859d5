//! The words of the OCI distribution specification 1.1: digests as clients write them, image names, tags.

use std::{fmt, str::FromStr, sync::Arc};

use crate::digest::Digest;

/// Longest image name below a Local, in bytes: with the Local's own name and a host it has to fit the 255 that
/// many clients allow.
pub const MAX_NAME: usize = 190;

/// A digest as a client names it: `sha256:<64 hex digits>` or `sha512:<128 hex digits>`, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OciDigest {
    /// SHA-256: the key in the blob store too.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// The algorithm of a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The one that every client knows.
    #[default]
    Sha256,
    /// The other registered one.
    Sha512,
}

impl Algorithm {
    /// Its name in digests.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = InvalidOciDigest;
    fn from_str(text: &str) -> Result<Self, InvalidOciDigest> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(InvalidOciDigest),
        }
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64, or sha512: and 128 lower-case hex digits")]
pub struct InvalidOciDigest;

impl OciDigest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        match algorithm {
            Algorithm::Sha256 => OciDigest::Sha256(sha2::Sha256::digest(bytes).into()),
            Algorithm::Sha512 => OciDigest::Sha512(sha2::Sha512::digest(bytes).into()),
        }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            OciDigest::Sha256(_) => Algorithm::Sha256,
            OciDigest::Sha512(_) => Algorithm::Sha512,
        }
    }
}

impl From<Digest> for OciDigest {
    fn from(digest: Digest) -> Self {
        OciDigest::Sha256(digest.0)
    }
}

impl FromStr for OciDigest {
    type Err = InvalidOciDigest;
    fn from_str(text: &str) -> Result<Self, InvalidOciDigest> {
        fn decode<const N: usize>(digits: &str) -> Result<[u8; N], InvalidOciDigest> {
            let mut bytes = [0; N];
            hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidOciDigest)?;
            Ok(bytes)
        }
        let (algorithm, digits) = text.split_once(':').ok_or(InvalidOciDigest)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidOciDigest);
        }
        match algorithm.parse()? {
            Algorithm::Sha256 => decode(digits).map(OciDigest::Sha256),
            Algorithm::Sha512 => decode(digits).map(OciDigest::Sha512),
        }
    }
}

impl fmt::Display for OciDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OciDigest::Sha256(bytes) => write!(f, "sha256:{}", hex::encode(bytes)),
            OciDigest::Sha512(bytes) => write!(f, "sha512:{}", hex::encode(bytes)),
        }
    }
}

impl fmt::Debug for OciDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an image below its Local: components of `[a-z0-9]` joined by one `.`, one or two `_` or any
/// number of `-`, with `/` between components; at most [`MAX_NAME`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(Arc<str>);

/// Why a text is no image name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an image name is 1 to 190 characters: components of a-z and 0-9, joined by '.', '_', '__' or '-', with '/' between them"
)]
pub struct InvalidImageName;

impl ImageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` has the grammar of a name, however long it is: registries bound that themselves.
    pub fn has_grammar(text: &str) -> bool {
        text.split('/').all(Self::is_component)
    }

    fn is_component(text: &str) -> bool {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
        if !alphanumeric(*first) || !alphanumeric(*last) {
            return false;
        }
        let separators = bytes.split(|b| alphanumeric(*b)).filter(|run| !run.is_empty());
        let mut known =
            separators.map(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'));
        known.all(|known| known)
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;
    fn from_str(text: &str) -> Result<Self, InvalidImageName> {
        if text.len() <= MAX_NAME && Self::has_grammar(text) {
            Ok(ImageName(text.into()))
        } else {
            Err(InvalidImageName)
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Why a text is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is 1 to 128 characters a-z, A-Z, 0-9, '_', '.' and '-', and begins with none of the last two")]
pub struct InvalidTag;

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;
    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let is_tag = (1..=128).contains(&bytes.len())
            && bytes.first().is_some_and(|b| word(*b))
            && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'));
        if is_tag { Ok(Tag(text.into())) } else { Err(InvalidTag) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By its bytes.
    Digest(OciDigest),
    /// By a name that may move.
    Tag(Tag),
}

/// Why a text is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It has a colon, so a digest was meant.
    #[error(transparent)]
    Digest(#[from] InvalidOciDigest),
    /// It has none.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
}

impl FromStr for Reference {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') {
            Ok(Reference::Digest(text.parse()?))
        } else {
            Ok(Reference::Tag(text.parse()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for good in ["a", "app", "team/app", "a.b_c__d-e---f/0", "blobs/uploads", &"a".repeat(MAX_NAME)] {
            assert!(good.parse::<ImageName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a._b",
            "a b",
            "ä",
            "..",
            &"a".repeat(191),
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_is_a_digest_when_it_has_a_colon() {
        let hex = "0".repeat(64);
        for (text, is_digest) in [
            ("latest", false),
            ("sha256-abc.sig", false),
            ("_x", false),
            (&*format!("sha256:{hex}"), true),
            (&*format!("sha512:{hex}{hex}"), true),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(matches!(reference, Reference::Digest(_)), is_digest, "{text}");
        }
        for bad in
            ["", ".a", "-a", "a/b", "sha256:", "sha256:00", "md5:00", "sha256:", "a:b", &"a".repeat(129)]
        {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(format!("sha256:{}", hex.replacen('0', "A", 1)).parse::<OciDigest>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "[a-z0-9A-Z:._/-]{0,140}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.as_str(), &text);
            }
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert_eq!(tag.to_string(), text);
            }
        }

        #[test]
        fn digests_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = OciDigest::of(algorithm, &bytes);
                prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            }
        }
    }
}
