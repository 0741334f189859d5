//! What happens on the way out, told to whoever counts it.

use std::time::Duration;

use artifactapi_model::{RepoName, Timestamp, ports::upstream::UpstreamError};
use http::StatusCode;

pub use crate::breaker::BreakerState;

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
