//! Merged indexes of Virtuals: made once for what the members have, shared by all replicas, served like any hit.
//!
//! A *generation* is everything one merge writes ([`generation`]): the index, the files it names, and which member
//! each advertised file comes from. It is a pure function of the members' documents, of the Virtual's rules and of
//! the signing key, and is stored under the digest of all those ([`build`]). So replicas that hold the same documents
//! share one, and a member that changes costs one merge.
//!
//! Which generation is current, each process finds out for itself: by asking for the members' documents, each of
//! which is fetched and revalidated by its own rules ([`gather`]). Between two such looks a request costs one
//! lookup in memory. When the documents may have changed, the last generation is served once more while one
//! request's task looks: nobody waits for a merge but who comes first of all.
//!
//! A member that fails and has no stored copy makes no generation: the last one stays, marked as stale, and where
//! there is none that is an error. Never is an index without that member stored or served.
//!
//! Earlier generations stay for a while ([`history`]): a client that holds yesterday's index gets the files it
//! names.

mod build;
mod gather;
pub(crate) mod generation;
mod history;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use artifactapi_formats::{
    PublicBase, Request,
    merge::{Asked, Merge, Rules, Signer, merge_of},
};
use artifactapi_model::{
    ArtifactKey, Digest, Mutability, PackageType, Remote, RepoPath, Timestamp, repository::RepoIdentity,
};
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    Engine,
    content::{Body, CacheOutcome, Content},
    error::FetchError,
};
use generation::{File, Generation};

/// How soon to look again while a member's document is being revalidated.
const SOON: Duration = Duration::from_secs(1);
/// How soon to look again after a look that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest time without a look.
const LONGEST: Duration = Duration::from_secs(3600);
/// Merged indexes whose state is kept in memory.
const STATES: usize = 1024;

/// A Virtual as its merges see it: the members that whoever asks may see, and its rules.
pub struct Union {
    /// Its package type.
    pub package_type: PackageType,
    /// Where stores know it by: earlier generations are kept below it; without it there are none.
    pub identity: Option<RepoIdentity>,
    /// The members, in their order.
    pub members: Vec<Remote>,
    /// The rules, with the members by their places in `members`.
    pub rules: Box<dyn Rules + Send + Sync>,
    /// Digest of everything about members and rules that a merge depends on.
    pub fingerprint: Digest,
}

/// One merged index of a Virtual, as it is looked for.
#[derive(Clone)]
struct Look {
    union: Arc<Union>,
    merge: &'static dyn Merge,
    /// Canonical path of the index.
    index: RepoPath,
    /// The Virtual's public address, which documents with absolute URLs carry.
    base: PublicBase,
}

/// What a path of a Virtual leads to.
pub enum Found {
    /// A file of a generation.
    Content(Box<Content>),
    /// A file of the member at this place, at this canonical path there.
    Member(usize, RepoPath),
}

/// The state of one merged index.
#[derive(Default)]
pub(crate) struct State {
    current: ArcSwapOption<Current>,
    /// Held by the one who looks for the first time.
    first: Mutex<()>,
    /// Until when it is known that no member has such an index.
    absent_until: AtomicI64,
    /// Whether somebody looks behind an answer.
    is_asked: AtomicBool,
}

/// The right to look behind an answer, which ends with the look, whatever becomes of it.
struct Asking(Arc<State>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Relaxed);
    }
}

/// What is served.
struct Current {
    generation: Arc<Generation>,
    /// Digest of everything it was made of.
    inputs: Digest,
    /// The generations before it, once somebody has asked for what it does not have.
    earlier: OnceCell<Vec<Arc<Generation>>>,
    /// When the oldest of the members' documents was confirmed.
    checked_at: Timestamp,
    /// Until when nobody needs to look.
    until: AtomicI64,
    /// Whether the last look failed, or found a member's document stale.
    is_stale: AtomicBool,
}

/// States and generations in memory.
pub(crate) struct Merged {
    states: Cache<Digest, Arc<State>>,
    generations: Cache<Digest, Arc<Generation>, generation::ByBytes>,
}

impl Merged {
    /// With room for `bytes` of generations.
    pub(crate) fn new(bytes: u64) -> Self {
        Merged {
            states: Cache::new(STATES),
            generations: Cache::with_weighter(STATES, bytes, generation::ByBytes),
        }
    }

