//! From a plan to the content a server sends: the stored body as it is, a rewrite of it, or a document
//! composed of several.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use artifactapi_formats::{Documents, Location, PublicBase, Resource, Step, format_of, limits};
use artifactapi_model::{ArtifactKey, Checksum, Digest, Mutability, PackageType, Remote};
use bytes::Bytes;

use crate::{
    Engine,
    blocking::BlockingReader,
    content::{Body, CacheOutcome, Content},
    decide::{Decision, Held, decide, effective_mutability},
    derive::Inputs,
    error::FetchError,
    fetch::{Need, Obtained},
    fill::Head,
    hot::{HotDerived, HotEntry},
};

/// Most rounds of asking for documents while composing one.
const MAX_ROUNDS: usize = 8;
const OCTETS: &str = "application/octet-stream";

impl Engine {
    /// The content of `resource` under `base`. `head`: the body itself is not wanted.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
        head: bool,
    ) -> Result<Content, FetchError> {
        Self::permit(remote, resource)?;
        if resource.location == Location::Composed {
            return self.compose(remote, resource, base).await;
        }
        if resource.representation.is_some() {
            return self.serve_rewritten(remote, resource, base).await;
        }
        if head && let Some(content) = self.head_only(remote, resource, base).await? {
            return Ok(content);
        }
        match self.obtain(remote, resource, Need::Stream).await? {
            Obtained::Held { entry, outcome } => {
                let body = match &entry.body {
                    Some(body) => Body::Memory(body.clone()),
                    None => Body::Stored(entry.row.digest),
                };
                Ok(self.describe(remote, resource, base, &entry, outcome, body))
            }
            Obtained::Growing { head, body, outcome } => {
                Ok(self.describe_growing(remote, resource, base, &head, outcome, Body::Growing(body)))
            }
        }
    }

    async fn serve_rewritten(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
    ) -> Result<Content, FetchError> {
        let obtained = self.obtain(remote, resource, Need::Whole { depth: 0 }).await?;
        let (entry, outcome) = match obtained {
            Obtained::Held { entry, outcome } => (entry, outcome),
            growing @ Obtained::Growing { .. } => (growing.into_entry()?, CacheOutcome::Miss),
        };
        let (_, derived) = self.derive(remote, resource, base, &entry).await?;
        let content = self.describe(remote, resource, base, &entry, outcome, Body::Absent);
        Ok(self.with_derived(content, resource, &derived))
    }

    fn with_derived(&self, content: Content, resource: &Resource, derived: &HotDerived) -> Content {
        let body_of = |body: &Option<Bytes>, digest| match body {
            Some(bytes) => Body::Memory(bytes.clone()),
            None => Body::Stored(digest),
        };
        let row = &derived.row;
        Content {
            size: Some(row.size),
            digest: Some(row.digest),
            content_type: row.content_type.clone(),
            is_dated_exactly: false,
            varies_by_accept: resource.representation.is_some(),
            gzip: row.gzip.map(|(digest, size)| (body_of(&derived.gzip, digest), digest, size)),
            body: body_of(&derived.body, row.digest),
            ..content
        }
    }

    fn describe(
        &self,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
        entry: &HotEntry,
        outcome: CacheOutcome,
        body: Body,
    ) -> Content {
        let row = &entry.row;
        let now = self.ports.clock.now();
        let key = Self::key(remote, resource);
        let by_policy = remote.spec.policy.mutability(&key.path, resource.mutability);
        let mutability = effective_mutability(by_policy, Some(row.mutability));
        let rules = Self::rules(remote, &key, mutability);
        let fresh_for = match decide(Some(Held { checked_at: row.checked_at }), &rules, now) {
            _ if outcome == CacheOutcome::Stale => Some(Duration::ZERO),
            Decision::Serve { fresh_for } => fresh_for,
            _ => Some(Duration::ZERO),
        };
        let stored = |name: &str| row.header(name).map(str::to_owned);
        let mut headers =
            format_of(remote.spec.package_type).headers(resource, Some(&row.digest), &stored, base);
        push_kept(&mut headers, &stored);
        let content_type = content_type(remote.spec.package_type, resource, row.header("content-type"));
        let last_modified = row.header("last-modified").map(str::to_owned);
        Content {
            size: Some(row.size),
            digest: Some(row.digest),
            content_type,
            last_modified,
            headers,
            mutability,
            age: now.since(row.checked_at),
            fresh_for,
            stored_at: row.stored_at,
            outcome,
            is_dated_exactly: false,
            varies_by_accept: false,
            gzip: None,
            body,
            key,
        }
    }

    pub(crate) fn describe_growing(
        &self,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
        head: &Head,
        outcome: CacheOutcome,
        body: Body,
    ) -> Content {
        let now = self.ports.clock.now();
        let key = Self::key(remote, resource);
        let digest = sha256_of(&head.checksums);
        let stored = |name: &str| head.header(name).map(str::to_owned);
        let format = format_of(remote.spec.package_type);
        let mut headers = format.headers(resource, digest.as_ref(), &stored, base);
        push_kept(&mut headers, &stored);
        let content_type = content_type(remote.spec.package_type, resource, head.header("content-type"));
        let rules = Self::rules(remote, &key, head.mutability);
        let fresh_for = match decide(Some(Held { checked_at: now }), &rules, now) {
            Decision::Serve { fresh_for } if outcome != CacheOutcome::Bypass => fresh_for,
            _ => Some(Duration::ZERO),
        };
        Content {
            size: head.length,
            digest,
            content_type,
            last_modified: head.header("last-modified").map(str::to_owned),
            headers,
            mutability: head.mutability,
            age: Duration::ZERO,
            fresh_for,
            stored_at: now,
            outcome,
            is_dated_exactly: false,
            varies_by_accept: false,
            gzip: None,
            body,
            key,
        }
    }

    /// Makes a document out of others, each cached by its own rules.
    async fn compose(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
    ) -> Result<Content, FetchError> {
        let format = format_of(remote.spec.package_type);
        let mut documents = Documents::new();
        let mut asked = BTreeSet::new();
        let mut parts: Vec<Arc<HotEntry>> = Vec::new();
        let permits = |path: &str| Self::permits(remote, path, &self.links);
        for _ in 0..MAX_ROUNDS {
            match format.compose(resource, &documents, &permits)? {
                Step::Need(paths) => {
                    for path in paths {
                        if !asked.insert(path.clone()) {
                            // It was asked for before and is not there.
                            return Err(FetchError::NotFound { gone: false });
                        }
                        let Some((entry, body)) = self.part(remote, &path).await? else { continue };
                        documents.insert(path, body);
                        parts.push(entry);
                    }
                }
                Step::Done { body, content_type } => {
                    let oldest = parts.iter().min_by_key(|entry| entry.row.checked_at);
                    let oldest = oldest.ok_or(FetchError::NotFound { gone: false })?;
                    let content =
                        self.describe(remote, resource, base, oldest, CacheOutcome::Hit, Body::Absent);
                    return Ok(composed(content, body, content_type));
                }
                Step::Missing => return Err(FetchError::NotFound { gone: false }),
            }
        }
        Err(FetchError::NotFound { gone: false })
    }

    /// A small document needed to compose another; `None` when upstream does not have it.
    async fn part(
        self: &Arc<Self>,
        remote: &Remote,
        path: &str,
    ) -> Result<Option<(Arc<HotEntry>, Vec<u8>)>, FetchError> {
        let entry = match self.require(remote, path, 1).await {
            Ok(entry) => entry,
            Err(FetchError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if entry.row.size > limits::MAX_PART {
            return Err(FetchError::TooLarge { limit: limits::MAX_PART });
        }
        if let Some(body) = &entry.body {
            let body = body.to_vec();
            return Ok(Some((entry, body)));
        }
        let reader = self.reader_of(&entry).await?;
        let (size, handle) = (entry.row.size, tokio::runtime::Handle::current());
        let read = move || {
            let mut body = Vec::new();
            let mut reader = BlockingReader::new(reader, size, handle);
            std::io::Read::read_to_end(&mut reader, &mut body).map(|_| body)
        };
        let body = tokio::task::spawn_blocking(read).await.map_err(|_| FetchError::Abandoned)?;
        let body = body
            .map_err(|source| artifactapi_model::ports::BlobError::Io { doing: "reading a blob", source })?;
        Ok(Some((entry, body)))
    }

    /// Drops every trace of a body whose bytes are gone.
    pub(crate) async fn forget(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), FetchError> {
        if let Some(entry) = self.hot.get(key)
            && entry.row.digest != *digest
        {
            // The missing bytes are those of a document derived from this one.
            self.forget_derived(digest).await?;
            return Ok(());
        }
        // Merged indexes have no rows of their own.
        self.forget_derived(digest).await?;
        self.hot.remove(key);
        self.ports.metadata.forget_artifact(key, digest).await?;
        Ok(())
    }

    /// Everything a rewrite of `entry` depends on.
    pub(crate) fn inputs<'a>(
        &'a self,
        remote: &'a Remote,
        resource: &'a Resource,
        base: &'a PublicBase,
        entry: &'a HotEntry,
    ) -> Inputs<'a> {
        Inputs { remote, resource, base, entry, links: &self.links }
    }
}

