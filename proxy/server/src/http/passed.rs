//! What is answered without content of ours: a format's own answers, and upstream's, passed through uncached.

use artifactapi_engine::FetchError;
use artifactapi_formats::Answer;
use artifactapi_model::ports::{UpstreamResponse, upstream::Framing};
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, LOCATION,
        RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    body::{ReplyBody, Source},
    caching,
    errors::Refused,
};

/// A small answer from memory.
pub fn text(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<bytes::Bytes>,
) -> Response<ReplyBody> {
    let text = text.into();
    let length = text.len();
    let mut response = Response::new(ReplyBody::new(Source::Memory(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A format's own answer; `prefix` is the repository's public path.
///
/// # Errors
/// 401 for [`Answer::Nobody`].
pub fn answer(answer: Answer, prefix: &str) -> Result<Response<ReplyBody>, Refused> {
    match answer {
        Answer::Json(json) => Ok(text(StatusCode::OK, "application/json", json)),
        Answer::Moved(path) => {
            let mut response = text(StatusCode::MOVED_PERMANENTLY, "text/plain; charset=utf-8", "");
            response.headers_mut().insert(LOCATION, caching::header(format!("{prefix}{path}")));
            Ok(response)
        }
        Answer::Nobody => {
            let message = "nobody is logged in: this repository is read anonymously";
            Err(Refused::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message))
        }
    }
}

/// Upstream's answer. Only what describes its body comes along: no cookies, no challenges, no other headers.
///
/// # Errors
/// [`FetchError`] for statuses that would mean something else if they came from us.
pub fn upstream(answer: UpstreamResponse) -> Result<Response<ReplyBody>, FetchError> {
    let status = answer.status;
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(FetchError::Denied(status.as_u16())),
        StatusCode::TOO_MANY_REQUESTS => {
            let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(FetchError::RateLimited { retry_after: seconds.map(std::time::Duration::from_secs) });
        }
        _ if !(status.is_success() || status.is_client_error()) => {
            return Err(FetchError::UpstreamStatus(status.as_u16()));
        }
        _ => {}
    }
    let length = match answer.framing {
        Framing::Length(length) => Some(length),
        Framing::Delimited | Framing::Close => None,
    };
    let mut response = Response::new(ReplyBody::new(Source::Passed(answer.body, length)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        if let Some(value) = answer.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http::HeaderMap;

    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &'static str)]) -> UpstreamResponse {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            url: "http://up.test/".parse().unwrap(),
            framing: Framing::Length(2),
            authenticated: false,
            body: futures_util::stream::iter([Ok("{}".into())]).boxed(),
        }
    }

    #[test]
    fn passes_the_body_and_nothing_else() {
        let headers = [("content-type", "application/json"), ("set-cookie", "a=b"), ("server", "x")];
        let response = upstream(answered(404, &headers)).unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["content-length"], "2");
        assert!(!response.headers().contains_key("set-cookie") && !response.headers().contains_key("server"));
    }

    #[test]
    fn our_own_meanings_are_not_passed() {
        for status in [302, 401, 403, 429, 500, 503] {
            let headers = [("www-authenticate", "Basic"), ("retry-after", "7")];
            assert!(upstream(answered(status, &headers)).is_err(), "{status}");
        }
    }
}
