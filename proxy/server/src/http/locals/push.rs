//! What is written to a Local.

use artifactapi_model::{
    account::{Action, Caller, Verdict, may},
    oci::{Algorithm, OciDigest, Reference, Tag},
    ports::UploadId,
};
use artifactapi_registry::{
    BodyLost, Pushed, RegistryError, Span,
    manifest::MAX_MANIFEST,
    push::{Body, Source, Write},
    registry::MAX_TAGS,
};
use futures_util::StreamExt as _;
use http::{Response, StatusCode, header};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;

use super::{
    DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, OCI_SUBJECT, OCI_TAG, Request, empty, errors::refusal, route,
    route::LocalRoute,
};
use crate::{
    config::{LocalRepository, snapshot::Known},
    http::{
        body::ReplyBody,
        caching,
        errors::Refused,
        post,
        refuse::{self, Shape},
    },
    telemetry::Record,
};

fn stream(body: Incoming) -> Body {
    Box::pin(BodyDataStream::new(body).map(|piece| piece.map_err(|_| BodyLost)))
}

/// `POST blobs/uploads/`: a mount, a whole blob, or a session.
pub(super) async fn begin(
    request: &Request<'_>,
    route: &LocalRoute,
    caller: &Caller,
    body: Incoming,
) -> Result<Response<ReplyBody>, Refused> {
    let (registry, local) = (request.registry(), &request.repository.local);
    if let Some(digest) = request.parameter("mount").filter(|text| !text.is_empty()) {
        let digest = route::digest(&digest)?;
        if mount(request, route, caller, &digest).await? {
            return Ok(created(request, route, &digest));
        }
    }
    let algorithm = match request.parameter("digest-algorithm") {
        Some(text) => text.parse().map_err(|_| unknown_algorithm())?,
        None => Algorithm::default(),
    };
    let digest = request.parameter("digest").map(|text| route::digest(&text)).transpose()?;
    let algorithm = digest.map_or(algorithm, |digest| digest.algorithm());
    let id = registry.begin(local, &route.name, algorithm).await?;
    let Some(digest) = digest else { return Ok(open(request, route, &id, 0, StatusCode::ACCEPTED)) };
    let write = Write { id, span: None, body: stream(body), digest: Some(digest), whole: true };
    registry.write(local, &route.name, write).await?;
    Ok(created(request, route, &digest))
}

fn unknown_algorithm() -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "digest-algorithm must be sha256 or sha512")
}

/// Whether the blob could be mounted. One that may not be read is as one that is not there (RS-45).
async fn mount(
    request: &Request<'_>,
    route: &LocalRoute,
    caller: &Caller,
    digest: &OciDigest,
) -> Result<bool, Refused> {
    let (registry, local) = (request.registry(), &request.repository.local);
    let may_pull =
        |known: &LocalRepository| may(caller, &known.face.protected(), Action::Pull) == Verdict::Allowed;
    let mounted = match request.parameter("from").filter(|text| !text.is_empty()) {
        Some(from) => {
            let Some((from, image)) = from.split_once('/') else { return Ok(false) };
            let Some(Known::Local(known)) = request.snapshot.get(from) else { return Ok(false) };
            let Ok(name) = image.parse() else { return Ok(false) };
            if !may_pull(known) {
                return Ok(false);
            }
            registry.mount(local, &route.name, digest, Source::Image(&known.local, name)).await
        }
        None => {
            let sources = registry.sources(digest).await?;
            let mut readable = Vec::new();
            for repo in sources {
                if request.snapshot.local(repo).is_some_and(|known| may_pull(known)) {
                    readable.push(repo);
                }
            }
            registry.mount(local, &route.name, digest, Source::Anywhere(&readable)).await
        }
    };
    Ok(mounted?.is_some())
}

/// `PATCH blobs/uploads/{id}`.
pub(super) async fn append(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
    body: Incoming,
    record: &Record,
) -> Result<Response<ReplyBody>, Refused> {
    let write =
        Write { id: id.clone(), span: span(request)?, body: stream(body), digest: None, whole: false };
    let pushed = request.registry().write(&request.repository.local, &route.name, write).await;
    match pushed {
        Ok(Pushed::Open { offset }) => Ok(open(request, route, id, offset, StatusCode::ACCEPTED)),
        Ok(Pushed::Blob(digest)) => Ok(created(request, route, &digest)),
        Err(error) => failed(request, route, id, &error, record),
    }
}

/// `PUT blobs/uploads/{id}?digest=`.
pub(super) async fn close(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
    body: Incoming,
    record: &Record,
) -> Result<Response<ReplyBody>, Refused> {
    let digest = request.parameter("digest").ok_or_else(|| {
        let message = "an upload is ended with ?digest= and the digest of the whole blob";
        Refused::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    })?;
    let digest = route::digest(&digest)?;
    let write = Write {
        id: id.clone(),
        span: span(request)?,
        body: stream(body),
        digest: Some(digest),
        whole: false,
    };
    match request.registry().write(&request.repository.local, &route.name, write).await {
        Ok(_) => Ok(created(request, route, &digest)),
        Err(error) => failed(request, route, id, &error, record),
    }
}

/// `GET blobs/uploads/{id}`.
pub(super) async fn status(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
) -> Result<Response<ReplyBody>, Refused> {
    let offset = request.registry().upload_offset(&request.repository.local, &route.name, id).await;
    let offset = offset?;
    Ok(open(request, route, id, offset, StatusCode::NO_CONTENT))
}