    /// Bytes of `digest` are gone: generations that have it are made or loaded anew.
    pub(crate) fn forget(&self, digest: &Digest) -> Vec<Digest> {
        let with = |generation: &Generation| generation.has(digest);
        let gone: Vec<_> =
            self.generations.iter().filter(|(_, it)| with(it)).map(|(inputs, _)| inputs).collect();
        self.generations.retain(|inputs, _| !gone.contains(inputs));
        self.states.retain(|_, state| state.current.load().as_ref().is_none_or(|it| !with(&it.generation)));
        gone
    }
}

impl Engine {
    /// What the merges of `union` know of `path`, which `request` is for; `None` when that is none of theirs.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] for what no generation has, [`FetchError::Plan`] for what no merged repository
    /// answers; another one when a member cannot say what it has and there is no generation yet.
    pub async fn merged(
        self: &Arc<Self>,
        union: &Arc<Union>,
        base: &PublicBase,
        path: &RepoPath,
        request: &Request<'_>,
    ) -> Option<Result<Found, FetchError>> {
        let merge = merge_of(union.package_type)?;
        let asked = match merge.asked(path, request)? {
            Ok(asked) => asked,
            Err(error) => return Some(Err(error.into())),
        };
        let look = Look { union: union.clone(), merge, index: asked.index.clone(), base: base.clone() };
        Some(self.find(&look, &asked).await)
    }

    async fn find(self: &Arc<Self>, look: &Look, asked: &Asked) -> Result<Found, FetchError> {
        let Look { union, index, .. } = look;
        let (current, outcome) = self.current(look).await?;
        let path = asked.path.as_str();
        if let Some(file) = current.generation.file(path) {
            return Ok(Found::Content(Box::new(self.content(union, asked, &current, file, outcome))));
        }
        if let Some(found) = listed(union, &current.generation, asked) {
            return Ok(found);
        }
        for generation in current.earlier.get_or_try_init(|| self.earlier(union, index)).await? {
            if let Some(file) = generation.file(path).filter(|_| !asked.is_index) {
                return Ok(Found::Content(Box::new(self.content(union, asked, &current, file, outcome))));
            }
            if let Some(found) = listed(union, generation, asked) {
                return Ok(found);
            }
        }
        Err(FetchError::NotFound { gone: false })
    }

    /// The current generation of the index at `index`.
    async fn current(self: &Arc<Self>, look: &Look) -> Result<(Arc<Current>, CacheOutcome), FetchError> {
        let state = self.state(look);
        let now = self.ports.clock.now();
        if let Some(current) = state.current.load_full() {
            if now.0 < current.until.load(Relaxed) {
                let is_stale = current.is_stale.load(Relaxed);
                return Ok((current, if is_stale { CacheOutcome::Stale } else { CacheOutcome::Hit }));
            }
            if !state.is_asked.swap(true, Relaxed) {
                let (engine, look, asked) = (self.clone(), look.clone(), Asking(state.clone()));
                tokio::spawn(async move { engine.look_again(&look, &asked.0).await });
            }
            return Ok((current, CacheOutcome::Stale));
        }
        // In a task: what one has waited for in vain, the next one finds done.
        let (engine, look) = (self.clone(), look.clone());
        let first = tokio::spawn(async move { engine.look_first(&look, &state).await });
        first.await.unwrap_or(Err(FetchError::Abandoned))
    }

    /// Looks for what has never been found here, once for all who ask at the same time.
    async fn look_first(
        self: &Arc<Self>,
        look: &Look,
        state: &State,
    ) -> Result<(Arc<Current>, CacheOutcome), FetchError> {
        let _first = state.first.lock().await;
        if let Some(current) = state.current.load_full() {
            return Ok((current, CacheOutcome::Collapsed));
        }
        if self.ports.clock.now().0 < state.absent_until.load(Relaxed) {
            return Err(FetchError::NotFound { gone: false });
        }
        match self.look(look, None).await {
            Ok(current) => {
                state.current.store(Some(current.clone()));
                Ok((current, CacheOutcome::Miss))
            }
            Err(error) => {
                if matches!(error, FetchError::NotFound { .. }) {
                    state.absent_until.store((self.ports.clock.now() + PAUSE).0, Relaxed);
                }
                Err(error)
            }
        }
    }

