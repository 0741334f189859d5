//! The engine's face: its ports, its options, and the three calls a server makes.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use artifactapi_formats::{LinkSigner, Method, Plan, PublicBase, Request, format_of};
use artifactapi_model::{
    Clock, Digest, Remote,
    ports::{
        BlobError, BlobReader, BlobStore, Coordinator, MetadataStore, Peers, Upstream, UpstreamMethod,
        UpstreamRequest, upstream::PostBody,
    },
};

use url::Url;

use crate::{
    content::{Content, Reply},
    error::FetchError,
    facts::FactCache,
    flights::Flights,
    heads::Heads,
    hot::HotIndex,
    keys::Keys,
    lookup::Lookups,
    negative::NegativeCache,
    share::{RECHECKS, RecheckAges},
};

/// Life of a link into the store: a transfer must begin within it.
const LINK_LIFE: Duration = Duration::from_secs(300);

/// The doors the engine uses.
#[derive(Clone)]
#[expect(missing_docs, reason = "each is documented by its trait")]
pub struct Ports {
    pub blobs: Arc<dyn BlobStore>,
    pub metadata: Arc<dyn MetadataStore>,
    pub coordinator: Arc<dyn Coordinator>,
    pub peers: Arc<dyn Peers>,
    pub upstream: Arc<dyn Upstream>,
    pub clock: Arc<dyn Clock>,
}

/// Bounds of the engine's memory.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of small bodies and rows kept in memory.
    pub hot_bytes: u64,
    /// Largest body kept in memory, in bytes.
    pub small_body: u64,
    /// Bytes of index facts kept in memory.
    pub fact_bytes: u64,
    /// Remembered absences.
    pub negative_entries: usize,
    /// Rewrites and index readings at the same time.
    pub workers: usize,
    /// Bytes of merged indexes' files and lists kept in memory.
    pub generation_bytes: u64,
    /// How long a row may lie in memory unquestioned.
    pub recheck: RecheckAges,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            hot_bytes: 64 << 20,
            small_body: 256 << 10,
            fact_bytes: 48 << 20,
            negative_entries: 100_000,
            workers: 2,
            generation_bytes: 64 << 20,
            recheck: RecheckAges::default(),
        }
    }
}

/// The cache engine of one process.
pub struct Engine {
    pub(crate) ports: Ports,
    pub(crate) options: Options,
    /// Tells this process from its twins in messages.
    pub(crate) replica: String,
    pub(crate) rechecks: Arc<tokio::sync::Semaphore>,
    pub(crate) late: Arc<tokio::sync::Semaphore>,
    pub(crate) links: LinkSigner,
    pub(crate) hot: HotIndex,
    pub(crate) negative: NegativeCache,
    pub(crate) facts: FactCache,
    pub(crate) flights: Flights,
    pub(crate) lookups: Lookups,
    pub(crate) heads: Heads,
    pub(crate) workers: Arc<tokio::sync::Semaphore>,
    pub(crate) derivations: crate::derive::Derivations,
    pub(crate) merged: crate::merged::state::Merged,
    pub(crate) keys: OnceLock<Arc<dyn Keys>>,
    /// Counts stored indexes, so that bodies are held against new ones.
    pub(crate) generation: AtomicU64,
}

impl Engine {
    /// An engine over `ports`. `link_key` is the cluster's shared secret for signed links, `replica` a name that no
    /// twin has.
    pub fn new(ports: Ports, options: Options, link_key: [u8; 32], replica: &str) -> Arc<Self> {
        Arc::new(Engine {
            replica: replica.to_owned(),
            rechecks: Arc::new(tokio::sync::Semaphore::new(RECHECKS)),
            late: Arc::new(tokio::sync::Semaphore::new(crate::fill::late::MAX_LATE)),
            links: LinkSigner::new(link_key),
            hot: HotIndex::new(options.hot_bytes, options.small_body),
            negative: NegativeCache::new(options.negative_entries),
            facts: FactCache::new(options.fact_bytes),
            flights: Flights::default(),
            lookups: Lookups::default(),
            heads: Heads::default(),
            workers: Arc::new(tokio::sync::Semaphore::new(options.workers)),
            derivations: crate::derive::Derivations::default(),
            merged: crate::merged::state::Merged::new(options.generation_bytes),
            keys: OnceLock::new(),
            generation: AtomicU64::new(1),
            ports,
            options,
        })
    }