/// `DELETE blobs/uploads/{id}`.
pub(super) async fn cancel(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
) -> Result<Response<ReplyBody>, Refused> {
    let cancelled = request.registry().cancel(&request.repository.local, &route.name, id).await;
    cancelled?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `Content-Range: {first}-{last}`, without a unit.
fn span(request: &Request<'_>) -> Result<Option<Span>, Refused> {
    let Some(value) = request.parts.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let span = value.to_str().ok().and_then(|text| text.split_once('-')).and_then(|(start, end)| {
        let (start, end) = (number(start)?, number(end)?);
        (start <= end).then_some(Span { start, end })
    });
    span.map(Some).ok_or_else(|| {
        let message = "Content-Range must be {first byte}-{last byte}, as 0-4095";
        Refused::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    })
}

/// A refusal that tells how far the session is, where that is what the client must know.
fn failed(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
    error: &RegistryError,
    record: &Record,
) -> Result<Response<ReplyBody>, Refused> {
    let refused = refusal(error);
    let RegistryError::RangeInvalid { offset } = error else { return Err(refused) };
    let Some(request_id) = record.id() else { return Err(refused) };
    let mut response = refuse::response(&refused, Shape::Registry, request_id, None);
    let session = open(request, route, id, *offset, StatusCode::ACCEPTED);
    for name in [&header::LOCATION, &header::RANGE, &DOCKER_UPLOAD_UUID] {
        if let Some(value) = session.headers().get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// An answer about an open session.
fn open(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
    offset: u64,
    status: StatusCode,
) -> Response<ReplyBody> {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, request.path(route, format_args!("blobs/uploads/{id}")));
    headers.insert(header::RANGE, caching::header(format!("0-{}", offset.saturating_sub(1))));
    headers.insert(&DOCKER_UPLOAD_UUID, caching::header(id.to_string()));
    response
}

/// 201 for a blob.
fn created(request: &Request<'_>, route: &LocalRoute, digest: &OciDigest) -> Response<ReplyBody> {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, request.path(route, format_args!("blobs/{digest}")));
    headers.insert(&DOCKER_CONTENT_DIGEST, caching::header(digest.to_string()));
    response
}

/// `PUT manifests/{reference}`.
pub(super) async fn put_manifest(
    request: &Request<'_>,
    route: &LocalRoute,
    reference: &Reference,
    body: Incoming,
) -> Result<Response<ReplyBody>, Refused> {
    let tags = tags(request, reference)?;
    let body = post::limited(request.parts, body, MAX_MANIFEST, "the manifest is larger than 4 MiB").await?;
    let content_type = content_type(request)?;
    let (registry, local) = (request.registry(), &request.repository.local);
    let stored = registry.put_manifest(local, &route.name, reference, &tags, content_type, body).await;
    let stored = stored?;
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, request.path(route, format_args!("manifests/{}", stored.digest)));
    headers.insert(&DOCKER_CONTENT_DIGEST, caching::header(stored.digest.to_string()));
    if let Some(subject) = &stored.subject {
        headers.insert(&OCI_SUBJECT, caching::header(subject.to_string()));
    }
    for tag in &stored.tags {
        headers.append(&OCI_TAG, caching::header(tag.to_string()));
    }
    Ok(response)
}

/// The one `Content-Type`: two of them, or one nobody can read, would leave open what the manifest is (RS-13).
fn content_type<'a>(request: &'a Request<'_>) -> Result<Option<&'a str>, Refused> {
    let mut values = request.parts.headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        _ => {
            let message = "there must be one Content-Type, in ASCII";
            Err(Refused::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message))
        }
    }
}

/// `?tag=`, once or more, beside a push by digest.
fn tags(request: &Request<'_>, reference: &Reference) -> Result<Vec<Tag>, Refused> {
    let pairs = url::form_urlencoded::parse(request.query.as_bytes());
    let tags: Result<Vec<Tag>, _> =
        pairs.filter(|(key, _)| key == "tag").map(|(_, value)| value.parse()).collect();
    let tags = tags.map_err(|error: artifactapi_model::oci::InvalidTag| {
        Refused::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())
    })?;
    if tags.len() > MAX_TAGS {
        let message = "a manifest can be given at most 64 tags at once";
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "TAG_INVALID", message));
    }
    Ok(if matches!(reference, Reference::Digest(_)) { tags } else { Vec::new() })
}

/// `DELETE manifests/{reference}`.
pub(super) async fn delete_manifest(
    request: &Request<'_>,
    route: &LocalRoute,
    reference: &Reference,
) -> Result<Response<ReplyBody>, Refused> {
    let deleted = request.registry().delete_manifest(&request.repository.local, &route.name, reference).await;
    deleted?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `DELETE blobs/{digest}`.
pub(super) async fn delete_blob(
    request: &Request<'_>,
    route: &LocalRoute,
    digest: &OciDigest,
) -> Result<Response<ReplyBody>, Refused> {
    let deleted = request.registry().delete_blob(&request.repository.local, &route.name, digest).await;
    deleted?;
    let mut response = empty(StatusCode::ACCEPTED);
    response.headers_mut().insert(&DOCKER_CONTENT_DIGEST, caching::header(digest.to_string()));
    Ok(response)
}
