//! Request bodies: only small ones, for the few requests that are passed on (RS-61, RS-64).

use std::time::Duration;

use artifactapi_model::ports::upstream::PostBody;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::errors::Refused;

/// Largest request body, in bytes.
const MAX_POST: usize = 1 << 20;
/// Longest time for it to come.
const POST_TIME: Duration = Duration::from_secs(30);

/// Reads a request's body.
///
/// # Errors
/// 413 when it is larger than 1 MiB, 408 when it does not come, 400 when it breaks off.
pub async fn read(parts: &Parts, body: Incoming) -> Result<PostBody, Refused> {
    let too_large = || {
        let message = "the request body is larger than 1 MiB";
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    };
    let announced =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_POST as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(POST_TIME, Limited::new(body, MAX_POST).collect()).await;
    let bytes = match read {
        Ok(Ok(read)) => read.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Refused::malformed("the request body broke off")),
        Err(_) => {
            let message = "the request body did not come within 30 seconds";
            return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "UNAVAILABLE", message));
        }
    };
    let header =
        |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    Ok(PostBody { content_type: header(CONTENT_TYPE), content_encoding: header(CONTENT_ENCODING), bytes })
}
