//! What `repomd.xml` says about the metadata and `primary.xml` about the packages (createrepo_c's formats).
//!
//! Both list entries of one shape: a checksum of the whole file as stored, its size, and a location relative
//! to the repository's root. Checksums of the opened form and of zchunk headers are not ours to check: a
//! body that has the right bytes has them too.

use std::io::BufRead;

use artifactapi_model::{Checksum, Checksums, RepoPath, Spelling, path};
use quick_xml::events::{BytesStart, Event};
use url::Url;

use super::{
    paths,
    xml::{Xml, attribute},
};
use crate::{Fact, IndexError, Reach, inflate, limits::Allowance, placement::url_of, reference::follow};

/// Longest text kept of one element; a SHA-512 in hex has 128 digits.
const MAX_TEXT: usize = 512;

/// The documents that publish facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// `repomd.xml`, with `<data>` entries.
    Repomd,
    /// `primary.xml` in any compression, with `<package>` entries.
    Primary,
}

/// Which document lies at `path`, with the repository root it speaks of; `None` for all others.
pub(super) fn document(path: &RepoPath) -> Option<(&str, Document)> {
    let root = paths::root_of(path)?;
    let name = path.file_name();
    if name == "repomd.xml" {
        return Some((root, Document::Repomd));
    }
    let simple = name.rsplit_once('-').map_or(name, |(_, simple)| simple);
    let is_primary =
        simple.strip_prefix("primary.xml").is_some_and(|end| matches!(end, "" | ".gz" | ".xz" | ".zst"));
    is_primary.then_some((root, Document::Primary))
}

/// Streams the facts of `document` below `root`.
///
/// # Errors
/// [`IndexError`] for XML or compression that is broken or exceeds a limit.
pub(super) fn read_facts(
    document: Document,
    root: &str,
    base_url: &Url,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let mut xml = Xml::new(inflate::open(input).map_err(inflate::index_error)?);
    let (root_name, entry_name) = match document {
        Document::Repomd => ("repomd", "data"),
        Document::Primary => ("metadata", "package"),
    };
    let mut entry = Entry::default();
    let mut entries = Allowance::of_entries("number of entries");
    loop {
        let depth = xml.depth();
        match xml.next()? {
            Event::Start(tag) => match (depth, tag.local_name().as_ref()) {
                (0, name) if name != root_name => {
                    return Err(IndexError::malformed(format!("its root is no <{root_name}>")));
                }
                (1, name) if name == entry_name => {
                    entries.take(1)?;
                    entry = Entry { kind: attribute(&tag, "type")?, ..Entry::default() };
                }
                (2, _) => entry.open(&tag)?,
                _ => {}
            },
            Event::Text(text) if depth == 3 => entry.text(&text.xml10_content()),
            Event::End(tag) => match (depth, tag.local_name().as_ref()) {
                (3, _) => entry.close(),
                (2, name) if name == entry_name => {
                    std::mem::take(&mut entry).fact(document, root, base_url).map(&mut *sink);
                }
                _ => {}
            },
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// What is being read of one `<data>` or `<package>`.
#[derive(Default)]
struct Entry {
    kind: Option<String>,
    checksum: Option<Checksum>,
    size: Option<u64>,
    href: Option<String>,
    base: Option<String>,
    open: Open,
    text: String,
}

/// The child element whose text is being read.
#[derive(Default)]
enum Open {
    Checksum {
        algorithm: String,
    },
    Size,
    #[default]
    Other,
}

impl Entry {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), IndexError> {
        self.text.clear();
        self.open = match tag.local_name().as_ref() {
            "checksum" => Open::Checksum { algorithm: attribute(tag, "type")?.unwrap_or_default() },
            // repomd has the number as text, primary as an attribute beside `installed` and `archive`.
            "size" => match attribute(tag, "package")? {
                Some(size) => {
                    self.size = size.parse().ok();
                    Open::Other
                }
                None => Open::Size,
            },
            "location" => {
                self.href = attribute(tag, "href")?;
                self.base = attribute(tag, "xml:base")?;
                Open::Other
            }
            _ => Open::Other,
        };
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if !matches!(self.open, Open::Other) && self.text.len() + text.len() <= MAX_TEXT {
            self.text.push_str(text);
        }
    }

    fn close(&mut self) {
        match std::mem::take(&mut self.open) {
            Open::Checksum { algorithm } => self.checksum = Checksum::from_hex(&algorithm, self.text.trim()),
            Open::Size => self.size = self.text.trim().parse().ok(),
            Open::Other => {}
        }
    }

    /// The fact; `None` for an entry that names no file of this repository or says nothing about it.
    fn fact(self, document: Document, root: &str, base_url: &Url) -> Option<Fact> {
        let href = self.href?;
        let path = resolve(root, &href)?;
        let url = match self.base {
            Some(base) => foreign(&base, &href, &path, base_url)?,
            None => None,
        };
        let is_index = document == Document::Repomd && self.kind.as_deref() == Some("primary");
        let mut checksums: Checksums = self.checksum.into_iter().collect();
        checksums.extend(self.size.map(Checksum::Size));
        if checksums.is_empty() && url.is_none() && !is_index {
            return None;
        }
        let reach = if is_index { Reach::Index } else { Reach::File };
        Some(Fact { path: path.as_str().to_owned(), reach, url, checksums })
    }
}

/// The canonical path that a client asks for when it follows `href` from `root`. `None` where [`follow`] leads nowhere,
/// and for text no request could carry.
fn resolve(root: &str, href: &str) -> Option<RepoPath> {
    RepoPath::parse(&follow(&path::encode(root), href)?, Spelling::Plain).ok()
}

/// The URL that `xml:base` gives a file: outer `None` when it is no http(s) URL, inner `None` when it is
/// where `path` is looked for anyway.
fn foreign(base: &str, href: &str, path: &RepoPath, base_url: &Url) -> Option<Option<Url>> {
    let mut base = Url::parse(base).ok()?;
    if !matches!(base.scheme(), "http" | "https") || !base.username().is_empty() || base.password().is_some()
    {
        return None;
    }
    if !base.path().ends_with('/') {
        let with_slash = format!("{}/", base.path());
        base.set_path(&with_slash);
    }
    let url = base.join(href).ok()?;
    let own = url_of(base_url, path.as_str());
    Some((own.as_ref() != Some(&url)).then_some(url))
}
