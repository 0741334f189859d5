//! What a Remote answers: one question to the engine, and its answer as a response.

use std::{borrow::Cow, sync::Arc};

use artifactapi_engine::{FetchError, Reply};
use artifactapi_formats::{Method as FormatMethod, PublicBase, Request as FormatRequest};
use artifactapi_model::ports::{BlobError, upstream::PostBody};
use http::{HeaderName, HeaderValue, Method, Response, header::ACCEPT, request::Parts};
use hyper::body::Incoming;

use super::{
    body::ReplyBody,
    errors::{Refused, refusal},
    handle::{Connection, public_base},
    passed, post,
    respond::{self, Asked},
    target::Target,
};
use crate::{
    App,
    telemetry::{Outcome, Record},
};

static OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Why a repository gave no response.
pub enum Failed {
    /// There is nothing to serve.
    Fetch(FetchError),
    /// The request cannot be answered, wherever it goes.
    Refused(Refused),
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        Failed::Fetch(error)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed::Refused(refused)
    }
}

impl Failed {
    /// The refusal, noted in the log if the cause is ours or upstream's.
    pub fn refused(self, target: &Target<'_>, record: &Record) -> Refused {
        match self {
            Failed::Fetch(error) => refused(&error, target, record),
            Failed::Refused(refused) => refused,
        }
    }
}

/// Serves from one repository.
///
/// # Errors
/// [`Refused`].
pub async fn serve(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    target: &Target<'_>,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let post = sent(parts, body).await?;
    let answer = attempt(app, connection, parts, target, post, record).await;
    answer.map_err(|failed| failed.refused(target, record))
}

/// The body of the few requests that have one which is passed on.
///
/// # Errors
/// [`Refused`] for one that is too large or malformed.
pub async fn sent(parts: &Parts, body: Incoming) -> Result<Option<PostBody>, Refused> {
    match parts.method {
        Method::POST => Ok(Some(Box::pin(post::read(parts, body)).await?)),
        _ => Ok(None),
    }
}

/// What the type's format sees of a request below `path`.
pub fn format_request<'a>(
    parts: &Parts,
    path: &'a str,
    query: &'a str,
    accept: &'a str,
) -> FormatRequest<'a> {
    let method = match parts.method {
        Method::GET => FormatMethod::Get,
        Method::HEAD => FormatMethod::Head,
        Method::POST => FormatMethod::Post,
        _ => FormatMethod::Other,
    };
    FormatRequest { method, raw_path: path, query, accept }
}

/// Asks `target`.
///
/// # Errors
/// [`Failed`].
pub async fn attempt(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    target: &Target<'_>,
    post: Option<PostBody>,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Failed> {
    let base = public_base(app, connection, parts, &target.prefix)?;
    let accept = accept(parts);
    let request = format_request(parts, target.path, target.query, &accept);
    let mut again = true;
    let answer = loop {
        let answer = ask(app, parts, target, &request, &base, post.clone(), record).await;
        match &answer {
            // The bytes are gone; the engine has forgotten them by now, and fetches them anew.
            Err(FetchError::Blob(error))
                if again && matches!(**error, BlobError::NotFound(_) | BlobError::Damaged(..)) =>
            {
                tracing::error!(remote.name = %target.repository.name(), error = %error, "stored bytes were lost");
                again = false;
            }
            // The store cannot be read at this moment: upstream has the same bytes (RS-87).
            Err(FetchError::Blob(error)) if again && matches!(**error, BlobError::Io { .. }) => {
                tracing::warn!(remote.name = %target.repository.name(), error = %error, "served from upstream, past the store");
                let repository = &target.repository;
                let passed = app.engine.get_past_store(&repository.remote, &request, &base).await;
                match passed {
                    Ok(reply) => break respond(app, parts, target, &base, reply, record).await,
                    Err(_) => break answer,
                }
            }
            _ => break answer,
        }
    };
    let mut response = answer??;
    if let Some(host) = target.namespace.as_deref().and_then(|host| HeaderValue::from_str(host).ok()) {
        response.headers_mut().insert(&OCI_NAMESPACE, host);
    }
    Ok(response)
}

/// One question to the engine, and its answer as a response.
async fn ask(
    app: &Arc<App>,
    parts: &Parts,
    target: &Target<'_>,
    request: &FormatRequest<'_>,
    base: &PublicBase,
    post: Option<PostBody>,
    record: &mut Record,
) -> Result<Result<Response<ReplyBody>, Refused>, FetchError> {
    let reply = app.engine.get(&target.repository.remote, request, base, post).await?;
    respond(app, parts, target, base, reply, record).await
}

/// The engine's answer as a response.
async fn respond(
    app: &Arc<App>,
    parts: &Parts,
    target: &Target<'_>,
    base: &PublicBase,
    reply: Reply,
    record: &mut Record,
) -> Result<Result<Response<ReplyBody>, Refused>, FetchError> {
    let repository = &*target.face;
    match reply {
        Reply::Content(content) => {
            if let Some(entry) = record.entry() {
                entry.canonical = Some(content.key.path.clone());
                entry.outcome = content.outcome.into();
            }
            let (method, version, headers) = (&parts.method, parts.version, &parts.headers);
            let asked = Asked { method, version, headers, repository };
            respond::content(&app.engine, &app.budget, asked, *content).await.map(Ok)
        }
        Reply::Answer(answer) => {
            if let Some(entry) = record.entry() {
                entry.outcome = Outcome::Answer;
            }
            Ok(passed::answer(answer, &base.prefix))
        }
        Reply::Passed(answer) => {
            if let Some(entry) = record.entry() {
                entry.outcome = Outcome::Bypass;
            }
            passed::upstream(*answer).map(Ok)
        }
    }
}

/// Puts `error` into the status table, and into the log if it is ours or upstream's.
fn refused(error: &FetchError, target: &Target<'_>, record: &Record) -> Refused {
    let refused = refusal(error, target.path);
    if refused.is_failure() {
        let id = record.id().map_or("-", |id| &**id);
        let name = target.repository.name();
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        match error {
            FetchError::Blob(inner) => {
                let cause = std::error::Error::source(&**inner).map(ToString::to_string).unwrap_or_default();
                tracing::error!(request.id = id, remote.name = %name, error = %error, cause, "storage failed");
            }
            FetchError::Metadata(_) => {
                tracing::error!(request.id = id, remote.name = %name, error = %error, cause, "storage failed");
            }
            _ => {
                tracing::warn!(
                    request.id = id, remote.name = %name, path = target.path, error = %error, cause,
                    "upstream gave nothing to serve"
                );
            }
        }
    }
    refused
}

/// The `Accept` header; registry clients send one line per media type.
pub fn accept(parts: &Parts) -> Cow<'_, str> {
    let mut values = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = values.next().unwrap_or_default();
    values.fold(Cow::Borrowed(first), |joined, value| Cow::Owned(format!("{joined}, {value}")))
}
