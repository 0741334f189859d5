//! Digests: the SHA-256 that names bytes in the store, and the checksums that indexes publish.

use std::{fmt, str::FromStr};

use sha2::Digest as _;

/// The SHA-256 of a stored body: its key in the content-addressed store.
///
/// Printed and parsed as 64 lower-case hex digits, with an optional `sha256:` prefix on input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Why a text is no SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 lower-case hex digits, with or without a leading \"sha256:\"")]
pub struct InvalidDigest;

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One statement about a body that its index, its path or a response header makes.
///
/// The scope of each is in the contract of its type (protocols.md 12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// SHA-256 of the whole body.
    Sha256([u8; 32]),
    /// SHA-512 of the whole body.
    Sha512([u8; 64]),
    /// SHA-1 of the whole body; accepted only where the index offers nothing stronger.
    Sha1([u8; 20]),
    /// MD5 of the whole body; accepted only where the index offers nothing stronger.
    Md5([u8; 16]),
    /// Length of the whole body in bytes.
    Size(u64),
    /// Go's `h1:` directory hash of a module zip: base64-decoded SHA-256 over its sorted file list.
    GoZip([u8; 32]),
    /// Go's `h1:` hash of a lone `go.mod` file.
    GoMod([u8; 32]),
    /// Alpine's `C:Q1`: SHA-1 of the compressed control member of an `.apk`, whose `.PKGINFO` names in
    /// turn the SHA-256 of the data member.
    ApkControl([u8; 20]),
}

/// What is claimed about one body. All claims must hold.
pub type Checksums = Vec<Checksum>;

impl Checksum {
    /// Reads `sha256:<hex>` or `sha512:<hex>` (OCI descriptor digests; lower-case hex only).
    pub fn parse_oci(text: &str) -> Option<Checksum> {
        let (algorithm, digits) = text.split_once(':')?;
        Self::from_hex(algorithm, digits)
            .filter(|_| !digits.bytes().any(|b| b.is_ascii_uppercase()))
            .filter(|checksum| matches!(checksum, Checksum::Sha256(_) | Checksum::Sha512(_)))
    }

    /// Reads hex digits (either case) of the named algorithm: `sha256`, `sha512`, `sha1` or `sha`, `md5`.
    pub fn from_hex(algorithm: &str, digits: &str) -> Option<Checksum> {
        fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
            let mut bytes = [0; N];
            hex::decode_to_slice(digits, &mut bytes).ok()?;
            Some(bytes)
        }
        match algorithm {
            "sha256" => decode(digits).map(Checksum::Sha256),
            "sha512" => decode(digits).map(Checksum::Sha512),
            "sha1" | "sha" => decode(digits).map(Checksum::Sha1),
            "md5" => decode(digits).map(Checksum::Md5),
            _ => None,
        }
    }

    /// The algorithm's name, for messages.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Checksum::Sha256(_) => "sha256",
            Checksum::Sha512(_) => "sha512",
            Checksum::Sha1(_) => "sha1",
            Checksum::Md5(_) => "md5",
            Checksum::Size(_) => "size",
            Checksum::GoZip(_) => "h1",
            Checksum::GoMod(_) => "go.mod h1",
            Checksum::ApkControl(_) => "Q1",
        }
    }
}

/// Hashes a body once while it streams: always SHA-256, others only where a checksum asks for them.
#[derive(Clone)]
pub struct Hasher {
    sha256: sha2::Sha256,
    sha512: Option<sha2::Sha512>,
    sha1: Option<sha1::Sha1>,
    md5: Option<md5::Md5>,
    size: u64,
}

impl Hasher {
    /// A hasher that can later answer for `checksums`.
    pub fn for_checksums(checksums: &[Checksum]) -> Self {
        let wants = |f: fn(&Checksum) -> bool| checksums.iter().any(f);
        Hasher {
            sha256: sha2::Sha256::new(),
            sha512: wants(|c| matches!(c, Checksum::Sha512(_))).then(sha2::Sha512::new),
            sha1: wants(|c| matches!(c, Checksum::Sha1(_))).then(sha1::Sha1::new),
            md5: wants(|c| matches!(c, Checksum::Md5(_))).then(md5::Md5::new),
            size: 0,
        }
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(h) = &mut self.sha512 {
            h.update(bytes);
        }
        if let Some(h) = &mut self.sha1 {
            h.update(bytes);
        }
        if let Some(h) = &mut self.md5 {
            h.update(bytes);
        }
        self.size += bytes.len() as u64;
    }

    /// Ends the body.
    pub fn finish(self) -> Hashed {
        Hashed {
            digest: Digest(self.sha256.finalize().into()),
            sha512: self.sha512.map(|h| h.finalize().into()),
            sha1: self.sha1.map(|h| h.finalize().into()),
            md5: self.md5.map(|h| h.finalize().into()),
            size: self.size,
        }
    }
}

/// What a [`Hasher`] saw.
#[derive(Clone, Debug)]
pub struct Hashed {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Length of the body in bytes.
    pub size: u64,
    sha512: Option<[u8; 64]>,
    sha1: Option<[u8; 20]>,
    md5: Option<[u8; 16]>,
}

impl Hashed {
    /// Whether the body agrees with `checksum`. `None`: this checksum looks inside the body
    /// ([`Checksum::GoZip`], [`Checksum::GoMod`], [`Checksum::ApkControl`]) or was not asked for in
    /// [`Hasher::for_checksums`].
    pub fn agrees(&self, checksum: &Checksum) -> Option<bool> {
        match checksum {
            Checksum::Sha256(want) => Some(self.digest.0 == *want),
            Checksum::Size(want) => Some(self.size == *want),
            Checksum::Sha512(want) => self.sha512.map(|got| got == *want),
            Checksum::Sha1(want) => self.sha1.map(|got| got == *want),
            Checksum::Md5(want) => self.md5.map(|got| got == *want),
            Checksum::GoZip(_) | Checksum::GoMod(_) | Checksum::ApkControl(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_round_trips_and_refuses_other_spellings() {
        let digest = Digest::of(b"hello");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_hex().parse(), Ok(digest));
        for bad in ["", "sha256:", "sha256:12", "sha512:aa", &digest.to_hex().to_uppercase()] {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest), "{bad}");
        }
    }

    #[test]
    fn oci_checksums_name_their_algorithm() {
        let hex = Digest::of(b"x").to_hex();
        assert!(matches!(Checksum::parse_oci(&format!("sha256:{hex}")), Some(Checksum::Sha256(_))));
        assert_eq!(Checksum::parse_oci(&hex), None);
        assert_eq!(Checksum::parse_oci(&format!("md5:{}", "0".repeat(32))), None);
        assert_eq!(Checksum::parse_oci(&format!("sha256:{}", hex.to_uppercase())), None);
    }

    #[test]
    fn hasher_answers_only_for_what_it_was_asked() {
        let sha1 = Checksum::from_hex("sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d").unwrap();
        let mut hasher = Hasher::for_checksums(std::slice::from_ref(&sha1));
        hasher.update(b"hel");
        hasher.update(b"lo");
        let hashed = hasher.finish();
        assert_eq!(hashed.agrees(&sha1), Some(true));
        assert_eq!(hashed.agrees(&Checksum::Size(5)), Some(true));
        assert_eq!(hashed.agrees(&Checksum::Md5([0; 16])), None);
        assert_eq!(hashed.digest, Digest::of(b"hello"));
    }
}
