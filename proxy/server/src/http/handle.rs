//! One request → one response: parse, let the repository it means answer, respond.

use std::{sync::Arc, time::Instant};

use artifactapi_formats::PublicBase;
use artifactapi_model::PackageType;
use http::{HeaderName, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use super::{
    admit::{self, admit},
    body::ReplyBody,
    errors::Refused,
    fetched,
    forwarded::{Ends, PublicUrl},
    health::Health,
    locals, passed, post,
    progress::{Progress, Turn},
    refuse::{self, API_VERSION, REGISTRY_2, Shape},
    request_id::RequestId,
    route::{self, Route},
    target::{self, RegistryTarget},
    virtuals,
};
use crate::{
    App,
    access::table,
    config::{LocalRepository, Snapshot, VirtualRepository},
    telemetry::{Outcome, Record, access::Entry},
};

/// Most request headers, also where the protocol would allow more (RS-60).
const MAX_HEADERS: usize = 100;
/// What a record says until there is an answer: the client has closed the connection.
const CLIENT_CLOSED: u16 = 499;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Both addresses.
    pub ends: Ends,
    /// Its progress.
    pub progress: Arc<Progress>,
}

/// Answers `request`. Never fails: whatever goes wrong is an answer too.
pub async fn handle(
    app: Arc<App>,
    connection: Connection,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let turn = Turn::new(connection.progress.clone());
    let (parts, body) = request.into_parts();
    let id = RequestId::of(parts.headers.get(&X_REQUEST_ID));
    let mut record = app.access.open(Entry {
        at: app.clock.now(),
        began: Instant::now(),
        duration: std::time::Duration::ZERO,
        id: id.clone(),
        client: app.outside.client_of(&connection.ends, &parts.headers),
        method: parts.method.clone(),
        target: parts.uri.clone(),
        canonical: None,
        repository: None,
        robot: None,
        outcome: Outcome::Aborted,
        status: CLIENT_CLOSED,
        bytes: 0,
        complete: false,
    });
    let route = route::extract(&parts.method, &parts.uri, parts.version);
    let shape = Shape::of(&route);
    let answer = match checked(&parts) {
        Ok(()) => dispatch(&app, &connection, &parts, route, body, &mut record).await,
        Err(refused) => Err(refused),
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(refused) => {
            note_refusal(&mut record, &refused);
            let url = where_tokens_are(&app, &connection, &parts, &route, &refused);
            refuse::response(&refused, shape, &id, url.as_ref())
        }
    };
    if shape == Shape::Registry {
        response.headers_mut().insert(&API_VERSION, REGISTRY_2);
    }
    response.headers_mut().insert(&X_REQUEST_ID, id.header());
    if parts.method == Method::HEAD {
        response.body_mut().clear();
    }
    if let Some(entry) = record.entry() {
        entry.status = response.status().as_u16();
    }
    response.map(|body| body.watched(record, turn))
}

fn checked(parts: &Parts) -> Result<(), Refused> {
    if parts.headers.len() > MAX_HEADERS {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refused::new(status, "UNSUPPORTED", "the request has more than 100 headers"));
    }
    Ok(())
}

fn note_refusal(record: &mut Record, refused: &Refused) {
    if let Some(entry) = record.entry() {
        entry.outcome = match refused.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::NotFound,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Outcome::Error,
            _ => Outcome::Refused,
        };
    }
}

/// The table of contents.
async fn dispatch(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    route: Route<'_>,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let snapshot = app.snapshot.load();
    let rule = table::rule(&route, &parts.method);
    let is_ours = |name: &str| app.outside.is_our_name(&connection.ends, &parts.uri, &parts.headers, name);
    let target = match route {
        Route::Remote(below) => target::remote(&snapshot, &below)?,
        Route::Registry(request) => match target::registry(&snapshot, &request, is_ours)? {
            RegistryTarget::Below(target) => target,
            RegistryTarget::Ping(face) => {
                drop(snapshot);
                let (repository, name) = (face.protected(), || face.name.to_string());
                admit(app, connection, parts, &repository, name, rule.where_nothing_changes(), record)
                    .await?;
                return own_page(parts, record, ping());
            }
            RegistryTarget::Catalog => {
                let snapshot = arc_swap::Guard::into_inner(snapshot);
                let page =
                    Box::pin(catalog(app, connection, parts, request.query, &snapshot, record)).await?;
                return own_page(parts, record, page);
            }
            RegistryTarget::Local(repository, path) => {
                let snapshot = arc_swap::Guard::into_inner(snapshot);
                let asked = (&repository, path, request.query);
                // Boxed, so that hits do not carry its size.
                return Box::pin(local(app, connection, parts, asked, body, &snapshot, record)).await;
            }
            RegistryTarget::Virtual(repository, path) => {
                drop(snapshot);
                let asked = (&repository, path, request.query);
                return Box::pin(united(app, connection, parts, asked, body, record)).await;
            }
        },
        Route::RegistryPing => {
            let asks = snapshot.registry_asks();
            drop(snapshot);
            return Box::pin(registry_ping(app, connection, parts, asks, record)).await;
        }
        Route::Token => {
            drop(snapshot);
            return Box::pin(trade(app, connection, parts, body, record)).await;
        }
        Route::Virtual(below) => {
            let repository = target::united(&snapshot, &below)?;
            drop(snapshot);
            let asked = (&repository, below.path, below.query);
            return Box::pin(united(app, connection, parts, asked, body, record)).await;
        }
        Route::Local(below) => return Err(target::not_served_yet(&snapshot, "local", &below)),
        Route::Livez => return own_page(parts, record, Health::livez()),
        Route::Readyz { verbose } => {
            drop(snapshot);
            return own_page(parts, record, app.health.readyz(verbose).await);
        }
        Route::Root => return own_page(parts, record, root(&snapshot)),
        Route::TerraformDiscovery => {
            return Err(Refused::not_found(
                "this host has no provider registry of its own yet; Remotes of type terraform are network mirrors \
                 below /api/v1/remote/{name}/",
            ));
        }
        Route::Management => return Err(Refused::not_found("this version has no management API yet")),
        Route::Unknown => {
            return Err(Refused::not_found(
                "there is nothing here; repositories are below /api/v1/ and /v2/",
            ));
        }
        Route::Malformed(why) => return Err(Refused::malformed(why)),
    };
    drop(snapshot);
    if let Some(entry) = record.entry() {
        entry.repository = Some(target.face.clone());
    }
    let repository = target.face.protected();
    let action = rule.where_nothing_changes();
    admit(app, connection, parts, &repository, || target.scope(), action, record).await?;
    fetched::serve(app, connection, parts, &target, body, record).await
}

