//! What happens on the way out, told to whoever counts it.

use std::time::Duration;

use artifactapi_model::{
    Remote, RepoName, Timestamp,
    ports::upstream::{UpstreamError, UrlSource},
};
use http::StatusCode;

pub use crate::breaker::BreakerState;

/// How all that was sent for one request ended: redirects, challenges and token requests included.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The last answer's status, or why there is none.
    pub result: Result<StatusCode, &'a UpstreamError>,
    /// Whether the answer was given to somebody whom upstream recognised, be it anonymously.
    pub recognised: bool,
    /// Whether upstream took the Remote's credentials; `None` when it was not shown any.
    pub credentials: Option<bool>,
    /// What is left of upstream's rate limit, where it said so.
    pub left: Option<u64>,
    /// Who chose the URL.
    pub url_source: UrlSource,
}

/// Told about every request. Calls come from the request's own task and must return at once.
pub trait Observer: Send + Sync + 'static {
    /// One request (a redirect hop or a token request counts on its own) ended: with the head of an
    /// answer, or without one. `duration` runs from sending to the head. Requests that were never sent
    /// (breaker open, pause, queue full, forbidden) are not reported.
    fn on_request(
        &self,
        remote: &RepoName,
        host: &str,
        outcome: Result<StatusCode, &UpstreamError>,
        duration: Duration,
    ) {
        let _ = (remote, host, outcome, duration);
    }

    /// A request on behalf of `remote` ended with the head of an answer, or without one.
    fn on_outcome(&self, remote: &Remote, outcome: Outcome<'_>) {
        let _ = (remote, outcome);
    }

    /// The breaker of `host` changed.
    fn on_breaker(&self, host: &str, state: BreakerState) {
        let _ = (host, state);
    }

    /// `host` asked not to be called before `until`. A server with twins passes it on to them, and what
    /// they pass on to [`HttpUpstream::pause`](crate::HttpUpstream::pause).
    fn on_pause(&self, host: &str, until: Timestamp) {
        let _ = (host, until);
    }
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Two who are told the same.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn on_request(
        &self,
        remote: &RepoName,
        host: &str,
        outcome: Result<StatusCode, &UpstreamError>,
        duration: Duration,
    ) {
        self.0.on_request(remote, host, outcome, duration);
        self.1.on_request(remote, host, outcome, duration);
    }

    fn on_outcome(&self, remote: &Remote, outcome: Outcome<'_>) {
        self.0.on_outcome(remote, outcome);
        self.1.on_outcome(remote, outcome);
    }

    fn on_breaker(&self, host: &str, state: BreakerState) {
        self.0.on_breaker(host, state);
        self.1.on_breaker(host, state);
    }

    fn on_pause(&self, host: &str, until: Timestamp) {
        self.0.on_pause(host, until);
        self.1.on_pause(host, until);
    }
}
