//! `modules.yaml`: a row of documents about module streams, of which the first member's is taken.
//!
//! Documents are copied as they are written. Each is parsed on its own first: one that is no YAML would take
//! everything behind it with it.
//!
//! Source: fedora-modularity/libmodulemd, yaml_specs.

use std::io::{BufRead, Read as _, Write};

use serde::Deserialize;
use serde_saphyr::{Budget, Options};

use super::{Part, repomd::MODULES};
use crate::{
    IndexError, document, inflate,
    limits::{Allowance, MAX_DEPTH, MAX_PART},
    merge::{Seen, copy_from, entries_of_all},
};

/// What a document is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    document: Option<String>,
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    name: Option<String>,
    module: Option<String>,
    stream: Option<String>,
    version: Option<String>,
    context: Option<String>,
    arch: Option<String>,
}

/// Writes the documents of all members.
///
/// # Errors
/// [`IndexError`] for broken documents, and those of `out`.
pub(super) fn write(parts: &[Part<'_>], out: &mut dyn Write) -> Result<(), IndexError> {
    let (mut seen, mut entries) = (Seen::default(), entries_of_all());
    parts
        .iter()
        .try_for_each(|part| copy_from(part.member, out, |out| copy(part, &mut seen, &mut entries, out)))
}

fn copy(
    part: &Part<'_>,
    seen: &mut Seen,
    entries: &mut Allowance,
    out: &mut dyn Write,
) -> Result<(), IndexError> {
    let Some(mut document) = part.open(MODULES)? else { return Ok(()) };
    let mut input = inflate::open(&mut *document).map_err(inflate::index_error)?;
    split(&mut *input, &mut |text| {
        entries.take(1)?;
        if is_first(text, seen)? {
            out.write_all(b"---\n")?;
            out.write_all(text.as_bytes())?;
            out.write_all(b"...\n")?;
        }
        Ok(())
    })
}

/// Hands each document to `visit`, without its marks: in YAML they are all that begins a line with three dashes or
/// dots.
fn split(
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(&str) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let (mut text, mut line) = (String::new(), Vec::new());
    loop {
        line.clear();
        let left = MAX_PART + 1 - text.len() as u64;
        let read = (&mut *input).take(left).read_until(b'\n', &mut line).map_err(inflate::index_error)?;
        if (text.len() + read) as u64 > MAX_PART {
            return Err(IndexError::TooLarge("size of one YAML document"));
        }
        let found = document::text(&line)?;
        let mark = ["---", "..."]
            .iter()
            .find_map(|mark| found.strip_prefix(mark))
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if mark.is_none() && read > 0 {
            // A directive says which YAML it is; between documents alone.
            if !(text.is_empty() && found.starts_with('%')) {
                text.push_str(found);
            }
            continue;
        }
        if mark.is_some_and(|rest| !(rest.trim().is_empty() || rest.trim().starts_with('#'))) {
            return Err(IndexError::malformed("a YAML document begins on the line of its mark"));
        }
        let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if text.lines().any(says) {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            visit(&text)?;
        }
        text.clear();
        if read == 0 {
            return Ok(());
        }
    }
}

/// Whether nothing of what `text` is about was met before.
fn is_first(text: &str, seen: &mut Seen) -> Result<bool, IndexError> {
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_documents = 1;
    budget.max_aliases = 1000;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    let Document { document, data } = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| IndexError::malformed(format!("a module document: {error}")))?;
    let kind = document.unwrap_or_default();
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(match kind.as_str() {
        "modulemd" | "modulemd-packager" if data.name.is_some() && data.stream.is_some() => seen.first(&[
            &kind,
            &of(&data.name),
            &of(&data.stream),
            &of(&data.version),
            &of(&data.context),
            &of(&data.arch),
        ]),
        "modulemd-defaults" if data.module.is_some() => seen.first(&[&kind, &of(&data.module)]),
        _ => seen.first(&[text]),
    })
}
