//! Recording a body that was stored while the database did not answer (RS-85, RS-86). The bytes are durable and
//! verified, so they are served from memory meanwhile; the row follows as soon as the database is back, under the
//! fence of the fill, as if nothing had happened.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey,
    ports::{
        MetadataError,
        metadata::{ArtifactRow, Committed},
    },
};

use crate::{Engine, error::FetchError};

/// Rows that wait at the same time; of more the bytes are left to the collector.
pub(crate) const MAX_LATE: usize = 256;
/// How often it is tried.
const PERIOD: Duration = Duration::from_secs(2);
/// How many times, before it is given up: longer than a database takes to fail over.
const TRIES: u32 = 150;

/// Whether `error` may pass by itself. Its outcome may even be that the row is there.
pub(super) fn is_passing(error: &MetadataError) -> bool {
    matches!(error, MetadataError::Unavailable(_))
}

impl Engine {
    /// Records `row` under `key` once the database answers; `false` when too many wait already.
    pub(super) fn record_late(self: &Arc<Self>, key: &ArtifactKey, row: &ArtifactRow) -> bool {
        let Ok(place) = self.late.clone().try_acquire_owned() else { return false };
        let (engine, key, row) = (self.clone(), key.clone(), row.clone());
        tokio::spawn(async move {
            for _ in 0..TRIES {
                tokio::time::sleep(PERIOD).await;
                match engine.try_late(&key, &row).await {
                    Ok(true) => {
                        tracing::info!(key = ?key, "a body is on record, which the database could not take before");
                        engine.tell_changed(&key);
                        break;
                    }
                    Ok(false) => {
                        engine.hot.remove(&key);
                        break;
                    }
                    Err(_) => {}
                }
            }
            drop(place);
        });
        true
    }

    /// `false`: the bytes are gone, or another body has taken the place.
    async fn try_late(&self, key: &ArtifactKey, row: &ArtifactRow) -> Result<bool, FetchError> {
        // It may not have been announced before its bytes were put: the collector may have taken them.
        let _hold = self.announce(&row.digest, row.size).await?;
        if self.ports.blobs.size(&row.digest).await? != Some(row.size) {
            return Ok(false);
        }
        Ok(self.ports.metadata.commit_artifact(key, row).await? == Committed::Stored)
    }
}
