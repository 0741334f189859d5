//! The one status table: why there is nothing to serve → status, code, words (README repeats it).
//!
//! 404 and 5xx are never confused: for go, apk, dnf and containerd a 404 means "try the next source", a 5xx may
//! stop everything. So only an absence that upstream stated is a 404.

use std::{borrow::Cow, time::Duration};

use artifactapi_engine::FetchError;
use artifactapi_formats::PlanError;
use artifactapi_model::ports::{BlobError, MetadataError, UpstreamError};
use http::StatusCode;

/// Wait suggested where nothing better is known.
const SOON: Duration = Duration::from_secs(5);
/// Wait suggested for a state that only an operator ends.
const LATER: Duration = Duration::from_secs(60);

/// A refusal, ready to be put into a client's shape.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Status to send.
    pub status: StatusCode,
    /// Error code of the OCI distribution specification.
    pub code: &'static str,
    /// A sentence for people; without secrets and without internals.
    pub message: Cow<'static, str>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Methods that exist, for 405.
    pub allow: Option<&'static str>,
    /// What to ask for, for 401.
    pub challenge: Option<Box<Challenge>>,
}

/// How a client gets in. Registry clients are told where to get a token, others to show theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// What a token has to be good for, in registry clients' words.
    pub scope: Option<String>,
    /// What is wrong with the one shown (RFC 6750).
    pub error: Option<&'static str>,
}

impl Refused {
    /// A refusal without further headers.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refused { status, code, message: message.into(), retry_after: None, allow: None, challenge: None }
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    /// 400.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    /// 405, with the methods that exist.
    pub fn method(allow: &'static str) -> Self {
        let message = format!("only {allow} can be used here");
        Refused { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message) }
    }

    /// 401, with what to ask for.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>, challenge: Challenge) -> Self {
        let refused = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        Refused { challenge: Some(Box::new(challenge)), ..refused }
    }

    /// 503, with a time to come back.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message);
        Refused { retry_after: Some(retry_after), ..refused }
    }

    /// Whether the cause is ours or upstream's, so that it belongs into the log.
    pub fn is_failure(&self) -> bool {
        self.status.is_server_error()
    }

    /// Seconds for `Retry-After`: never less than was asked, spread by `seed` so that a herd does not come
    /// back as one (RS-71).
    pub fn retry_after_seconds(&self, seed: u64) -> Option<u64> {
        let wait = self.retry_after?;
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(whole.max(1) + seed % (whole / 4 + 2))
    }
}

/// What `error` means to a client that asked for `path`. The path only chooses between the OCI codes for a
/// missing manifest and a missing blob.
pub fn refusal(error: &FetchError, path: &str) -> Refused {
    let words = error.to_string();
    match error {
        FetchError::Plan(error) => of_plan(error),
        FetchError::Refused(_) => Refused::new(StatusCode::FORBIDDEN, "DENIED", words),
        FetchError::NotFound { gone: false } => Refused::new(StatusCode::NOT_FOUND, missing(path), words),
        FetchError::NotFound { gone: true } => Refused::new(StatusCode::GONE, missing(path), words),
        FetchError::Suspended => Refused::unavailable(words, LATER),
        FetchError::RateLimited { retry_after } => {
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", words);
            Refused { retry_after: Some(retry_after.unwrap_or(LATER)), ..refused }
        }
        FetchError::Upstream(error) => of_upstream(error),
        // Never its status: a member that has nothing is no answer for all of them.
        FetchError::Member { cause, .. } => {
            let cause = refusal(cause, path);
            let status = if cause.is_failure() { cause.status } else { StatusCode::BAD_GATEWAY };
            Refused { status, allow: None, ..Refused::new(status, "UNAVAILABLE", words) }
        }
        FetchError::Key(_) => Refused::unavailable(words, LATER),
        FetchError::Denied(_)
        | FetchError::UpstreamStatus(_)
        | FetchError::Mismatch { .. }
        | FetchError::Mutated { .. }
        | FetchError::WrongKind { .. }
        | FetchError::TooLarge { .. }
        | FetchError::Truncated(_)
        | FetchError::Elsewhere(_)
        | FetchError::Index(_) => Refused::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", words),
        FetchError::Abandoned => Refused::unavailable(words, Duration::from_secs(1)),
        FetchError::Blob(error) => of_blob(error),
        FetchError::Metadata(error) => of_metadata(error),
    }
}

fn of_plan(error: &PlanError) -> Refused {
    let words = error.to_string();
    match error {
        PlanError::Path(_) | PlanError::Query(_) => Refused::malformed(words),
        PlanError::NotFound(_) | PlanError::ForgedLink => Refused::not_found(words),
        PlanError::Method(allow) => Refused::method(allow),
    }
}

fn of_upstream(error: &UpstreamError) -> Refused {
    let words = error.to_string();
    match error {
        UpstreamError::Forbidden { .. }
        | UpstreamError::Redirect(_)
        | UpstreamError::Refused { .. }
        | UpstreamError::Broken { .. } => Refused::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", words),
        UpstreamError::Timeout { .. } => Refused::new(StatusCode::GATEWAY_TIMEOUT, "UNAVAILABLE", words),
        UpstreamError::BreakerOpen { retry_after, .. } | UpstreamError::Paused { retry_after, .. } => {
            Refused::unavailable(words, *retry_after)
        }
        UpstreamError::Saturated => Refused::unavailable(words, SOON),
    }
}

