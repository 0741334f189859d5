//! What is read from a Local: the bodies of blobs and manifests by the same way as cached ones (conditions, ranges,
//! HEAD), lists as documents of the moment.

use std::{fmt::Write as _, time::Duration};

use artifactapi_engine::{Body, CacheOutcome, Content};
use artifactapi_model::{
    ArtifactKey, Digest, Local, Mutability, Timestamp,
    oci::{OciDigest, Reference},
    ports::registry::Referrer,
};
use artifactapi_registry::{Registry, registry::Page};
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::{OCI_FILTERS_APPLIED, Read, parameter, route::LocalRoute};
use crate::{
    http::{
        body::ReplyBody,
        caching,
        errors::{self, Refused},
        locals::route,
        passed,
        respond::{self, Asked},
    },
    telemetry::{Outcome, Record},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// `blobs/{digest}`. A HEAD is a pusher's question whether it may leave out sending the bytes.
pub(super) async fn blob(
    request: &Read<'_>,
    route: &LocalRoute,
    digest: &OciDigest,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let renew = request.parts.method == Method::HEAD;
    let local = &request.repository.local;
    let found = request.registry().blob(local, &route.name, digest, renew).await;
    let found = found?;
    let content = Content {
        size: Some(found.size),
        digest: Some(found.blob),
        mutability: Mutability::Immutable,
        fresh_for: None,
        body: Body::Stored(found.blob),
        ..content(local, route, digest, "application/octet-stream".into())
    };
    send(request, content, record).await
}

/// `manifests/{reference}`. A HEAD is a pusher's question too, whether it may leave out pushing the manifest.
pub(super) async fn manifest(
    request: &Read<'_>,
    route: &LocalRoute,
    reference: &Reference,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let local = &request.repository.local;
    let renew = request.parts.method == Method::HEAD;
    let found = request.registry().manifest(local, &route.name, reference, renew).await;
    let found = found?;
    let by_digest = matches!(reference, Reference::Digest(_));
    let content = Content {
        size: Some(found.body.len() as u64),
        digest: Some(match found.digest {
            OciDigest::Sha256(bytes) => Digest(bytes),
            OciDigest::Sha512(_) => Digest::of(&found.body),
        }),
        mutability: if by_digest { Mutability::Immutable } else { Mutability::Mutable },
        fresh_for: if by_digest { None } else { Some(Duration::ZERO) },
        body: Body::Memory(found.body),
        ..content(local, route, &found.digest, found.media_type)
    };
    send(request, content, record).await
}

/// What blobs and manifests share.
fn content(local: &Local, route: &LocalRoute, digest: &OciDigest, content_type: String) -> Content {
    let identity = local.identity;
    Content {
        key: ArtifactKey { repo: identity.id, epoch: identity.epoch, path: route.name.as_str().into() },
        size: None,
        digest: None,
        content_type,
        last_modified: Some(String::new()),
        headers: vec![("docker-content-digest", digest.to_string())],
        mutability: Mutability::Immutable,
        age: Duration::ZERO,
        fresh_for: None,
        stored_at: Timestamp(0),
        outcome: CacheOutcome::Hit,
        is_dated_exactly: false,
        varies_by_accept: false,
        gzip: None,
        body: Body::Absent,
    }
}

async fn send(
    request: &Read<'_>,
    content: Content,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    if let Some(entry) = record.entry() {
        entry.outcome = Outcome::Hit;
    }
    let parts = request.parts;
    let asked = Asked {
        method: &parts.method,
        version: parts.version,
        headers: &parts.headers,
        repository: &request.repository.face,
    };
    let app = request.app;
    respond::content(&app.engine, &app.budget, asked, content).await.map_err(|error| {
        tracing::error!(local.name = %request.repository.face.name, %error, "a stored body cannot be served");
        errors::refusal(&error, "/blobs/")
    })
}

/// `tags/list`.
pub(super) async fn tags(request: &Read<'_>, route: &LocalRoute) -> Result<Response<ReplyBody>, Refused> {
    let last = parameter(request.query, "last");
    let local = &request.repository.local;
    let page = request.registry().tags(local, &route.name, last.as_deref(), size(request.query)?).await;
    let page = page?;
    // What clients call it: below the address that they asked.
    let repository = request.prefix.rsplit('/').nth(1).unwrap_or_default();
    let name = format!("{repository}/{}", route.name);
    let tags: Vec<&str> = page.entries.iter().map(|tag| tag.as_str()).collect();
    let document = json!({"name": name, "tags": tags}).to_string();
    let path = format!("{}{}/tags/list", request.prefix, route.name);
    Ok(list(document, next(&path, &page, tags.last().copied())))
}

/// `_catalog`.
pub(super) async fn catalog(
    registry: &Registry,
    locals: &[&Local],
    query: &str,
    prefix: &str,
) -> Result<Response<ReplyBody>, Refused> {
    let last = parameter(query, "last");
    let page = registry.catalog(locals, last.as_deref(), size(query)?).await?;
    let document = json!({"repositories": page.entries}).to_string();
    let last = page.entries.last().map(String::as_str);
    Ok(list(document, next(&format!("{prefix}_catalog"), &page, last)))
}

/// `referrers/{digest}`.
pub(super) async fn referrers(
    request: &Read<'_>,
    route: &LocalRoute,
    subject: &OciDigest,
) -> Result<Response<ReplyBody>, Refused> {
    let artifact_type = parameter(request.query, "artifactType").filter(|text| !text.is_empty());
    let last = parameter(request.query, "last").map(|last| route::digest(&last)).transpose()?;
    let (local, filter) = (&request.repository.local, artifact_type.as_deref());
    let page = request.registry().referrers(local, &route.name, subject, filter, last.as_ref()).await;
    let page = page?;
    let manifests: Vec<_> = page.entries.iter().map(descriptor).collect();
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let mut path = format!("{}{}/referrers/{subject}", request.prefix, route.name);
    if let Some(filter) = filter {
        let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        // Writing to a String cannot fail.
        let _ = write!(path, "?artifactType={filter}");
    }
    let last = page.entries.last().map(|entry| entry.digest.to_string());
    let mut response = list(document, next(&path, &page, last.as_deref()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if filter.is_some() {
        headers.insert(&OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn descriptor(referrer: &Referrer) -> serde_json::Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest.to_string(),
        "size": referrer.size,
    });
    if let Some(artifact_type) = &referrer.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !referrer.annotations.is_empty() {
        descriptor["annotations"] = json!(referrer.annotations);
    }
    descriptor
}

/// `n`, if it is given.
fn size(query: &str) -> Result<Option<u64>, Refused> {
    let Some(text) = parameter(query, "n") else { return Ok(None) };
    // However large it is: pages have a bound of their own.
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Some(text.parse().unwrap_or(u64::MAX)));
    }
    Err(Refused::new(
        StatusCode::BAD_REQUEST,
        "PAGINATION_NUMBER_INVALID",
        "n must be a number, not negative",
    ))
}

/// `Link` to the page after this one.
fn next<T>(path: &str, page: &Page<T>, last: Option<&str>) -> Option<HeaderValue> {
    let last = last.filter(|_| page.more)?;
    let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
    let joint = if path.contains('?') { '&' } else { '?' };
    let n = page.entries.len();
    Some(caching::header(format!("<{path}{joint}n={n}&last={last}>; rel=\"next\"")))
}

fn list(document: String, link: Option<HeaderValue>) -> Response<ReplyBody> {
    let mut response = passed::text(StatusCode::OK, "application/json", document);
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
