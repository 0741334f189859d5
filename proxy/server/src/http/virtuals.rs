//! `/api/v1/virtual/{name}/…` and `/v2/{virtual}/…`: finds the member that answers, and lets it answer under the
//! Virtual's own address.
//!
//! The first member that has the name of a package owns it. Members are asked one after the other and never all at
//! once: who asks a public registry for a name that an internal one has, tells it that name. A member that fails
//! ends the search, or else a name would change hands whenever its owner is away. `reserved` names are looked for
//! in one member only.
//!
//! Where indexes are united (helm, rpm and alpine always, others with `resolution: union`), all members are asked at
//! once: see [`merged`]. Of an owner whose policy hides something, its indexes come from there as well, made of that
//! member alone: they name what it lets clients have, and nothing else (RS-48).
//!
//! **Rights.** Whoever may read the Virtual may read through it what its members have, as far as the Virtual is not
//! more open than they are: of a Virtual that anyone may read, a member that not anyone may read shows itself to
//! those who may read that member. To others what it owns does not exist, and does not become somebody else's; only
//! in a merged index, which is then one without that member, another member's package of the same name shows.

mod keys;
mod merged;
mod owner;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::FetchError;
use artifactapi_formats::{Package, PlanError, Request, Subject};
use artifactapi_model::{
    PackageType, Refusal, RepoName,
    account::{Action, Caller, Verdict, may},
    ports::upstream::PostBody,
    repository::ReadAccess,
};
use http::{Method, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use super::{
    admit::{self, admit},
    body::ReplyBody,
    errors::Refused,
    fetched::{self, Failed},
    handle::{Connection, public_prefix},
    locals,
    target::{self, Target},
};
use crate::{
    App,
    config::{Member, Repository, VirtualRepository},
    telemetry::Record,
};

/// When somebody should ask again for a member that is not served.
const LATER: Duration = Duration::from_secs(60);

/// A request below a Virtual.
pub struct Asked<'a> {
    /// The proxy.
    pub app: &'a Arc<App>,
    /// Its connection.
    pub connection: &'a Connection,
    /// Head of the request.
    pub parts: &'a Parts,
    /// The Virtual.
    pub repository: &'a Arc<VirtualRepository>,
    /// Raw path below it.
    pub path: &'a str,
    /// Raw query.
    pub query: &'a str,
    /// Public path of the Virtual, with both slashes.
    pub prefix: String,
}

/// Answers a request below a Virtual.
///
/// # Errors
/// [`Refused`].
pub async fn answer(
    asked: &Asked<'_>,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Refused> {
    let Asked { app, connection, parts, repository, .. } = *asked;
    let face = &repository.face;
    if let Some(entry) = record.entry() {
        entry.repository = Some(face.clone());
    }
    let scope = || target::scope(&face.name, asked.path);
    admit(app, connection, parts, &face.protected(), scope, Action::Pull, record).await?;
    match parts.method {
        Method::GET | Method::HEAD => {}
        Method::POST if face.package_type == PackageType::Npm => {}
        _ => return Err(Refused::method("GET, HEAD")),
    }
    let visible = asked.visible(record).await?;
    if let Some(response) = asked.key().await? {
        return Ok(response);
    }
    if repository.is_merged()
        && let Some(response) = asked.merged(&visible, record).await?
    {
        return Ok(response);
    }
    let accept = fetched::accept(parts);
    let request = fetched::format_request(parts, asked.path, asked.query, &accept);
    let subject = artifactapi_formats::subject(face.package_type, &request);
    match subject.map_err(|error| super::errors::refusal(&error.into(), asked.path))? {
        Subject::Packages(packages) => asked.owned(&packages, &request, &visible, record).await,
        Subject::Anything { tells: true, .. } if repository.members.len() > 1 => {
            Err(Refused::not_found("a Virtual does not ask this: it would tell members what others have"))
        }
        Subject::Anything { .. } if asked.is_unlisted(&request) => Err(asked.nobody()),
        Subject::Anything { name, .. } => asked.anyone(&name, &request, &visible, body, record).await,
    }
}

