//! Mirror lists that lead clients back here: one line, or one `<url>`, below our own base.
//!
//! The hashes of a metalink are about `repomd.xml`, which is served as upstream wrote it; so they stay, with
//! the alternates for older generations, and a client refuses a `repomd.xml` that is in neither.

use std::io::{BufRead, BufReader, Read, Write};

use artifactapi_model::{RepoPath, Spelling};
use quick_xml::{
    Writer,
    events::{BytesStart, BytesText, Event},
};
use url::Url;

use super::xml::{Xml, attribute, character};
use crate::{IndexError, MAX_INDEX, RewriteContext, document, limits::Capped};

/// Longest line of a mirror list, in bytes.
const MAX_LINE: u64 = 8 << 10;
/// Most `<resources>` of a metalink: each costs its author a dozen bytes, and us a URL.
const MAX_RESOURCES: usize = 64;

/// Writes a mirror list with one line: our own base and the directory that upstream's entry below
/// `baseURL` names, or else the directory of the list itself.
///
/// # Errors
/// [`IndexError`] for a list that is no text or has overlong lines.
pub(super) fn mirrorlist(
    path: &RepoPath,
    cx: &RewriteContext<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let mut input = BufReader::new(Capped::new(input, MAX_INDEX, "size of a mirror list"));
    let mut ours = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == MAX_LINE {
            return Err(IndexError::TooLarge("line of a mirror list"));
        }
        let text = document::text(&line)?;
        if ours.is_none() {
            ours = below(&cx.remote.base_url, text.trim());
        }
    }
    let directory = ours.unwrap_or_else(|| artifactapi_model::path::encode(path.parent()));
    writeln!(output, "{}{directory}", cx.base.url())?;
    Ok(())
}

/// Copies a metalink, with one `<url>` per file in place of all mirrors: our own.
///
/// # Errors
/// [`IndexError`] for XML that is broken or exceeds a limit.
pub(super) fn metalink(
    path: &RepoPath,
    cx: &RewriteContext<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let mut xml = Xml::new(BufReader::new(Capped::new(input, MAX_INDEX, "size of a metalink")));
    let mut writer = Writer::new(output);
    let mut file = String::new();
    let mut mirrors: Option<Mirrors> = None;
    let mut written = 0;
    loop {
        let event = xml.next()?;
        match (&event, &mut mirrors) {
            (Event::Eof, _) => return Ok(()),
            (Event::End(tag), Some(found)) if tag.local_name().as_ref() == "resources" => {
                let ours = found.ours.take().unwrap_or_else(|| default_location(path, &file));
                write_url(&mut writer, cx, &ours)?;
                writer.write_event(event)?;
                mirrors = None;
                written += 1;
                if written > MAX_RESOURCES {
                    return Err(IndexError::TooLarge("resources of a metalink"));
                }
            }
            (event, Some(found)) => found.read(event, &cx.remote.base_url)?,
            (Event::Start(tag), None) => {
                match tag.local_name().as_ref() {
                    "file" => file = attribute(tag, "name")?.unwrap_or_default(),
                    "resources" => mirrors = Some(Mirrors::default()),
                    _ => {}
                }
                writer.write_event(event)?;
            }
            (_, None) => writer.write_event(event)?,
        }
    }
}

/// What was seen of one `<resources>`: the path, below our upstream, of the first `<url>` that lies there.
#[derive(Default)]
struct Mirrors {
    url: String,
    ours: Option<String>,
}

impl Mirrors {
    fn read(&mut self, event: &Event<'_>, base_url: &Url) -> Result<(), IndexError> {
        match event {
            Event::Start(_) => self.url.clear(),
            Event::Text(text) => self.url.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => self.url.push(character(reference)?),
            Event::End(_) if self.ours.is_none() => self.ours = below(base_url, self.url.trim()),
            _ => {}
        }
        if self.url.len() as u64 > MAX_LINE {
            return Err(IndexError::TooLarge("URL in a metalink"));
        }
        Ok(())
    }
}

/// Where a metalink's file lies when no mirror of the list is our upstream: beside the metalink.
fn default_location(path: &RepoPath, file: &str) -> String {
    let directory = artifactapi_model::path::encode(path.parent());
    match file {
        "repomd.xml" => format!("{directory}repodata/repomd.xml"),
        other => match RepoPath::from_canonical(other) {
            Ok(name) => format!("{directory}{}", name.encode()),
            Err(_) => directory,
        },
    }
}

fn write_url<W: Write>(
    writer: &mut Writer<W>,
    cx: &RewriteContext<'_>,
    ours: &str,
) -> Result<(), IndexError> {
    let scheme = cx.base.origin.split("://").next().unwrap_or("https");
    let mut tag = BytesStart::new("url");
    tag.push_attribute(("protocol", scheme));
    tag.push_attribute(("type", scheme));
    tag.push_attribute(("preference", "100"));
    let url = format!("{}{ours}", cx.base.url());
    writer.write_event(Event::Start(tag.borrow()))?;
    writer.write_event(Event::Text(BytesText::new(&url)))?;
    writer.write_event(Event::End(tag.to_end()))?;
    Ok(())
}

/// The percent-encoded path of `entry` below `base_url`, whatever the scheme of either; `None` for comments
/// and for other hosts.
fn below(base_url: &Url, entry: &str) -> Option<String> {
    let url = Url::parse(entry).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host() != base_url.host() {
        return None;
    }
    if url.port_or_known_default() != base_url.port_or_known_default() && url.scheme() == base_url.scheme() {
        return None;
    }
    // A mirror's own root may be written without its slash.
    let with_slash = format!("{}/", url.path());
    let rest = url.path().strip_prefix(base_url.path()).or((with_slash == base_url.path()).then_some(""))?;
    let path = RepoPath::parse(rest, Spelling::Plain).ok()?;
    Some(path.encode())
}
