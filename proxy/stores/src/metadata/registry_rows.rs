//! Columns ↔ the registry's words, alike in every dialect.

use std::{collections::BTreeMap, fmt::Display};

use artifactapi_model::{
    oci::OciDigest,
    ports::{
        registry::{Manifest, UploadProgress},
        uploads::Stored,
    },
};
use bytes::Bytes;

/// A text that has to make sense, or what makes none.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// A manifest whose body is what its digest says.
pub(super) fn manifest(digest: &str, media_type: String, body: Vec<u8>) -> Result<Manifest, String> {
    let digest: OciDigest = parsed(digest)?;
    if OciDigest::of(digest.algorithm(), &body) == digest {
        Ok(Manifest { digest, media_type, body: Bytes::from(body) })
    } else {
        Err(format!("the body of manifest {digest} is another"))
    }
}

pub(super) fn annotations_text(annotations: &BTreeMap<String, String>) -> String {
    // A map of strings always serialises.
    serde_json::to_string(annotations).unwrap_or_default()
}

pub(super) fn annotations(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn progress(received: i64, hashes: String, stored: String) -> UploadProgress {
    UploadProgress { offset: received.cast_unsigned(), hashes, stored: Stored(stored) }
}

/// A bound or a number of bytes as a column has it; more than that is as good as no bound.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The text after which a list goes on. None that is listed has a NUL, which PostgreSQL takes in no text: what
/// follows it makes no difference to the order.
pub(super) fn after(text: Option<&str>) -> &str {
    text.unwrap_or_default().split('\0').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use artifactapi_model::oci::Algorithm;

    use super::*;

    #[test]
    fn a_body_that_is_another_is_no_manifest() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = OciDigest::of(algorithm, b"{}").to_string();
            assert!(manifest(&digest, "a/b".into(), b"{}".to_vec()).is_ok());
            assert!(manifest(&digest, "a/b".into(), b"{} ".to_vec()).is_err());
        }
        assert!(manifest("sha256:00", "a/b".into(), b"{}".to_vec()).is_err());
    }

    #[test]
    fn a_list_goes_on_where_it_would_with_the_whole_text() {
        assert_eq!(after(None), "");
        for (text, cut) in [("a", "a"), ("a\0b", "a"), ("\0", "")] {
            assert_eq!(after(Some(text)), cut);
            for tag in ["a", "a-", "aa", "b"] {
                assert_eq!(tag > text, tag > cut, "{tag} after {text:?}");
            }
        }
    }
}
