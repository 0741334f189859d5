//! Tag lists and referrers lists as clients get them, rewritten as streams.

use std::io::{self, BufRead, Write};

use serde::Deserialize;

use crate::{
    IndexError,
    json::{self, Commas},
};

/// Longest tag that is read as one, in bytes; the grammar allows 128.
const MAX_TAG: usize = 1024;
/// Largest descriptor, in bytes: annotations may be long.
const MAX_DESCRIPTOR: usize = 1 << 20;

/// Writes the tag list read from `input` under `name`, with those tags that `shows` lets through.
/// Members besides `tags` are left out: what some registries add is neither bounded nor asked for.
///
/// # Errors
/// [`IndexError`] when it is no tag list.
pub(super) fn tags(
    name: &str,
    shows: &dyn Fn(&str) -> bool,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    write!(output, "{{\"name\":{},\"tags\":[", json::quoted(name))?;
    let (mut seen, mut commas) = (false, Commas::default());
    json::document(input, &mut io::sink(), |reader, skipped, key| {
        if key != "tags" {
            return reader.value(skipped);
        }
        if std::mem::replace(&mut seen, true) {
            return Err(IndexError::malformed("a tag list has two lists"));
        }
        // A repository without tags has "tags":null in several registries.
        if reader.peek(skipped)? == b'n' {
            return reader.value(skipped);
        }
        reader.array(skipped, |reader, _| {
            let tag: String = reader.parse(MAX_TAG)?;
            if shows(&tag) {
                write!(output, "{}{}", commas.next(), json::quoted(&tag))?;
            }
            Ok(())
        })
    })?;
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
    json::document(input, output, |reader, output, key| {
        if key != "manifests" || reader.peek(output)? != b'[' {
            return reader.value(output);
        }
        output.write_all(b"[")?;
        let mut commas = Commas::default();
        reader.array(&mut io::sink(), |reader, _| {
            let raw = reader.raw(MAX_DESCRIPTOR)?;
            let descriptor: Descriptor = serde_json::from_slice(&raw)
                .map_err(|error| IndexError::malformed(format!("a referrer is no descriptor: {error}")))?;
            if descriptor.artifact_type.as_deref() == Some(wanted) {
                output.write_all(commas.next().as_bytes())?;
                output.write_all(&raw)?;
            }
            Ok(())
        })?;
        output.write_all(b"]")?;
        Ok(())
    })
}
