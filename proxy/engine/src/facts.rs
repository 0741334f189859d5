//! What stored indexes say about a path: checksums to hold it against, and where it really is.
//!
//! Each index is read once, as a stream, into a compact map that is kept by the index's digest; so a facts
//! lookup is a map lookup, and a changed index is a new map.

use std::{collections::HashMap, io::BufReader, sync::Arc};

use artifactapi_formats::{Fact, IndexRef, IndexUse, LinkSigner, Reach, Resource, Source, format_of, limits};
use artifactapi_model::{ArtifactKey, Checksums, Digest, Remote, RepoPath, Spelling};
use quick_cache::{Weighter, sync::Cache};
use tokio::runtime::Handle;
use url::Url;

use crate::{Engine, blocking::BlockingReader, error::FetchError, fetch::Need, hot::HotEntry, weighed};

/// Most indexes consulted for one path (RS-69: no unbounded work per request).
const MAX_INDEXES: usize = 32;
/// Deepest chain of indexes (discovery → download document; repomd → primary).
const MAX_CHAIN: u8 = 3;

/// How far a look for facts goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Only what is stored: a hit never waits for upstream.
    Held,
    /// Documents that are required are fetched.
    Fetch,
}

/// What is known of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) url: Option<Url>,
    pub(crate) checksums: Checksums,
}

/// All facts of one index.
#[derive(Debug, Default)]
pub(crate) struct FactMap {
    files: HashMap<Box<str>, Known>,
    indexes: Vec<Box<str>>,
    prefixes: Vec<(Box<str>, Url)>,
}

impl FactMap {
    fn add(&mut self, fact: Fact) {
        match fact.reach {
            Reach::Prefix => {
                if let Some(url) = fact.url {
                    self.prefixes.push((fact.path.into(), url));
                }
                return;
            }
            Reach::Index => self.indexes.push(fact.path.as_str().into()),
            Reach::File => {}
        }
        self.files.entry(fact.path.into()).or_insert(Known { url: fact.url, checksums: fact.checksums });
    }

    pub(crate) fn get(&self, path: &RepoPath, query: &str) -> Option<Known> {
        if let Some(known) = self.files.get(path.as_str()) {
            return Some(known.clone());
        }
        let (prefix, base) = self.prefixes.iter().find(|(prefix, _)| path.as_str().starts_with(&**prefix))?;
        let rest = RepoPath::from_canonical(&path.as_str()[prefix.len()..]).ok()?;
        let relative = if query.is_empty() { rest.encode() } else { format!("{}?{query}", rest.encode()) };
        Some(Known { url: base.join(&relative).ok(), checksums: Vec::new() })
    }

