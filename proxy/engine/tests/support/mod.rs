//! An engine over in-memory stores and an upstream that tests script by hand.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test's helper fails by panicking; each test file uses a part"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use artifactapi_engine::{Body, Content, Engine, FetchError, Options, Ports, Reply};
use artifactapi_formats::{Method, PublicBase, Request};
use artifactapi_model::{
    PackageType, Remote, RepoName, Timestamp, Ttl,
    clock::ManualClock,
    policy::{PathPolicy, Patterns},
    ports::{
        BlobStore, MetadataStore as _, NoPeers, Upstream, UpstreamError, UpstreamMethod, UpstreamRequest,
        UpstreamResponse,
        upstream::{Framing, Layer},
    },
    repository::*,
};
use artifactapi_stores::{LocalCoordinator, MemoryBlobs, MemoryMetadata};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header::HeaderName};
use tokio::sync::{Semaphore, mpsc};

/// What the upstream answers to a path.
#[derive(Clone)]
pub(crate) enum Script {
    Body {
        bytes: Bytes,
        headers: Vec<(&'static str, String)>,
        framing: Option<Framing>,
    },
    Status(u16),
    Down,
    /// Whoever asks with a condition hears 304 and this `etag`, whatever has become of the body.
    Confused {
        bytes: Bytes,
        etag: &'static str,
    },
    /// The test feeds the body through the channel it got from [`FakeUpstream::gate`].
    Gated {
        length: Option<u64>,
        etag: &'static str,
    },
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> Script {
    Script::Body { bytes: bytes.into(), headers: Vec::new(), framing: None }
}

#[derive(Default)]
pub(crate) struct FakeUpstream {
    scripts: Mutex<HashMap<String, Script>>,
    gates: Mutex<HashMap<String, mpsc::Receiver<Result<Bytes, UpstreamError>>>>,
    /// Paths that are not answered before there is leave.
    held: Mutex<HashMap<String, Arc<Semaphore>>>,
    requests: Mutex<Vec<UpstreamRequest>>,
}

impl FakeUpstream {
    pub(crate) fn put(&self, path: &str, script: Script) {
        self.scripts.lock().unwrap().insert(path.to_owned(), script);
    }

    pub(crate) fn gate(&self, path: &str, length: Option<u64>) -> mpsc::Sender<Result<Bytes, UpstreamError>> {
        let (sender, receiver) = mpsc::channel(1);
        self.gates.lock().unwrap().insert(path.to_owned(), receiver);
        self.put(path, Script::Gated { length, etag: "\"gated\"" });
        sender
    }

    /// From now on requests for `path` wait for leave, which what this returns gives.
    pub(crate) fn hold(&self, path: &str) -> Arc<Semaphore> {
        self.held
            .lock()
            .unwrap()
            .entry(path.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(0)))
            .clone()
    }

    pub(crate) fn requests(&self, method: UpstreamMethod) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.method == method).count()
    }

    pub(crate) fn gets(&self) -> usize {
        self.requests(UpstreamMethod::Get)
    }

    pub(crate) fn all(&self) -> Vec<UpstreamRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> UpstreamRequest {
        self.requests.lock().unwrap().last().unwrap().clone()
    }
}

pub(crate) fn broken() -> UpstreamError {
    UpstreamError::Broken { host: "up.test".into(), layer: Layer::Http, message: "connection reset".into() }
}

#[async_trait]
impl Upstream for FakeUpstream {
    async fn send(&self, _: &Remote, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        self.requests.lock().unwrap().push(request.clone());
        let path = request.url.path().trim_start_matches('/').to_owned();
        let held = self.held.lock().unwrap().get(&path).cloned();
        if let Some(leave) = held {
            leave.acquire().await.unwrap().forget();
        }
        let script = self.scripts.lock().unwrap().get(&path).cloned().unwrap_or(Script::Status(404));
        let mut headers = HeaderMap::new();
        let (status, framing, body) = match script {
            Script::Down => return Err(broken()),
            Script::Status(status) => (status, Framing::Length(0), futures_util::stream::empty().boxed()),
            Script::Confused { bytes, etag } => {
                headers.insert("etag", HeaderValue::from_static(etag));
                let conditional = request.if_none_match.is_some() || request.if_modified_since.is_some();
                let (status, bytes) = if conditional { (304, Bytes::new()) } else { (200, bytes) };
                let framing = Framing::Length(bytes.len() as u64);
                (status, framing, futures_util::stream::iter([Ok(bytes)]).boxed())
            }
            Script::Gated { length, etag } => {
                headers.insert("etag", HeaderValue::from_static(etag));
                let mut gate = self.gates.lock().unwrap().remove(&path).expect("a gate is used once");
                let framing = length.map_or(Framing::Delimited, Framing::Length);
                (200, framing, futures_util::stream::poll_fn(move |cx| gate.poll_recv(cx)).boxed())
            }
            Script::Body { bytes, headers: given, framing } => {
                for (name, value) in given {
                    headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
                }
                let unchanged = request.if_none_match.is_some()
                    && headers.get("etag").and_then(|etag| etag.to_str().ok())
                        == request.if_none_match.as_deref();
                let resume = request.resume.as_ref().filter(|resume| {
                    headers.get("etag").and_then(|etag| etag.to_str().ok()) == Some(resume.etag.as_str())
                });
                if let Some(resume) = resume {
                    let rest = bytes.slice(usize::try_from(resume.offset).unwrap()..);
                    let range = format!("bytes {}-{}/{}", resume.offset, bytes.len() - 1, bytes.len());
                    headers.insert("content-range", HeaderValue::from_str(&range).unwrap());
                    let framing = Framing::Length(rest.len() as u64);
                    (206, framing, futures_util::stream::iter([Ok(rest)]).boxed())
                } else if unchanged {
                    (304, Framing::Length(0), futures_util::stream::empty().boxed())
                } else {
                    let framing = framing.unwrap_or(Framing::Length(bytes.len() as u64));
                    let chunks: Vec<_> =
                        bytes.chunks(8 << 10).map(|chunk| Ok(bytes.slice_ref(chunk))).collect();
                    let body = if request.method == UpstreamMethod::Head { Vec::new() } else { chunks };
                    (200, framing, futures_util::stream::iter(body).boxed())
                }
            }
        };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(UpstreamResponse { status, headers, url: request.url, framing, authenticated: true, body })
    }
}

