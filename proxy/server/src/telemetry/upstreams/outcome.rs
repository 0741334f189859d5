//! What the end of one request says about an upstream. Pure.

use artifactapi_model::{
    Timestamp,
    observation::{Failure, Observation, RateLeft, Track},
    ports::upstream::{Layer, UpstreamError, UrlSource},
    repository::RemoteSpec,
};
use artifactapi_upstream::{Outcome, host_of};
use http::StatusCode;

/// What `outcome` of a request on behalf of `spec` says; nothing when it is about ourselves: a full queue, a breaker, a
/// pause, or a URL that an index of upstream made up.
pub(super) fn observation(spec: &RemoteSpec, outcome: &Outcome<'_>, now: Timestamp) -> Option<Observation> {
    let mut seen =
        Observation { rate: outcome.left.map(|left| RateLeft { at: now, left }), ..Observation::default() };
    let host = host_of(&spec.base_url);
    let bad = |layer, status: Option<StatusCode>, reason: &str| Track {
        good: None,
        bad: Some(Failure::new(now, layer, status.map(|status| status.as_u16()), reason)),
    };
    let good = || Track { good: Some(now), bad: None };
    match outcome.result {
        Ok(StatusCode::UNAUTHORIZED) if is_closed_to_nobody(spec, outcome) => {
            let reason = format!(
                "upstream {host} wants credentials (401), and the Remote has none; set auth.secretRef"
            );
            seen.upstream = bad(Layer::Authentication, Some(StatusCode::UNAUTHORIZED), &reason);
        }
        Ok(status) if is_trouble(status) => {
            seen.upstream = bad(Layer::Http, Some(status), &format!("upstream {host} answered {status}"));
        }
        Ok(_) => seen.upstream = good(),
        Err(error @ (UpstreamError::Timeout { layer, .. } | UpstreamError::Broken { layer, .. })) => {
            seen.upstream = bad(*layer, None, &error.to_string());
        }
        Err(UpstreamError::Refused { .. }) => seen.upstream = good(),
        Err(error @ UpstreamError::Forbidden { .. }) if outcome.url_source == UrlSource::Configured => {
            seen.upstream = bad(Layer::Connect, None, &error.to_string());
        }
        Err(error @ UpstreamError::Redirect(_)) if outcome.url_source == UrlSource::Configured => {
            seen.upstream = bad(Layer::Http, None, &error.to_string());
        }
        Err(
            UpstreamError::Forbidden { .. }
            | UpstreamError::Redirect(_)
            | UpstreamError::BreakerOpen { .. }
            | UpstreamError::Paused { .. }
            | UpstreamError::Saturated,
        ) => return None,
    }
    seen.credentials = match (outcome.credentials, outcome.result) {
        (None, _) => Track::default(),
        (Some(true), _) => good(),
        (Some(false), Err(error)) => bad(Layer::Authentication, None, &error.to_string()),
        (Some(false), Ok(status)) => {
            let reason =
                format!("upstream {host} refused the credentials of auth.secretRef ({})", status.as_u16());
            bad(Layer::Authentication, Some(status), &reason)
        }
    };
    Some(seen)
}

/// Whether a 401 means that upstream wants to know who asks, and nobody said.
fn is_closed_to_nobody(spec: &RemoteSpec, outcome: &Outcome<'_>) -> bool {
    spec.credentials.is_none() && !outcome.recognised
}

/// Whether upstream cannot answer at present; 501 and 505 are about the request.
fn is_trouble(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && !matches!(status.as_u16(), 501 | 505))
}
