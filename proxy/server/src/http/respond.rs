//! [`Content`] → HTTP response. HEAD, 304 and 416 never open the body.

use std::{collections::VecDeque, sync::Arc};

use artifactapi_engine::{Body, CacheOutcome, Content, Engine, FetchError, GrowingBody};
use artifactapi_model::{Digest, PackageType, repository::Delivery};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{self, ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, VARY},
};

use super::{
    blocks::{Blocks, Budget},
    body::{ReplyBody, Source},
    caching,
    conditional::{self, Validators, Verdict},
    range::{self, Selection, Span},
};
use crate::config::Face;

/// Smallest body for which a client is sent to the store, in bytes: for less the second request costs more.
const MIN_REDIRECT: u64 = 1 << 20;

/// What shapes an answer besides its content.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Protocol version.
    pub version: Version,
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// The repository that answers.
    pub repository: &'a Face,
}

/// Answers with `content`.
///
/// # Errors
/// [`FetchError`] when its bytes cannot be opened or a body that has to be awaited whole fails.
pub async fn content(
    engine: &Engine,
    budget: &Arc<Budget>,
    asked: Asked<'_>,
    mut content: Content,
) -> Result<Response<ReplyBody>, FetchError> {
    let identity = content.digest;
    let has_gzip = content.gzip.is_some();
    let gzip = wants_gzip(asked.headers).then(|| content.gzip.take()).flatten();
    let is_gzip = gzip.is_some();
    if let Some((body, digest, size)) = gzip {
        (content.body, content.digest, content.size) = (body, Some(digest), Some(size));
    }
    let package_type = asked.repository.package_type;
    let etag = content.digest.map(|digest| caching::etag(&digest, package_type, is_gzip));
    let last_modified = content
        .last_modified
        .take()
        .unwrap_or_else(|| httpdate::fmt_http_date(content.stored_at.to_system_time()));
    let validators = Validators {
        etag: etag.as_deref(),
        last_modified: &last_modified,
        is_dated_exactly: content.is_dated_exactly,
    };
    let mut headers = describe(&content, asked.repository, validators, identity);
    if is_gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    vary(&mut headers, has_gzip, content.varies_by_accept);
    match conditional::evaluate(asked.headers, validators) {
        Verdict::NotModified => return Ok(bare(StatusCode::NOT_MODIFIED, not_modified(headers))),
        Verdict::Failed => return Ok(bare(StatusCode::PRECONDITION_FAILED, HeaderMap::new())),
        Verdict::Proceed => {}
    }
    let may_range = asked.method == Method::GET && conditional::range_applies(asked.headers, validators);
    let range = asked.headers.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| may_range);
    let size = known_size(&content, asked, range.is_some()).await?;
    let selection = match (range, size) {
        (Some(range), Some(size)) if is_seekable(&content) => range::select(range, size),
        _ => Selection::Whole,
    };
    send(engine, budget, asked, &content, headers, selection, size).await
}

fn wants_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .any(|value| value.to_str().is_ok_and(caching::accepts_gzip))
}

/// Bodies that are only passed through can be read once, forwards.
fn is_seekable(content: &Content) -> bool {
    !matches!((&content.body, content.outcome), (Body::Growing(_), CacheOutcome::Bypass))
}

/// The body's length. Where it is not announced, a range, and an HTTP/1.0 client who could not tell a cut from
/// an end, wait for the whole.
async fn known_size(content: &Content, asked: Asked<'_>, has_range: bool) -> Result<Option<u64>, FetchError> {
    let Body::Growing(growing) = &content.body else { return Ok(content.size) };
    if content.size.is_some() || asked.method == Method::HEAD {
        return Ok(content.size);
    }
    let must_wait = asked.version < Version::HTTP_11 || (has_range && is_seekable(content));
    if must_wait { Ok(Some(whole(growing).await?)) } else { Ok(None) }
}

async fn whole(growing: &GrowingBody) -> Result<u64, FetchError> {
    use artifactapi_engine::content::BodyError;
    growing.clone().whole().await.map_err(|error| match error {
        BodyError::Fetch(error) => (*error).clone(),
        BodyError::Blob(error) => error.into(),
    })
}

