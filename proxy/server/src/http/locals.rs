//! `/v2/{local}/{image}/…`: the OCI distribution protocol for Locals. Parse, ask the registry, respond.

mod errors;
mod pull;
mod push;
pub mod route;

use std::sync::Arc;

use artifactapi_model::{PackageType, RepoName, account::Action, ports::UploadId};
use artifactapi_registry::Registry;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use self::route::{Endpoint, LocalRoute};
use super::{body::ReplyBody, errors::Refused, handle::Connection};
use crate::{
    App,
    config::{LocalRepository, Snapshot},
    telemetry::{Outcome, Record},
};

static DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
static DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
static OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
static OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
static OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A request below one Local.
pub struct Request<'a> {
    /// The proxy.
    pub app: &'a Arc<App>,
    /// Its connection.
    pub connection: &'a Connection,
    /// The Local.
    pub repository: &'a Arc<LocalRepository>,
    /// Head of the request.
    pub parts: &'a Parts,
    /// Raw query.
    pub query: &'a str,
    /// Public path of the Local, with both slashes.
    pub prefix: String,
    /// The configuration of this moment.
    pub snapshot: &'a Snapshot,
}

impl Request<'_> {
    /// Whether the caller may also read from another Local.
    async fn may_pull(&self, other: &LocalRepository, image: &str) -> bool {
        may_pull(self.app, self.connection, self.parts, other, image).await
    }

    fn registry(&self) -> &Registry {
        &self.app.registry
    }

    fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The first value of a query parameter, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.query, name)
    }

    /// The public path of something of an image.
    fn path(&self, route: &LocalRoute, below: std::fmt::Arguments<'_>) -> HeaderValue {
        super::caching::header(format!("{}{}/{below}", self.prefix, route.name))
    }
}

/// The first value of a query parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What a registry client calls what is asked for below a Local: the image, in the repository where we have it.
pub fn scope(local: &RepoName, path: &str) -> String {
    let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    match ends.iter().filter_map(|end| path.rfind(end)).max() {
        Some(end) => {
            let image = &path[..end];
            format!("{local}/{}", image.strip_suffix("/blobs").unwrap_or(image))
        }
        None => local.to_string(),
    }
}

async fn may_pull(
    app: &App,
    connection: &Connection,
    parts: &Parts,
    local: &LocalRepository,
    image: &str,
) -> bool {
    let protected = local.face.protected();
    if protected.is_open_to(Action::Pull) {
        return true;
    }
    let scope = format!("{}/{image}", local.face.name);
    let client = app.outside.client_of(&connection.ends, &parts.headers);
    let caller = app.gate.caller(parts, client, &scope, Action::Pull).await;
    caller.is_ok_and(|caller| app.gate.require(&caller, &protected, &scope, Action::Pull).is_ok())
}

/// Answers a request below a Local of type docker.
///
/// # Errors
/// [`Refused`].
pub async fn answer(
    request: &Request<'_>,
    path: &str,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let route = route::parse(path)?;
    if let Some(entry) = record.entry() {
        entry.outcome = Outcome::Answer;
    }
    if !route.endpoint.allows(request.method()) {
        return Err(Refused::method(route.endpoint.allow()));
    }
    match (&route.endpoint, request.method()) {
        (Endpoint::Blob(digest), &Method::DELETE) => push::delete_blob(request, &route, digest).await,
        (Endpoint::Blob(digest), _) => pull::blob(request, &route, digest, record).await,
        (Endpoint::Manifest(reference), &Method::PUT) => {
            push::put_manifest(request, &route, reference, body).await
        }
        (Endpoint::Manifest(reference), &Method::DELETE) => {
            push::delete_manifest(request, &route, reference).await
        }
        (Endpoint::Manifest(reference), _) => pull::manifest(request, &route, reference, record).await,
        (Endpoint::Tags, _) => pull::tags(request, &route).await,
        (Endpoint::Referrers(subject), _) => pull::referrers(request, &route, subject).await,
        (Endpoint::Uploads, _) => push::begin(request, &route, body).await,
        (Endpoint::Upload(None), _) => Err(errors::unknown_upload()),
        (Endpoint::Upload(Some(id)), method) => upload(request, &route, id, method, body, record).await,
    }
}

async fn upload(
    request: &Request<'_>,
    route: &LocalRoute,
    id: &UploadId,
    method: &Method,
    body: Incoming,
    record: &Record,
) -> Result<Response<ReplyBody>, Refused> {
    match *method {
        Method::GET => push::status(request, route, id).await,
        Method::DELETE => push::cancel(request, route, id).await,
        Method::PUT => push::close(request, route, id, body, record).await,
        _ => push::append(request, route, id, body, record).await,
    }
}

/// Answers `/v2/_catalog`: the images of all Locals that may be read.
///
/// # Errors
/// [`Refused`].
pub async fn catalog(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    snapshot: &Snapshot,
    query: &str,
    prefix: &str,
) -> Result<Response<ReplyBody>, Refused> {
    let mut locals = Vec::new();
    for repository in snapshot.locals().filter(|it| it.package_type() == PackageType::Docker) {
        if may_pull(app, connection, parts, repository, "*").await {
            locals.push(&repository.local);
        }
    }
    locals.sort_unstable_by(|a, b| a.spec.name.cmp(&b.spec.name));
    pull::catalog(&app.registry, &locals, query, prefix).await
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
