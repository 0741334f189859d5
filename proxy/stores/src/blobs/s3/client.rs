//! The HTTP under `object_store`: our TLS, a bound on the time to each answer, a count of every request that
//! leaves, and refusals as errors that say what the store said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use reqwest::{Method, StatusCode, header};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{error::Refusal, health::Health};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// A request that carries a body, or assembles one, may take this many times as long as others.
const BODY_FACTOR: u32 = 6;
/// Most of an error's text that is read.
const MAX_ERROR: u64 = 64 << 10;

/// The number of requests that have left for S3, retries included.
#[derive(Debug, Default)]
pub struct S3Tally {
    gets: AtomicU64,
    puts: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    multiparts: AtomicU64,
    failures: AtomicU64,
}

/// What has been asked of S3 so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct S3Counts {
    /// Bodies asked for, whole or in part.
    pub gets: u64,
    /// Objects written in one request, and copies within the store.
    pub puts: u64,
    /// Questions whether an object is there.
    pub heads: u64,
    /// Pages listed.
    pub lists: u64,
    /// Objects removed.
    pub deletes: u64,
    /// Requests of multipart uploads: begin, parts, completion, abort.
    pub multiparts: u64,
    /// Requests of any kind that got no answer, or one of 5xx or 429.
    pub failures: u64,
}

impl S3Tally {
    /// The counts so far.
    pub fn counts(&self) -> S3Counts {
        let S3Tally { gets, puts, heads, lists, deletes, multiparts, failures } = self;
        S3Counts {
            gets: gets.load(Relaxed),
            puts: puts.load(Relaxed),
            heads: heads.load(Relaxed),
            lists: lists.load(Relaxed),
            deletes: deletes.load(Relaxed),
            multiparts: multiparts.load(Relaxed),
            failures: failures.load(Relaxed),
        }
    }

    fn of(&self, request: &HttpRequest) -> &AtomicU64 {
        let query = request.uri().query().unwrap_or("");
        let has = |name: &str| {
            query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == name)
        };
        match *request.method() {
            _ if has("uploadId") || has("uploads") => &self.multiparts,
            Method::HEAD => &self.heads,
            Method::GET if has("list-type") => &self.lists,
            Method::GET => &self.gets,
            Method::DELETE => &self.deletes,
            _ => &self.puts,
        }
    }
}

impl S3Counts {
    /// Requests altogether.
    pub fn all(&self) -> u64 {
        let S3Counts { gets, puts, heads, lists, deletes, multiparts, failures: _ } = self;
        gets + puts + heads + lists + deletes + multiparts
    }
}

/// Sends requests for `object_store`.
#[derive(Debug)]
pub(super) struct Client {
    inner: HttpClient,
    tally: Arc<S3Tally>,
    health: Arc<Health>,
    patience: Duration,
}

impl Client {
    pub(super) fn new(
        inner: HttpClient,
        tally: Arc<S3Tally>,
        health: Arc<Health>,
        patience: Duration,
    ) -> Self {
        Client { inner, tally, health, patience }
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.health.may_ask().map_err(|resting| HttpError::new(HttpErrorKind::Unknown, resting))?;
        self.tally.of(&request).fetch_add(1, Relaxed);
        let heavy = matches!(request.method(), &Method::PUT | &Method::POST);
        let patience = self.patience * if heavy { BODY_FACTOR } else { 1 };
        let answer = match tokio::time::timeout(patience, self.inner.execute(request)).await {
            Ok(answer) => answer,
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
        };
        match &answer {
            Ok(_) => self.health.answered(),
            Err(error) if matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout) => {
                self.health.unanswered();
            }
            Err(_) => {}
        }
        let failed = answer.as_ref().map_or(true, |answer| {
            answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS
        });
        if failed {
            self.tally.failures.fetch_add(1, Relaxed);
        }
        let answer = answer?;
        if is_final(answer.status()) {
            return Err(refusal(answer, self.patience).await);
        }
        Ok(answer)
    }
}

/// Whether asking again is of no use. The rest is left to `object_store`, which asks again.
fn is_final(status: StatusCode) -> bool {
    let again = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    let never = [StatusCode::INSUFFICIENT_STORAGE, StatusCode::NOT_IMPLEMENTED].contains(&status);
    (status.is_client_error() && !again) || status.is_redirection() || never
}

/// The store's "no" as an error of the transport, which carries it through `object_store` unharmed.
async fn refusal(answer: HttpResponse, patience: Duration) -> HttpError {
    let status = answer.status().as_u16();
    let length =
        answer.headers().get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    let text = if length.is_none_or(|length: u64| length <= MAX_ERROR) {
        let text = tokio::time::timeout(patience, answer.into_body().bytes()).await;
        text.ok().and_then(Result::ok).unwrap_or_default()
    } else {
        bytes::Bytes::new()
    };
    HttpError::new(HttpErrorKind::Unknown, Refusal::new(status, &String::from_utf8_lossy(&text)))
}

/// Gives every store the same client.
#[derive(Debug)]
pub(super) struct Connector(pub(super) HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

/// A client for real stores.
///
/// # Errors
/// What cannot be set up.
pub(super) fn http_client(secure: bool) -> Result<HttpClient, String> {
    let mut roots = RootCertStore::empty();
    if secure {
        // Reads `SSL_CERT_FILE` too: that is where a private authority goes. Without any, Mozilla's.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // As towards upstreams: no proxy from the environment.
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(HttpClient::new(client))
}

/// An answer without a body, for those who make answers up.
#[cfg(test)]
pub(super) fn empty_answer(status: u16) -> HttpResponse {
    let mut answer = HttpResponse::new(bytes::Bytes::new().into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
