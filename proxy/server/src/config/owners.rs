//! Which member of a Virtual has which name, remembered for a while: otherwise every request to the second member
//! would ask the first one's rows again.
//!
//! A decision that has grown old is used once more while it is made anew, and for as long as it cannot be: a
//! member that fails must not let another one take its names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{Digest, Timestamp};
use quick_cache::sync::Cache;

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
    is_asked: AtomicBool,
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// This.
    Fresh(Option<usize>),
    /// This, and whoever is told so is the one who makes it anew.
    Old(Arc<Owned>),
    /// Nothing.
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
    /// What is known of `name` at `now`. Of those who ask while a decision is old, one is told so until it calls
    /// [`Owners::put`] or [`Owned::failed`].
    pub fn get(&self, name: &str, now: Timestamp) -> Remembered {
        let Some(owned) = self.0.get(&Digest::of(name.as_bytes())) else { return Remembered::Nothing };
        if now.0 < owned.until.load(Relaxed) || owned.is_asked.swap(true, Relaxed) {
            return Remembered::Fresh(owned.member);
        }
        Remembered::Old(owned)
    }

    /// What is known of `name` at `now` and not old.
    pub fn fresh(&self, name: &str, now: Timestamp) -> Option<Option<usize>> {
        let owned = self.0.get(&Digest::of(name.as_bytes()))?;
        (now.0 < owned.until.load(Relaxed)).then_some(owned.member)
    }

    /// Remembers that `member` has `name`, for `life` from `now`.
    pub fn put(&self, name: &str, member: Option<usize>, now: Timestamp, life: Duration) {
        let until = AtomicI64::new((now + life).0);
        self.0.insert(
            Digest::of(name.as_bytes()),
            Arc::new(Owned { member, until, is_asked: AtomicBool::new(false) }),
        );
    }
}

impl Owned {
    /// It could not be made anew at `now`: it stays, and is asked again in a while.
    pub fn failed(&self, now: Timestamp) {
        self.until.store((now + PAUSE).0, Relaxed);
        self.is_asked.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_of_those_who_find_a_decision_old_makes_it_anew() {
        let owners = Owners::default();
        let at = |seconds: i64| Timestamp(seconds * 1000);
        assert!(matches!(owners.get("a", at(0)), Remembered::Nothing));
        owners.put("a", Some(1), at(0), SECOND);
        assert!(matches!(owners.get("a", at(0)), Remembered::Fresh(Some(1))));
        let Remembered::Old(owned) = owners.get("a", at(2)) else { panic!("it is old") };
        assert!(matches!(owners.get("a", at(2)), Remembered::Fresh(Some(1))), "the others go on");
        owned.failed(at(2));
        assert!(matches!(owners.get("a", at(3)), Remembered::Fresh(Some(1))), "a failure changes nothing");
        assert!(matches!(owners.get("a", at(8)), Remembered::Old(_)), "and is not the last word");
        owners.put("a", None, at(8), SECOND);
        assert!(matches!(owners.get("a", at(8)), Remembered::Fresh(None)));
    }
}
