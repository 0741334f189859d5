//! What a process knows of each merged index: what is served, until when, and which other generations there are.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

use arc_swap::ArcSwapOption;
use artifactapi_model::{
    Digest, PackageType, RepoId, Timestamp, ports::metadata::DerivedRow, repository::RepoIdentity,
};
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

use super::{
    Look,
    generation::{self, Generation},
    history::{self, History},
    memory,
    past::{self, Past},
};
use crate::{Engine, error::FetchError, weighed};

/// Merged indexes whose state is kept in memory.
const STATES: usize = 1024;

/// The state of one merged index.
pub(crate) struct State {
    pub(super) current: ArcSwapOption<Current>,
    /// Held by the one who looks.
    pub(super) turn: Arc<Mutex<()>>,
    /// What the last look came to that found nothing to serve.
    refusal: ArcSwapOption<Refusal>,
    /// Whether somebody looks behind an answer.
    pub(super) is_asked: AtomicBool,
    /// Whether somebody has said, since the last look began, that a member has something else by now.
    pub(super) is_doubted: AtomicBool,
    /// The members, as rows name them.
    members: Box<[RepoIdentity]>,
    /// The generations that the database names.
    pub(super) history: History,
}

/// Why there is nothing, and until when that is believed.
struct Refusal {
    error: FetchError,
    until: Timestamp,
}

impl State {
    /// What `current` says is lost: it is not served any more.
    pub(super) fn lose(&self, current: &Arc<Current>) {
        self.current.compare_and_swap(current, None);
    }

    /// Why there is nothing to serve, as far as that is known.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<FetchError> {
        let refusal = self.refusal.load();
        refusal.as_ref().filter(|it| now < it.until).map(|it| it.error.clone())
    }

    /// There is nothing to serve, and until `until` nobody needs to look again.
    pub(super) fn refuse(&self, error: FetchError, until: Timestamp) {
        self.refusal.store(Some(Arc::new(Refusal { error, until })));
    }
}

/// The right to look behind an answer, which ends with the look, whatever becomes of it.
pub(super) struct Asking(pub(super) Arc<State>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Relaxed);
    }
}

/// What is served.
pub(super) struct Current {
    /// Digest of everything the generation was made of. The generation itself lies among all generations in memory, and
    /// is read again when there was no room for it.
    pub(super) inputs: Digest,
    /// Where its document is.
    pub(super) document: DerivedRow,
    /// Since when it is current, as all replicas say.
    pub(super) since: Timestamp,
    /// When the oldest of the members' documents was confirmed.
    pub(super) checked_at: Timestamp,
    /// When it was last written down that it is current.
    pub(super) noted_at: Timestamp,
    /// Until when nobody needs to look.
    pub(super) until: AtomicI64,
    /// Whether the last look failed, or found a member's document stale.
    pub(super) is_stale: AtomicBool,
}

/// States and generations in memory.
pub(crate) struct Merged {
    states: Cache<Digest, Arc<State>>,
    pub(super) generations: Cache<Digest, Arc<Generation>, generation::ByBytes>,
    pub(super) past: Cache<Digest, Arc<Past>, past::ByBytes>,
    pub(super) memory: Arc<memory::Memory>,
}

impl Merged {
    /// With room for `bytes` of generations, and a quarter of that for what is known of those that are over.
    pub(crate) fn new(bytes: u64) -> Self {
        Merged {
            states: Cache::new(STATES),
            generations: weighed::cache(
                STATES,
                bytes,
                u64::MAX,
                generation::ByBytes { most: weighed::most(bytes) },
            ),
            past: weighed::cache(STATES, bytes / 4, u64::MAX, past::ByBytes),
            memory: Arc::default(),
        }
    }

    /// Bytes of `digest` are gone: generations that have it are made or loaded anew.
    pub(crate) fn forget(&self, digest: &Digest) -> Vec<Digest> {
        let with = |generation: &Generation| generation.has(digest);
        let gone: Vec<_> =
            self.generations.iter().filter(|(_, it)| with(it)).map(|(inputs, _)| inputs).collect();
        self.generations.retain(|inputs, _| !gone.contains(inputs));
        self.states
            .retain(|_, state| state.current.load().as_ref().is_none_or(|it| !gone.contains(&it.inputs)));
        gone
    }

    /// A twin says that the generation at `path`, a row below the Virtual `repo`, has become current: whoever misses
    /// something looks there.
    pub(crate) fn heard_of(&self, repo: RepoId, path: &str) {
        if history::is_generation(path) {
            self.states.iter().for_each(|(_, state)| state.history.heard_of(repo, path));
        }
    }

    /// Somebody has changed by hand what the member `of` has: indexes made of it are looked at again before they are
    /// answered with.
    pub(crate) fn doubt(&self, of: RepoIdentity) {
        for (_, state) in self.states.iter().filter(|(_, state)| state.members.contains(&of)) {
            state.is_doubted.store(true, Relaxed);
        }
    }

    /// Messages may have been missed: every index is looked at again when it is next used.
    pub(crate) fn age_all(&self) {
        for (_, state) in self.states.iter() {
            if let Some(current) = &*state.current.load() {
                current.until.store(0, Relaxed);
            }
        }
    }
}

impl Engine {
    pub(super) fn state(&self, look: &Look) -> Arc<State> {
        let Look { union, index, base, .. } = look;
        // Only packuments carry our own address.
        let address = if union.package_type == PackageType::Npm { base.url() } else { String::new() };
        let key = Digest::of(format!("{}\n{index}\n{address}", union.fingerprint).as_bytes());
        if let Some(state) = self.merged.states.get(&key) {
            return state;
        }
        let fresh = || {
            Ok::<_, std::convert::Infallible>(Arc::new(State {
                current: ArcSwapOption::empty(),
                turn: Arc::default(),
                refusal: ArcSwapOption::empty(),
                is_asked: AtomicBool::default(),
                is_doubted: AtomicBool::default(),
                members: union.members.iter().map(|member| member.identity).collect(),
                history: History::of(key, union, index),
            }))
        };
        match self.merged.states.get_or_insert_with(&key, fresh) {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }
}
