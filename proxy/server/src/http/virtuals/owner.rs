//! Which member of a Virtual has a package: asked of one after the other, and remembered.

use std::{sync::Arc, time::Duration};

use artifactapi_engine::FetchError;
use artifactapi_formats::{Method, Package, Request};
use artifactapi_model::{RepoName, Ttl};

use super::missing;
use crate::{
    App,
    config::{
        Member, VirtualRepository,
        owners::{Life, Owned, Remembered},
    },
    http::{fetched::Failed, locals},
};

/// Longest time for which a decision counts.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long it counts where a Local took part: what is pushed shows soon.
const LOCAL: Duration = Duration::from_secs(1);
/// How long a decision that is too old to be used is waited for before it is used all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Members that may be asked about `name`, by their places.
pub(super) fn eligible(repository: &VirtualRepository, name: &str) -> Vec<usize> {
    match repository.reserved(name).filter(|_| !name.is_empty()) {
        Some(only) => vec![only],
        None => (0..repository.members.len()).collect(),
    }
}

/// What a decision about `request`, which is about no package, is remembered by: one key for all spellings of what
/// the members `eligible` would be asked for (RS-22).
pub(super) fn key(
    app: &Arc<App>,
    repository: &VirtualRepository,
    eligible: &[usize],
    request: &Request<'_>,
) -> String {
    let mut key = path_key(repository, request);
    let mut last = None;
    for member in eligible {
        if let Member::Remote(remote) = &repository.members[*member] {
            let spelling = app.engine.spelling(&remote.remote, request);
            if spelling != last {
                key += &format!("\n{member} {}", spelling.as_deref().unwrap_or_default());
                last = spelling;
            }
        }
    }
    key
}

/// The same where only the path counts.
fn path_key(repository: &VirtualRepository, request: &Request<'_>) -> String {
    match artifactapi_formats::subject::path(repository.face.package_type, request.raw_path) {
        Ok(path) => format!("?{path}"),
        Err(_) => format!("?{}", request.raw_path),
    }
}

/// The member that has one of `packages`: as remembered, else by asking. Memories that are not too old are renewed behind
/// the answer, others before it.
pub(super) async fn find(
    app: &Arc<App>,
    repository: &Arc<VirtualRepository>,
    request: &Request<'_>,
    packages: &[Package],
) -> Result<Option<usize>, Failed> {
    let lists = packages.iter().any(|package| package.lists);
    let key = match packages {
        [package] if !lists => package.name.clone(),
        _ => path_key(repository, request),
    };
    let path = request.raw_path;
    match repository.owners.get(&key, app.clock.now()) {
        Remembered::Fresh(member) => Ok(member),
        Remembered::Old(owned) => {
            let (member, usable) = (owned.member, owned.usable(app.clock.now()));
            if usable.is_some() && !owned.begin() {
                return Ok(usable);
            }
            let (app, repository) = (app.clone(), repository.clone());
            let (path, packages) = (path.to_owned(), packages.to_vec());
            let clock = app.clock.clone();
            let renewed = tokio::spawn(renew(app, repository, owned.clone(), key, path, packages));
            if usable.is_some() {
                return Ok(usable);
            }
            match tokio::time::timeout(PATIENCE, renewed).await {
                Ok(Ok(Ok(owner))) => Ok(owner),
                Ok(_) => Ok(member),
                Err(_) => {
                    // A member that is slow to say what it has is as good as one that fails.
                    owned.failed(clock.now());
                    Ok(member)
                }
            }
        }
        Remembered::Nothing => decide(app, repository, &key, path, packages).await,
    }
}

/// Makes the decision `owned` anew.
async fn renew(
    app: Arc<App>,
    repository: Arc<VirtualRepository>,
    owned: Arc<Owned>,
    key: String,
    path: String,
    packages: Vec<Package>,
) -> Result<Option<usize>, Failed> {
    let _turn = owned.turn().await;
    if let Remembered::Fresh(member) = repository.owners.get(&key, app.clock.now()) {
        return Ok(member);
    }
    let _end = Renewal { owned: owned.clone(), app: app.clone() };
    let decided = decide(&app, &repository, &key, &path, &packages).await;
    if let Err(failed) = &decided {
        let error = match failed {
            Failed::Fetch(error) => error.to_string(),
            Failed::Refused(refused) => refused.message.to_string(),
        };
        let name = &repository.face.name;
        tracing::warn!(virtual.name = %name, error, "a member cannot say what it has: names stay where they were");
    }
    decided
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

fn unsure(name: &RepoName, cause: FetchError) -> Failed {
    FetchError::Member { name: name.clone(), cause: Arc::new(cause) }.into()
}

/// Whether `member` has `package`.
async fn has(app: &Arc<App>, member: &Member, package: &Package, path: &str) -> Result<bool, Failed> {
    match member {
        Member::Remote(remote) => {
            let has = app.engine.has(&remote.remote, &package.proof, &read_of(path)).await;
            has.map_err(|cause| unsure(remote.name(), cause))
        }
        Member::Local(local) => locals::has(app, local, &package.name).await.map_err(Failed::from),
        Member::Missing(name) => Err(missing(name).into()),
    }
}

/// Whether `member`, which has `package`, lists the file at `path` in it.
async fn lists(app: &Arc<App>, member: &Member, package: &Package, path: &str) -> Result<bool, Failed> {
    match member {
        Member::Remote(remote) => {
            let lists = app.engine.lists(&remote.remote, &package.proof, &read_of(path)).await;
            lists.map_err(|cause| unsure(remote.name(), cause))
        }
        Member::Local(_) | Member::Missing(_) => Ok(true),
    }
}

fn read_of(path: &str) -> Request<'_> {
    Request { method: Method::Get, raw_path: path, query: "", accept: "" }
}

/// For how long the word of the members `asked` counts, when `owner` has the name: as long as an index of the owner,
/// and as long as each of the others is sure that it has nothing. What a Local had is never used later than that.
pub(super) fn life(repository: &VirtualRepository, asked: &[usize], owner: Option<usize>) -> Life {
    let of = |member: &usize| match &repository.members[*member] {
        Member::Remote(remote) => {
            let spec = &remote.remote.spec;
            let fresh = match spec.mutable_ttl {
                _ if Some(*member) != owner => spec.negative_ttl,
                Ttl::Forever => LONGEST,
                Ttl::For(ttl) => ttl,
            };
            Life { fresh, grace: spec.stale_while_revalidate }
        }
        Member::Local(_) => Life { fresh: LOCAL, grace: Duration::ZERO },
        Member::Missing(_) => Life::default(),
    };
    let before = asked.iter().take_while(|member| Some(**member) != owner).chain(owner.as_ref());
    let shorter = |one: Life, other: Life| Life {
        fresh: one.fresh.min(other.fresh),
        grace: one.grace.min(other.grace),
    };
    let life = before.map(of).reduce(shorter).unwrap_or_default();
    Life { fresh: life.fresh.min(LONGEST), ..life }
}
