//! Whose turn a fill is: asked upstream from here, or followed at a twin, and taken over when that twin is lost.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey, Remote, Timestamp,
    ports::{blobs::MAX_READ, metadata::ArtifactRow},
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Finished, Job, Poured, Tee};
use crate::{
    Engine,
    decide::{Decision, Held, decide, effective_mutability},
    error::FetchError,
    flights::Pilot,
    hot::HotEntry,
    share::{Claim, Followed, lease_key},
};

/// How often the lease of a lost twin is tried.
const RETRY: Duration = Duration::from_millis(250);
/// When a twin that holds the lease, but cannot be followed, is waited for no longer: a lease's life and some.
const PATIENCE: Duration = Duration::from_secs(12);

/// What a fill begins with.
pub(crate) struct Start<'a> {
    /// The fence.
    pub(crate) fetch_seq: i64,
    /// The digest that the ledger holds for an immutable key.
    pub(crate) pinned: Option<artifactapi_model::Digest>,
    /// The stored body to be revalidated.
    pub(crate) previous: Option<Arc<HotEntry>>,
    /// What a lost twin gave of the body.
    pub(crate) taken: Option<Tee<'a>>,
}

impl Engine {
    /// Fills `job`, here or behind a twin.
    pub(super) async fn fill<'a>(
        self: &Arc<Self>,
        job: &'a Job,
        pilot: &'a Pilot,
    ) -> Result<Finished, FetchError> {
        let mut taken = None;
        let mut lost_since = None;
        loop {
            match self.claim(&job.key).await {
                Claim::Ours(_lease) => {
                    pilot.set_follows(false);
                    return self.lead(job, pilot, taken, true).await;
                }
                Claim::Unknown => {
                    pilot.set_follows(false);
                    return self.lead(job, pilot, taken, false).await;
                }
                Claim::Theirs(address) => {
                    pilot.set_follows(true);
                    let before = taken.as_ref().map_or(0, Tee::written);
                    match self.follow(job, pilot, &address, &mut taken).await? {
                        Followed::Finished(finished) => return Ok(finished),
                        Followed::Lost if taken.as_ref().map_or(0, Tee::written) > before => {
                            lost_since = None
                        }
                        Followed::Lost => {}
                    }
                }
            }
            if lost_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                tracing::warn!(key = ?job.key, "a twin holds the lease of a fill and cannot be reached: filling without it");
                pilot.set_follows(false);
                return self.lead(job, pilot, taken, false).await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Asks upstream, unless the key was filled meanwhile. `shared`: twins may have left word about it.
    async fn lead<'a>(
        self: &Arc<Self>,
        job: &'a Job,
        pilot: &'a Pilot,
        taken: Option<Tee<'a>>,
        shared: bool,
    ) -> Result<Finished, FetchError> {
        let start = self.ports.metadata.begin_fetch(&job.key).await?;
        let mut previous = job.previous.clone().filter(|_| start.row.is_some());
        if let Some(row) = start.row
            && is_newer(job, &row)
        {
            let entry = self.entry_of(job, row).await;
            if self.is_fresh(job, &entry) {
                if let Some(taken) = taken {
                    self.complete(taken, &entry).await?;
                }
                self.hot.put(job.key.clone(), entry.clone());
                return Ok(Finished::Landed(entry));
            }
            previous = Some(entry);
        }
        if shared
            && job.previous.is_none()
            && let Some(absence) = self.shared_absence(&job.remote, &job.key).await
        {
            // Not an error of ours, which would be shared anew, and never be over while somebody asks.
            return Ok(Finished::Failed(Arc::new(absence)));
        }
        let start = Start { fetch_seq: start.fetch_seq, pinned: start.pinned, previous, taken };
        self.run_fill(job, pilot, start).await
    }

    /// A twin was lost after it had stored the body, or on its last bytes: what is wanting comes from the store. The
    /// readers have begun with `taken`, so that both must be the same.
    pub(crate) async fn complete(&self, mut taken: Tee<'_>, entry: &HotEntry) -> Result<(), FetchError> {
        let reader = self.reader_of(entry).await?;
        taken.go_on();
        while taken.written() < entry.row.size {
            let before = taken.written();
            let block = reader.read_at(before, MAX_READ).await?;
            taken.take(block).await?;
            // The store has no more, or more than was announced: then it is another body.
            if taken.written() == before {
                break;
            }
        }
        let Poured { staged, hashed, .. } = taken.finish()?;
        if hashed.digest != entry.row.digest {
            return Err(FetchError::Elsewhere(
                "the bytes that another replica passed on are not those that are stored".into(),
            ));
        }
        if let Some(staged) = staged {
            self.adopt(staged, &entry.row).await;
        }
        Ok(())
    }

    /// The entry of `row`, with the body of the entry that `job` replaces where it is the same.
    pub(crate) async fn entry_of(&self, job: &Job, row: ArtifactRow) -> Arc<HotEntry> {
        let same = job.previous.as_ref().filter(|previous| previous.row.digest == row.digest);
        let body = match same.and_then(|previous| previous.body.clone()) {
            Some(body) => Some(body),
            None => self.small_body(&row.digest, row.size).await,
        };
        HotEntry::new(row, body, self.ports.clock.now())
    }

    fn is_fresh(&self, job: &Job, entry: &HotEntry) -> bool {
        let mutability = effective_mutability(job.mutability, Some(entry.row.mutability));
        let rules = Self::rules(&job.remote, &job.key, mutability);
        let held = Held { checked_at: entry.row.checked_at };
        matches!(decide(Some(held), &rules, self.ports.clock.now()), Decision::Serve { .. })
    }

    /// The absence of `key` that a twin has learned of from upstream; remembered here for no longer than there.
    pub(crate) async fn shared_absence(&self, remote: &Remote, key: &ArtifactKey) -> Option<FetchError> {
        let word = self.ports.coordinator.get(&absence_key(key)).await.ok()??;
        let (kind, until) = std::str::from_utf8(&word).ok()?.split_once(' ')?;
        let gone = match kind {
            "missing" => false,
            "gone" => true,
            _ => return None,
        };
        let now = self.ports.clock.now();
        let until = Timestamp(until.parse().ok()?).min(now + remote.spec.negative_ttl);
        if until <= now {
            return None;
        }
        self.negative.put(key.clone(), until, gone);
        Some(FetchError::NotFound { gone })
    }

    /// Tells twins that upstream does not have `key`, until `negativeTTL` is over.
    pub(crate) fn share_absence(&self, key: &ArtifactKey, gone: bool, life: Duration) {
        if life.is_zero() {
            return;
        }
        let (coordinator, key) = (self.ports.coordinator.clone(), absence_key(key));
        let until = self.ports.clock.now() + life;
        let word = Bytes::from(format!("{} {}", if gone { "gone" } else { "missing" }, until.0));
        tokio::spawn(async move {
            let _ = coordinator.put(&key, word, life).await;
        });
    }
}

fn absence_key(key: &ArtifactKey) -> String {
    format!("absent/{}", lease_key(key))
}

/// Whether the stored `row` is another than the one that `job` set out to replace.
fn is_newer(job: &Job, row: &ArtifactRow) -> bool {
    let Some(previous) = &job.previous else { return !job.unconditional };
    let later = (row.fetch_seq, row.checked_at) > (previous.row.fetch_seq, previous.row.checked_at);
    later && !(job.unconditional && row.digest == previous.row.digest) && row.checked_at > Timestamp(0)
}
