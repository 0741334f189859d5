//! Reading a page in JSON (PEP 691).

use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::model::{File, Hashes, Item, Metadata, minor_of, sane};
use crate::{IndexError, json, limits::MAX_PART};

/// Largest description of one file, in bytes.
const MAX_FILE: usize = 1 << 20;
// At least as small as any address space.
const MAX_LIST: usize = MAX_PART as usize;

/// Receives what a page says.
pub(super) type Sink<'a> = dyn FnMut(Item) -> Result<(), IndexError> + 'a;

/// One element of `files`. Fields that have been written in several ways by several servers are read
/// leniently; unknown ones are left out.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Option<Value>,
    #[serde(default)]
    size: Option<Value>,
    #[serde(default)]
    upload_time: Option<Value>,
    #[serde(default)]
    requires_python: Option<Value>,
    #[serde(default)]
    yanked: Option<Value>,
    #[serde(default)]
    core_metadata: Option<Value>,
    #[serde(default)]
    dist_info_metadata: Option<Value>,
    #[serde(default)]
    data_dist_info_metadata: Option<Value>,
    #[serde(default)]
    gpg_sig: Option<bool>,
}

#[derive(Deserialize)]
struct Project {
    name: String,
}

/// Reads the JSON page at `page`.
pub(super) fn json(page: &Url, input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    json::document(input, &mut io::sink(), |reader, out, key| match (key, reader.peek(out)?) {
        ("files", b'[') => reader.array(out, |reader, _| {
            let entry: Entry = reader.parse(MAX_FILE)?;
            file(page, entry).map_or(Ok(()), |file| sink(Item::File(Box::new(file))))
        }),
        ("projects", b'[') => reader.array(out, |reader, _| {
            let project: Project = reader.parse(MAX_FILE)?;
            sink(Item::Project(project.name))
        }),
        ("meta", b'{') => reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
            ("api-version", b'"') => sink(Item::Minor(minor_of(&reader.parse::<String>(MAX_FILE)?)?)),
            ("tracks", b'[') => sink(Item::Tracks(reader.parse(MAX_LIST)?)),
            _ => reader.value(out),
        }),
        ("versions", b'[') => sink(Item::Versions(reader.parse(MAX_LIST)?)),
        ("alternate-locations", b'[') => sink(Item::AlternateLocations(reader.parse(MAX_LIST)?)),
        ("project-status", b'{') => {
            let status: Value = reader.parse(MAX_FILE)?;
            let text = |key: &str| status.get(key).and_then(Value::as_str).map(str::to_owned);
            match text("status") {
                Some(word) => sink(Item::Status { status: word, reason: text("reason") }),
                None => Ok(()),
            }
        }
        _ => reader.value(out),
    })
}

fn file(page: &Url, entry: Entry) -> Option<File> {
    let mut file = File::new(entry.filename, page.join(&entry.url).ok()?)?;
    file.hashes = entry.hashes.map(hashes).unwrap_or_default();
    file.size = entry.size.and_then(|size| size.as_u64());
    file.upload_time = entry.upload_time.and_then(text);
    file.requires_python = entry.requires_python.and_then(text);
    file.yanked = match entry.yanked {
        Some(Value::Bool(true)) => Some(String::new()),
        // pip takes an empty reason for "not yanked".
        Some(Value::String(reason)) if !reason.is_empty() => Some(reason),
        _ => None,
    };
    let metadata = entry.core_metadata.or(entry.dist_info_metadata).or(entry.data_dist_info_metadata);
    file.metadata = match metadata {
        None | Some(Value::Null) => Metadata::Unsaid,
        Some(Value::Object(map)) => match hashes(Value::Object(map)) {
            map if map.is_empty() => Metadata::Known(true),
            map => Metadata::Hashed(map),
        },
        Some(Value::Bool(known)) => Metadata::Known(known),
        Some(_) => Metadata::Known(true),
    };
    file.gpg_sig = entry.gpg_sig;
    Some(file)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn hashes(value: Value) -> Hashes {
    let Value::Object(map) = value else { return Hashes::new() };
    sane(map.into_iter().filter_map(|(name, digits)| Some((name, text(digits)?))).collect())
}
