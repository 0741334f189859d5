//! Which endpoint of which image of a Local a path names. Read from the right, since an image may be called
//! `tools/blobs`. Pure and total.

use artifactapi_model::{
    RepoPath, Spelling,
    oci::{ImageName, OciDigest, Reference},
    ports::UploadId,
};
use http::{Method, StatusCode};

use crate::http::errors::Refused;

/// An endpoint of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRoute {
    /// The image.
    pub name: ImageName,
    /// What of it.
    pub endpoint: Endpoint,
}

/// What of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `blobs/{digest}`.
    Blob(OciDigest),
    /// `blobs/uploads/`.
    Uploads,
    /// `blobs/uploads/{id}`; `None`: no id of ours.
    Upload(Option<UploadId>),
    /// `manifests/{reference}`.
    Manifest(Reference),
    /// `tags/list`.
    Tags,
    /// `referrers/{digest}`.
    Referrers(OciDigest),
}

impl Endpoint {
    /// The methods there are.
    pub fn allow(&self) -> &'static str {
        match self {
            Endpoint::Blob(_) => "GET, HEAD, DELETE",
            Endpoint::Uploads => "POST",
            Endpoint::Upload(_) => "GET, PATCH, PUT, DELETE",
            Endpoint::Manifest(_) => "GET, HEAD, PUT, DELETE",
            Endpoint::Tags | Endpoint::Referrers(_) => "GET, HEAD",
        }
    }

    /// Whether `method` is one of them.
    pub fn allows(&self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Reads a raw path below `/v2/{local}/`.
///
/// # Errors
/// 404 for what is no endpoint, 400 for malformed names, digests and tags.
pub fn parse(raw: &str) -> Result<LocalRoute, Refused> {
    let path =
        RepoPath::parse(raw, Spelling::Plain).map_err(|error| Refused::malformed(error.to_string()))?;
    let path = path.as_str();
    let (name, endpoint) = split(path)?;
    let name = name.parse().map_err(|error| Refused::malformed(format!("{error}")))?;
    Ok(LocalRoute { name, endpoint })
}

fn split(path: &str) -> Result<(&str, Endpoint), Refused> {
    let unknown = || Refused::not_found("the registry protocol has no such path");
    let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        let endpoint =
            if last.is_empty() { Endpoint::Uploads } else { Endpoint::Upload(UploadId::parse(last)) };
        return Ok((name, endpoint));
    }
    let (name, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
    let endpoint = match (kind, last) {
        (_, "") => return Err(unknown()),
        ("tags", "list") => Endpoint::Tags,
        ("blobs", "uploads") => Endpoint::Uploads,
        ("blobs", digest) => Endpoint::Blob(self::digest(digest)?),
        ("referrers", digest) => Endpoint::Referrers(self::digest(digest)?),
        ("manifests", reference) => Endpoint::Manifest(reference.parse().map_err(|error| {
            use artifactapi_model::oci::InvalidReference;
            let code = match error {
                InvalidReference::Digest(_) => "DIGEST_INVALID",
                InvalidReference::Tag(_) => "TAG_INVALID",
            };
            Refused::new(StatusCode::BAD_REQUEST, code, error.to_string())
        })?),
        _ => return Err(unknown()),
    };
    Ok((name, endpoint))
}

/// Reads a digest.
///
/// # Errors
/// 400 DIGEST_INVALID.
pub fn digest(text: &str) -> Result<OciDigest, Refused> {
    text.parse().map_err(|error: artifactapi_model::oci::InvalidOciDigest| {
        Refused::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn finds_every_endpoint_from_the_right() {
        let id = "0123456789abcdef0123456789abcdef";
        for (path, name, want) in [
            ("app/tags/list", "app", "Tags"),
            ("a/blobs/uploads/", "a", "Uploads"),
            ("a/blobs/uploads", "a", "Uploads"),
            (&*format!("a/blobs/uploads/{id}"), "a", "Upload(Some("),
            ("a/blobs/uploads/zzz", "a", "Upload(None)"),
            (&*format!("a/b/blobs/sha256:{HEX}"), "a/b", "Blob("),
            (&*format!("a/blobs/sha256%3A{HEX}"), "a", "Blob("),
            ("a/blobs/uploads/manifests/latest", "a/blobs/uploads", "Manifest(Tag("),
            (&*format!("blobs/manifests/sha256:{HEX}"), "blobs", "Manifest(Digest("),
            ("a/manifests/sha256-abc.sig", "a", "Manifest(Tag("),
            (&*format!("a/referrers/sha256:{HEX}"), "a", "Referrers("),
        ] {
            let route = parse(path).unwrap();
            assert_eq!(route.name.as_str(), name, "{path}");
            assert!(format!("{:?}", route.endpoint).starts_with(want), "{path}: {:?}", route.endpoint);
        }
    }

    #[test]
    fn what_is_malformed_says_so() {
        for (path, status, code) in [
            ("app", 404, "NAME_UNKNOWN"),
            ("manifests/latest", 404, "NAME_UNKNOWN"),
            ("a/other/x", 404, "NAME_UNKNOWN"),
            ("a/manifests/", 404, "NAME_UNKNOWN"),
            ("A/manifests/latest", 400, "NAME_INVALID"),
            ("a//manifests/latest", 400, "NAME_INVALID"),
            ("a/../manifests/latest", 400, "NAME_INVALID"),
            ("a/manifests/.x", 400, "TAG_INVALID"),
            ("a/manifests/sha256:12", 400, "DIGEST_INVALID"),
            ("a/blobs/sha256:12", 400, "DIGEST_INVALID"),
            ("a/blobs/latest", 400, "DIGEST_INVALID"),
            ("a/referrers/md5:12", 400, "DIGEST_INVALID"),
        ] {
            let refused = parse(path).unwrap_err();
            assert_eq!((refused.status.as_u16(), refused.code), (status, code), "{path}");
        }
    }

    proptest! {
        #[test]
        fn rs_20_never_panics(path in "\\PC{0,80}|[a-z0-9:/%._-]{0,80}") {
            let _ = parse(&path);
        }
    }
}
