//! Request bodies that are small: of the few requests that are passed on, and manifests (RS-61, RS-64).

use std::time::Duration;

use artifactapi_model::ports::upstream::PostBody;
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::errors::Refused;

/// Largest request body that is passed on, in bytes.
const MAX_POST: usize = 1 << 20;
/// Bytes over the limit that are still taken, and dropped.
const DRAINED: usize = 64 << 10;
/// Longest pause between them.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
/// Longest time for it to come.
const POST_TIME: Duration = Duration::from_secs(30);

/// Reads the body of a request that is passed on.
///
/// # Errors
/// As of [`limited`].
pub async fn read(parts: &Parts, body: Incoming) -> Result<PostBody, Refused> {
    let bytes = limited(parts, body, MAX_POST, "the request body is larger than 1 MiB").await?;
    let header =
        |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    Ok(PostBody { content_type: header(CONTENT_TYPE), content_encoding: header(CONTENT_ENCODING), bytes })
}

/// Reads a request's body of at most `limit` bytes.
///
/// # Errors
/// 413 with `too_large` when it is larger, 408 when it does not come, 400 when it breaks off.
pub async fn limited(
    parts: &Parts,
    body: Incoming,
    limit: usize,
    too_large: &'static str,
) -> Result<Bytes, Refused> {
    let too_large = || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", too_large);
    let announced =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        // One that asks first has sent nothing, and is to send nothing.
        if !parts.headers.contains_key(EXPECT) {
            tokio::spawn(drain(body, limit + DRAINED));
        }
        return Err(too_large());
    }
    match tokio::time::timeout(POST_TIME, Limited::new(body, limit).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refused::malformed("the request body broke off")),
        Err(_) => {
            let message = "the request body did not come within 30 seconds";
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "UNAVAILABLE", message))
        }
    }
}

/// Takes up to `limit` bytes and drops them: a client that sends everything before it listens hears the answer then,
/// rather than that its connection broke (RS-61).
async fn drain(mut body: Incoming, limit: usize) {
    let mut taken = 0;
    // One that waits itself has heard it.
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(DRAIN_PAUSE, body.frame()).await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > limit {
            return;
        }
    }
}