    /// Gives it the keys that merged indexes are signed with; the first ones stay.
    pub fn set_keys(&self, keys: Arc<dyn Keys>) {
        // Whoever comes second changes nothing.
        let _ = self.keys.set(keys);
    }

    /// Answers `request` to `remote`, whose public URL is `base`. `body` is the request's own, for the few
    /// POSTs that are passed on. The caller has checked `access.read`.
    ///
    /// # Errors
    /// [`FetchError`] when there is nothing to serve. A body that breaks later ends in an error of its stream.
    pub async fn get(
        self: &Arc<Self>,
        remote: &Remote,
        request: &Request<'_>,
        base: &PublicBase,
        body: Option<PostBody>,
    ) -> Result<Reply, FetchError> {
        let format = format_of(remote.spec.package_type);
        match format.plan(request, &remote.spec, &self.links)? {
            Plan::Serve(resource) => {
                let head = request.method == Method::Head;
                let content = self.serve(remote, &resource, base, head).await?;
                Ok(Reply::Content(Box::new(content)))
            }
            Plan::Answer(answer) => Ok(Reply::Answer(answer)),
            Plan::Pass(path) => self.pass(remote, &path, request.method, body).await,
        }
    }

    async fn pass(
        &self,
        remote: &Remote,
        path: &str,
        method: Method,
        body: Option<PostBody>,
    ) -> Result<Reply, FetchError> {
        if remote.spec.suspend {
            return Err(FetchError::Suspended);
        }
        let method = match method {
            Method::Post => UpstreamMethod::Post,
            Method::Head => UpstreamMethod::Head,
            Method::Get | Method::Other => UpstreamMethod::Get,
        };
        let url = crate::fetch::below(&remote.spec, path)?;
        let request = UpstreamRequest { method, body, ..UpstreamRequest::get(url) };
        Ok(Reply::Passed(Box::new(self.ports.upstream.send(remote, request).await?)))
    }

    /// Opens a [`crate::Body::Stored`] body. When the bytes turn out to be gone, every trace of `content` is
    /// dropped first, so that asking [`Engine::get`] again fetches it anew.
    ///
    /// # Errors
    /// [`FetchError::Blob`].
    pub async fn open(&self, content: &Content, digest: &Digest) -> Result<Arc<dyn BlobReader>, FetchError> {
        let opened = self.ports.blobs.open(digest).await;
        if let Err(BlobError::NotFound(_) | BlobError::Damaged(..)) = &opened {
            self.forget(&content.key, digest).await?;
        }
        Ok(opened?)
    }

    /// A URL at which the bytes of `digest` can be had from the store itself for a while, where it has such.
    pub async fn link(&self, digest: &Digest, size: u64) -> Option<Url> {
        // Without one the bytes go through here.
        self.ports.blobs.link(digest, size, LINK_LIFE).await.ok().flatten()
    }

    /// Waits until no fill runs here any more, at most `limit`: twins may be following.
    pub async fn settled(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.flights.emptied()).await;
    }

    /// Writes down which keys were used since the last call; a server calls it every minute or so, and once
    /// when it stops.
    ///
    /// # Errors
    /// [`FetchError::Metadata`]; the uses are then lost, which only makes eviction less exact.
    pub async fn record_uses(&self) -> Result<(), FetchError> {
        let uses = self.hot.take_uses();
        if !uses.is_empty() {
            self.ports.metadata.touch(&uses).await?;
        }
        Ok(())
    }
}
