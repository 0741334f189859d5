//! What is asked of Redis, counted: for the metrics page, and for promises such as "a warm hit asks nothing".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The kinds of calls.
#[derive(Clone, Copy)]
pub(super) enum Call {
    Acquire,
    Renew,
    Release,
    Put,
    Get,
    Delete,
    Publish,
}

/// Where the counts are.
#[derive(Debug)]
pub struct RedisTally {
    calls: [AtomicU64; 7],
    failures: AtomicU64,
    refused: AtomicU64,
    foreign: AtomicU64,
    sessions: AtomicU64,
    local: AtomicBool,
}

impl Default for RedisTally {
    fn default() -> Self {
        RedisTally {
            calls: Default::default(),
            failures: AtomicU64::default(),
            refused: AtomicU64::default(),
            foreign: AtomicU64::default(),
            sessions: AtomicU64::default(),
            local: AtomicBool::new(true),
        }
    }
}

/// What has been asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisCounts {
    /// Leases asked for.
    pub acquires: u64,
    /// Renewals.
    pub renewals: u64,
    /// Leases given back.
    pub releases: u64,
    /// Keys set.
    pub puts: u64,
    /// Keys read.
    pub gets: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Messages sent.
    pub publishes: u64,
    /// Calls that Redis did not answer in time, or with an error.
    pub failures: u64,
    /// Calls that failed in local mode, without touching the network.
    pub refused: u64,
    /// Foreign or damaged values and messages.
    pub foreign: u64,
    /// Sessions begun; all but the first are recoveries.
    pub sessions: u64,
    /// Whether this replica coordinates with itself only.
    pub local: bool,
}

impl RedisCounts {
    /// Calls that went to Redis.
    pub fn calls(&self) -> u64 {
        self.acquires + self.renewals + self.releases + self.puts + self.gets + self.deletes + self.publishes
    }
}

impl RedisTally {
    /// The counts so far.
    pub fn counts(&self) -> RedisCounts {
        let [acquires, renewals, releases, puts, gets, deletes, publishes] =
            [0, 1, 2, 3, 4, 5, 6].map(|n: usize| self.calls[n].load(Relaxed));
        RedisCounts {
            acquires,
            renewals,
            releases,
            puts,
            gets,
            deletes,
            publishes,
            failures: self.failures.load(Relaxed),
            refused: self.refused.load(Relaxed),
            foreign: self.foreign.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            local: self.local.load(Relaxed),
        }
    }

    pub(super) fn called(&self, call: Call) {
        self.calls[call as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    pub(super) fn session(&self) {
        self.sessions.fetch_add(1, Relaxed);
    }

    pub(super) fn set_local(&self, local: bool) {
        self.local.store(local, Relaxed);
    }
}
