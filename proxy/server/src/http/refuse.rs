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
    errors::{Challenge, Refused},
    forwarded::PublicUrl,
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
            Route::Registry(_) | Route::RegistryPing | Route::Token => Shape::Registry,
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

/// The way in for clients that know nothing but user name and password.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"artifactapi\", charset=\"UTF-8\"");

/// Writes `refused` down. `url` is ours, for clients that get tokens from `/token`; the others are asked for their
/// password.
pub fn response(
    refused: &Refused,
    shape: Shape,
    id: &RequestId,
    url: Option<&PublicUrl>,
) -> Response<ReplyBody> {
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
        let bearer =
            url.and_then(|url| HeaderValue::from_str(&bearer(url, refused.challenge.as_deref())).ok());
        headers.insert(WWW_AUTHENTICATE, bearer.unwrap_or(BASIC));
    }
    response
}

/// RFC 6750, as registry clients read it.
fn bearer(url: &PublicUrl, challenge: Option<&Challenge>) -> String {
    let PublicUrl { origin, prefix } = url;
    let service = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
    let mut text = format!("Bearer realm=\"{origin}{prefix}/token\",service=\"{service}\"");
    let scope = challenge.and_then(|challenge| challenge.scope.as_deref());
    for (name, value) in [("scope", scope), ("error", challenge.and_then(|challenge| challenge.error))] {
        // A scope holds a path as the client sent it; what would end the string is no image's name.
        if let Some(value) = value.filter(|value| !value.contains(['"', '\\'])) {
            text.push_str(&format!(",{name}=\"{value}\""));
        }
    }
    text
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
        let response = response(refused, shape, &RequestId::given("r1").unwrap(), None);
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
        let challenge = |scope: Option<&str>, error| Challenge { scope: scope.map(str::to_owned), error };
        let refused = |challenge| Refused::unauthorized("who are you?", challenge);
        let (response, _) = written(&refused(challenge(Some("repository:a/b:pull"), None)), Shape::Text);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"artifactapi\", charset=\"UTF-8\"");

        let url = PublicUrl::parse("https://packages.test:8443/cache").unwrap();
        let told = |challenge| {
            let id = RequestId::given("r1").unwrap();
            let response = super::response(&refused(challenge), Shape::Registry, &id, Some(&url));
            response.headers()["www-authenticate"].to_str().unwrap().to_owned()
        };
        let start = "Bearer realm=\"https://packages.test:8443/cache/token\",service=\"packages.test:8443\"";
        assert_eq!(told(challenge(None, None)), start);
        assert_eq!(
            told(challenge(Some("repository:a/b:pull,push"), Some("insufficient_scope"))),
            format!("{start},scope=\"repository:a/b:pull,push\",error=\"insufficient_scope\"")
        );
        assert_eq!(told(challenge(Some("repository:a\"b:pull"), None)), start, "nothing escapes its quotes");
    }
}
