//! Tag lists and referrers lists as clients get them, rewritten as streams.

use std::io::{self, BufRead, Write};

use artifactapi_model::policy::Patterns;
use serde::Deserialize;

use crate::{IndexError, json};

/// Longest tag that is read as one, in bytes; the grammar allows 128.
const MAX_TAG: usize = 1024;
/// Largest descriptor, in bytes: annotations may be long.
const MAX_DESCRIPTOR: usize = 1 << 20;

/// Writes the tag list read from `input` under `name`, without banned tags, or without any when `none`.
/// Members besides `tags` are left out: what some registries add is neither bounded nor asked for.
///
/// # Errors
/// [`IndexError`] when it is no tag list.
pub(super) fn tags(
    name: &str,
    banned: &Patterns,
    none: bool,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    write!(output, "{{\"name\":{},\"tags\":[", json::quoted(name))?;
    let (mut seen, mut separator) = (false, "");
    let mut reader = json::Reader::new(input)?;
    reader.object(&mut io::sink(), |reader, skipped, key| {
        if key != "tags" {
            return reader.value(skipped);
        }
        if std::mem::replace(&mut seen, true) {
            return Err(IndexError::Malformed("a tag list has two lists".to_owned()));
        }
        // A repository without tags has "tags":null in several registries.
        if reader.peek(skipped)? == b'n' {
            return reader.value(skipped);
        }
        reader.array(skipped, |reader, _| {
            let tag: String = reader.parse(MAX_TAG)?;
            if !none && !banned.matches(&tag) {
                write!(output, "{separator}{}", json::quoted(&tag))?;
                separator = ",";
            }
            Ok(())
        })
    })?;
    reader.end(&mut io::sink())?;
    output.write_all(b"]}")?;
    Ok(())
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
}

/// Copies the referrers list read from `input`, keeping only descriptors whose artifact type is `wanted`.
///
/// # Errors
/// [`IndexError`] when it is no index.
pub(super) fn referrers(
    wanted: &str,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let mut reader = json::Reader::new(input)?;
    reader.object(output, |reader, output, key| {
        if key != "manifests" || reader.peek(output)? != b'[' {
            return reader.value(output);
        }
        output.write_all(b"[")?;
        let mut separator: &[u8] = b"";
        reader.array(&mut io::sink(), |reader, _| {
            let raw = reader.raw(MAX_DESCRIPTOR)?;
            let descriptor: Descriptor = serde_json::from_slice(&raw)
                .map_err(|error| IndexError::Malformed(format!("a referrer is no descriptor: {error}")))?;
            if descriptor.artifact_type.as_deref() == Some(wanted) {
                output.write_all(separator)?;
                output.write_all(&raw)?;
                separator = b",";
            }
            Ok(())
        })?;
        output.write_all(b"]")?;
        Ok(())
    })?;
    reader.end(output)
}
