//! PyPI's own JSON API (`pypi/{project}/json`): a document about a project, with files in `urls` and
//! `releases`. Only their URLs change; they become absolute, since tools take them as they stand.

use std::io::{self, BufRead, Write};

use artifactapi_model::{Checksum, repository::RemoteSpec};
use serde_json::Value;

use super::model::{Hashes, sane, strongest};
use crate::{
    Fact, IndexError, RewriteContext, Source,
    json::{self, Reader},
    placement::place,
};

/// Largest description of one file, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Visits every file object of the document that comes next.
fn files(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    mut file: impl FnMut(&mut Reader<'_>, &mut dyn Write) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    json::document(input, out, |reader, out, key| match (key, reader.peek(out)?) {
        ("urls", b'[') => reader.array(out, &mut file),
        ("releases", b'{') => reader.object(out, |reader, out, _| match reader.peek(out)? {
            b'[' => reader.array(out, &mut file),
            _ => reader.value(out),
        }),
        _ => reader.value(out),
    })
}

/// Copies the document with our URLs.
pub(super) fn rewrite(
    source: &Source<'_>,
    cx: &RewriteContext<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let base = cx.base.url();
    let replacement = |url: &str| {
        let url = source.url.join(url).ok()?;
        let reference = place(cx.remote, source.url, &url).reference(source.path.as_str(), cx);
        // What is no http(s) URL names nothing.
        Some(reference.map(|reference| reference.absolute(&base)).unwrap_or_default())
    };
    files(input, output, |reader, out| {
        if reader.peek(out)? != b'{' {
            return reader.value(out);
        }
        reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
            ("url", b'"') => reader.replace_text(out, replacement),
            _ => reader.value(out),
        })
    })
}

/// Tells what the document says about files.
pub(super) fn facts(
    source: &Source<'_>,
    remote: &RemoteSpec,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    files(input, &mut io::sink(), |reader, _| {
        let file: Value = reader.parse(MAX_FILE)?;
        let url = file.get("url").and_then(Value::as_str).and_then(|url| source.url.join(url).ok());
        let Some(url) = url else { return Ok(()) };
        let digests = file.get("digests").and_then(Value::as_object);
        let hashes: Hashes = digests
            .into_iter()
            .flatten()
            .filter_map(|(name, digits)| Some((name.clone(), digits.as_str()?.to_owned())))
            .collect();
        let size = file.get("size").and_then(Value::as_u64).map(Checksum::Size);
        let checksums = strongest(&sane(hashes)).into_iter().chain(size).collect();
        place(remote, source.url, &url).fact("", checksums).map(&mut *sink);
        Ok(())
    })
}
