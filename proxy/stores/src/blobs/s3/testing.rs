//! A real MinIO for tests, and an HTTP client between it and us that does wrong on request.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use artifactapi_services::{Minio, provided};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::Method;
use tokio::sync::Semaphore;

use super::*;

/// One MinIO for all tests of this binary that run at the same time and do not stop it; the last one ends it.
pub(in crate::blobs) fn minio(test: &str) -> Option<Arc<Minio>> {
    static MINIO: Mutex<Weak<Minio>> = Mutex::new(Weak::new());
    let mut running = MINIO.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(minio) = running.upgrade() {
        return Some(minio);
    }
    let minio = Arc::new(provided(Minio::start_in_memory(), test)?);
    *running = Arc::downgrade(&minio);
    Some(minio)
}

/// Settings for a new, empty bucket.
pub(in crate::blobs) fn settings(minio: &Minio) -> S3Settings {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let bucket = format!("bucket-{}", COUNT.fetch_add(1, Relaxed));
    minio.bucket(&bucket);
    S3Settings::new(minio.endpoint(), bucket, Minio::ACCESS_KEY.into(), Minio::SECRET_KEY.into())
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub(in crate::blobs) enum Fault {
    /// Nothing: this one passes.
    None,
    /// The store answers this status and does nothing.
    Status(u16, &'static str),
    /// It is done, and the answer is lost.
    AckLost,
    /// It is done, and the answer is another one.
    AckWrong(u16),
    /// The body breaks off after so many bytes.
    Cut(u64),
    /// The body is shorter, and so says its head.
    Short(u64),
    /// The byte at this offset is another one.
    Flip(u64),
    /// The body stands still after so many bytes until [`Faulty::release`].
    Hold(u64),
}

/// Which requests a script is for.
pub(in crate::blobs) type Which = fn(&HttpRequest) -> bool;

pub(in crate::blobs) fn is_get(request: &HttpRequest) -> bool {
    request.method() == Method::GET && !request.uri().query().unwrap_or("").contains("list-type")
}

pub(in crate::blobs) fn is_head(request: &HttpRequest) -> bool {
    request.method() == Method::HEAD
}

pub(in crate::blobs) fn is_put(request: &HttpRequest) -> bool {
    request.method() == Method::PUT && request.uri().path().contains("/blobs/")
}

pub(in crate::blobs) fn is_complete(request: &HttpRequest) -> bool {
    request.method() == Method::POST && request.uri().query().unwrap_or("").contains("uploadId")
}

pub(in crate::blobs) fn is_part(request: &HttpRequest) -> bool {
    request.method() == Method::PUT && request.uri().query().unwrap_or("").contains("uploadId")
}

pub(in crate::blobs) fn is_tail(request: &HttpRequest) -> bool {
    request.method() == Method::PUT && request.uri().path().contains(".tail-")
}

/// A copy to where damaged objects are kept.
pub(in crate::blobs) fn is_putting_aside(request: &HttpRequest) -> bool {
    request.method() == Method::PUT && request.uri().path().contains("/quarantine/")
}

/// A client that follows a script.
#[derive(Debug, Clone)]
pub(in crate::blobs) struct Faulty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    real: HttpClient,
    scripts: Mutex<Vec<(Which, VecDeque<Fault>)>>,
    /// Every n-th request is answered 503.
    refuse: AtomicU64,
    seen: AtomicU64,
    /// Range headers of the GETs.
    ranges: Mutex<Vec<Option<String>>>,
    /// Closed once held bodies may go on.
    gate: Arc<Semaphore>,
}

impl Faulty {
    pub(in crate::blobs) fn new() -> Self {
        Faulty(Arc::new(Inner {
            real: client::http_client(false).unwrap(),
            scripts: Mutex::default(),
            refuse: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            ranges: Mutex::default(),
            gate: Arc::new(Semaphore::new(0)),
        }))
    }

    /// A bucket seen through this client.
    pub(in crate::blobs) fn blobs(&self, settings: S3Settings) -> S3Blobs {
        S3Blobs::with_client(settings, HttpClient::new(self.clone())).unwrap()
    }

    /// The next requests of this kind go like that, one fault each.
    pub(in crate::blobs) fn script(&self, which: Which, faults: impl IntoIterator<Item = Fault>) {
        self.0.scripts.lock().unwrap().push((which, faults.into_iter().collect()));
    }

    /// Every `n`-th request is answered 503; 0: none.
    pub(in crate::blobs) fn refuse_every(&self, n: u64) {
        self.0.refuse.store(n, Relaxed);
    }

    /// Lets held bodies go on, now and from now on.
    pub(in crate::blobs) fn release(&self) {
        self.0.gate.close();
    }

    /// Range headers of the GETs so far.
    pub(in crate::blobs) fn ranges(&self) -> Vec<Option<String>> {
        self.0.ranges.lock().unwrap().clone()
    }

    fn fault(&self, request: &HttpRequest) -> Fault {
        if is_get(request) {
            let range = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
            self.0.ranges.lock().unwrap().push(range);
        }
        let every = self.0.refuse.load(Relaxed);
        if every > 0 && self.0.seen.fetch_add(1, Relaxed).is_multiple_of(every) {
            return Fault::Status(503, "SlowDown");
        }
        let mut scripts = self.0.scripts.lock().unwrap();
        let script = scripts.iter_mut().find(|(which, faults)| which(request) && !faults.is_empty());
        script.and_then(|(_, faults)| faults.pop_front()).unwrap_or(Fault::None)
    }
}

fn lost() -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, std::io::Error::from(std::io::ErrorKind::ConnectionReset))
}

