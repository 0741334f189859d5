//! What a manifest says: bytes and Content-Type → references, read strictly. Pure.
//!
//! A manifest that two readers could understand differently is refused (RS-13): a key that stands twice in an
//! object, layers and manifests in one document, a media type other than the request's.

mod strict;

use std::collections::BTreeMap;

use artifactapi_model::oci::OciDigest;

use crate::RegistryError;
use strict::Document;

/// Largest manifest, in bytes; the specification asks for at least 4 MiB.
pub const MAX_MANIFEST: usize = 4 << 20;
/// Longest media type, in bytes (RFC 6838 allows 127 for each half).
const MAX_MEDIA_TYPE: usize = 255;

/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What was read in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Media type, without parameters.
    pub media_type: String,
    /// `artifactType`, or the media type of the config.
    pub artifact_type: Option<String>,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `subject`.
    pub subject: Option<OciDigest>,
    /// Config and layers that have to be in the registry; each once.
    pub blobs: Vec<OciDigest>,
    /// Manifests of an index; each once.
    pub children: Vec<OciDigest>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Image,
    Index,
}

/// Reads a manifest that was sent with `content_type`.
///
/// # Errors
/// [`RegistryError::ManifestInvalid`].
pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Parsed, RegistryError> {
    let document = strict::document(bytes)?;
    let media_type = media_type(document.media_type.as_deref(), content_type)?.to_owned();
    let shape = match &*media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => Shape::Image,
        OCI_INDEX | DOCKER_LIST => Shape::Index,
        other => {
            return Err(invalid(format!(
                "media type {other:?} is none of {OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST} and {DOCKER_LIST}"
            )));
        }
    };
    if document.schema_version != Some(2) {
        return Err(invalid("schemaVersion must be 2"));
    }
    if let Some(key) = foreign(shape, &document) {
        return Err(invalid(format!("{key:?} does not belong into a {media_type}")));
    }
    let Document { artifact_type, annotations, subject, config, layers, manifests, .. } = document;
    let mut parsed = Parsed { media_type, artifact_type, annotations, subject, ..Parsed::default() };
    match shape {
        Shape::Image => {
            let config = config.ok_or_else(|| invalid("config is missing"))?;
            parsed.artifact_type = parsed.artifact_type.or(Some(config.media_type));
            parsed.blobs = layers.unwrap_or_default();
            parsed.blobs.push(config.digest);
        }
        Shape::Index => parsed.children = manifests.unwrap_or_default(),
    }
    once(&mut parsed.blobs);
    once(&mut parsed.children);
    Ok(parsed)
}

/// A key that only documents of the other shape have.
fn foreign(shape: Shape, document: &Document) -> Option<&'static str> {
    match shape {
        Shape::Image => document.manifests.as_ref().map(|_| "manifests"),
        Shape::Index => {
            document.layers.as_ref().map(|_| "layers").or(document.config.as_ref().map(|_| "config"))
        }
    }
}

fn once(digests: &mut Vec<OciDigest>) {
    digests.sort_unstable();
    digests.dedup();
}

/// Layers that may not be passed on: clients get them elsewhere, and registries need not have them.
fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.")
        || media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
}

fn media_type<'a>(said: Option<&'a str>, content_type: Option<&'a str>) -> Result<&'a str, RegistryError> {
    let sent = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    match (sent.filter(|sent| !sent.is_empty()), said) {
        (Some(sent), Some(said)) if !sent.eq_ignore_ascii_case(said) => {
            Err(invalid(format!("mediaType is {said:?} and Content-Type is {:?}", cut(sent))))
        }
        (_, Some(media_type)) => Ok(media_type),
        (Some(media_type), None) if is_media_type(media_type) => Ok(media_type),
        (Some(_), None) => Err(invalid("Content-Type is no media type")),
        (None, None) => Err(invalid("neither Content-Type nor mediaType says what it is")),
    }
}

/// Printable ASCII without blanks, not too long (RFC 6838, 4.2): what goes into headers and rows as it is.
fn is_media_type(text: &str) -> bool {
    text.len() <= MAX_MEDIA_TYPE && text.bytes().all(|b| b.is_ascii_graphic())
}

fn invalid(reason: impl Into<String>) -> RegistryError {
    RegistryError::ManifestInvalid(reason.into())
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MEDIA_TYPE).collect()
}

#[cfg(test)]
mod tests;
