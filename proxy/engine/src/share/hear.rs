//! What twins and the command line say, and looking again at rows that have lain in memory for long. Nothing is
//! dropped on a rumour: a row leaves memory when the database says so, and stays while it says nothing.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{ArtifactKey, Epoch, Mutability, Notice, RepoId, repository::RepoIdentity};

use crate::{
    Engine,
    error::FetchError,
    hot::{HotEntry, Standing},
};

/// Longest wait for the database when a row in memory is in doubt.
const PATIENCE: Duration = Duration::from_millis(500);
/// Rows looked up again at the same time, so that a gap in the messages is no storm of queries.
pub(crate) const RECHECKS: usize = 8;

/// How long a row may lie in memory before the database is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecheckAges {
    /// Rows of mutable paths.
    pub mutable: Duration,
    /// Rows of immutable paths.
    pub immutable: Duration,
}

impl Default for RecheckAges {
    fn default() -> Self {
        RecheckAges { mutable: Duration::from_secs(5), immutable: Duration::from_secs(3600) }
    }
}

impl Engine {
    /// Takes a message of a twin or of the command line to heart. Messages about anything else are passed over.
    pub fn hear(&self, notice: &Notice) {
        match notice {
            Notice::Changed { by, .. } if *by == self.replica => {}
            Notice::Changed { repo, epoch, path, by } => {
                let key =
                    ArtifactKey { repo: RepoId(*repo), epoch: Epoch(*epoch), path: path.as_str().into() };
                self.hot.doubt(&key);
                self.negative.remove(&key);
                self.merged.heard_of(key.repo, path);
                // What twins fetch in the course of things is found out in time.
                if by.is_empty() {
                    self.merged.doubt(RepoIdentity { id: key.repo, epoch: key.epoch });
                }
            }
            Notice::ChangedBelow { repo, epoch, prefix } => {
                let below = |key: &ArtifactKey| {
                    key.repo == RepoId(*repo) && key.epoch == Epoch(*epoch) && key.path.starts_with(prefix)
                };
                self.hot.doubt_all(below);
                self.negative.remove_all(below);
                self.merged.doubt(RepoIdentity { id: RepoId(*repo), epoch: Epoch(*epoch) });
            }
            Notice::Paused { .. }
            | Notice::Failing { .. }
            | Notice::Configured { .. }
            | Notice::Accounts
            | Notice::Observed
            | Notice::Probe => {}
        }
    }

    /// Messages may have been missed: every row in memory is looked up again when it is next used.
    pub fn heard_gap(&self) {
        self.hot.age_all();
        self.merged.age_all();
    }

    /// Tells twins that the row of `key` has changed.
    pub(crate) fn tell_changed(&self, key: &ArtifactKey) {
        let notice = Notice::changed(key, &self.replica).encode();
        let coordinator = self.ports.coordinator.clone();
        tokio::spawn(async move {
            // Whoever misses it looks again in a while.
            let _ = coordinator.publish(notice.into()).await;
        });
    }

    /// `entry` as it may be used: at once when nothing speaks against it, after asking the database when
    /// somebody said that it has changed.
    pub(crate) async fn trusted(
        self: &Arc<Self>,
        key: &ArtifactKey,
        entry: Arc<HotEntry>,
    ) -> Result<Option<Arc<HotEntry>>, FetchError> {
        let ages = self.options.recheck;
        let limit = match entry.row.mutability {
            Mutability::Mutable => ages.mutable,
            Mutability::Immutable => ages.immutable,
        };
        match entry.standing(self.ports.clock.now(), limit) {
            Standing::Good => Ok(Some(entry)),
            Standing::Old => {
                if let Ok(permit) = self.rechecks.clone().try_acquire_owned() {
                    entry.unanswered(self.ports.clock.now());
                    let (engine, key, held) = (self.clone(), key.clone(), entry.clone());
                    tokio::spawn(async move {
                        let _ = engine.recheck(&key, &held).await;
                        drop(permit);
                    });
                }
                Ok(Some(entry))
            }
            Standing::Doubtful => Ok(self.recheck(key, &entry).await),
        }
    }

    /// Asks the database about `entry`; what to use instead, if anything.
    async fn recheck(&self, key: &ArtifactKey, entry: &Arc<HotEntry>) -> Option<Arc<HotEntry>> {
        let now = self.ports.clock.now();
        match tokio::time::timeout(PATIENCE, self.ports.metadata.artifact(key)).await {
            Ok(Ok(Some(row))) if row == entry.row => {
                entry.confirmed(now);
                Some(entry.clone())
            }
            Ok(Ok(Some(row))) => {
                let body = match &entry.body {
                    Some(body) if row.digest == entry.row.digest => Some(body.clone()),
                    _ => self.small_body(&row.digest, row.size).await,
                };
                let newer = HotEntry::new(row, body, now);
                self.hot.put(key.clone(), newer.clone());
                Some(newer)
            }
            Ok(Ok(None)) => {
                self.hot.remove(key);
                None
            }
            // The database is lost or slow: what we have is better than nothing (RS-85).
            Ok(Err(_)) | Err(_) => {
                entry.unanswered(now);
                Some(entry.clone())
            }
        }
    }
}