fn answer(status: u16, code: &str) -> HttpResponse {
    let mut answer = client::empty_answer(status);
    *answer.body_mut() = HttpResponseBody::from(format!("<Error><Code>{code}</Code></Error>"));
    answer
}

#[async_trait]
impl HttpService for Faulty {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let fault = self.fault(&request);
        if let Fault::Status(status, code) = fault {
            return Ok(answer(status, code));
        }
        let real = self.0.real.execute(request).await?;
        match fault {
            Fault::None | Fault::Status(..) => Ok(real),
            Fault::AckLost => {
                let _ = real.into_body().bytes().await;
                Err(lost())
            }
            Fault::AckWrong(status) => {
                let _ = real.into_body().bytes().await;
                Ok(answer(status, "InternalError"))
            }
            Fault::Hold(after) => Ok(hold(real, after, self.0.gate.clone())),
            Fault::Cut(_) | Fault::Short(_) | Fault::Flip(_) => Ok(spoil(real, fault)),
        }
    }
}

/// The answer with a body that is not what it was.
fn spoil(real: HttpResponse, fault: Fault) -> HttpResponse {
    let (mut parts, body) = real.into_parts();
    if let Fault::Short(length) = fault {
        parts.headers.insert("content-length", length.into());
    }
    let pieces = body.bytes_stream().scan((0_u64, false), move |(at, over), piece| {
        let spoiled = if *over { None } else { Some(spoil_piece(piece, at, over, &fault)) };
        std::future::ready(spoiled)
    });
    HttpResponse::from_parts(parts, HttpResponseBody::new(Pieces(Mutex::new(pieces.boxed()))))
}

/// The answer with a body that stands still.
fn hold(real: HttpResponse, after: u64, gate: Arc<Semaphore>) -> HttpResponse {
    let (parts, body) = real.into_parts();
    let mut at = 0;
    let pieces = body.bytes_stream().then(move |piece| {
        let gate = (at >= after).then(|| gate.clone());
        at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        async move {
            if let Some(gate) = gate {
                let _closed = gate.acquire().await;
            }
            piece
        }
    });
    HttpResponse::from_parts(parts, HttpResponseBody::new(Pieces(Mutex::new(pieces.boxed()))))
}

fn spoil_piece(
    piece: Result<Bytes, HttpError>,
    at: &mut u64,
    over: &mut bool,
    fault: &Fault,
) -> Result<Bytes, HttpError> {
    let mut piece = piece?;
    let start = *at;
    *at += piece.len() as u64;
    match fault {
        Fault::Cut(end) if start >= *end => {
            *over = true;
            Err(lost())
        }
        Fault::Cut(end) | Fault::Short(end) => {
            piece.truncate(usize::try_from(end.saturating_sub(start)).unwrap());
            if let Fault::Short(_) = fault {
                *over = *at >= *end;
            }
            Ok(piece)
        }
        Fault::Flip(offset) if (start..*at).contains(offset) => {
            let mut bytes = piece.to_vec();
            bytes[usize::try_from(offset - start).unwrap()] ^= 1;
            Ok(bytes.into())
        }
        _ => Ok(piece),
    }
}

/// A stream as a body.
struct Pieces(Mutex<futures_util::stream::BoxStream<'static, Result<Bytes, HttpError>>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, HttpError>>> {
        let next = self.get_mut().0.get_mut().unwrap().poll_next_unpin(context);
        next.map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}

impl S3Blobs {
    /// Everything below `prefix`.
    pub(in crate::blobs) fn objects(
        &self,
        prefix: &Path,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.store.list(Some(prefix))
    }

    /// Puts other bytes in the place of `digest`, as a failing disk would.
    pub(in crate::blobs) async fn overwrite(&self, digest: &Digest, bytes: Bytes) {
        self.0.store.put(&place_of(digest), bytes.into()).await.unwrap();
    }
}