/// What a failing blob store means; what it failed at is for the log only.
pub fn of_blob(error: &BlobError) -> Refused {
    match error {
        BlobError::Full(_) => full(),
        BlobError::NotFound(_) | BlobError::Damaged(..) | BlobError::Io { .. } => storage_failed(),
    }
}

/// What a failing database means.
pub fn of_metadata(error: &MetadataError) -> Refused {
    match error {
        MetadataError::Full(_) => full(),
        MetadataError::Unavailable(_) | MetadataError::Failed { .. } => storage_failed(),
    }
}

fn full() -> Refused {
    Refused::new(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", "this proxy's storage is full")
}

fn storage_failed() -> Refused {
    Refused::unavailable("this proxy's storage failed; its log says more", SOON)
}

fn missing(path: &str) -> &'static str {
    if path.contains("/blobs/") {
        "BLOB_UNKNOWN"
    } else if path.contains("/manifests/") {
        "MANIFEST_UNKNOWN"
    } else {
        "NAME_UNKNOWN"
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use artifactapi_formats::IndexError;
    use artifactapi_model::{Digest, PathError, Refusal, ports::upstream::Layer};

    use super::*;

    fn host() -> String {
        "up.test:443".into()
    }

    fn table() -> Vec<(FetchError, u16)> {
        let second = Duration::from_secs(1);
        let up = FetchError::Upstream;
        let io = || io::Error::other("secret path");
        vec![
            (FetchError::Plan(PlanError::Path(PathError::Traversal)), 400),
            (FetchError::Plan(PlanError::Query("n")), 400),
            (FetchError::Plan(PlanError::NotFound("no such page")), 404),
            (FetchError::Plan(PlanError::ForgedLink), 404),
            (FetchError::Plan(PlanError::Method("GET, HEAD")), 405),
            (FetchError::Refused(Refusal::Blocklisted), 403),
            (FetchError::NotFound { gone: false }, 404),
            (FetchError::NotFound { gone: true }, 410),
            (FetchError::Suspended, 503),
            (FetchError::Denied(401), 502),
            (FetchError::RateLimited { retry_after: None }, 429),
            (FetchError::UpstreamStatus(500), 502),
            (up(UpstreamError::Forbidden { host: host(), reason: "private".into() }), 502),
            (up(UpstreamError::Redirect("file:".into())), 502),
            (up(UpstreamError::Timeout { host: host(), layer: Layer::Connect, limit: second }), 504),
            (up(UpstreamError::Broken { host: host(), layer: Layer::Tls, message: "x".into() }), 502),
            (up(UpstreamError::BreakerOpen { host: host(), retry_after: second }), 503),
            (up(UpstreamError::Paused { host: host(), retry_after: second }), 503),
            (up(UpstreamError::Saturated), 503),
            (FetchError::Mismatch { algorithm: "sha256" }, 502),
            (FetchError::Mutated { pinned: Digest::of(b"") }, 502),
            (FetchError::WrongKind { got: "text/html".into(), wanted: "zip" }, 502),
            (FetchError::TooLarge { limit: 1 }, 502),
            (FetchError::Truncated("1 of 2 bytes came".into()), 502),
            (FetchError::Abandoned, 503),
            (FetchError::Index(Arc::new(IndexError::Malformed("x".into()))), 502),
            (BlobError::Full(io()).into(), 507),
            (BlobError::Io { doing: "opening a blob", source: io() }.into(), 503),
            (BlobError::Damaged(Digest::of(b""), "short").into(), 503),
            (MetadataError::Full("x".into()).into(), 507),
            (MetadataError::Unavailable("secret path".into()).into(), 503),
        ]
    }

    #[test]
    fn every_error_has_its_status() {
        for (error, want) in table() {
            let refused = refusal(&error, "x");
            assert_eq!(refused.status.as_u16(), want, "{error}");
            let waits = matches!(want, 429 | 503);
            assert_eq!(refused.retry_after.is_some(), waits, "{error}");
            assert_eq!(refused.allow.is_some(), want == 405, "{error}");
            assert!(!refused.message.contains("secret path"), "{error}");
        }
    }

    #[test]
    fn rs_71_come_back_later_and_not_all_at_once() {
        let refused = Refused::unavailable("x", Duration::from_millis(30_500));
        let waits: std::collections::BTreeSet<_> =
            (0..1000).map(|seed| refused.retry_after_seconds(seed).unwrap()).collect();
        assert!(waits.len() > 5);
        assert!(*waits.first().unwrap() >= 31 && *waits.last().unwrap() <= 40);
        assert!(Refused::unavailable("x", Duration::ZERO).retry_after_seconds(0).unwrap() >= 1);
    }

    #[test]
    fn a_registry_says_what_is_missing() {
        let code = |path| refusal(&FetchError::NotFound { gone: false }, path).code;
        assert_eq!(code("library/alpine/manifests/latest"), "MANIFEST_UNKNOWN");
        assert_eq!(code("library/alpine/blobs/sha256:00"), "BLOB_UNKNOWN");
        assert_eq!(code("library/alpine/tags/list"), "NAME_UNKNOWN");
    }
}
