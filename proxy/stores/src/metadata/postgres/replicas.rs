//! Which replicas are alive, by the database's clock.

use std::time::Duration;

use artifactapi_model::ports::MetadataError;

use super::{super::operation::Operation, PostgresMetadata};

/// Also forgets those that were not seen for a day.
const REGISTER: &str = "WITH dead AS (DELETE FROM replicas WHERE seen_at < now() - INTERVAL '1 day' AND id <> $1) \
     INSERT INTO replicas (id, address) VALUES ($1, $2) \
     ON CONFLICT (id) DO UPDATE SET address = excluded.address, seen_at = now()";
const LIVE: &str =
    "SELECT address FROM replicas WHERE seen_at >= now() - make_interval(secs => $1) ORDER BY id";
const FORGET: &str = "DELETE FROM replicas WHERE id = $1";

impl PostgresMetadata {
    /// Says that the replica `id` is alive and that its twins reach it at `address`. To be repeated.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn register_replica(&self, id: &str, address: &str) -> Result<(), MetadataError> {
        self.read(Operation::RegisterReplica, REGISTER, &[&id, &address]).await.map(drop)
    }

    /// Addresses of the replicas that were seen `within` the time given; this one's is among them.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn live_replicas(&self, within: Duration) -> Result<Vec<String>, MetadataError> {
        let rows = self.read(Operation::LiveReplicas, LIVE, &[&within.as_secs_f64()]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The replica `id` is going away.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn forget_replica(&self, id: &str) -> Result<(), MetadataError> {
        self.read(Operation::ForgetReplica, FORGET, &[&id]).await.map(drop)
    }
}