/// The headers that GET, HEAD, 206 and 304 share.
fn describe(
    content: &Content,
    repository: &Face,
    validators: Validators<'_>,
    identity: Option<Digest>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(24);
    for (name, value) in &content.headers {
        // Names and values come from formats and upstreams; what cannot be sent is left out (RS-56).
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let octets = || HeaderValue::from_static("application/octet-stream");
    let content_type = HeaderValue::from_str(&content.content_type).unwrap_or_else(|_| octets());
    headers.insert(CONTENT_TYPE, content_type);
    if content.content_type.starts_with("text/html") {
        let policy = HeaderValue::from_static("default-src 'none'; sandbox");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if let Some(etag) = validators.etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    if !validators.last_modified.is_empty()
        && let Ok(date) = HeaderValue::from_str(validators.last_modified)
    {
        headers.insert(header::LAST_MODIFIED, date);
    }
    headers.insert(header::CACHE_CONTROL, caching::cache_control(content, repository.is_private));
    headers.insert(AGE, HeaderValue::from(content.age.as_secs()));
    headers.insert(&CACHE_STATUS, caching::cache_status(content));
    headers.insert(&X_CACHE, caching::x_cache(content.outcome));
    if let Some(digest) = identity {
        headers.insert(&X_CHECKSUM_SHA256, caching::header(digest.to_hex()));
    }
    if content.outcome == CacheOutcome::Stale {
        headers.insert(header::WARNING, HeaderValue::from_static("110 artifactapi \"Response is Stale\""));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static X_CACHE: HeaderName = HeaderName::from_static("x-cache");
static X_CHECKSUM_SHA256: HeaderName = HeaderName::from_static("x-checksum-sha256");

fn vary(headers: &mut HeaderMap, by_encoding: bool, by_accept: bool) {
    let value = match (by_accept, by_encoding) {
        (true, true) => "accept, accept-encoding",
        (true, false) => "accept",
        (false, true) => "accept-encoding",
        (false, false) => return,
    };
    headers.insert(VARY, HeaderValue::from_static(value));
}

/// A 304 describes the body it stands for, but has no content of its own.
fn not_modified(mut headers: HeaderMap) -> HeaderMap {
    for name in [CONTENT_TYPE, CONTENT_ENCODING, header::CONTENT_SECURITY_POLICY] {
        headers.remove(name);
    }
    headers
}

fn bare(status: StatusCode, headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

async fn send(
    engine: &Engine,
    budget: &Arc<Budget>,
    asked: Asked<'_>,
    content: &Content,
    mut headers: HeaderMap,
    selection: Selection,
    size: Option<u64>,
) -> Result<Response<ReplyBody>, FetchError> {
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let full = size.unwrap_or_default();
    let (status, spans) = match selection {
        Selection::Whole => (StatusCode::OK, Vec::new()),
        Selection::One(span) => {
            headers.insert(CONTENT_RANGE, caching::header(span.content_range(full)));
            (StatusCode::PARTIAL_CONTENT, vec![span])
        }
        // Several pieces of a body that is still being fetched come as the whole of it.
        Selection::Many(_) if matches!(content.body, Body::Growing(_)) => (StatusCode::OK, Vec::new()),
        Selection::Many(spans) => (StatusCode::PARTIAL_CONTENT, spans),
        Selection::Unsatisfiable => {
            headers.remove(CONTENT_ENCODING);
            headers.insert(CONTENT_RANGE, caching::header(format!("bytes */{full}")));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            return Ok(bare(StatusCode::RANGE_NOT_SATISFIABLE, headers));
        }
    };
    if asked.method == Method::HEAD {
        if let Some(size) = size {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        return Ok(bare(status, headers));
    }
    if let Some(url) = link(engine, asked, content, headers.contains_key(CONTENT_ENCODING)).await {
        return Ok(redirect(&url));
    }
    let pieces = Pieces::open(engine, budget, content, size).await?;
    let source = match spans.as_slice() {
        [] => pieces.piece(None),
        [span] => pieces.piece(Some(*span)),
        spans => multipart(&pieces, spans, full, &mut headers),
    };
    if let Some(length) = source.left() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut response = bare(status, headers);
    *response.body_mut() = ReplyBody::new(source);
    Ok(response)
}

/// Whether a client can do with the bytes alone: the store's answer has neither our Content-Type, which chooses among the
/// forms of a document and says what a manifest is, nor a Content-Encoding.
fn is_told_by_bytes(content: &Content) -> bool {
    !content.varies_by_accept && !content.content_type.ends_with("json")
}

/// Where the store itself hands out the bytes, if this repository is to be delivered so. `is_encoded`: it is the gzip
/// form that is sent.
async fn link(engine: &Engine, asked: Asked<'_>, content: &Content, is_encoded: bool) -> Option<url::Url> {
    let Body::Stored(digest) = &content.body else { return None };
    if is_encoded || !is_told_by_bytes(content) {
        return None;
    }
    let repository = asked.repository;
    let is_usual = matches!(repository.package_type, PackageType::Docker | PackageType::Generic);
    let wanted = match repository.delivery {
        Delivery::Proxy => false,
        Delivery::Redirect => true,
        Delivery::Auto => is_usual,
    };
    let size = content.size.filter(|size| wanted && *size >= MIN_REDIRECT)?;
    engine.link(digest, size).await
}

/// 307: the method and the range stay, and nobody may keep it for longer than the link lives.
fn redirect(url: &url::Url) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::LOCATION, caching::header(url.to_string()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    bare(StatusCode::TEMPORARY_REDIRECT, headers)
}

/// An opened body, from which any piece can be taken.
struct Pieces<'a> {
    open: Open,
    size: Option<u64>,
    budget: &'a Arc<Budget>,
}

enum Open {
    Nothing,
    Memory(Bytes),
    Stored(Arc<dyn artifactapi_model::ports::BlobReader>),
    Growing(GrowingBody),
}

impl<'a> Pieces<'a> {
    async fn open(
        engine: &Engine,
        budget: &'a Arc<Budget>,
        content: &Content,
        size: Option<u64>,
    ) -> Result<Self, FetchError> {
        let open = match &content.body {
            Body::Absent => Open::Nothing,
            Body::Memory(bytes) => Open::Memory(bytes.clone()),
            Body::Stored(digest) => Open::Stored(engine.open(content, digest).await?),
            Body::Growing(growing) => Open::Growing(growing.clone()),
        };
        Ok(Pieces { open, size, budget })
    }

    /// The bytes of `span`, or all of them.
    fn piece(&self, span: Option<Span>) -> Source {
        let all = Span { start: 0, end: self.size.unwrap_or_default() };
        match &self.open {
            Open::Nothing => Source::Empty,
            Open::Memory(bytes) => Source::Memory(match span {
                None => bytes.clone(),
                Some(span) => {
                    let bound = |offset| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.slice(bound(span.start)..bound(span.end))
                }
            }),
            Open::Stored(reader) => {
                Source::Blocks(Box::new(Blocks::stored(reader.clone(), span.unwrap_or(all), self.budget)))
            }
            Open::Growing(growing) => Source::Blocks(Box::new(match span {
                Some(span) => Blocks::growing_span(growing.clone(), span, self.budget),
                None => Blocks::growing(growing.clone(), self.size, self.budget),
            })),
        }
    }
}

/// `multipart/byteranges` (RFC 9110, 14.6).
fn multipart(pieces: &Pieces<'_>, spans: &[Span], size: u64, headers: &mut HeaderMap) -> Source {
    // Unlikely to occur in a body, and harmless if it does: every part says how long it is.
    const BOUNDARY: &str = "5b1c7f0e9d2a4c6388e1";
    let kind = headers.remove(CONTENT_TYPE);
    let kind = kind.as_ref().and_then(|kind| kind.to_str().ok()).unwrap_or("application/octet-stream");
    let mut parts = VecDeque::with_capacity(spans.len() * 2 + 1);
    for span in spans {
        let range = span.content_range(size);
        let head = format!("\r\n--{BOUNDARY}\r\ncontent-type: {kind}\r\ncontent-range: {range}\r\n\r\n");
        parts.push_back(Source::Memory(head.into()));
        parts.push_back(pieces.piece(Some(*span)));
    }
    parts.push_back(Source::Memory(format!("\r\n--{BOUNDARY}--\r\n").into()));
    let kind = HeaderValue::from_static("multipart/byteranges; boundary=5b1c7f0e9d2a4c6388e1");
    headers.insert(CONTENT_TYPE, kind);
    Source::Sequence(parts)
}
