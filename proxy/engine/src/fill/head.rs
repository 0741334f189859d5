//! What is known of a body before its bytes, and what an answer without a usable body means.

use std::{sync::Arc, time::Duration};

use artifactapi_formats::Resource;
use artifactapi_model::{
    Checksum, Checksums, Mutability, PackageType, Remote,
    ports::{UpstreamResponse, metadata::ArtifactRow, upstream::Framing},
};
use http::{HeaderMap, StatusCode, header};

use crate::error::FetchError;

/// Upstream response headers that are kept with a body.
const KEPT_HEADERS: [&str; 7] = [
    "content-type",
    "content-disposition",
    "content-language",
    "last-modified",
    "etag",
    "link",
    "docker-content-digest",
];
/// Longest kept header value, in bytes.
const MAX_HEADER: usize = 4096;
/// What is known of a body before its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) headers: Arc<[(String, String)]>,
    pub(crate) source_url: String,
    /// Announced length in bytes.
    pub(crate) length: Option<u64>,
    /// What the body will be held against.
    pub(crate) checksums: Checksums,
    pub(crate) mutability: Mutability,
    pub(crate) framing: Framing,
}

impl Head {
    /// The first kept header called `name` (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Describes the body of `response`, which will be held against `checksums`.
pub(crate) fn head_of(
    remote: &Remote,
    resource: &Resource,
    mutability: Mutability,
    response: &UpstreamResponse,
    mut checksums: Checksums,
) -> Head {
    let headers = kept_headers(&response.headers);
    let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if remote.spec.package_type == PackageType::Docker
        && let Some(digest) = find("docker-content-digest").and_then(Checksum::parse_oci)
        && !checksums.contains(&digest)
    {
        checksums.push(digest);
    }
    let is_html = find("content-type").is_some_and(|value| value.starts_with("text/html"));
    let is_listing = remote.spec.package_type == PackageType::Generic
        && is_html
        && !resource.path.file_name().contains('.');
    let mut source_url = response.url.clone();
    source_url.set_query(None);
    source_url.set_fragment(None);
    Head {
        length: match response.framing {
            Framing::Length(length) => Some(length),
            Framing::Delimited | Framing::Close => None,
        },
        framing: response.framing,
        mutability: if is_listing { Mutability::Mutable } else { mutability },
        source_url: source_url.into(),
        headers: headers.into(),
        checksums,
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = |name: &str| {
        let value = headers.get(name)?.to_str().ok().filter(|value| value.len() <= MAX_HEADER)?;
        Some((name.to_owned(), value.to_owned()))
    };
    KEPT_HEADERS.iter().filter_map(|name| kept(name)).collect()
}

/// Whether `response` is a 304 that names another entity tag than the stored body has: it stands for a body that is not
/// ours, and must not be taken for a confirmation (RFC 9111, 4.3.4; compared weakly, RFC 9110, 8.8.3.2).
pub(crate) fn is_about_another(stored: &ArtifactRow, response: &UpstreamResponse) -> bool {
    let opaque = |etag: &'_ str| etag.trim().trim_start_matches("W/").to_owned();
    let named = response.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    response.status == StatusCode::NOT_MODIFIED
        && match (stored.header("etag"), named) {
            (Some(stored), Some(named)) => opaque(stored) != opaque(named),
            _ => false,
        }
}

/// A 304 may carry newer validators (RFC 9110, 15.4.5); the rest stays.
pub(crate) fn merge_headers(stored: &[(String, String)], fresh: &HeaderMap) -> Arc<[(String, String)]> {
    let fresh = kept_headers(fresh);
    let newer =
        |name: &str| fresh.iter().find(|(n, _)| n == name && matches!(name, "etag" | "last-modified"));
    stored
        .iter()
        .map(|(name, value)| newer(name).cloned().unwrap_or_else(|| (name.clone(), value.clone())))
        .collect()
}

/// What an answer without a usable body means.
pub(crate) fn refusal(resource: &Resource, response: &UpstreamResponse) -> FetchError {
    match response.status.as_u16() {
        404 => FetchError::NotFound { gone: false },
        410 => FetchError::NotFound { gone: true },
        401 | 403 if resource.denied_means_missing && response.authenticated => {
            FetchError::NotFound { gone: false }
        }
        status @ (401 | 403) => FetchError::Denied(status),
        429 => FetchError::RateLimited { retry_after: retry_after(&response.headers) },
        status => FetchError::UpstreamStatus(status),
    }
}

/// Seconds or an HTTP date (RFC 9110, 10.2.3), against upstream's own `Date` where it sends one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text =
        |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    until.duration_since(now).ok()
}
