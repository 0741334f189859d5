//! One walk over a Forge document, for rewriting and for facts: releases lie at the top, in `results`, in
//! `current_release` and in `releases`; pages in `pagination`.
//!
//! Everything else is copied byte for byte, whatever it holds.

use std::io::{BufRead, Write};

use artifactapi_model::{Checksum, Checksums, RepoPath, Spelling};
use serde_json::Value;
use url::{Position, Url};

use crate::{
    Fact, IndexError, Reach,
    json::{self, Reader, quoted},
    limits::Allowance,
    placement::url_of,
};

/// Longest value that is looked at, in bytes.
const MAX_SCALAR: usize = 8 << 10;
/// Objects within objects that may be releases: list, module, release.
const MAX_LEVEL: usize = 3;

/// Copies the document `input` to `output` with root-relative URLs, and hands a fact per release to `sink`.
///
/// # Errors
/// [`IndexError`] for JSON that is broken or exceeds a limit.
pub(super) fn walk(
    base_url: &Url,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let mut reader = Reader::new(input)?;
    let mut walk = Walk { base_url, sink, left: Allowance::of_entries("number of releases") };
    walk.item(&mut reader, output, 1)?;
    reader.end(output)
}

struct Walk<'a> {
    base_url: &'a Url,
    sink: &'a mut dyn FnMut(Fact),
    /// How many may still come.
    left: Allowance,
}

impl Walk<'_> {
    /// Takes an object that may be a release or hold some.
    fn item(&mut self, reader: &mut Reader<'_>, out: &mut dyn Write, level: usize) -> Result<(), IndexError> {
        self.left.take(1)?;
        let mut release = Release::default();
        let may_hold = level < MAX_LEVEL;
        reader.object(out, |reader, out, key| {
            match (key, reader.peek(out)?) {
                ("file_uri", b'"') => {
                    release.place = replaced(reader, out, |uri| {
                        let place = place(uri, self.base_url);
                        (place.as_ref().and_then(|place| place.shown.clone()), place)
                    })?;
                }
                ("file_sha256", b'"') => release.sha256 = checksum("sha256", reader, out)?,
                ("file_md5", b'"') => release.md5 = checksum("md5", reader, out)?,
                ("file_size", _) => release.size = kept(reader, out)?.as_u64(),
                ("pagination", b'{') => pages(reader, out, self.base_url)?,
                ("current_release", b'{') if may_hold => self.item(reader, out, level + 1)?,
                ("results" | "releases", b'[') if may_hold => {
                    reader.array(out, |reader, out| match reader.peek(out)? {
                        b'{' => self.item(reader, out, level + 1),
                        _ => reader.value(out),
                    })?;
                }
                _ => reader.value(out)?,
            }
            Ok(())
        })?;
        release.fact().map(&mut *self.sink);
        Ok(())
    }
}

/// What one object says about its file.
#[derive(Default)]
struct Release {
    place: Option<Place>,
    sha256: Option<Checksum>,
    md5: Option<Checksum>,
    size: Option<u64>,
}

impl Release {
    /// MD5 counts only where there is no SHA-256.
    fn fact(self) -> Option<Fact> {
        let place = self.place?;
        let mut checksums: Checksums = self.sha256.or(self.md5).into_iter().collect();
        checksums.extend(self.size.map(Checksum::Size));
        if checksums.is_empty() && place.url.is_none() {
            return None;
        }
        Some(Fact { path: place.path.as_str().to_owned(), reach: Reach::File, url: place.url, checksums })
    }
}

/// Where a release's file is.
struct Place {
    /// Canonical path here.
    path: RepoPath,
    /// What clients read, where it is not what upstream wrote.
    shown: Option<String>,
    /// Where it really is, unless below `baseURL` at `path`.
    url: Option<Url>,
}

/// Reads a `file_uri`. A relative one is what clients append to their repository's URL, so it names the same
/// path here as it does upstream. `None` for what is neither that nor an http(s) URL of a `.tar.gz` (RS-26):
/// it is left as it is, and no client can follow it.
fn place(uri: &str, base_url: &Url) -> Option<Place> {
    if !uri.contains("://") {
        let raw = uri.strip_prefix('/').unwrap_or(uri);
        let path = RepoPath::parse(raw, Spelling::Plain).ok().filter(|path| !path.file_name().is_empty())?;
        return Some(Place { path, shown: None, url: None });
    }
    let url = web_url(uri)?;
    let name = url.path_segments()?.next_back()?;
    let path = RepoPath::parse(&format!("v3/files/{name}"), Spelling::Plain).ok()?;
    if !path.file_name().ends_with(".tar.gz") {
        return None;
    }
    let shown = Some(format!("/{}", path.encode()));
    let here = url_of(base_url, path.as_str());
    let url = (here.as_ref() != Some(&url)).then_some(url);
    Some(Place { path, shown, url })
}

/// Copies a `pagination` object; absolute links of its pages lose everything before `/v3/`.
fn pages(reader: &mut Reader<'_>, out: &mut dyn Write, base_url: &Url) -> Result<(), IndexError> {
    reader.object(out, |reader, out, key| {
        let is_page = matches!(key, "first" | "previous" | "current" | "next");
        if !is_page || reader.peek(out)? != b'"' {
            return reader.value(out);
        }
        replaced(reader, out, |page| (root_relative(page, base_url), ()))
    })
}

/// The path and query of an absolute `page`, from the API's root on.
fn root_relative(page: &str, base_url: &Url) -> Option<String> {
    if !page.contains("://") {
        return None;
    }
    let url = web_url(page)?;
    let target = &url[Position::BeforePath..Position::AfterQuery];
    if let Some(rest) = target.strip_prefix(base_url.path()).filter(|rest| rest.starts_with("v3/")) {
        return Some(format!("/{rest}"));
    }
    let root = url.path().find("/v3/")?;
    Some(target[root..].to_owned())
}

/// An http(s) URL without credentials.
fn web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// Writes what `replace` makes of the string that comes next, or the string as it was written; returns what
/// else `replace` says of it.
fn replaced<T>(
    reader: &mut Reader<'_>,
    out: &mut dyn Write,
    replace: impl FnOnce(&str) -> (Option<String>, T),
) -> Result<T, IndexError> {
    let raw = reader.raw(MAX_SCALAR)?;
    let text: String = json::parse(&raw)?;
    let (replacement, said) = replace(&text);
    match replacement {
        Some(replacement) => out.write_all(quoted(&replacement).as_bytes())?,
        None => out.write_all(&raw)?,
    }
    Ok(said)
}

/// Copies the next value and returns it; it is small, or the document is refused.
fn kept(reader: &mut Reader<'_>, out: &mut dyn Write) -> Result<Value, IndexError> {
    let raw = reader.raw(MAX_SCALAR)?;
    out.write_all(&raw)?;
    json::parse(&raw)
}

fn checksum(
    algorithm: &str,
    reader: &mut Reader<'_>,
    out: &mut dyn Write,
) -> Result<Option<Checksum>, IndexError> {
    Ok(kept(reader, out)?.as_str().and_then(|digits| Checksum::from_hex(algorithm, digits)))
}