    fn weight(&self) -> u64 {
        let files: usize = self
            .files
            .iter()
            .map(|(path, known)| {
                160 + path.len() + known.checksums.len() * size_of::<artifactapi_model::Checksum>()
            })
            .sum();
        (files + self.indexes.len() * 64 + self.prefixes.len() * 256) as u64
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Digest, Arc<FactMap>> for ByBytes {
    fn weight(&self, _: &Digest, map: &Arc<FactMap>) -> u64 {
        64 + map.weight()
    }
}

/// Fact maps by index.
pub(crate) struct FactCache(Cache<Digest, Arc<FactMap>, ByBytes>);

impl FactCache {
    pub(crate) fn new(bytes: u64) -> Self {
        FactCache(weighed::cache(256, bytes, u64::MAX, ByBytes))
    }
}

impl Engine {
    /// What the indexes of `resource` say about it; `None` when none knows it.
    pub(crate) async fn facts_about(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        effort: Effort,
        depth: u8,
    ) -> Result<Option<Known>, FetchError> {
        if depth > MAX_CHAIN {
            return Ok(None);
        }
        for index in resource.indexes.iter().take(MAX_INDEXES) {
            for (path, entry) in self.consult(remote, index, effort, depth).await? {
                let map = self.fact_map(remote, &path, &entry).await?;
                if let Some(known) = map.get(&resource.path, &resource.query) {
                    return Ok(Some(known));
                }
                for inner in map.indexes.iter().take(MAX_INDEXES) {
                    let Some(entry) = self.held(remote, inner).await? else { continue };
                    let inner_map = self.fact_map(remote, inner, &entry).await?;
                    if let Some(known) = inner_map.get(&resource.path, &resource.query) {
                        return Ok(Some(known));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stored documents an [`IndexRef`] stands for.
    async fn consult(
        self: &Arc<Self>,
        remote: &Remote,
        index: &IndexRef,
        effort: Effort,
        depth: u8,
    ) -> Result<Vec<(String, Arc<HotEntry>)>, FetchError> {
        match (index.when, effort) {
            (IndexUse::Held, _) | (IndexUse::Required, Effort::Held) => {
                let entry = self.held(remote, &index.path).await?;
                Ok(entry.map(|entry| (index.path.clone(), entry)).into_iter().collect())
            }
            (IndexUse::HeldPrefix, _) => {
                let identity = remote.identity;
                let metadata = &self.ports.metadata;
                let paths = metadata.paths_with_prefix(identity.id, identity.epoch, &index.path, 8).await?;
                let mut found = Vec::with_capacity(paths.len());
                for path in paths {
                    if let Some(entry) = self.held(remote, &path).await? {
                        found.push((path, entry));
                    }
                }
                Ok(found)
            }
            (IndexUse::Required, Effort::Fetch) => {
                let entry = self.require(remote, &index.path, depth + 1).await?;
                Ok(vec![(index.path.clone(), entry)])
            }
        }
    }

    /// The stored document at canonical `path` (with `?query`), however stale.
    pub(crate) async fn held(
        self: &Arc<Self>,
        remote: &Remote,
        path: &str,
    ) -> Result<Option<Arc<HotEntry>>, FetchError> {
        let key = ArtifactKey { repo: remote.identity.id, epoch: remote.identity.epoch, path: path.into() };
        self.lookup(&key).await
    }

    /// The document at canonical `path`, fetched or revalidated as its own rules say.
    pub(crate) async fn require(
        self: &Arc<Self>,
        remote: &Remote,
        path: &str,
        depth: u8,
    ) -> Result<Arc<HotEntry>, FetchError> {
        let resource = self.plan_document(remote, path)?;
        let held = Box::pin(self.obtain(remote, &resource, Need::Whole { depth })).await?;
        held.into_entry()
    }

    pub(crate) async fn fact_map(
        self: &Arc<Self>,
        remote: &Remote,
        path: &str,
        entry: &Arc<HotEntry>,
    ) -> Result<Arc<FactMap>, FetchError> {
        let row = &entry.row;
        let identity = format!(
            "{} {} {path} {} {} {}",
            remote.spec.package_type, remote.spec.base_url, row.digest, row.source_url, remote.identity.id.0
        );
        let id = Digest::of(identity.as_bytes());
        if let Some(map) = self.facts.0.get(&id) {
            return Ok(map);
        }
        // All that is downloaded by a new index asks for its facts at the same time.
        let turn = self.derivations.turn(&id);
        let _turn = turn.lock().await;
        if let Some(map) = self.facts.0.get(&id) {
            return Ok(map);
        }
        let worker = self.worker().await;
        let reader = self.reader_of(entry).await?;
        let (remote, path, entry, handle) =
            (remote.clone(), path.to_owned(), entry.clone(), Handle::current());
        let read = move || {
            let _worker = worker;
            read_facts(&remote, &path, &entry, BlockingReader::new(reader, entry.row.size, handle))
        };
        let map = tokio::task::spawn_blocking(read).await.map_err(|_| FetchError::Abandoned)??;
        let map = Arc::new(map);
        self.facts.0.insert(id, map.clone());
        Ok(map)
    }
}

fn read_facts(
    remote: &Remote,
    path: &str,
    entry: &HotEntry,
    body: BlockingReader,
) -> Result<FactMap, FetchError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = RepoPath::from_canonical(path).map_err(|error| FetchError::Plan(error.into()))?;
    let url = source_url(remote, entry);
    let content_type = entry.row.header("content-type").unwrap_or_default();
    let source = Source { path: &path, query, content_type, url: &url };
    let mut map = FactMap::default();
    let mut entries = 0;
    let mut overflow = false;
    let mut sink = |fact: Fact| {
        entries += 1;
        if entries <= limits::MAX_ENTRIES {
            map.add(fact);
        } else {
            overflow = true;
        }
    };
    let mut input = BufReader::with_capacity(256 << 10, body);
    format_of(remote.spec.package_type).read_facts(&source, &remote.spec, &mut input, &mut sink)?;
    if overflow {
        return Err(artifactapi_formats::IndexError::TooLarge("number of entries").into());
    }
    Ok(map)
}

/// Where a stored document came from, for its relative links.
pub(crate) fn source_url(remote: &Remote, entry: &HotEntry) -> Url {
    Url::parse(&entry.row.source_url).unwrap_or_else(|_| remote.spec.base_url.clone())
}

impl Engine {
    /// The plan of a document that another one refers to by canonical path (with `?query`).
    ///
    /// # Errors
    /// [`FetchError::Plan`], and [`FetchError::NotFound`] for what is no document.
    pub(crate) fn plan_document(&self, remote: &Remote, path: &str) -> Result<Resource, FetchError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        planned(remote, path, query, &self.links)
    }
}

/// The plan of a GET of canonical `path` with `query`.
///
/// # Errors
/// [`FetchError::Plan`], and [`FetchError::NotFound`] for what is neither document nor file.
pub(crate) fn planned(
    remote: &Remote,
    path: &str,
    query: &str,
    links: &LinkSigner,
) -> Result<Resource, FetchError> {
    let encoded = artifactapi_model::path::encode(path);
    let request = artifactapi_formats::Request {
        method: artifactapi_formats::Method::Get,
        raw_path: &encoded,
        query,
        accept: "",
    };
    RepoPath::parse(&encoded, Spelling::Plain).map_err(|error| FetchError::Plan(error.into()))?;
    match format_of(remote.spec.package_type).plan(&request, &remote.spec, links)? {
        artifactapi_formats::Plan::Serve(resource) => Ok(*resource),
        _ => Err(FetchError::NotFound { gone: false }),
    }
}
