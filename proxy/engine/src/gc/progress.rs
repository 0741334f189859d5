//! What the collector has done: of one run, for whoever started it, and of the process, for its metrics.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use artifactapi_model::{Notice, Timestamp, ports::housekeeping::BlobStates};

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it was its turn.
    pub ran: bool,
    /// Whether it only looked.
    pub dry: bool,
    /// Artifacts forgotten for retention.
    pub evicted: u64,
    /// Artifacts of retired repositories and of past origins forgotten.
    pub retired: u64,
    /// Derived documents forgotten for their age.
    pub derived: u64,
    /// Generations of merged indexes forgotten for their age.
    pub generations: u64,
    /// Blobs condemned.
    pub condemned: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Blobs deleted.
    pub deleted: u64,
    /// Their bytes.
    pub freed: u64,
    /// Blobs that the blob store would not delete; the next run tries again.
    pub failed: u64,
    /// Strays found in the blob store.
    pub strays: u64,
    /// All blobs afterwards.
    pub states: BlobStates,
    /// What replicas, this one included, have to be told.
    pub notices: Vec<Notice>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlobStates { live, condemned, deleting } = self.states;
        if !self.ran {
            return f.write_str("another process is collecting; nothing was done");
        }
        if self.dry {
            write!(
                f,
                "a run would evict {} artifacts by size and condemn {} blobs ({} bytes)",
                self.evicted, self.condemned, self.condemned_bytes
            )?;
        } else {
            write!(
                f,
                "{} artifacts evicted, {} of retired repositories, {} derived documents and {} merged indexes expired; {} blobs \
                 condemned ({} bytes), {} deleted ({} bytes), {} could not be, {} strays found",
                self.evicted,
                self.retired,
                self.derived,
                self.generations,
                self.condemned,
                self.condemned_bytes,
                self.deleted,
                self.freed,
                self.failed,
                self.strays
            )?;
        }
        write!(
            f,
            "; now {} blobs live ({} bytes), {} condemned ({} bytes), {} being deleted ({} bytes)",
            live.count, live.bytes, condemned.count, condemned.bytes, deleting.count, deleting.bytes
        )
    }
}

/// What the collector of this process has done since it started, while it runs too.
#[derive(Debug, Default)]
pub struct Progress {
    evicted: AtomicU64,
    condemned: AtomicU64,
    deleted: AtomicU64,
    freed: AtomicU64,
    strays: AtomicU64,
    room_artifacts: AtomicU64,
    room_bytes: AtomicU64,
    runs: [AtomicU64; 2],
    last: AtomicU64,
    states: Mutex<Option<BlobStates>>,
}

/// The numbers of [`Progress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Report")]
pub struct Numbers {
    pub evicted: u64,
    pub condemned: u64,
    pub deleted: u64,
    pub freed: u64,
    pub strays: u64,
    /// Artifacts forgotten to make room.
    pub room_artifacts: u64,
    /// Bytes deleted at once to make room.
    pub room_bytes: u64,
    /// Runs that came to their end, and runs that failed.
    pub runs: [u64; 2],
    /// End of the last run that came to its end, seconds since 1970; 0 before the first.
    pub last: u64,
    /// Blobs by state as last counted; `None` before the first run here.
    pub states: Option<BlobStates>,
}

impl Progress {
    /// All of it.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            evicted: self.evicted.load(Relaxed),
            condemned: self.condemned.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            freed: self.freed.load(Relaxed),
            strays: self.strays.load(Relaxed),
            room_artifacts: self.room_artifacts.load(Relaxed),
            room_bytes: self.room_bytes.load(Relaxed),
            runs: [self.runs[0].load(Relaxed), self.runs[1].load(Relaxed)],
            last: self.last.load(Relaxed),
            states: *self.states.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// A run ended, well or not.
    pub fn note_end(&self, well: bool, now: Timestamp) {
        self.runs[usize::from(!well)].fetch_add(1, Relaxed);
        if well {
            self.last.store(u64::try_from(now.0 / 1000).unwrap_or(0), Relaxed);
        }
    }

    pub(super) fn note_states(&self, states: BlobStates) {
        *self.states.lock().unwrap_or_else(PoisonError::into_inner) = Some(states);
    }

    pub(super) fn add_evicted(&self, count: u64) {
        self.evicted.fetch_add(count, Relaxed);
    }

    pub(super) fn add_condemned(&self, count: u64) {
        self.condemned.fetch_add(count, Relaxed);
    }

    pub(super) fn add_made_room(&self, artifacts: u64, bytes: u64) {
        self.room_artifacts.fetch_add(artifacts, Relaxed);
        self.room_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn add_strays(&self, count: u64) {
        self.strays.fetch_add(count, Relaxed);
    }

    pub(super) fn add_deleted(&self, size: u64) {
        self.deleted.fetch_add(1, Relaxed);
        self.freed.fetch_add(size, Relaxed);
    }
}