fn composed(content: Content, body: Vec<u8>, content_type: &'static str) -> Content {
    Content {
        size: Some(body.len() as u64),
        digest: Some(Digest::of(&body)),
        content_type: content_type.to_owned(),
        headers: Vec::new(),
        mutability: Mutability::Mutable,
        body: Body::Memory(body.into()),
        ..content
    }
}

/// Registries' clients compare media types to the letter, so parameters are left out there.
fn content_type(package_type: PackageType, resource: &Resource, upstream: Option<&str>) -> String {
    let content_type = resource.content_type.or(upstream).unwrap_or(OCTETS);
    match package_type {
        PackageType::Docker => content_type.split(';').next().unwrap_or(OCTETS).trim_end().to_owned(),
        _ => content_type.to_owned(),
    }
}

fn push_kept(headers: &mut Vec<(&'static str, String)>, stored: &dyn Fn(&str) -> Option<String>) {
    for name in ["content-disposition", "content-language"] {
        if let Some(value) = stored(name) {
            headers.push((name, value));
        }
    }
}

fn sha256_of(checksums: &[Checksum]) -> Option<Digest> {
    checksums.iter().find_map(|checksum| match checksum {
        Checksum::Sha256(bytes) => Some(Digest(*bytes)),
        _ => None,
    })
}
