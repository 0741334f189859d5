//! What is asked of Redis, counted.

use std::sync::{
    Once,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the coordinator's calls")]
pub enum RedisCall {
    Acquire,
    Renew,
    Release,
    Put,
    Get,
    Delete,
    Publish,
}

impl RedisCall {
    const ALL: [(RedisCall, &'static str); 7] = [
        (RedisCall::Acquire, "acquire"),
        (RedisCall::Renew, "renew"),
        (RedisCall::Release, "release"),
        (RedisCall::Put, "put"),
        (RedisCall::Get, "get"),
        (RedisCall::Delete, "delete"),
        (RedisCall::Publish, "publish"),
    ];
}

/// Where the counts are.
#[derive(Debug)]
pub struct RedisTally {
    calls: [AtomicU64; RedisCall::ALL.len()],
    failed: AtomicU64,
    skipped: AtomicU64,
    foreign: AtomicU64,
    local: AtomicBool,
    told: Once,
}

impl Default for RedisTally {
    fn default() -> Self {
        RedisTally {
            calls: std::array::from_fn(|_| AtomicU64::default()),
            failed: AtomicU64::default(),
            skipped: AtomicU64::default(),
            foreign: AtomicU64::default(),
            local: AtomicBool::default(),
            told: Once::new(),
        }
    }
}

/// What has been asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisCounts {
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were not made, since Redis was known not to answer.
    pub skipped: u64,
    /// Values under our keys that are not ours.
    pub foreign: u64,
    /// Whether the replica works on its own at this moment.
    pub is_local: bool,
}

impl RedisTally {
    pub(super) fn count(&self, call: RedisCall) {
        self.calls[call as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn count_skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub(super) fn count_foreign(&self, reason: &str) {
        self.foreign.fetch_add(1, Relaxed);
        self.told.call_once(|| tracing::warn!(reason, "a value in redis is not ours and counts as absent"));
    }

    pub(super) fn set_local(&self, local: bool) {
        self.local.store(local, Relaxed);
    }

    /// Calls made so far, by name.
    pub fn by_call(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RedisCall::ALL.iter().zip(&self.calls).map(|((_, name), count)| (*name, count.load(Relaxed)))
    }

    /// The other counts.
    pub fn counts(&self) -> RedisCounts {
        RedisCounts {
            failed: self.failed.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            foreign: self.foreign.load(Relaxed),
            is_local: self.local.load(Relaxed),
        }
    }
}
