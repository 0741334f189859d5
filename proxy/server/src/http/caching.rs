//! What caches and people are told about a body: validators, freshness, and how it came about. Pure.

use std::{fmt::Write as _, time::Duration};

use artifactapi_engine::{CacheOutcome, Content};
use artifactapi_model::{Digest, Mutability, PackageType};
use http::HeaderValue;

/// What a client may do with bytes that never change.
const IMMUTABLE_PUBLIC: &str = "public, max-age=31536000, immutable";
const IMMUTABLE_PRIVATE: &str = "private, max-age=31536000, immutable";
/// What clients are told of a mutable path that this proxy itself never revalidates: an operator may change
/// that, so not for ever.
const LONGEST_MUTABLE: Duration = Duration::from_secs(3600);

/// The strong entity tag of exactly these bytes, with its quotes. Registries use the digest itself; the gzip
/// form of a document has a tag of its own.
pub fn etag(digest: &Digest, package_type: PackageType, gzip: bool) -> String {
    match (package_type, gzip) {
        (PackageType::Docker, false) => format!("\"{digest}\""),
        (_, false) => format!("\"{}\"", digest.to_hex()),
        (_, true) => format!("\"{}-gzip\"", digest.to_hex()),
    }
}

/// `Cache-Control`. The lifetime counts from when upstream confirmed the body, since `Age` is sent beside it
/// (RFC 9111, 4.2.1).
pub fn cache_control(content: &Content, is_private: bool) -> HeaderValue {
    match (content.mutability, is_private) {
        (Mutability::Immutable, false) => HeaderValue::from_static(IMMUTABLE_PUBLIC),
        (Mutability::Immutable, true) => HeaderValue::from_static(IMMUTABLE_PRIVATE),
        (Mutability::Mutable, is_private) => {
            let scope = if is_private { "private" } else { "public" };
            let left = content.fresh_for.unwrap_or(LONGEST_MUTABLE);
            let age = if left.is_zero() { Duration::ZERO } else { content.age };
            header(format!("{scope}, max-age={}", left.as_secs() + age.as_secs()))
        }
    }
}

/// `X-Cache`.
pub fn x_cache(outcome: CacheOutcome) -> HeaderValue {
    HeaderValue::from_static(match outcome {
        CacheOutcome::Hit => "HIT",
        CacheOutcome::Miss => "MISS",
        CacheOutcome::Collapsed => "COLLAPSED",
        CacheOutcome::Revalidated => "REVALIDATED",
        CacheOutcome::Stale => "STALE",
        CacheOutcome::Bypass => "BYPASS",
    })
}

/// `Cache-Status` (RFC 9211).
pub fn cache_status(content: &Content) -> HeaderValue {
    let mut text = String::from("artifactapi; ");
    text.push_str(match content.outcome {
        CacheOutcome::Hit => "hit",
        CacheOutcome::Miss => "fwd=uri-miss; stored",
        CacheOutcome::Collapsed => "fwd=uri-miss; collapsed",
        CacheOutcome::Revalidated => "fwd=stale; fwd-status=304",
        CacheOutcome::Stale => "hit; detail=stale",
        CacheOutcome::Bypass => "fwd=bypass",
    });
    if let (CacheOutcome::Hit, Some(left)) = (content.outcome, content.fresh_for) {
        // Writing to a String cannot fail.
        let _ = write!(text, "; ttl={}", left.as_secs());
    }
    header(text)
}

/// A header of text that is known to be printable ASCII; `-` should it not be.
pub fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// Whether `Accept-Encoding` wants gzip (RFC 9110, 12.5.3).
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let mut any = false;
    for member in accept_encoding.split(',') {
        let mut parts = member.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let wanted = weight.and_then(|weight| weight.trim().parse::<f32>().ok()).is_none_or(|q| q > 0.0);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return wanted;
        }
        any |= coding == "*" && wanted;
    }
    any
}

#[cfg(test)]
mod tests {
    use artifactapi_engine::Body;
    use artifactapi_model::{ArtifactKey, Epoch, RepoId, Timestamp};

    use super::*;

    fn content(outcome: CacheOutcome, mutability: Mutability, age: u64, fresh_for: Option<u64>) -> Content {
        Content {
            key: ArtifactKey { repo: RepoId(1), epoch: Epoch(1), path: "x".into() },
            size: Some(1),
            digest: None,
            content_type: String::new(),
            last_modified: None,
            headers: Vec::new(),
            mutability,
            age: Duration::from_secs(age),
            fresh_for: fresh_for.map(Duration::from_secs),
            stored_at: Timestamp(0),
            outcome,
            is_dated_exactly: false,
            varies_by_accept: false,
            gzip: None,
            body: Body::Absent,
        }
    }

    #[test]
    fn freshness_is_what_is_left() {
        use CacheOutcome::{Hit, Stale};
        for (content, is_private, want) in [
            (content(Hit, Mutability::Immutable, 5, None), false, IMMUTABLE_PUBLIC),
            (content(Hit, Mutability::Immutable, 5, None), true, IMMUTABLE_PRIVATE),
            (content(Hit, Mutability::Mutable, 5, Some(55)), false, "public, max-age=60"),
            (content(Hit, Mutability::Mutable, 5, Some(55)), true, "private, max-age=60"),
            (content(Stale, Mutability::Mutable, 500, Some(0)), false, "public, max-age=0"),
            (content(Hit, Mutability::Mutable, 0, None), false, "public, max-age=3600"),
        ] {
            assert_eq!(cache_control(&content, is_private), want);
        }
        assert_eq!(cache_status(&content(Hit, Mutability::Mutable, 5, Some(55))), "artifactapi; hit; ttl=55");
        assert_eq!(cache_status(&content(Hit, Mutability::Immutable, 5, None)), "artifactapi; hit");
    }

    #[test]
    fn every_form_has_its_own_tag() {
        let digest = Digest::of(b"x");
        let tags = [(PackageType::Npm, false), (PackageType::Npm, true), (PackageType::Docker, false)]
            .map(|(package_type, gzip)| etag(&digest, package_type, gzip));
        let hex = digest.to_hex();
        assert_eq!(tags, [format!("\"{hex}\""), format!("\"{hex}-gzip\""), format!("\"sha256:{hex}\"")]);
    }

    #[test]
    fn gzip_only_for_those_who_want_it() {
        for (value, want) in [
            ("gzip", true),
            ("zstd, gzip, deflate", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(value), want, "{value}");
        }
    }
}
