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
//! request's task looks: nobody waits for a merge but who comes first of all, and who comes first after somebody has
//! evicted or refreshed what a member has.
//!
//! A member that fails and has no stored copy makes no generation: the last one stays, marked as stale, and where
//! there is none that is an error. Never is an index without that member stored or served. Members that all answer
//! that they have nothing are believed: what is made of them is nothing.
//!
//! Earlier generations stay for a while ([`history`]): a client that holds yesterday's index gets the files it
//! names.

mod answer;
mod build;
mod gather;
pub(crate) mod generation;
mod history;
mod listing;
mod memory;
mod past;
mod staging;
pub(crate) mod state;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_formats::{
    PublicBase, Request,
    merge::{Asked, Merge, Rules, Signer, merge_of},
};
use artifactapi_model::{Digest, PackageType, Remote, RepoPath, ports::BlobError, repository::RepoIdentity};
use tokio::sync::OwnedMutexGuard;

use crate::{
    Engine,
    content::{CacheOutcome, Content},
    error::FetchError,
};
use answer::Standing;
use generation::Generation;
use state::{Asking, Current, State};

/// How soon to look again while a member's document is being revalidated.
const SOON: Duration = Duration::from_secs(1);
/// How soon to look again after a look that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a request waits for a look that somebody's word has made necessary.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time without a look.
const LONGEST: Duration = Duration::from_secs(3600);

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
        let union = &look.union;
        let state = self.state(look);
        let mut current = self.current_generation(look, &state).await;
        if current.as_ref().is_err_and(FetchError::is_loss) {
            // It is not served any more: now it is made anew.
            current = self.current_generation(look, &state).await;
        }
        let (mut standing, mut base) = (None, None);
        if let Ok((current, generation, outcome)) = &current {
            base = Some(current.inputs);
            let own = *standing.insert(Standing::of(current, *outcome));
            if let Some(found) = self.in_current(union, asked, generation, own) {
                return Ok(found);
            }
        }
        // What the index of a twin, or of yesterday, names.
        let found = match asked.is_index {
            true => None,
            false => self.in_history(look, asked, &state.history, base, standing).await?,
        };
        let missing = current.err().unwrap_or(FetchError::NotFound { gone: false });
        found.ok_or(missing)
    }

    /// What is current, with its generation.
    async fn current_generation(
        self: &Arc<Self>,
        look: &Look,
        state: &Arc<State>,
    ) -> Result<(Arc<Current>, Arc<Generation>, CacheOutcome), FetchError> {
        let (current, outcome) = self.current(look, state).await?;
        match self.generation_of(&current).await? {
            Some(generation) => Ok((current, generation, outcome)),
            None => {
                state.lose(&current);
                Err(BlobError::NotFound(current.document.digest).into())
            }
        }
    }

    /// What is current of the index at `index`.
    async fn current(
        self: &Arc<Self>,
        look: &Look,
        state: &Arc<State>,
    ) -> Result<(Arc<Current>, CacheOutcome), FetchError> {
        let last = state.current.load_full();
        if let Some(current) = last.clone().filter(|_| !state.is_doubted.load(Relaxed)) {
            if self.ports.clock.now().0 < current.until.load(Relaxed) {
                let is_stale = current.is_stale.load(Relaxed);
                return Ok((current, if is_stale { CacheOutcome::Stale } else { CacheOutcome::Hit }));
            }
            if !state.is_asked.swap(true, Relaxed) {
                let (engine, look, asked) = (self.clone(), look.clone(), Asking(state.clone()));
                tokio::spawn(async move {
                    let turn = asked.0.turn.clone().lock_owned().await;
                    engine.look_in_turn(&look, &asked.0, turn).await
                });
            }
            return Ok((current, CacheOutcome::Stale));
        }
        let is_known = |_: &FetchError| last.is_none() && !state.is_doubted.load(Relaxed);
        if let Some(error) = state.refusal(self.ports.clock.now()).filter(is_known) {
            return Err(error);
        }
        // Whoever leaves meanwhile leaves no task behind that waits for its turn.
        let turn = state.turn.clone().lock_owned();
        // In a task: what one has waited for in vain, the next one finds done.
        let (engine, look, state) = (self.clone(), look.clone(), state.clone());
        let looked = async move {
            let turn = turn.await;
            let looked = tokio::spawn(async move { engine.look_in_turn(&look, &state, turn).await });
            looked.await.unwrap_or(Err(FetchError::Abandoned))
        };
        match last {
            None => looked.await,
            // Somebody has said that it may have changed. It stands in when that takes long to find out.
            Some(last) => match tokio::time::timeout(PATIENCE, looked).await {
                Ok(answer) => answer,
                Err(_) => Ok((last, CacheOutcome::Stale)),
            },
        }
    }

    /// Looks, one after the other with all who do, unless somebody has just done so. What fails changes nothing but the
    /// mark of what is there; what no member has any more is gone.
    async fn look_in_turn(
        self: &Arc<Self>,
        look: &Look,
        state: &State,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<(Arc<Current>, CacheOutcome), FetchError> {
        // Before the look: what is said meanwhile it may not see.
        let is_doubted = state.is_doubted.swap(false, Relaxed);
        let (last, now) = (state.current.load_full(), self.ports.clock.now());
        match &last {
            Some(last) if is_doubted => last.until.store(0, Relaxed),
            Some(last) if now.0 < last.until.load(Relaxed) => {
                let is_stale = last.is_stale.load(Relaxed);
                let outcome = if is_stale { CacheOutcome::Stale } else { CacheOutcome::Collapsed };
                return Ok((last.clone(), outcome));
            }
            _ => {}
        }
        if let Some(error) = state.refusal(now).filter(|_| !is_doubted && last.is_none()) {
            return Err(error);
        }
        let looked = self.look(look, last.as_deref()).await;
        let later = self.ports.clock.now() + PAUSE;
        match (looked, last) {
            (Ok(current), last) => {
                state.current.store(Some(current.clone()));
                let is_same = last.is_some_and(|last| last.inputs == current.inputs);
                let outcome = match current.is_stale.load(Relaxed) {
                    true => CacheOutcome::Stale,
                    false if is_same => CacheOutcome::Revalidated,
                    false => CacheOutcome::Miss,
                };
                Ok((current, outcome))
            }
            (Err(error @ FetchError::NotFound { .. }), last) => {
                if last.is_some() {
                    tracing::info!(virtual.base = look.base.prefix, virtual.index = %look.index, "no member has a merged index any more");
                }
                state.refuse(error.clone(), later);
                state.current.store(None);
                Err(error)
            }
            (Err(error), Some(last)) => {
                tracing::warn!(virtual.base = look.base.prefix, virtual.index = %look.index, %error, "a merged index stays as it was");
                last.until.store(later.0, Relaxed);
                last.is_stale.store(true, Relaxed);
                Ok((last, CacheOutcome::Stale))
            }
            (Err(error), None) => {
                // Whoever waits gets the same, and does not try in vain once more. Lost bytes are forgotten by now.
                if !error.is_loss() {
                    state.refuse(error.clone(), later);
                }
                Err(error)
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
        let now = self.ports.clock.now();
        let mut noted_at = now;
        let (document, since) = match last.filter(|last| last.inputs == inputs) {
            Some(last) => {
                if now.since(last.noted_at) >= LONGEST {
                    self.still_current(&look.union, &look.index, &inputs).await;
                } else {
                    noted_at = last.noted_at;
                }
                (last.document.clone(), last.since)
            }
            None => {
                let (generation, document, since) =
                    self.generation(look, &inputs, gathered.members, signer, last).await?;
                if generation.file(look.index.as_str()).is_none() {
                    return Err(FetchError::NotFound { gone: false });
                }
                (document, since)
            }
        };
        let life = if gathered.is_stale { SOON } else { gathered.life.clamp(SOON, LONGEST) };
        Ok(Arc::new(Current {
            inputs,
            document,
            since,
            noted_at,
            checked_at: gathered.checked_at,
            until: AtomicI64::new((self.ports.clock.now() + life).0),
            is_stale: AtomicBool::new(gathered.is_stale),
        }))
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
