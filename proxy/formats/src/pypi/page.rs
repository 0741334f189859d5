//! A page from end to end: read in upstream's form, its files placed, written in the client's form or told
//! as facts.

use std::io::{self, BufRead, Write};

use artifactapi_model::{RepoPath, repository::RemoteSpec};

use super::{
    html,
    model::{Item, Metadata, strongest},
    read::{self, Sink},
    render::{Form, Kind, Page},
};
use crate::{Fact, IndexError, RewriteContext, Source, placement::place};

/// Writes the page at `source` in `form`.
pub(super) fn rewrite(
    form: Form,
    source: &Source<'_>,
    cx: &RewriteContext<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let (kind, project) = subject(source.path);
    let mut page = Page::new(output, form, kind, project);
    read(source, input, &mut |item| {
        let reference = match &item {
            Item::File(file) => {
                let placement = place(cx.remote, source.url, &file.url);
                let reference = placement.reference(source.path.as_str(), cx);
                reference.map(|reference| reference.relative_to(source.path))
            }
            _ => None,
        };
        page.item(item, reference)
    })?;
    page.end()
}

/// Tells what the page at `source` says about its files and their metadata.
pub(super) fn facts(
    source: &Source<'_>,
    remote: &RemoteSpec,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    read(source, input, &mut |item| {
        if let Item::File(file) = item {
            let placement = place(remote, source.url, &file.url);
            placement.fact("", file.checksums()).map(&mut *sink);
            if let Metadata::Hashed(hashes) = &file.metadata {
                placement.fact(".metadata", strongest(hashes)).map(&mut *sink);
            }
        }
        Ok(())
    })
}

/// What the page at `path` lists, where the path says so, and the project it is about.
pub(super) fn subject(path: &RepoPath) -> (Option<Kind>, String) {
    let mut segments = path.as_str().trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    let is_simple = |segment: Option<&str>| matches!(segment, Some("simple" | "+simple"));
    if is_simple(Some(last)) {
        (Some(Kind::Projects), String::new())
    } else if is_simple(segments.next()) {
        (Some(Kind::Files), last.to_owned())
    } else {
        (None, last.to_owned())
    }
}

/// Reads the page in whichever form it is: by Content-Type where that says something, else by its first
/// character.
fn read(source: &Source<'_>, input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let content_type = source.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = if content_type.ends_with("json") {
        true
    } else if content_type.ends_with("html") {
        false
    } else {
        first_character(input)? == Some(b'{')
    };
    if is_json { read::json(source.url, input, sink) } else { html::html(source.url, input, sink) }
}

fn first_character(input: &mut dyn BufRead) -> io::Result<Option<u8>> {
    loop {
        let block = input.fill_buf()?;
        if block.is_empty() {
            return Ok(None);
        }
        if let Some(found) = block.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(Some(*found));
        }
        let blank = block.len();
        input.consume(blank);
    }
}