    fn state(&self, look: &Look) -> Arc<State> {
        let Look { union, index, base, .. } = look;
        // Only packuments carry our own address.
        let address = if union.package_type == PackageType::Npm { base.url() } else { String::new() };
        let key = Digest::of(format!("{}\n{index}\n{address}", union.fingerprint).as_bytes());
        if let Some(state) = self.merged.states.get(&key) {
            return state;
        }
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        match self.merged.states.get_or_insert_with(&key, fresh) {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }

    /// Looks behind an answer. What fails changes nothing but the mark.
    async fn look_again(self: &Arc<Self>, look: &Look, state: &State) {
        let last = state.current.load_full();
        match self.look(look, last.as_deref()).await {
            Ok(current) => state.current.store(Some(current)),
            Err(error) => {
                tracing::warn!(virtual.base = look.base.prefix, virtual.index = %look.index, %error, "a merged index stays as it was");
                if let Some(last) = last {
                    last.until.store((self.ports.clock.now() + PAUSE).0, Relaxed);
                    last.is_stale.store(true, Relaxed);
                }
            }
        }
    }

    /// Asks for the members' documents, and makes a generation of them unless `last` is that one.
    async fn look(self: &Arc<Self>, look: &Look, last: Option<&Current>) -> Result<Arc<Current>, FetchError> {
        let gathered = self.gather(look).await?;
        if gathered.members.iter().all(gather::Gathered::is_empty) {
            return Err(FetchError::NotFound { gone: false });
        }
        let signer = self.signer(look.union.package_type).await?;
        let inputs = gathered.inputs(look, &*signer);
        let generation = match last.filter(|last| last.inputs == inputs) {
            Some(last) => last.generation.clone(),
            None => self.generation(look, &inputs, gathered.members, signer).await?,
        };
        if generation.file(look.index.as_str()).is_none() {
            return Err(FetchError::NotFound { gone: false });
        }
        let life = if gathered.is_stale { SOON } else { gathered.life.clamp(SOON, LONGEST) };
        Ok(Arc::new(Current {
            generation,
            inputs,
            earlier: OnceCell::new(),
            checked_at: gathered.checked_at,
            until: AtomicI64::new((self.ports.clock.now() + life).0),
            is_stale: AtomicBool::new(gathered.is_stale),
        }))
    }

    fn content(
        &self,
        union: &Union,
        asked: &Asked,
        current: &Current,
        file: &File,
        outcome: CacheOutcome,
    ) -> Content {
        let now = self.ports.clock.now();
        let identity = union
            .identity
            .unwrap_or(RepoIdentity { id: artifactapi_model::RepoId(0), epoch: artifactapi_model::Epoch(0) });
        let left = Timestamp(current.until.load(Relaxed)).since(now);
        let body = |kept: &Option<bytes::Bytes>, digest| match kept {
            Some(bytes) => Body::Memory(bytes.clone()),
            None => Body::Stored(digest),
        };
        let row = &file.row;
        Content {
            key: ArtifactKey::new(identity.id, identity.epoch, &asked.path, ""),
            size: Some(row.size),
            digest: Some(row.digest),
            content_type: row.content_type.clone(),
            last_modified: None,
            headers: Vec::new(),
            mutability: Mutability::Mutable,
            age: now.since(current.checked_at),
            fresh_for: Some(if outcome == CacheOutcome::Stale { Duration::ZERO } else { left }),
            stored_at: current.generation.made_at,
            outcome,
            varies_by_accept: asked.is_negotiated,
            gzip: row.gzip.map(|(digest, size)| (body(&file.gzip, digest), digest, size)),
            body: body(&file.body, row.digest),
        }
    }

    /// What signs generations of a type that has signatures.
    async fn signer(
        self: &Arc<Self>,
        package_type: PackageType,
    ) -> Result<Arc<dyn Signer + Send + Sync>, FetchError> {
        match (package_type, self.keys.get()) {
            (PackageType::Alpine, Some(keys)) => Ok(keys.signer().await?),
            // A repository of packages that are signed themselves is of use without it.
            (PackageType::Rpm, Some(keys)) if keys.can_sign() => Ok(keys.signer().await?),
            _ => Ok(Arc::new(Nobody)),
        }
    }
}

/// Signs nothing.
struct Nobody;

impl Signer for Nobody {
    fn rsa_name(&self) -> String {
        "none".to_owned()
    }

    fn rsa_sha256(&self, _: &Digest) -> Result<Vec<u8>, String> {
        Err("this process has no signing keys".to_owned())
    }

    fn openpgp(&self, _: &[u8]) -> Result<Option<String>, String> {
        Ok(None)
    }
}

/// The member and its own path of a file that `generation` advertises, or that lies beside one.
fn listed(union: &Union, generation: &Generation, asked: &Asked) -> Option<Found> {
    let path = asked.path.as_str();
    let beside = || Some((generation.listed(asked.beside.as_deref()?)?.0, path.to_owned()));
    let (name, own) = generation.listed(path).or_else(beside)?;
    let member = union.members.iter().position(|member| member.spec.name.as_str() == name)?;
    Some(Found::Member(member, RepoPath::from_canonical(&own).ok()?))
}
