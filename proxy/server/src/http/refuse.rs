//! A refusal in the shape its client expects: OCI JSON for registries, problem+json (RFC 9457) for management,
//! plain text for package clients, which print it.

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    body::{ReplyBody, Source},
    errors::Refused,
    request_id::RequestId,
    route::Route,
};

/// Whom an error is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"errors": [{"code", "message", "detail"}]}`.
    Registry,
    /// problem+json.
    Problem,
    /// A line of text.
    Text,
}

impl Shape {
    /// The shape for clients of `route`.
    pub fn of(route: &Route<'_>) -> Self {
        match route {
            Route::Registry(_) | Route::RegistryPing => Shape::Registry,
            Route::Management => Shape::Problem,
            Route::Remote(_)
            | Route::Virtual(_)
            | Route::Local(_)
            | Route::Livez
            | Route::Readyz { .. }
            | Route::TerraformDiscovery
            | Route::Root
            | Route::Unknown
            | Route::Malformed(_) => Shape::Text,
        }
    }
}

/// The header by which clients know a registry.
pub static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Its value.
pub const REGISTRY_2: HeaderValue = HeaderValue::from_static("registry/2.0");

/// Writes `refused` down.
pub fn response(refused: &Refused, shape: Shape, id: &RequestId) -> Response<ReplyBody> {
    let (kind, text) = match shape {
        Shape::Registry => ("application/json", registry_json(refused)),
        Shape::Problem => ("application/problem+json", problem_json(refused, id)),
        Shape::Text => ("text/plain; charset=utf-8", format!("{}\n", refused.message)),
    };
    let length = text.len();
    let mut response = Response::new(ReplyBody::new(Source::Memory(text.into())));
    *response.status_mut() = refused.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if shape == Shape::Registry {
        headers.insert(&API_VERSION, REGISTRY_2);
    }
    if let Some(seconds) = refused.retry_after_seconds(id.seed()) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refused.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if refused.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"artifactapi\", charset=\"UTF-8\""),
        );
    }
    response
}

fn registry_json(refused: &Refused) -> String {
    let error = serde_json::json!({ "code": refused.code, "message": refused.message, "detail": null });
    serde_json::json!({ "errors": [error] }).to_string()
}

fn problem_json(refused: &Refused, id: &RequestId) -> String {
    let title = refused.status.canonical_reason().unwrap_or("Error");
    serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": refused.status.as_u16(),
        "detail": refused.message,
        "instance": format!("urn:request:{}", &**id),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn written(refused: &Refused, shape: Shape) -> (Response<ReplyBody>, Bytes) {
        let response = response(refused, shape, &RequestId::given("r1").unwrap());
        let Source::Memory(text) = response.body().source() else { panic!("errors are in memory") };
        let text = text.clone();
        (response, text)
    }

    #[test]
    fn each_client_gets_its_shape() {
        let refused = Refused::not_found("there is no repository called \"x\"");
        let (response, text) = written(&refused, Shape::Registry);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["errors"][0]["code"], "NAME_UNKNOWN");
        assert_eq!(response.headers()["docker-distribution-api-version"], "registry/2.0");
        let (response, text) = written(&refused, Shape::Problem);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((json["status"].as_u64(), json["title"].as_str()), (Some(404), Some("Not Found")));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (response, text) = written(&refused, Shape::Text);
        assert_eq!(text, "there is no repository called \"x\"\n");
        assert_eq!(response.headers()["content-length"], text.len().to_string().as_str());
    }

    #[test]
    fn rs_47_a_closed_repository_says_how_to_get_in() {
        let (response, _) = written(&Refused::unauthorized(), Shape::Registry);
        assert_eq!(response.status(), 401);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    }
}
