//! `/api/v1/virtual/{name}/…` and `/v2/{virtual}/…`: finds the member that answers, and lets it answer under the
//! Virtual's own address.
//!
//! The first member that has the name of a package owns it. Members are asked one after the other and never all at
//! once: who asks a public registry for a name that an internal one has, tells it that name. A member that fails
//! ends the search, or else a name would change hands whenever its owner is away. `reserved` names are looked for
//! in one member only.
//!
//! Types whose indexes are united (helm, rpm, alpine) are asked for everything at once: see [`merged`].
//!
//! **Rights.** Whoever may read the Virtual may read through it what its members have, as far as the Virtual is not
//! more open than they are: of a Virtual that anyone may read, a member that not anyone may read shows itself to
//! those who may read that member. To others what it owns does not exist, and does not become somebody else's; only
//! in a merged index, which is then one without that member, another member's package of the same name shows.

mod keys;
mod merged;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::FetchError;
use artifactapi_formats::{Package, Subject};
use artifactapi_model::{
    PackageType, Refusal, Ttl,
    account::{Action, Caller, Verdict, may},
    repository::ReadAccess,
};
use http::{Method, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use super::{
    admit::{self, admit},
    body::ReplyBody,
    errors::Refused,
    fetched::{self, Failed},
    handle::Connection,
    locals,
    target::Target,
};
use crate::{
    App,
    config::{
        Member, Repository, VirtualRepository,
        owners::{Owned, Remembered},
    },
    telemetry::Record,
};

/// Longest time for which a decision counts.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long it counts where a Local took part: what is pushed shows soon.
const LOCAL: Duration = Duration::from_secs(1);
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
    let scope = || asked.scope();
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
    let subject = app.engine.subject(face.package_type, &request);
    match subject.map_err(|error| super::errors::refusal(&error.into(), asked.path))? {
        Subject::Packages(packages) => asked.owned(&packages, &visible, record).await,
        Subject::Anything { tells: true, .. } if repository.members.len() > 1 => {
            Err(Refused::not_found("a Virtual does not ask this: it would tell members what others have"))
        }
        Subject::Anything { .. } if asked.is_unlisted(&request) => Err(asked.nobody()),
        Subject::Anything { name, .. } => asked.anyone(&name, &visible, body, record).await,
    }
}

