//! What is known of tokens, in memory: at most so many, each for at most half a minute without asking again.
//!
//! When the database does not answer, a token that counted is good for five minutes more, and no others are. One
//! request asks for all that show the same token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use artifactapi_model::{
    Digest,
    account::Robot,
    ports::{Accounts, MetadataError, accounts::Holder},
};
use tokio::{sync::Mutex, time::Instant};

/// How long a token that counts is not asked for again.
const GOOD: Duration = Duration::from_secs(30);
/// How long one that does not is not.
const BAD: Duration = Duration::from_secs(10);
/// How long a token counts when nobody can be asked (RS-85).
const OUTAGE: Duration = Duration::from_secs(300);
/// Pause before the database is asked for the same token again when it did not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// Tokens that are remembered.
const TOKENS: usize = 10_000;
/// Tokens that can be asked for at the same time.
const TURNS: usize = 64;

/// What is remembered of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    /// It counted when it was last asked for.
    Good,
    /// It did not a moment ago.
    Bad,
    /// Nothing.
    Nothing,
}

/// A token that counts.
#[derive(Debug)]
pub(super) struct Found {
    /// Whose it is.
    pub(super) robot: Arc<Robot>,
    /// Whether the database was asked for it just now.
    pub(super) was_asked: bool,
}

#[derive(Clone)]
struct Entry {
    robot: Option<Arc<Robot>>,
    /// When the database said so.
    confirmed: Instant,
    /// When it is asked again.
    due: Instant,
    /// When the token ends.
    ends: Option<Instant>,
    /// Which doubt it was confirmed under.
    doubt: u64,
}

pub(super) struct Cache {
    accounts: Arc<dyn Accounts>,
    entries: quick_cache::sync::Cache<Digest, Entry>,
    turns: [Mutex<()>; TURNS],
    /// Counts how often everything was doubted.
    doubts: AtomicU64,
}

impl Cache {
    pub(super) fn new(accounts: Arc<dyn Accounts>) -> Self {
        Cache {
            accounts,
            entries: quick_cache::sync::Cache::new(TOKENS),
            turns: [const { Mutex::const_new(()) }; TURNS],
            doubts: AtomicU64::new(0),
        }
    }

    /// What is remembered of the token with this hash: that it counted, however long ago; that it did not, as long as
    /// that is not asked for again.
    pub(super) fn remembered(&self, hash: &Digest) -> Remembered {
        match self.entries.get(hash) {
            Some(entry) if entry.robot.is_some() => Remembered::Good,
            Some(entry) if self.is_current(&entry) => Remembered::Bad,
            _ => Remembered::Nothing,
        }
    }

    /// Whose the token with this hash is, `None` for nobody's.
    pub(super) async fn holder(&self, hash: &Digest) -> Result<Option<Found>, MetadataError> {
        if let Some(entry) = self.current(hash) {
            return entry.answer();
        }
        let _turn = self.turns[usize::from(hash.0[0]) % TURNS].lock().await;
        // Another has asked meanwhile.
        if let Some(entry) = self.current(hash) {
            return entry.answer();
        }
        let doubt = self.doubts.load(Ordering::Acquire);
        match self.accounts.holder(hash).await {
            Ok(holder) => {
                let entry = Entry::confirmed(holder, doubt);
                let robot = entry.robot.clone();
                self.entries.insert(*hash, entry);
                Ok(robot.map(|robot| Found { robot, was_asked: true }))
            }
            Err(error) => {
                let Some(old) = self.entries.get(hash).filter(|old| old.robot.is_some()) else {
                    return Err(error);
                };
                let entry = Entry { due: Instant::now() + PAUSE, doubt, ..old };
                self.entries.insert(*hash, entry.clone());
                entry.answer()
            }
        }
    }

    /// Everything is asked for again when it is next needed.
    pub(super) fn doubt_all(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
    }

    fn current(&self, hash: &Digest) -> Option<Entry> {
        self.entries.get(hash).filter(|entry| self.is_current(entry))
    }

    fn is_current(&self, entry: &Entry) -> bool {
        entry.doubt == self.doubts.load(Ordering::Acquire) && Instant::now() < entry.due
    }
}

impl Entry {
    fn confirmed(holder: Option<Holder>, doubt: u64) -> Self {
        let confirmed = Instant::now();
        let (robot, expires_in, keep) = match holder {
            Some(Holder { robot, expires_in }) => (Some(Arc::new(robot)), expires_in, GOOD),
            None => (None, None, BAD),
        };
        let ends = expires_in.and_then(|left| confirmed.checked_add(left));
        Entry { robot, confirmed, due: confirmed + keep, ends, doubt }
    }

    fn answer(self) -> Result<Option<Found>, MetadataError> {
        let now = Instant::now();
        let Some(robot) = self.robot.filter(|_| self.ends.is_none_or(|ends| now < ends)) else {
            return Ok(None);
        };
        if now.duration_since(self.confirmed) >= OUTAGE {
            return Err(MetadataError::Unavailable("nobody has confirmed this token for too long".into()));
        }
        Ok(Some(Found { robot, was_asked: false }))
    }
}
