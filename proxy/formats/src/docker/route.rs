//! Which endpoint of which image a path names. Read from the right, since an image may be called
//! `tools/blobs` or `a/manifests`.

use artifactapi_model::{
    Checksum, PathError,
    oci::{ImageName, Tag},
};

use crate::PlanError;

/// Longest image name, in bytes: the limit of most clients.
const MAX_NAME: usize = 255;

/// One path below a docker repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'p> {
    /// The image's name as written.
    pub(super) name: &'p str,
    /// What of it.
    pub(super) target: Target<'p>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'p> {
    /// `manifests/{reference}`.
    Manifest(Reference<'p>),
    /// `blobs/{digest}`.
    Blob(WrittenDigest<'p>),
    /// `tags/list`.
    Tags,
    /// `referrers/{digest}`.
    Referrers(WrittenDigest<'p>),
}

/// What names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference<'p> {
    /// A tag.
    Tag(&'p str),
    /// A digest: whatever has a colon.
    Digest(WrittenDigest<'p>),
}

/// A digest as written, and what it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenDigest<'p> {
    /// `sha256:<hex>` or `sha512:<hex>`.
    pub(super) text: &'p str,
    /// The claim about the body.
    pub(super) checksum: Checksum,
}

impl<'p> Route<'p> {
    /// Reads a canonical path.
    ///
    /// # Errors
    /// [`PlanError::NotFound`] for what is no pull endpoint, [`PlanError::Path`] for malformed names,
    /// references and digests.
    pub(super) fn parse(path: &'p str) -> Result<Self, PlanError> {
        let unknown = || PlanError::NotFound("the OCI pull protocol has no such path");
        let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
        let (name, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let target = match (kind, last) {
            ("tags", "list") => Target::Tags,
            ("manifests", "") | ("blobs", "") | ("referrers", "") => return Err(unknown()),
            ("manifests", reference) => Target::Manifest(Reference::parse(reference)?),
            ("blobs", digest) => Target::Blob(WrittenDigest::parse(digest)?),
            ("referrers", digest) => Target::Referrers(WrittenDigest::parse(digest)?),
            _ => return Err(unknown()),
        };
        if !is_name(name) {
            return Err(malformed(
                "an image name is at most 255 characters of lower-case letters and digits, joined by \
                 \".\", \"_\", \"__\", \"-\" and \"/\"",
            ));
        }
        Ok(Route { name, target })
    }
}

impl<'p> Reference<'p> {
    fn parse(text: &'p str) -> Result<Self, PlanError> {
        if text.contains(':') {
            return WrittenDigest::parse(text).map(Reference::Digest);
        }
        if text.parse::<Tag>().is_ok() {
            return Ok(Reference::Tag(text));
        }
        Err(malformed(
            "a tag is at most 128 letters, digits, \"_\", \".\" and \"-\", not beginning with the last two",
        ))
    }
}

impl<'p> WrittenDigest<'p> {
    fn parse(text: &'p str) -> Result<Self, PlanError> {
        let checksum = Checksum::parse_oci(text)
            .ok_or_else(|| malformed("a digest is sha256: or sha512: and its lower-case hex digits"))?;
        Ok(WrittenDigest { text, checksum })
    }
}

fn malformed(rule: &'static str) -> PlanError {
    PathError::NotOfThisType(rule).into()
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && ImageName::has_grammar(name)
}
