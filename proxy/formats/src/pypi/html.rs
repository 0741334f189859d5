//! Reading a page in HTML (PEP 503): anchors, `<base>` and the `pypi:` meta tags; all else is passed over.

mod tokens;

use std::io::BufRead;

use artifactapi_model::RepoPath;
use artifactapi_model::Spelling;
use url::Url;

use self::tokens::{Attributes, Token, Tokens};
use super::{
    model::{File, Hashes, Item, Metadata, hash_of, minor_of},
    name::{distribution, normalised},
    read::Sink,
};
use crate::IndexError;

/// Longest text of an anchor that is looked at, in bytes.
const MAX_TEXT: usize = 1024;
/// Most `pypi:tracks` and `pypi:alternate-locations` tags that are kept.
const MAX_TAGS: usize = 1000;

/// An anchor whose text is still being read.
struct Anchor {
    attributes: Attributes,
    text: String,
}

/// What the tags of the head have said so far.
#[derive(Default)]
struct Head {
    base: Option<Url>,
    tracks: Vec<String>,
    alternates: Vec<String>,
    status: Option<String>,
    reason: Option<String>,
}

/// Reads the HTML page at `page`.
pub(super) fn html(page: &Url, input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut tokens = Tokens::new(input);
    let mut head = Head::default();
    let mut open: Option<Anchor> = None;
    while let Some(token) = tokens.next()? {
        match token {
            Token::Text(text) => {
                if let Some(anchor) = &mut open
                    && anchor.text.len() + text.len() <= MAX_TEXT
                {
                    anchor.text.push_str(&text);
                }
            }
            Token::Start(name, attributes) => match name.as_str() {
                "a" => finish(page, &head, open.replace(Anchor { attributes, text: String::new() }), sink)?,
                "base" if head.base.is_none() => {
                    head.base = attributes.get("href").and_then(|href| page.join(href.trim()).ok());
                }
                "meta" => meta(&mut head, &attributes, sink)?,
                _ => {}
            },
            Token::End(name) if name == "a" => finish(page, &head, open.take(), sink)?,
            Token::End(name) if name == "head" => flush(&mut head, sink)?,
            Token::End(_) => {}
        }
    }
    finish(page, &head, open, sink)?;
    flush(&mut head, sink)
}

fn meta(head: &mut Head, attributes: &Attributes, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let (Some(name), Some(content)) = (attributes.get("name"), attributes.get("content")) else {
        return Ok(());
    };
    match name.as_str() {
        "pypi:repository-version" => return sink(Item::Minor(minor_of(content)?)),
        "pypi:tracks" if head.tracks.len() < MAX_TAGS => head.tracks.push(content.clone()),
        "pypi:alternate-locations" if head.alternates.len() < MAX_TAGS => {
            head.alternates.push(content.clone());
        }
        "pypi:project-status" => head.status = Some(content.clone()),
        "pypi:project-status-reason" => head.reason = Some(content.clone()),
        _ => {}
    }
    Ok(())
}

/// Hands over what several tags said together.
fn flush(head: &mut Head, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let tracks = std::mem::take(&mut head.tracks);
    if !tracks.is_empty() {
        sink(Item::Tracks(tracks))?;
    }
    let alternates = std::mem::take(&mut head.alternates);
    if !alternates.is_empty() {
        sink(Item::AlternateLocations(alternates))?;
    }
    match head.status.take() {
        Some(status) => sink(Item::Status { status, reason: head.reason.take() }),
        None => Ok(()),
    }
}

fn finish(page: &Url, head: &Head, anchor: Option<Anchor>, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let base = head.base.as_ref().unwrap_or(page);
    match anchor.and_then(|anchor| item(base, &anchor)) {
        Some(item) => sink(item),
        None => Ok(()),
    }
}

/// What an anchor stands for: a file when URL or text end like one, a project when the URL is a
/// directory's; otherwise nothing.
fn item(base: &Url, anchor: &Anchor) -> Option<Item> {
    let url = base.join(anchor.attributes.get("href")?.trim()).ok()?;
    let text = anchor.text.trim();
    let mut segments = url.path().rsplit('/');
    let last = decoded(segments.next().unwrap_or_default())?;
    let name = [last.as_str(), text].into_iter().find(|name| distribution(name) == Some(name));
    if let Some(name) = name {
        return Some(Item::File(Box::new(file(name.to_owned(), url.clone(), &anchor.attributes)?)));
    }
    let directory = if last.is_empty() { decoded(segments.next()?)? } else { last };
    if directory.is_empty() || distribution(&directory).is_some() || !matches!(url.scheme(), "http" | "https")
    {
        return None;
    }
    // The text is how the project spells itself, as long as it is the project of the link.
    let name = if normalised(text) == normalised(&directory) { text.to_owned() } else { directory };
    Some(Item::Project(name))
}

fn decoded(segment: &str) -> Option<String> {
    Some(RepoPath::parse(segment, Spelling::Plain).ok()?.as_str().to_owned())
}

fn file(name: String, url: Url, attributes: &Attributes) -> Option<File> {
    let fragment = url.fragment().unwrap_or_default().to_owned();
    let mut file = File::new(name, url)?;
    file.hashes = fragment
        .split('&')
        .filter(|part| !part.starts_with("egg=") && !part.starts_with("subdirectory="))
        .filter_map(hash_of)
        .collect();
    file.requires_python = attributes.get("data-requires-python").filter(|text| !text.is_empty()).cloned();
    file.yanked = attributes.get("data-yanked").cloned();
    let metadata =
        ["data-core-metadata", "data-dist-info-metadata"].into_iter().find_map(|name| attributes.get(name));
    file.metadata = match metadata.map(|text| (text.as_str(), hash_of(text))) {
        None => Metadata::Unsaid,
        Some((_, Some(hash))) => Metadata::Hashed(Hashes::from([hash])),
        Some((text, None)) => Metadata::Known(!text.eq_ignore_ascii_case("false")),
    };
    file.gpg_sig = match attributes.get("data-gpg-sig").map(String::as_str) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    Some(file)
}
