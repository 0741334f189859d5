//! Which member of a Virtual has which name, remembered for a while: otherwise every request to the second member
//! would ask the first one's rows again.
//!
//! A decision that has grown old may be used once more while it is made anew, for as long as the members' own documents
//! might be; and it stays for as long as it cannot be made anew: a member that fails must not let another one take its
//! names. That nobody has a name is never used again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{Digest, Timestamp};
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

/// Names remembered of one Virtual.
const NAMES: usize = 4096;
/// How long a decision that could not be made anew is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Remembered decisions of one Virtual. Names are kept as digests: paths may be long.
pub struct Owners(Cache<Digest, Arc<Owned>>);

/// One decision.
#[derive(Debug)]
pub struct Owned {
    /// The member that has the name, by its place; `None` when none has.
    pub member: Option<usize>,
    until: AtomicI64,
    /// How long after that it may be used while it is made anew.
    grace: Duration,
    is_asked: AtomicBool,
    turn: Mutex<()>,
}

/// How long a decision counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Without a question.
    pub fresh: Duration,
    /// After that, while it is made anew.
    pub grace: Duration,
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// This.
    Fresh(Option<usize>),
    /// That a member has it, some time ago.
    Old(Arc<Owned>),
    /// Nothing that may be used.
    Nothing,
}

impl Default for Owners {
    fn default() -> Self {
        Owners(Cache::new(NAMES))
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owners of {} names", self.0.len())
    }
}

impl Owners {
    /// What is known of `name` at `now`.
    pub fn get(&self, name: &str, now: Timestamp) -> Remembered {
        match self.0.get(&Digest::of(name.as_bytes())) {
            None => Remembered::Nothing,
            Some(owned) if now.0 < owned.until.load(Relaxed) => Remembered::Fresh(owned.member),
            Some(owned) if owned.member.is_none() => Remembered::Nothing,
            Some(owned) => Remembered::Old(owned),
        }
    }

    /// What is known of `name` at `now` and not old.
    pub fn fresh(&self, name: &str, now: Timestamp) -> Option<Option<usize>> {
        let owned = self.0.get(&Digest::of(name.as_bytes()))?;
        (now.0 < owned.until.load(Relaxed)).then_some(owned.member)
    }

    /// Remembers that `member` has `name`, for `life` from `now`.
    pub fn put(&self, name: &str, member: Option<usize>, now: Timestamp, life: Life) {
        let Life { fresh, grace } = life;
        let until = AtomicI64::new((now + fresh).0);
        self.0.insert(
            Digest::of(name.as_bytes()),
            Arc::new(Owned { member, until, grace, is_asked: AtomicBool::default(), turn: Mutex::default() }),
        );
    }
}

impl Owned {
    /// The member that may still be asked at `now`, while the decision is made anew.
    pub fn usable(&self, now: Timestamp) -> Option<usize> {
        let until = Timestamp(self.until.load(Relaxed)) + self.grace;
        self.member.filter(|_| now < until)
    }

    /// The turn of one of those who make it anew, after which the others look at what came of it.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Whether the caller is to make it anew behind its answer: one at a time is, until [`Owned::failed`].
    pub fn begin(&self) -> bool {
        !self.is_asked.swap(true, Relaxed)
    }

    /// It could not be made anew at `now`: it stays, and is asked again in a while.
    pub fn failed(&self, now: Timestamp) {
        self.until.store((now + PAUSE).0, Relaxed);
        self.is_asked.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { fresh: Duration::from_secs(1), grace: Duration::from_secs(60) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn old(owners: &Owners, now: Timestamp) -> Arc<Owned> {
        match owners.get("a", now) {
            Remembered::Old(owned) => owned,
            other => panic!("{other:?} at {now:?}"),
        }
    }

    #[test]
    fn one_of_those_who_find_a_decision_old_makes_it_anew() {
        let owners = Owners::default();
        assert!(matches!(owners.get("a", at(0)), Remembered::Nothing));
        owners.put("a", Some(1), at(0), LIFE);
        assert!(matches!(owners.get("a", at(0)), Remembered::Fresh(Some(1))));
        let owned = old(&owners, at(2));
        assert!(owned.begin() && !owned.begin());
        assert_eq!(owned.usable(at(2)), Some(1), "the others go on");
        owned.failed(at(2));
        assert!(matches!(owners.get("a", at(3)), Remembered::Fresh(Some(1))), "a failure changes nothing");
        assert!(old(&owners, at(8)).begin(), "and is not the last word");
        owners.put("a", None, at(8), LIFE);
        assert!(matches!(owners.get("a", at(8)), Remembered::Fresh(None)));
    }

    #[test]
    fn what_is_too_old_or_nobody_s_is_not_used_again() {
        let owners = Owners::default();
        owners.put("a", Some(1), at(0), LIFE);
        assert_eq!(old(&owners, at(60)).usable(at(60)), Some(1));
        assert_eq!(old(&owners, at(62)).usable(at(62)), None);
        owners.put("a", None, at(0), LIFE);
        assert!(matches!(owners.get("a", at(0)), Remembered::Fresh(None)));
        assert!(matches!(owners.get("a", at(2)), Remembered::Nothing));
    }
}
