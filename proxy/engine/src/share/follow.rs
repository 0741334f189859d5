//! The follower's side: a fill whose bytes come from the twin that asked upstream. They are staged and hashed
//! here as if upstream had sent them, so that this replica's clients stream from here, and so that it can go on
//! where a lost twin stopped.

use std::{sync::Arc, time::Duration};

use artifactapi_model::ports::{Part, StagedBlob, metadata::ArtifactRow};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{
    lend::SIGN_OF_LIFE,
    wire::{Ending, WireRow, decode_ending, decode_head},
};
use crate::{
    Engine,
    blocking::whole,
    error::FetchError,
    fill::{Finished, Job, Poured, Tee},
    flights::Pilot,
    hot::HotEntry,
    verify,
};

/// Longest wait for a twin to accept, and for its next sign of life.
const PATIENCE: Duration = Duration::from_secs(1);
const SILENCE: Duration = SIGN_OF_LIFE.saturating_mul(3);

/// How following ended.
pub(crate) enum Followed {
    /// As the twin's fill did.
    Finished(Finished),
    /// The twin fell silent or cannot help; what it gave so far stays in the tee.
    Lost,
}

impl Engine {
    /// Follows the fill of `job` at `address`. `taken` is what an earlier twin gave, and afterwards what is there
    /// to go on with.
    ///
    /// # Errors
    /// What the twin's fill failed with, and failures of our own staging.
    pub(crate) async fn follow<'a>(
        self: &Arc<Self>,
        job: &'a Job,
        pilot: &'a Pilot,
        address: &str,
        taken: &mut Option<Tee<'a>>,
    ) -> Result<Followed, FetchError> {
        let parts = timeout(PATIENCE, self.ports.peers.follow(address, &job.key)).await;
        let Ok(Ok(mut parts)) = parts else { return Ok(Followed::Lost) };
        if let Some(tee) = taken {
            tee.begin_again();
        }
        loop {
            let part = match timeout(SILENCE, parts.next()).await {
                Ok(Some(Ok(part))) => part,
                Ok(Some(Err(error))) => {
                    tracing::info!(key = ?job.key, error = %error, "a twin was lost in the middle of a fill");
                    return Ok(Followed::Lost);
                }
                Ok(None) | Err(_) => return Ok(Followed::Lost),
            };
            match part {
                Part::Head(head) => {
                    let Some(head) = decode_head(&head) else { return Ok(Followed::Lost) };
                    match taken {
                        Some(tee) => tee.expect_same(&head)?,
                        None => {
                            let staged = self.ports.blobs.stage(head.length).await?;
                            *taken = Some(Tee::staged(&job.resource, &pilot.progress, head, staged));
                        }
                    }
                }
                Part::Data(bytes) => {
                    if let Some(tee) = taken {
                        tee.take(bytes).await?;
                    } else if !bytes.is_empty() {
                        return Ok(Followed::Lost);
                    }
                }
                Part::End(ending) => {
                    let Some(ending) = decode_ending(&ending) else { return Ok(Followed::Lost) };
                    return self.ended(job, ending, taken).await;
                }
            }
        }
    }

    async fn ended(
        &self,
        job: &Job,
        ending: Ending,
        taken: &mut Option<Tee<'_>>,
    ) -> Result<Followed, FetchError> {
        let finished = match ending {
            Ending::Gone => return Ok(Followed::Lost),
            Ending::Failed(failure) => return Err(failure.into_error()),
            Ending::Confirmed(row) => self.stands(job, row, taken).await?.map(Finished::Confirmed),
            Ending::Landed(row) => self.stands(job, row, taken).await?.map(Finished::Landed),
            Ending::Unstored => match taken.take() {
                Some(tee) => {
                    let head = tee.head();
                    let Poured { window, hashed, .. } = tee.finish()?;
                    verify::check_outside(&head.checksums, &hashed)?;
                    Some(Finished::Unstored { head, window, size: hashed.size })
                }
                None => None,
            },
            Ending::Stored(row) => match taken.take() {
                Some(tee) => self.stored(job, row, tee).await?,
                None => self.known(job, row).await.map(Finished::Stored),
            },
        };
        Ok(finished.map_or(Followed::Lost, Followed::Finished))
    }

    /// The twin found a body in the common store. Readers here may have begun with what an earlier twin gave: they get
    /// the rest of the same from there.
    async fn stands(
        &self,
        job: &Job,
        row: WireRow,
        taken: &mut Option<Tee<'_>>,
    ) -> Result<Option<Arc<HotEntry>>, FetchError> {
        let Some(entry) = self.known(job, row).await else { return Ok(None) };
        if let Some(taken) = taken.take().filter(|taken| taken.written() > 0) {
            self.complete(taken, &entry).await?;
        }
        Ok(Some(entry))
    }

    /// The bytes are all here and were stored by the twin: they must be the same.
    async fn stored(&self, job: &Job, row: WireRow, tee: Tee<'_>) -> Result<Option<Finished>, FetchError> {
        let Some(row) = row.into_row() else { return Ok(None) };
        let head = tee.head();
        let Poured { staged, window, hashed } = tee.finish()?;
        if hashed.digest != row.digest {
            // Another fill has superseded the twin's, or its bytes were changed on the way. Ours are whole, but
            // nothing vouches for them.
            return Err(FetchError::Elsewhere(
                "the bytes that another replica passed on are not those it has stored".into(),
            ));
        }
        let Some(staged) = staged else {
            return Ok(Some(Finished::Unstored { head, window, size: hashed.size }));
        };
        let body =
            if row.size <= self.options.small_body { whole(&staged.reader(), row.size).await } else { None };
        self.adopt(staged, &row).await;
        let entry = HotEntry::new(row, body, self.ports.clock.now());
        self.hot.put(job.key.clone(), entry.clone());
        self.negative.remove(&job.key);
        self.note_new_index(job);
        Ok(Some(Finished::Stored(entry)))
    }

    pub(crate) async fn adopt(&self, staged: Box<dyn StagedBlob>, row: &ArtifactRow) {
        if let Err(error) = staged.adopt(&row.digest).await {
            tracing::debug!(blob.digest = %row.digest, error = %error, "a body was not kept as a local copy");
        }
    }

    /// The entry of a row that a twin names, whose bytes are in the common store.
    async fn known(&self, job: &Job, row: WireRow) -> Option<Arc<HotEntry>> {
        let entry = self.entry_of(job, row.into_row()?).await;
        self.hot.put(job.key.clone(), entry.clone());
        self.negative.remove(&job.key);
        self.note_new_index(job);
        Some(entry)
    }
}