/// The answer of `/v2/` for the whole host; where it `asks`, only somebody who is known gets one.
async fn registry_ping(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    asks: bool,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    if asks {
        let client = app.outside.client_of(&connection.ends, &parts.headers);
        admit::note(record, &app.gate.somebody(&parts.headers, client).await?);
    }
    own_page(parts, record, ping())
}

/// A page of our own, for GET and HEAD.
fn own_page(
    parts: &Parts,
    record: &mut Record,
    page: Response<ReplyBody>,
) -> Result<Response<ReplyBody>, Refused> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Refused::method("GET, HEAD"));
    }
    if let Some(entry) = record.entry() {
        entry.outcome = Outcome::Answer;
    }
    Ok(page)
}

/// A short-lived token.
async fn trade(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let form = match parts.method {
        Method::POST => post::read(parts, body).await?.bytes,
        _ => bytes::Bytes::new(),
    };
    let client = app.outside.client_of(&connection.ends, &parts.headers);
    let (response, caller) = app.gate.trade(parts, client, &form, &app.snapshot.load_full()).await?;
    admit::note(record, &caller);
    if let Some(entry) = record.entry() {
        entry.outcome = Outcome::Answer;
    }
    Ok(response)
}

/// Our URL, for a registry client that has to get a token first. `/token` itself wants a password.
fn where_tokens_are(
    app: &App,
    connection: &Connection,
    parts: &Parts,
    route: &Route<'_>,
    refused: &Refused,
) -> Option<PublicUrl> {
    let takes_tokens = matches!(route, Route::Registry(_) | Route::RegistryPing);
    if refused.status != StatusCode::UNAUTHORIZED || !takes_tokens {
        return None;
    }
    app.outside.url_of(&connection.ends, &parts.uri, &parts.headers).ok()
}

fn ping() -> Response<ReplyBody> {
    passed::text(StatusCode::OK, "application/json", "{}")
}

fn root(snapshot: &Snapshot) -> Response<ReplyBody> {
    let page = format!(
        "artifactapi {}: {} repositories. Packages are below /api/v1/remote/{{name}}/, images below /v2/{{name}}/.\n",
        env!("CARGO_PKG_VERSION"),
        snapshot.len()
    );
    passed::text(StatusCode::OK, "text/plain; charset=utf-8", page)
}

/// The images that whoever asks may see.
async fn catalog(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    query: &str,
    snapshot: &Snapshot,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let client = app.outside.client_of(&connection.ends, &parts.headers);
    let caller = app.gate.anyone(&parts.headers, client).await?;
    admit::note(record, &caller);
    let prefix = public_prefix(app, connection, parts, "/v2/")?;
    locals::catalog(app, snapshot, &caller, query, &prefix).await
}

/// Serves from a Local, or takes a push to it.
async fn local(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    (repository, path, query): (&Arc<LocalRepository>, &str, &str),
    body: Incoming,
    snapshot: &Snapshot,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let face = &repository.face;
    if let Some(entry) = record.entry() {
        entry.repository = Some(face.clone());
    }
    let prefix = public_prefix(app, connection, parts, &format!("/v2/{}/", face.name))?;
    let request = locals::Request { app, connection, repository, parts, query, prefix, snapshot };
    locals::answer(&request, path, body, record).await
}

/// Serves from a Virtual.
async fn united(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    (repository, path, query): (&Arc<VirtualRepository>, &str, &str),
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let name = &repository.face.name;
    let prefix = match repository.face.package_type {
        PackageType::Docker => format!("/v2/{name}/"),
        _ => format!("/api/v1/virtual/{name}/"),
    };
    let asked = virtuals::Asked { app, connection, parts, repository, path, query, prefix };
    virtuals::answer(&asked, body, record).await
}

/// How the client reaches `prefix`. Only for requests that have been let in: this may be the first time that its host
/// name is believed.
pub(super) fn public_base(
    app: &App,
    connection: &Connection,
    parts: &Parts,
    prefix: &str,
) -> Result<PublicBase, Refused> {
    let url = public_url(app, connection, parts)?;
    let url = if app.outside.public_url.is_some() { url } else { app.origins.admit(url, &connection.ends) };
    Ok(PublicBase { origin: url.origin, prefix: format!("{}{prefix}", url.prefix) })
}

/// The path by which the client reaches `prefix`, whatever host it asks.
pub(super) fn public_prefix(
    app: &App,
    connection: &Connection,
    parts: &Parts,
    prefix: &str,
) -> Result<String, Refused> {
    Ok(format!("{}{prefix}", public_url(app, connection, parts)?.prefix))
}

fn public_url(app: &App, connection: &Connection, parts: &Parts) -> Result<PublicUrl, Refused> {
    let url = app.outside.url_of(&connection.ends, &parts.uri, &parts.headers);
    url.map_err(|error| Refused::malformed(error.to_string()))
}