impl Asked<'_> {
    /// Which members whoever asks may see.
    async fn visible(&self, record: &mut Record) -> Result<Vec<bool>, Refused> {
        let Asked { app, connection, parts, repository, .. } = *self;
        let members = &repository.members;
        let is_open = |member: &Member| {
            repository.face.read == ReadAccess::Authenticated
                || member.face().is_none_or(|face| face.read == ReadAccess::Anonymous)
        };
        if members.iter().all(is_open) {
            return Ok(vec![true; members.len()]);
        }
        let client = app.outside.client_of(&connection.ends, &parts.headers);
        let caller = Box::pin(app.gate.anyone(&parts.headers, client)).await?;
        admit::note(record, &caller);
        // A short-lived token was made for the Virtual, as far as its client knows.
        let caller = Caller { scopes: None, ..caller };
        let sees = |member: &Member| {
            is_open(member)
                || member
                    .face()
                    .is_some_and(|face| may(&caller, &face.protected(), Action::Pull) == Verdict::Allowed)
        };
        Ok(members.iter().map(sees).collect())
    }

    /// Whether it is a package that no merged index lists under this path.
    fn is_unlisted(&self, request: &Request<'_>) -> bool {
        let asks = |member: &Member| match member {
            Member::Remote(remote) => self.app.engine.asks_for_package(&remote.remote, request),
            Member::Local(_) | Member::Missing(_) => false,
        };
        self.repository.is_merged() && self.repository.members.iter().any(asks)
    }

    /// The answer of the member that has one of `packages`.
    async fn owned(
        &self,
        packages: &[Package],
        request: &Request<'_>,
        visible: &[bool],
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Refused> {
        let owner = owner::find(self.app, self.repository, request, packages).await;
        match owner.map_err(|failed| self.refused(failed, None, record))? {
            Some(owner) if visible[owner] => {
                if let Some(response) = self.filtered(owner, record).await? {
                    return Ok(response);
                }
                let answer = self.ask(owner, None, record).await;
                answer.map_err(|failed| self.refused(failed, Some(owner), record))
            }
            _ => Err(self.nobody()),
        }
    }

    /// The answer of the first member that has one.
    async fn anyone(
        &self,
        name: &str,
        request: &Request<'_>,
        visible: &[bool],
        body: Incoming,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Refused> {
        let Asked { app, repository, .. } = *self;
        let post = fetched::sent(self.parts, body).await?;
        let eligible = owner::eligible(repository, name);
        let key = owner::key(app, repository, &eligible, request);
        let remembered = repository.owners.fresh(&key, app.clock.now()).flatten();
        let remembered = remembered.filter(|member| eligible.contains(member));
        let mut refusal = None;
        for &member in remembered.iter().chain(&eligible) {
            match self.ask(member, post.clone(), record).await {
                Ok(response) if visible[member] => {
                    if remembered != Some(member) && !name.is_empty() {
                        let life = owner::life(repository, &eligible, Some(member));
                        repository.owners.put(&key, Some(member), app.clock.now(), life);
                    }
                    return Ok(response);
                }
                Ok(_) => break,
                // A signed link is good with the member that made it.
                Err(Failed::Fetch(FetchError::NotFound { .. } | FetchError::Plan(PlanError::ForgedLink))) => {
                }
                // What its patterns leave out is no business of a member; what it bans is, and stays banned.
                Err(failed @ Failed::Fetch(FetchError::Refused(Refusal::NotAllowed))) => {
                    refusal = Some((failed, member));
                }
                // What a member that is not to be seen has to say is not to be heard either.
                Err(Failed::Fetch(error)) if !visible[member] => {
                    tracing::warn!(virtual.name = %self.repository.face.name, %error, "a member cannot answer");
                    let message = "a member of this Virtual cannot answer";
                    return Err(Refused::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", message));
                }
                Err(failed) => return Err(self.refused(failed, Some(member), record)),
            }
        }
        Err(match refusal {
            Some((failed, member)) => self.refused(failed, Some(member), record),
            None => self.nobody(),
        })
    }

    /// Asks one member, under the Virtual's address.
    async fn ask(
        &self,
        member: usize,
        post: Option<PostBody>,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Failed> {
        let Asked { app, connection, parts, repository, path, query, .. } = *self;
        match &repository.members[member] {
            Member::Remote(remote) => {
                let target = self.target(remote);
                fetched::attempt(app, connection, parts, &target, post, record).await
            }
            Member::Local(local) => {
                let prefix = public_prefix(app, connection, parts, &self.prefix)?;
                let request = locals::Read { app, repository: local, parts, query, prefix };
                Ok(locals::read(&request, path, record).await?)
            }
            Member::Missing(name) => Err(missing(name).into()),
        }
    }

    fn target(&self, remote: &Arc<Repository>) -> Target<'_> {
        Target {
            repository: remote.clone(),
            face: self.repository.face.clone(),
            path: self.path,
            query: self.query,
            prefix: self.prefix.clone(),
            namespace: None,
        }
    }

    /// The refusal, noted in the log under the member that was asked or that the failure names.
    fn refused(&self, failed: Failed, member: Option<usize>, record: &Record) -> Refused {
        let named = match &failed {
            Failed::Fetch(FetchError::Member { name, .. }) => Some(name),
            _ => None,
        };
        let is_meant = |(place, it): (usize, &Member)| {
            Some(place) == member || it.face().is_some_and(|face| Some(&face.name) == named)
        };
        let members = &self.repository.members;
        let meant = members.iter().enumerate().find(|(place, it)| is_meant((*place, it)));
        match (failed, meant) {
            (Failed::Refused(refused), _) => refused,
            (failed, Some((_, Member::Remote(remote)))) => failed.refused(&self.target(remote), record),
            (Failed::Fetch(error), _) => super::errors::refusal(&error, self.path),
        }
    }

    fn nobody(&self) -> Refused {
        let refused = super::errors::refusal(&FetchError::NotFound { gone: false }, self.path);
        let name = &self.repository.face.name;
        Refused::new(refused.status, refused.code, format!("no member of {name} has it"))
    }
}

fn missing(name: &RepoName) -> Refused {
    let message =
        format!("its member {name} is not served at this moment: see its conditions, or this proxy's log");
    let refused = Refused::unavailable(message, LATER);
    Refused { status: StatusCode::BAD_GATEWAY, retry_after: None, ..refused }
}
