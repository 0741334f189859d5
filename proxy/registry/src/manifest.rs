//! What a manifest says: bytes and Content-Type → references, read strictly. Pure.
//!
//! A manifest that two readers could understand differently is refused (RS-13): a key that stands twice in an
//! object, layers and manifests in one document, a media type other than the request's.

mod strict;

use std::collections::BTreeMap;

use artifactapi_model::oci::OciDigest;
use serde_json::{Map, Value};

use crate::RegistryError;

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
    let document = strict::object(bytes).map_err(|error| invalid(error.to_string()))?;
    let media_type = media_type(&document, content_type)?;
    let shape = match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => Shape::Image,
        OCI_INDEX | DOCKER_LIST => Shape::Index,
        other => {
            return Err(invalid(format!(
                "media type {other:?} is none of {OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST} and {DOCKER_LIST}"
            )));
        }
    };
    if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(invalid("schemaVersion must be 2"));
    }
    let foreign: &[&str] = match shape {
        Shape::Image => &["manifests"],
        Shape::Index => &["layers", "config"],
    };
    if let Some(key) = foreign.iter().find(|key| document.contains_key(**key)) {
        return Err(invalid(format!("{key:?} does not belong into a {media_type}")));
    }
    let mut parsed = Parsed {
        media_type: media_type.to_owned(),
        artifact_type: text(&document, "artifactType")?.map(str::to_owned),
        annotations: annotations(&document)?,
        subject: document.get("subject").map(|it| descriptor("subject", it)).transpose()?.map(|it| it.digest),
        ..Parsed::default()
    };
    match shape {
        Shape::Image => image(&document, &mut parsed)?,
        Shape::Index => index(&document, &mut parsed)?,
    }
    Ok(parsed)
}

fn image(document: &Map<String, Value>, parsed: &mut Parsed) -> Result<(), RegistryError> {
    let config = document.get("config").ok_or_else(|| invalid("config is missing"))?;
    let config = descriptor("config", config)?;
    if parsed.artifact_type.is_none() {
        parsed.artifact_type = Some(config.media_type.to_owned());
    }
    parsed.blobs.push(config.digest);
    for (at, layer) in array(document, "layers")?.iter().enumerate() {
        let layer = descriptor(&format!("layers[{at}]"), layer)?;
        if !is_foreign(layer.media_type) {
            parsed.blobs.push(layer.digest);
        }
    }
    once(&mut parsed.blobs);
    Ok(())
}

fn index(document: &Map<String, Value>, parsed: &mut Parsed) -> Result<(), RegistryError> {
    for (at, child) in array(document, "manifests")?.iter().enumerate() {
        parsed.children.push(descriptor(&format!("manifests[{at}]"), child)?.digest);
    }
    once(&mut parsed.children);
    Ok(())
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

fn media_type<'a>(
    document: &'a Map<String, Value>,
    content_type: Option<&'a str>,
) -> Result<&'a str, RegistryError> {
    let sent = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    let said = text(document, "mediaType")?;
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

struct Descriptor<'a> {
    media_type: &'a str,
    digest: OciDigest,
}

fn descriptor<'a>(place: &str, value: &'a Value) -> Result<Descriptor<'a>, RegistryError> {
    let Some(descriptor) = value.as_object() else {
        return Err(invalid(format!("{place} is no descriptor")));
    };
    let media_type =
        text(descriptor, "mediaType")?.ok_or_else(|| invalid(format!("{place} has no mediaType")))?;
    if descriptor.get("size").and_then(Value::as_u64).is_none() {
        return Err(invalid(format!("{place} has no size")));
    }
    let digest = text(descriptor, "digest")?.unwrap_or_default();
    let digest = digest.parse().map_err(|error| invalid(format!("{place}.digest: {error}")))?;
    Ok(Descriptor { media_type, digest })
}

fn array<'a>(document: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], RegistryError> {
    match document.get(key) {
        Some(Value::Array(items)) => Ok(items),
        Some(Value::Null) | None => Ok(&[]),
        Some(_) => Err(invalid(format!("{key} is no list"))),
    }
}

/// A media type; all texts that are read are such.
fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, RegistryError> {
    match object.get(key) {
        Some(Value::String(text)) if key == "digest" || is_media_type(text) => {
            Ok(Some(text).filter(|text| !text.is_empty()).map(String::as_str))
        }
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err(invalid(format!("{key} is no media type"))),
    }
}

/// Printable ASCII without blanks, not too long (RFC 6838, 4.2): what goes into headers and rows as it is.
fn is_media_type(text: &str) -> bool {
    text.len() <= MAX_MEDIA_TYPE && text.bytes().all(|b| b.is_ascii_graphic())
}

fn annotations(document: &Map<String, Value>) -> Result<BTreeMap<String, String>, RegistryError> {
    let entries = match document.get("annotations") {
        Some(Value::Object(entries)) => entries,
        Some(Value::Null) | None => return Ok(BTreeMap::new()),
        Some(_) => return Err(invalid("annotations are no object")),
    };
    let entries = entries.iter().map(|(key, value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        _ => Err(invalid("an annotation is no text")),
    });
    entries.collect()
}

fn invalid(reason: impl Into<String>) -> RegistryError {
    RegistryError::ManifestInvalid(reason.into())
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MEDIA_TYPE).collect()
}

#[cfg(test)]
mod tests;