impl Asked<'_> {
    /// What a registry client calls what it asks for.
    fn scope(&self) -> String {
        let name = &self.repository.face.name;
        let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        match ends.iter().filter_map(|end| self.path.rfind(end)).max() {
            Some(end) => format!("{name}/{}", &self.path[..end]),
            None => name.to_string(),
        }
    }

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
    fn is_unlisted(&self, request: &artifactapi_formats::Request<'_>) -> bool {
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
        visible: &[bool],
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Refused> {
        let owner = owner(self.app, self.repository, self.path, packages).await;
        match owner.map_err(|failed| self.refused(failed, record))? {
            Some(owner) if visible[owner] => {
                let answer = self.ask(owner, None, record).await;
                answer.map_err(|failed| self.refused(failed, record))
            }
            _ => Err(self.nobody()),
        }
    }

    /// The answer of the first member that has one.
    async fn anyone(
        &self,
        name: &str,
        visible: &[bool],
        body: Incoming,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Refused> {
        let Asked { app, repository, .. } = *self;
        let post = fetched::sent(self.parts, body).await?;
        let eligible = eligible(repository, name);
        let key = format!("?{}?{}", self.path, self.query);
        let remembered = repository.owners.fresh(&key, app.clock.now()).flatten();
        let remembered = remembered.filter(|member| eligible.contains(member));
        let mut refusal = None;
        for &member in remembered.iter().chain(&eligible) {
            match self.ask(member, post.clone(), record).await {
                Ok(response) if visible[member] => {
                    if remembered != Some(member) && !name.is_empty() {
                        let life = life(repository, &eligible, Some(member));
                        repository.owners.put(&key, Some(member), app.clock.now(), life);
                    }
                    return Ok(response);
                }
                Ok(_) => break,
                Err(Failed::Fetch(FetchError::NotFound { .. })) => {}
                // What its patterns leave out is no business of a member; what it bans is, and stays banned.
                Err(failed @ Failed::Fetch(FetchError::Refused(Refusal::NotAllowed))) => {
                    refusal = Some(failed);
                }
                Err(failed) => return Err(self.refused(failed, record)),
            }
        }
        Err(refusal.map_or_else(|| self.nobody(), |failed| self.refused(failed, record)))
    }

    /// Asks one member, under the Virtual's address.
    async fn ask(
        &self,
        member: usize,
        post: Option<artifactapi_model::ports::upstream::PostBody>,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Failed> {
        let Asked { app, connection, parts, repository, path, query, .. } = *self;
        match &repository.members[member] {
            Member::Remote(remote) => {
                let target = self.target(remote);
                fetched::attempt(app, connection, parts, &target, post, record).await
            }
            Member::Local(local) => {
                let base = super::handle::public_base(app, connection, parts, &self.prefix)?;
                let prefix = base.prefix;
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

    fn refused(&self, failed: Failed, record: &Record) -> Refused {
        let remote = self.repository.members.iter().find_map(|member| match member {
            Member::Remote(remote) => Some(remote),
            Member::Local(_) | Member::Missing(_) => None,
        });
        match (failed, remote) {
            (Failed::Refused(refused), _) => refused,
            (failed, Some(remote)) => failed.refused(&self.target(remote), record),
            (Failed::Fetch(error), None) => super::errors::refusal(&error, self.path),
        }
    }

    fn nobody(&self) -> Refused {
        let refused = super::errors::refusal(&FetchError::NotFound { gone: false }, self.path);
        let name = &self.repository.face.name;
        Refused::new(refused.status, refused.code, format!("no member of {name} has it"))
    }
}

fn missing(name: &artifactapi_model::RepoName) -> Refused {
    let message =
        format!("its member {name} is not served at this moment: see its conditions, or this proxy's log");
    let refused = Refused::unavailable(message, LATER);
    Refused { status: StatusCode::BAD_GATEWAY, retry_after: None, ..refused }
}

/// Members that may be asked about `name`, by their places.
fn eligible(repository: &VirtualRepository, name: &str) -> Vec<usize> {
    match repository.reserved(name).filter(|_| !name.is_empty()) {
        Some(only) => vec![only],
        None => (0..repository.members.len()).collect(),
    }
}

/// The member that has one of `packages`: as remembered, else by asking. Old memories are renewed behind the answer.
async fn owner(
    app: &Arc<App>,
    repository: &Arc<VirtualRepository>,
    path: &str,
    packages: &[Package],
) -> Result<Option<usize>, Failed> {
    let lists = packages.iter().any(|package| package.lists);
    let key = match packages {
        [package] if !lists => package.name.clone(),
        _ => format!("?{path}"),
    };
    match repository.owners.get(&key, app.clock.now()) {
        Remembered::Fresh(member) => Ok(member),
        Remembered::Old(owned) => {
            let (app, repository) = (app.clone(), repository.clone());
            let (path, packages) = (path.to_owned(), packages.to_vec());
            let member = owned.member;
            tokio::spawn(async move {
                let _end = Renewal { owned, app: app.clone() };
                let Err(failed) = decide(&app, &repository, &key, &path, &packages).await else { return };
                let error = match &failed {
                    Failed::Fetch(error) => error.to_string(),
                    Failed::Refused(refused) => refused.message.to_string(),
                };
                let name = &repository.face.name;
                tracing::warn!(virtual.name = %name, error, "a member cannot say what it has: names stay where they were");
            });
            Ok(member)
        }
        Remembered::Nothing => decide(app, repository, &key, path, packages).await,
    }
}

/// A decision that is being made anew: however that ends, it can be tried again.
struct Renewal {
    owned: Arc<Owned>,
    app: Arc<App>,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.owned.failed(self.app.clock.now());
    }
}

/// Asks the members and remembers what they say under `key`.
async fn decide(
    app: &Arc<App>,
    repository: &Arc<VirtualRepository>,
    key: &str,
    path: &str,
    packages: &[Package],
) -> Result<Option<usize>, Failed> {
    let mut asked = Vec::new();
    let mut owner = None;
    // A file whose name can be read in several ways, one of which is reserved, is nobody else's business.
    let is_reserved = |package: &&Package| repository.reserved(&package.name).is_some();
    let has_reserved = packages.iter().any(|package| is_reserved(&package));
    'found: for package in packages.iter().filter(|package| !has_reserved || is_reserved(package)) {
        for member in eligible(repository, &package.name) {
            asked.push(member);
            if has(app, &repository.members[member], package, path).await? {
                if !package.lists || lists(app, &repository.members[member], package, path).await? {
                    owner = Some(member);
                    break 'found;
                }
                break;
            }
        }
    }
    repository.owners.put(key, owner, app.clock.now(), life(repository, &asked, owner));
    Ok(owner)
}

/// Whether `member` has `package`.
async fn has(app: &Arc<App>, member: &Member, package: &Package, path: &str) -> Result<bool, Failed> {
    match member {
        Member::Remote(remote) => Ok(app.engine.has(&remote.remote, &package.proof, &read_of(path)).await?),
        Member::Local(local) => locals::has(app, local, &package.name).await.map_err(Failed::from),
        Member::Missing(name) => Err(missing(name).into()),
    }
}

/// Whether `member`, which has `package`, lists the file at `path` in it.
async fn lists(app: &Arc<App>, member: &Member, package: &Package, path: &str) -> Result<bool, Failed> {
    match member {
        Member::Remote(remote) => {
            Ok(app.engine.lists(&remote.remote, &package.proof, &read_of(path)).await?)
        }
        Member::Local(_) | Member::Missing(_) => Ok(true),
    }
}

fn read_of(path: &str) -> artifactapi_formats::Request<'_> {
    artifactapi_formats::Request {
        method: artifactapi_formats::Method::Get,
        raw_path: path,
        query: "",
        accept: "",
    }
}

/// For how long the word of the members `asked` counts, when `owner` has the name: as long as an index of the owner,
/// and as long as each of the others is sure that it has nothing.
fn life(repository: &VirtualRepository, asked: &[usize], owner: Option<usize>) -> Duration {
    let of = |member: &usize| match &repository.members[*member] {
        Member::Remote(remote) if Some(*member) == owner => match remote.remote.spec.mutable_ttl {
            Ttl::Forever => LONGEST,
            Ttl::For(ttl) => ttl,
        },
        Member::Remote(remote) => remote.remote.spec.negative_ttl,
        Member::Local(_) => LOCAL,
        Member::Missing(_) => Duration::ZERO,
    };
    let before = asked.iter().take_while(|member| Some(**member) != owner).chain(owner.as_ref());
    before.map(of).min().unwrap_or_default().min(LONGEST)
}
