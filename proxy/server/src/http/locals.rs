//! `/v2/{local}/{image}/…`: the OCI distribution protocol for Locals. Parse, ask the registry, respond.

mod errors;
mod pull;
mod push;
pub mod route;

use std::sync::Arc;

use artifactapi_model::{
    PackageType,
    account::{Action, Caller, Verdict, may},
    ports::UploadId,
};
use artifactapi_registry::{Registry, RegistryError};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use self::route::{Endpoint, LocalRoute};
use super::{admit::admit, body::ReplyBody, errors::Refused, handle::Connection};
use crate::{
    App,
    access::table,
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

    fn read(&self) -> Read<'_> {
        let Request { app, repository, parts, query, .. } = *self;
        Read { app, repository, parts, query, prefix: self.prefix.clone() }
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

/// A read that has been let in already, under whatever address.
pub struct Read<'a> {
    /// The proxy.
    pub app: &'a Arc<App>,
    /// The Local.
    pub repository: &'a Arc<LocalRepository>,
    /// Head of the request.
    pub parts: &'a Parts,
    /// Raw query.
    pub query: &'a str,
    /// Public path of the repository that was asked, with both slashes.
    pub prefix: String,
}

impl Read<'_> {
    fn registry(&self) -> &Registry {
        &self.app.registry
    }
}

/// Answers a read below a Local of type docker; whoever asks has been let in.
///
/// # Errors
/// [`Refused`].
pub async fn read(
    request: &Read<'_>,
    path: &str,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let route = route::parse(path)?;
    if let Some(entry) = record.entry() {
        entry.outcome = Outcome::Answer;
    }
    read_route(request, &route, record).await
}

async fn read_route(
    request: &Read<'_>,
    route: &LocalRoute,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    match &route.endpoint {
        Endpoint::Blob(digest) => pull::blob(request, route, digest, record).await,
        Endpoint::Manifest(reference) => pull::manifest(request, route, reference, record).await,
        Endpoint::Tags => pull::tags(request, route).await,
        Endpoint::Referrers(subject) => pull::referrers(request, route, subject).await,
        Endpoint::Uploads | Endpoint::Upload(_) => Err(Refused::method("GET, HEAD")),
    }
}

/// Whether the Local has an image called `name`.
///
/// # Errors
/// [`Refused`] when the database cannot tell, or nothing can be called so.
pub async fn has(app: &Arc<App>, repository: &LocalRepository, name: &str) -> Result<bool, Refused> {
    let Ok(name) = name.parse() else { return Ok(false) };
    match app.registry.tags(&repository.local, &name, None, Some(1)).await {
        Ok(_) => Ok(true),
        Err(RegistryError::NameUnknown) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
    let face = &request.repository.face;
    let scope = || format!("{}/{}", face.name, route.name);
    let action = table::of_endpoint(&route.endpoint, request.method());
    let (app, connection, repository) = (request.app, request.connection, face.protected());
    let caller = admit(app, connection, request.parts, &repository, scope, action, record).await?;
    match (&route.endpoint, request.method()) {
        (Endpoint::Blob(digest), &Method::DELETE) => push::delete_blob(request, &route, digest).await,
        (Endpoint::Manifest(reference), &Method::PUT) => {
            push::put_manifest(request, &route, reference, body).await
        }
        (Endpoint::Manifest(reference), &Method::DELETE) => {
            push::delete_manifest(request, &route, reference).await
        }
        (Endpoint::Blob(_) | Endpoint::Manifest(_) | Endpoint::Tags | Endpoint::Referrers(_), _) => {
            read_route(&request.read(), &route, record).await
        }
        (Endpoint::Uploads, _) => push::begin(request, &route, &caller, body).await,
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

/// Answers `/v2/_catalog`: the images of all Locals that `caller` may read.
///
/// # Errors
/// [`Refused`].
pub async fn catalog(
    app: &Arc<App>,
    snapshot: &Snapshot,
    caller: &Caller,
    query: &str,
    prefix: &str,
) -> Result<Response<ReplyBody>, Refused> {
    // Names only, and clients ask for a token that is good for nothing else: what it was made for does not count here.
    let whole = Caller { account: caller.account.clone(), scopes: None };
    let is_seen = |it: &LocalRepository| may(&whole, &it.face.protected(), Action::Pull) == Verdict::Allowed;
    let images = snapshot.locals().filter(|it| it.package_type() == PackageType::Docker);
    let mut locals: Vec<_> = images.filter(|it| is_seen(it)).map(|it| &it.local).collect();
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
