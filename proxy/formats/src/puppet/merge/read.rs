//! What members' documents about a module say.

use std::{
    collections::HashSet,
    io::{self, BufRead},
};

use artifactapi_model::{RepoPath, Spelling};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    IndexError,
    document::text,
    json::{self, Fields},
    limits::{Allowance, MAX_PART},
};

/// Largest release, and largest field of a module, in bytes.
const MAX_VALUE: usize = MAX_PART as usize;
/// Longest link to a page, as JSON, in bytes.
const MAX_LINK: usize = 8 << 10;
/// Largest sum of the fields of a module, in bytes.
const MAX_FIELDS: usize = 4 << 20;

/// Receives a release as it is written.
type Sink<'s> = dyn FnMut(Vec<u8>) -> Result<(), IndexError> + 's;

/// Hands each release of a list to `sink`; says which page is next.
///
/// # Errors
/// [`IndexError`] for what is no list, and what `sink` returns.
pub(super) fn list(document: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<Option<String>, IndexError> {
    let (mut next, mut keys) = (None, HashSet::new());
    json::document(document, &mut io::sink(), |reader, out, key| match key {
        "results" | "pagination" if !keys.insert(key.to_owned()) => {
            Err(IndexError::malformed(format!("a list of releases has {key:?} twice")))
        }
        "results" => reader.array(out, |reader, _| sink(reader.raw(MAX_VALUE)?)),
        "pagination" => reader.object(out, |reader, out, key| match key {
            "next" => {
                next = reader.parse(MAX_LINK)?;
                Ok(())
            }
            _ => reader.value(out),
        }),
        _ => reader.value(out),
    })?;
    if keys.contains("results") {
        Ok(next)
    } else {
        Err(IndexError::malformed("a list of releases has no \"results\""))
    }
}

/// The fields of a module but for its releases.
///
/// # Errors
/// [`IndexError`] for what is no module, or larger than one is.
pub(super) fn module(document: &mut dyn BufRead) -> Result<Fields, IndexError> {
    let mut fields = Fields::within(Allowance::of(MAX_FIELDS, "size of what is about a whole module"));
    json::distinct(document, |reader, out, key| match key {
        "releases" | "current_release" => reader.value(out),
        _ => fields.take(key, reader, MAX_VALUE),
    })?;
    Ok(fields)
}

/// What we look at in a release.
#[derive(Deserialize)]
pub(super) struct Release {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    file_uri: Option<String>,
    #[serde(default)]
    uri: Option<Value>,
    #[serde(default)]
    slug: Option<Value>,
    #[serde(default)]
    supported: Option<Value>,
    #[serde(default)]
    created_at: Option<Value>,
    #[serde(default)]
    deleted_at: Option<Value>,
    #[serde(default)]
    file_size: Option<Value>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

impl Release {
    /// Reads a release.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] for what is none.
    pub(super) fn parse(json: &[u8]) -> Result<Self, IndexError> {
        json::parse(text(json)?.as_bytes())
    }

    /// Its version, and the paths of its document and archive; `None` where it is not one of `module`, where its
    /// names contradict each other, and where no request for its archive leads back here. Clients go by `metadata`
    /// (puppet) or by `version` (r10k): both must be the same.
    pub(super) fn advertised(&self, module: &str) -> Option<(&str, [String; 2])> {
        let named = self.metadata.as_ref().and_then(|metadata| metadata.name.as_deref());
        if named.is_some_and(|name| !name.replacen('/', "-", 1).eq_ignore_ascii_case(module)) {
            return None;
        }
        let inner = self.metadata.as_ref().and_then(|metadata| metadata.version.as_deref());
        let version = self.version.as_deref().or(inner)?;
        let slug = format!("{module}-{version}");
        let file = self.file_uri.as_deref()?.strip_prefix('/')?;
        let path = RepoPath::parse(file, Spelling::Plain).ok()?;
        let is_own = path.as_str() == format!("v3/files/{slug}.tar.gz")
            && inner.is_none_or(|inner| inner == version)
            && super::module(path.as_str(), "").as_deref() == Some(module);
        let paths = [format!("v3/releases/{slug}"), path.as_str().to_owned()];
        is_own.then_some((version, paths))
    }

    /// As a module lists it.
    pub(super) fn brief(&self) -> String {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let fields = [
            ("uri", self.uri.clone()),
            ("slug", self.slug.clone()),
            ("version", text(&self.version)),
            ("supported", self.supported.clone()),
            ("created_at", self.created_at.clone()),
            ("deleted_at", self.deleted_at.clone()),
            ("file_uri", text(&self.file_uri)),
            ("file_size", self.file_size.clone()),
        ];
        // What is `null` reads as missing; clients take both for the same.
        let known = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(known.collect::<Map<_, _>>()).to_string()
    }
}
