//! One request to an upstream: redirects, credentials, address policy, limits and the breaker are the
//! adapter's; what the answer means is the engine's.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::repository::Remote;

/// A body as it arrives. An error item is the last: the body is then incomplete.
pub type UpstreamBody = Pin<Box<dyn Stream<Item = Result<Bytes, UpstreamError>> + Send>>;

/// Methods the engine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the HTTP methods")]
pub enum UpstreamMethod {
    Get,
    Head,
    Post,
}

/// Who chose the URL: decides which address policy and credentials apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlSource {
    /// Below the Remote's `baseURL`.
    Configured,
    /// Read in an index of this Remote: `fileHosts` applies, credentials only on the own origin.
    Index,
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// Method.
    pub method: UpstreamMethod,
    /// Absolute URL.
    pub url: Url,
    /// Who chose it.
    pub url_source: UrlSource,
    /// `Accept` to send; `None` sends `*/*`.
    pub accept: Option<String>,
    /// Validator: upstream's own ETag.
    pub if_none_match: Option<String>,
    /// Validator: upstream's own Last-Modified.
    pub if_modified_since: Option<String>,
    /// The body is wanted from here on only, if it is still the one that begins with the bytes we have.
    pub resume: Option<Resume>,
    /// Token scope to ask for when the challenge names none (`repository:library/alpine:pull`).
    pub scope: Option<String>,
    /// Content-Type, Content-Encoding and body of a POST; at most 1 MiB.
    pub body: Option<PostBody>,
}

/// Where a body is taken up again (RFC 9110, 13.1.5 and 14.2). The answer is 206 from `offset` on, or 200 with
/// the whole of another body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Bytes that are there already.
    pub offset: u64,
    /// Upstream's own strong ETag of the body they belong to.
    pub etag: String,
}

/// A small request body passed on as it came.
#[derive(Clone, Debug)]
pub struct PostBody {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}

impl UpstreamRequest {
    /// A plain GET of a URL below `baseURL`.
    pub fn get(url: Url) -> Self {
        UpstreamRequest {
            method: UpstreamMethod::Get,
            url,
            url_source: UrlSource::Configured,
            accept: None,
            if_none_match: None,
            if_modified_since: None,
            resume: None,
            scope: None,
            body: None,
        }
    }
}

/// How the end of a body is known (RS rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Content-Length says so; a shorter body ends in an error item.
    Length(u64),
    /// A final chunk or END_STREAM says so; its absence ends in an error item.
    Delimited,
    /// Only the closing connection says so: a cut cannot be told from an end.
    Close,
}

/// What came back, after redirects and authentication.
pub struct UpstreamResponse {
    /// Any status but the redirects that were followed.
    pub status: StatusCode,
    /// Response headers as received.
    pub headers: HeaderMap,
    /// URL of the last hop, without userinfo.
    pub url: Url,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the answer was given to an accepted, correctly scoped token or credentials.
    pub authenticated: bool,
    /// The body; empty for HEAD and 304. Its length is [`Framing`]'s business.
    pub body: UpstreamBody,
}

/// Which layer failed, for status conditions and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "named after the layers")]
pub enum Layer {
    Dns,
    Connect,
    Tls,
    Proxy,
    Authentication,
    Http,
}

impl Layer {
    /// As it is written in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Dns => "DNS",
            Layer::Connect => "connect",
            Layer::Tls => "TLS",
            Layer::Proxy => "proxy",
            Layer::Authentication => "authentication",
            Layer::Http => "HTTP",
        }
    }
}

/// Why no usable answer came. Messages carry no secret, no query and no userinfo.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum UpstreamError {
    /// Address or host policy forbids the connection (RS-30).
    #[error("connecting to {host} is not allowed: {reason}")]
    Forbidden {
        /// Host and port.
        host: String,
        /// Which rule, and what would permit it.
        reason: String,
    },
    /// A redirect that may not be followed (RS-32).
    #[error("upstream's redirect was refused: {0}")]
    Redirect(String),
    /// A time limit ran out.
    #[error("upstream {host} did not answer within {limit:?} ({layer:?})")]
    Timeout {
        /// Host and port.
        host: String,
        /// Which layer was waited for.
        layer: Layer,
        /// The limit.
        limit: Duration,
    },
    /// No connection, or it broke.
    #[error("upstream {host} failed ({layer:?}): {message}")]
    Broken {
        /// Host and port.
        host: String,
        /// Where.
        layer: Layer,
        /// What.
        message: String,
    },
    /// The token service does not take the credentials it was shown.
    #[error("upstream {host} failed (Authentication): {message}")]
    Refused {
        /// Host and port.
        host: String,
        /// What it answered.
        message: String,
    },
    /// The breaker of this host is open; nothing was sent.
    #[error("upstream {host} has failed repeatedly and is not asked for another {retry_after:?}")]
    BreakerOpen {
        /// Host and port.
        host: String,
        /// Time left.
        retry_after: Duration,
    },
    /// Upstream asked for a pause (429 or 503 with Retry-After) that is not over; nothing was sent.
    #[error("upstream {host} has asked for a pause; {retry_after:?} are left")]
    Paused {
        /// Host and port.
        host: String,
        /// Time left.
        retry_after: Duration,
    },
    /// `maxConcurrent` requests are under way and the queue is full; nothing was sent.
    #[error("too many requests to upstream are under way")]
    Saturated,
}

/// The way out.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Sends `request` on behalf of `remote`.
    async fn send(
        &self,
        remote: &Remote,
        request: UpstreamRequest,
    ) -> Result<UpstreamResponse, UpstreamError>;
}
