//! The bounded in-memory index: rows of recently used keys, with the bodies of the small ones. A hit here
//! costs no SQL and no file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use artifactapi_model::{
    ArtifactKey, Digest, Timestamp,
    ports::metadata::{ArtifactRow, DerivedRow},
};
use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use crate::weighed;

/// How long a doubtful entry is used after the database did not answer.
const DOUBT_PAUSE: Duration = Duration::from_secs(1);

/// A stored body as the hit path sees it.
#[derive(Debug)]
pub(crate) struct HotEntry {
    pub(crate) row: ArtifactRow,
    /// The body itself, where it is small.
    pub(crate) body: Option<Bytes>,
    /// When it was last asked for, in milliseconds; not yet written to the database while above `flushed`.
    used: AtomicI64,
    flushed: AtomicI64,
    /// The generation of stored indexes this body was last held against.
    pub(crate) judged: AtomicU64,
    /// When the database last said that this is its row, or was last asked in vain, in milliseconds.
    seen: AtomicI64,
    /// Somebody has said that the row is another by now.
    doubtful: AtomicBool,
    /// Until when upstream is not asked again, in milliseconds, since it has just failed to confirm this body.
    retry_at: AtomicI64,
}

impl HotEntry {
    pub(crate) fn new(row: ArtifactRow, body: Option<Bytes>, now: Timestamp) -> Arc<Self> {
        Arc::new(HotEntry {
            row,
            body,
            used: AtomicI64::new(now.0),
            flushed: AtomicI64::new(0),
            judged: AtomicU64::new(0),
            seen: AtomicI64::new(now.0),
            doubtful: AtomicBool::new(false),
            retry_at: AtomicI64::new(0),
        })
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.used.store(now.0, Ordering::Relaxed);
    }

    /// Whether it may be used without asking the database, at an age of at most `limit`.
    pub(crate) fn standing(&self, now: Timestamp, limit: Duration) -> Standing {
        let age = now.since(Timestamp(self.seen.load(Ordering::Relaxed)));
        if self.doubtful.load(Ordering::Relaxed) {
            if age >= DOUBT_PAUSE { Standing::Doubtful } else { Standing::Good }
        } else if age >= limit {
            Standing::Old
        } else {
            Standing::Good
        }
    }

    /// The database has this very row.
    pub(crate) fn confirmed(&self, now: Timestamp) {
        self.seen.store(now.0, Ordering::Relaxed);
        self.doubtful.store(false, Ordering::Relaxed);
    }

    /// The database did not answer, or is being asked: it is not asked again at once.
    pub(crate) fn unanswered(&self, now: Timestamp) {
        self.seen.store(now.0, Ordering::Relaxed);
    }

    /// Asks for a pause before the next revalidation.
    pub(crate) fn rest_until(&self, until: Timestamp) {
        self.retry_at.store(until.0, Ordering::Relaxed);
    }

    pub(crate) fn is_resting(&self, now: Timestamp) -> bool {
        now.0 < self.retry_at.load(Ordering::Relaxed)
    }
}

/// How far an entry can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It can be used.
    Good,
    /// It can be used; the database should be asked meanwhile.
    Old,
    /// The database should be asked first.
    Doubtful,
}

/// A derived document as the hit path sees it.
#[derive(Debug)]
pub(crate) struct HotDerived {
    pub(crate) row: DerivedRow,
    pub(crate) body: Option<Bytes>,
    pub(crate) gzip: Option<Bytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<ArtifactKey, Arc<HotEntry>> for ByBytes {
    fn weight(&self, key: &ArtifactKey, entry: &Arc<HotEntry>) -> u64 {
        let headers: usize = entry.row.headers.iter().map(|(n, v)| n.len() + v.len() + 48).sum();
        (256 + key.path.len()
            + entry.row.source_url.len()
            + headers
            + entry.body.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl Weighter<Digest, Arc<HotDerived>> for ByBytes {
    fn weight(&self, _: &Digest, entry: &Arc<HotDerived>) -> u64 {
        let length = |body: &Option<Bytes>| body.as_ref().map_or(0, Bytes::len);
        (256 + length(&entry.body) + length(&entry.gzip)) as u64
    }
}

/// The index itself.
pub(crate) struct HotIndex {
    stored: Cache<ArtifactKey, Arc<HotEntry>, ByBytes>,
    derived: Cache<Digest, Arc<HotDerived>, ByBytes>,
}

impl HotIndex {
    /// With room for `bytes`; a body has at most `largest` of them.
    pub(crate) fn new(bytes: u64, largest: u64) -> Self {
        let items = usize::try_from(bytes / 4096).unwrap_or(usize::MAX).max(64);
        // A derived document has two bodies.
        let heaviest = 2 * largest;
        HotIndex {
            stored: weighed::cache(items, bytes / 2, heaviest, ByBytes),
            derived: weighed::cache(items, bytes / 2, heaviest, ByBytes),
        }
    }

    pub(crate) fn get(&self, key: &ArtifactKey) -> Option<Arc<HotEntry>> {
        self.stored.get(key)
    }

    pub(crate) fn put(&self, key: ArtifactKey, entry: Arc<HotEntry>) {
        self.stored.insert(key, entry);
    }

    pub(crate) fn remove(&self, key: &ArtifactKey) {
        self.stored.remove(key);
    }

    /// Somebody says that the row of `key` has changed.
    pub(crate) fn doubt(&self, key: &ArtifactKey) {
        if let Some(entry) = self.stored.peek(key) {
            entry.seen.store(0, Ordering::Relaxed);
            entry.doubtful.store(true, Ordering::Relaxed);
        }
    }

    /// The same for all keys that `meant` names. A walk; only on somebody's command.
    pub(crate) fn doubt_all(&self, meant: impl Fn(&ArtifactKey) -> bool) {
        for (_, entry) in self.stored.iter().filter(|(key, _)| meant(key)) {
            entry.seen.store(0, Ordering::Relaxed);
            entry.doubtful.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the database be asked about every entry when it is next used.
    pub(crate) fn age_all(&self) {
        for (_, entry) in self.stored.iter() {
            entry.seen.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn derived(&self, inputs: &Digest) -> Option<Arc<HotDerived>> {
        self.derived.get(inputs)
    }

    pub(crate) fn put_derived(&self, inputs: Digest, entry: Arc<HotDerived>) {
        self.derived.insert(inputs, entry);
    }

    pub(crate) fn remove_derived(&self, inputs: &Digest) {
        self.derived.remove(inputs);
    }

    /// Keys of derived documents whose bytes (plain or gzip) have this digest. A walk; only for repairs.
    pub(crate) fn derived_with(&self, digest: &Digest) -> Vec<Digest> {
        let has = |entry: &HotDerived| {
            entry.row.digest == *digest || entry.row.gzip.is_some_and(|(gzip, _)| gzip == *digest)
        };
        self.derived.iter().filter(|(_, entry)| has(entry)).map(|(inputs, _)| inputs).collect()
    }

    /// Keys used since they were last taken here, with the time.
    pub(crate) fn take_uses(&self) -> Vec<(ArtifactKey, Timestamp)> {
        self.stored
            .iter()
            .filter_map(|(key, entry)| {
                let used = entry.used.load(Ordering::Relaxed);
                let before = entry.flushed.swap(used, Ordering::Relaxed);
                (used > before).then_some((key, Timestamp(used)))
            })
            .collect()
    }
}
