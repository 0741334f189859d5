//! The end of a fill: the whole body is verified, made durable, recorded under the fill's fence, and announced.

use std::sync::{Arc, atomic::Ordering};

use artifactapi_model::{
    Hold,
    digest::Hashed,
    failpoint::failpoint,
    ports::{
        StagedBlob,
        metadata::{ArtifactRow, Committed},
        upstream::Framing,
    },
};

use super::{Finished, Head, Job, late};
use crate::{Engine, blocking::whole, error::FetchError, hot::HotEntry, verify, window::Window};

impl Engine {
    /// The body is whole: verify, store, record.
    pub(super) async fn settle(
        self: &Arc<Self>,
        job: &Job,
        fetch_seq: i64,
        head: Arc<Head>,
        staged: Box<dyn StagedBlob>,
        window: Arc<Window>,
        hashed: Hashed,
    ) -> Result<Finished, FetchError> {
        failpoint("fill.verify.before");
        let reader = staged.reader();
        if let Err(error) = verify::check(&head.checksums, &hashed, &reader).await
            && !self.agrees_with_newer_index(job, &hashed, &reader).await
        {
            return Err(self.explain_mismatch(job, &hashed, error).await);
        }
        let size = hashed.size;
        if head.framing == Framing::Close && !verify::identifies(&head.checksums) {
            tracing::info!(key = ?job.key, "uncacheable: close-delimited body without a known digest");
            return Ok(Finished::Unstored { head, window, size });
        }
        match self.store(job, fetch_seq, &head, staged, &hashed).await {
            Ok(Some(finished)) => Ok(finished),
            // Readers have begun with these bytes, and they are whole: the next request gets the newer ones.
            Ok(None) => Ok(Finished::Unstored { head, window, size }),
            Err(error @ (FetchError::Blob(_) | FetchError::Metadata(_))) => {
                tracing::warn!(key = ?job.key, error = %error, "a body could not be stored; it is served all the same");
                Ok(Finished::Unstored { head, window, size })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn explain_mismatch(&self, job: &Job, hashed: &Hashed, error: FetchError) -> FetchError {
        match self.pinned(job).await {
            Ok(Some(pinned)) if pinned != hashed.digest => {
                tracing::error!(key = ?job.key, blob.digest = %pinned, "upstream_mutated: an immutable path changed upstream");
                FetchError::Mutated { pinned }
            }
            _ => error,
        }
    }

    /// Stores and records the body; `None` when another fill has recorded other bytes meanwhile.
    async fn store(
        self: &Arc<Self>,
        job: &Job,
        fetch_seq: i64,
        head: &Head,
        staged: Box<dyn StagedBlob>,
        hashed: &Hashed,
    ) -> Result<Option<Finished>, FetchError> {
        // Read before the commit consumes the stage: it is in the page cache either way.
        let small = if hashed.size <= self.options.small_body {
            whole(&staged.reader(), hashed.size).await
        } else {
            None
        };
        let _hold = match self.announce(&hashed.digest, hashed.size).await {
            // The row will be late, too, and looks again then.
            Err(FetchError::Metadata(error)) if late::is_passing(&error) => Hold::default(),
            announced => announced?,
        };
        failpoint("fill.blob.before");
        staged.commit(&hashed.digest).await?;
        failpoint("fill.blob.after");
        let now = self.ports.clock.now();
        let row = ArtifactRow {
            digest: hashed.digest,
            size: hashed.size,
            mutability: head.mutability,
            headers: head.headers.clone(),
            source_url: head.source_url.clone(),
            verified: verify::identifies(&head.checksums),
            stored_at: now,
            checked_at: now,
            fetch_seq,
        };
        let committed = match self.ports.metadata.commit_artifact(&job.key, &row).await {
            Err(error) if late::is_passing(&error) && self.record_late(&job.key, &row) => {
                tracing::warn!(key = ?job.key, error = %error, "a body is stored, and will be on record later");
                return Ok(Some(Finished::Stored(self.stored_now(job, row, small))));
            }
            committed => committed?,
        };
        match committed {
            Committed::Stored => {
                failpoint("fill.row.after");
                self.tell_changed(&job.key);
                Ok(Some(Finished::Stored(self.stored_now(job, row, small))))
            }
            Committed::Superseded => {
                self.hot.remove(&job.key);
                let newer = self.lookup(&job.key).await?;
                Ok(newer.filter(|newer| newer.row.digest == hashed.digest).map(Finished::Stored))
            }
            Committed::Pinned(pinned) => Err(FetchError::Mutated { pinned }),
        }
    }

    /// The entry of a body that has just been stored, in the index.
    fn stored_now(&self, job: &Job, row: ArtifactRow, small: Option<bytes::Bytes>) -> Arc<HotEntry> {
        let entry = HotEntry::new(row, small, self.ports.clock.now());
        self.hot.put(job.key.clone(), entry.clone());
        self.negative.remove(&job.key);
        self.note_new_index(job);
        entry
    }

    /// A document that others are held against may have been stored.
    pub(crate) fn note_new_index(&self, job: &Job) {
        if job.resource.max_size.is_some() {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}