/// The engine and the twins it stands on.
pub(crate) struct Bench {
    pub(crate) engine: Arc<Engine>,
    pub(crate) upstream: Arc<FakeUpstream>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) metadata: Arc<MemoryMetadata>,
    pub(crate) remote: Remote,
}

pub(crate) fn spec(package_type: PackageType) -> RemoteSpec {
    RemoteSpec {
        name: RepoName::try_from("r").unwrap(),
        namespace: "default".into(),
        package_type,
        base_url: "http://up.test/".parse().unwrap(),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::For(Duration::from_secs(60)),
        policy: PathPolicy { mutable: Patterns::compile(&["^dir/"]).unwrap(), ..Default::default() },
        docker: Default::default(),
        query_parameters: Vec::new(),
        stale_if_error: Duration::from_secs(3600),
        stale_while_revalidate: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(60),
        on_upstream_gone: OnUpstreamGone::Keep,
        credentials: None,
        auth_realms: Vec::new(),
        tls: Default::default(),
        file_hosts: FileHosts::Public,
        egress: Default::default(),
        timeouts: Default::default(),
        max_concurrent: 64,
        delivery: Delivery::Proxy,
        read: ReadAccess::Anonymous,
        suspend: false,
        retention: Default::default(),
    }
}

impl Bench {
    pub(crate) async fn new(package_type: PackageType) -> Self {
        Self::with(spec(package_type), Arc::new(MemoryBlobs::default())).await
    }

    pub(crate) async fn with(spec: RemoteSpec, blobs: Arc<dyn BlobStore>) -> Self {
        let upstream = Arc::new(FakeUpstream::default());
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        let metadata = Arc::new(MemoryMetadata::default());
        let ports = Ports {
            blobs,
            metadata: metadata.clone(),
            coordinator: Arc::new(LocalCoordinator::default()),
            peers: Arc::new(NoPeers),
            upstream: upstream.clone(),
            clock: clock.clone(),
        };
        let base_url = spec.base_url.to_string();
        let identity =
            metadata.ensure_repository("default", &spec.name, spec.package_type, &base_url).await.unwrap();
        let remote = Remote { identity, spec: Arc::new(spec) };
        let engine = Engine::new(ports, Options::default(), [1; 32], "replica");
        Bench { engine, upstream, clock, metadata, remote }
    }

    /// Lets time pass for everyone; the test's own must stand still.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    pub(crate) async fn request(&self, method: Method, path: &str) -> Result<Content, FetchError> {
        let request = Request { method, raw_path: path, query: "", accept: "" };
        let base = PublicBase { origin: "http://proxy.test".into(), prefix: "/api/v1/remote/r/".into() };
        match self.engine.get(&self.remote, &request, &base, None).await? {
            Reply::Content(content) => Ok(*content),
            _ => panic!("{path} has content"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Content, FetchError> {
        self.request(Method::Get, path).await
    }

    /// The whole body, or why it ended early.
    pub(crate) async fn read(&self, content: &Content) -> Result<Vec<u8>, String> {
        read(&self.engine, content).await
    }

    pub(crate) async fn fetch(&self, path: &str) -> Result<Vec<u8>, String> {
        let content = self.get(path).await.map_err(|error| error.to_string())?;
        self.read(&content).await
    }
}

/// `length` bytes that differ from block to block.
pub(crate) fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i / 251) as u8 ^ (i % 253) as u8).collect::<Vec<u8>>().into()
}

/// The whole body, or why it ended early.
pub(crate) async fn read(engine: &Engine, content: &Content) -> Result<Vec<u8>, String> {
    match &content.body {
        Body::Absent => Ok(Vec::new()),
        Body::Memory(bytes) => Ok(bytes.to_vec()),
        Body::Stored(digest) => {
            let reader = engine.open(content, digest).await.map_err(|error| error.to_string())?;
            let mut body = Vec::new();
            loop {
                let block = reader.read_at(body.len() as u64, 1 << 20).await.map_err(|e| e.to_string())?;
                if block.is_empty() {
                    return Ok(body);
                }
                body.extend_from_slice(&block);
            }
        }
        Body::Growing(growing) => {
            let mut growing = growing.clone();
            let mut body = Vec::new();
            loop {
                let block = growing.read(body.len() as u64, 1 << 20).await.map_err(|e| e.to_string())?;
                if block.is_empty() {
                    return Ok(body);
                }
                body.extend_from_slice(&block);
            }
        }
    }
}

/// The whole body of a reply that has one.
pub(crate) async fn read_whole(engine: &Engine, reply: Reply) -> Result<Vec<u8>, String> {
    match reply {
        Reply::Content(content) => read(engine, &content).await,
        _ => panic!("it has content"),
    }
}
