//! `/token`: a robot's token against a short-lived one, as registry clients do it (the docker token
//! specification: GET with Basic; its OAuth2 form: POST).
//!
//! What is answered is what is both asked for and allowed, also if that is nothing: the registry then says what is
//! wrong, in words that clients show. Who shows nothing gets a token for nobody in particular, and so does who shows
//! something wrong where only open things are asked for: clients send credentials of other registries too.

use std::{net::IpAddr, sync::Arc};

use artifactapi_model::account::{Account, Caller, Protected, Scopes, Verdict, may};
use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use url::form_urlencoded;

use super::{
    AuthProblem, Gate,
    credentials::{Shown, login, shown, token},
    scope::{self, Scope},
    signed::{Claims, LIFE},
};
use crate::{
    config::{Snapshot, snapshot::Known},
    http::{body::ReplyBody, errors::Refused, passed},
    telemetry::access_line,
};

/// Largest form that is read.
const MAX_FORM: usize = 64 << 10;

/// What a client asks for.
struct Wanted<'a> {
    shown: Shown<'a>,
    scopes: Vec<Scope>,
}

impl Gate {
    /// Answers a request for a short-lived token. `form` is the body of a POST. Returns also who asked.
    ///
    /// # Errors
    /// 400 for a form that is none, 401 for wrong credentials, 405, 429, 503.
    pub async fn trade(
        &self,
        parts: &Parts,
        client: IpAddr,
        form: &Bytes,
        snapshot: &Arc<Snapshot>,
    ) -> Result<(Response<ReplyBody>, Caller), Refused> {
        let Wanted { shown, scopes } = wanted(parts, form)?;
        let (hash, caller) = match shown {
            Shown::Nothing => (None, Caller::ANONYMOUS),
            Shown::Token(token) => match self.of_token(&token, client).await {
                Ok(caller) => (Some(token.hash()), caller),
                Err(AuthProblem::Wrong | AuthProblem::Throttled(_)) if all_open(snapshot, &scopes) => {
                    (None, Caller::ANONYMOUS)
                }
                Err(problem) => return Err(problem.into()),
            },
            Shown::Signed(_) | Shown::Unusable if all_open(snapshot, &scopes) => (None, Caller::ANONYMOUS),
            // One short-lived token is not traded for another: it would never end.
            Shown::Signed(_) | Shown::Unusable => return Err(AuthProblem::Wrong.into()),
        };
        let issued = self.clock.now();
        let scopes = granted(snapshot, &caller, &scopes);
        let text = self.signer.sign(&Claims { token: hash, scopes, issued });
        let document = serde_json::json!({
            "token": text,
            "access_token": text,
            "expires_in": LIFE.as_secs(),
            "issued_at": access_line::rfc3339(issued),
        });
        Ok((passed::text(StatusCode::OK, "application/json", document.to_string()), caller))
    }
}

fn wanted<'a>(parts: &'a Parts, form: &Bytes) -> Result<Wanted<'a>, Refused> {
    match parts.method {
        Method::GET | Method::HEAD => {
            let query = pairs(parts.uri.query().unwrap_or_default().as_bytes());
            Ok(Wanted { shown: shown(&parts.headers), scopes: scopes(&query) })
        }
        Method::POST => {
            if form.len() > MAX_FORM {
                return Err(Refused::malformed("the form is larger than 64 KiB"));
            }
            let form = pairs(form);
            let field =
                |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
            let shown = match field("grant_type") {
                "password" => login(field("username"), field("password")),
                "refresh_token" => token(field("refresh_token")),
                _ => return Err(Refused::malformed("grant_type must be password or refresh_token")),
            };
            Ok(Wanted { shown, scopes: scopes(&form) })
        }
        _ => Err(Refused::method("GET, HEAD, POST")),
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn scopes(pairs: &[(String, String)]) -> Vec<Scope> {
    scope::read(pairs.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.as_str()))
}

/// The repository in which the image `name` is: that of its first segment, or the one that answers for the root.
fn repository<'s>(snapshot: &'s Snapshot, name: &str) -> Option<Protected<'s>> {
    let first = name.split('/').next().unwrap_or_default();
    match snapshot.get(first) {
        Some(known) => known.protected(),
        None => snapshot.root_mirror().map(|mirror| mirror.face.protected()),
    }
}

/// Whether something is asked for, and anyone may do all of it.
fn all_open(snapshot: &Snapshot, scopes: &[Scope]) -> bool {
    let is_open = |scope: &Scope| {
        let repository = repository(snapshot, &scope.name);
        repository.is_some_and(|it| scope.actions.iter().all(|action| it.is_open_to(*action)))
    };
    !scopes.is_empty() && scopes.iter().all(is_open)
}

/// What of `scopes` a short-lived token of `caller` is good for. One for nobody in particular needs to say nothing.
fn granted(snapshot: &Snapshot, caller: &Caller, scopes: &[Scope]) -> Scopes {
    let mut granted = Scopes::new();
    if caller.account == Account::Anonymous {
        return granted;
    }
    for scope in scopes {
        let Some(repository) = repository(snapshot, &scope.name) else { continue };
        let allowed =
            scope.actions.iter().filter(|action| may(caller, &repository, **action) == Verdict::Allowed);
        granted.entry(repository.name.clone()).or_default().extend(allowed);
    }
    granted
}

impl Known {
    /// As far as rights go; `None` for what cannot be asked for them yet.
    fn protected(&self) -> Option<Protected<'_>> {
        match self {
            Known::Remote(repository) => Some(repository.face.protected()),
            Known::Local(repository) => Some(repository.face.protected()),
            Known::Virtual(repository) => Some(repository.face.protected()),
        }
    }
}
