//! Pushes under way.

use std::time::Duration;

use artifactapi_model::{
    RepoId,
    oci::OciDigest,
    ports::{
        MetadataError,
        registry::{
            Begun, Claim, ClosedUpload, EndedUpload, ImageKey, Linking, UploadLimits, UploadProgress,
            UploadSessions, UploadState,
        },
        uploads::{Stored, UploadId},
    },
};
use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{
        super::{
            operation::Operation,
            registry_rows::{number, progress},
        },
        PART, PostgresMetadata, failed,
        pool::Values,
        rows::{self, kept, readable},
        sql_limit,
    },
    column, linking, seconds,
};

const BEGIN: &str = "SELECT begin_upload($1, $2, $3, $4, $5)";
const UPLOAD: &str = "SELECT state, received, hashes, stored, digest FROM uploads \
     WHERE id = $1 AND repo = $2 AND image = $3 AND state <> 'ended'";
const CLAIM: &str = "SELECT out_answer, out_received, out_hashes, out_stored, out_digest, out_took_over \
     FROM claim_upload($1, $2, $3, $4, $5)";
/// Giving a session back a second time changes nothing.
const SAVE: &str = "UPDATE uploads SET received = $3, hashes = $4, stored = $5, touched_at = clock_timestamp(), \
     writer = CASE WHEN $6::DOUBLE PRECISION IS NULL THEN NULL ELSE writer END, \
     left_by = CASE WHEN $6::DOUBLE PRECISION IS NULL THEN $2 END, \
     writer_until = clock_timestamp() + make_interval(secs => $6::DOUBLE PRECISION) \
     WHERE id = $1 AND state = 'open' AND (writer = $2 OR (writer IS NULL AND left_by = $2 \
     AND $6::DOUBLE PRECISION IS NULL AND received = $3 AND hashes = $4 AND stored = $5)) RETURNING 1";
const USED: &str = "SELECT (COALESCE((SELECT bytes FROM local_usage WHERE repo = $1), 0) \
     + COALESCE((SELECT SUM(received) FROM uploads WHERE repo = $1 AND state = 'open'), 0))::BIGINT";
const CLOSE: &str = "SELECT close_upload($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const CANCEL: &str = "UPDATE uploads SET state = 'ended', writer = NULL, touched_at = clock_timestamp() \
     WHERE id = $1 AND repo = $2 AND image = $3 AND state = 'open' RETURNING 1";
const END_IDLE: &str = "WITH picked AS MATERIALIZED (SELECT id FROM uploads WHERE state = 'open' \
     AND touched_at <= now() - make_interval(secs => $1) \
     AND (writer IS NULL OR writer_until <= clock_timestamp()) \
     ORDER BY touched_at, id LIMIT $2 FOR UPDATE SKIP LOCKED) \
     UPDATE uploads u SET state = 'ended', writer = NULL FROM picked WHERE u.id = picked.id";
const ENDED: &str = "SELECT u.id, u.stored, \
     EXISTS (SELECT 1 FROM blob_places b WHERE b.place = 'uploads/' || u.id) \
     OR EXISTS (SELECT 1 FROM retired_places r WHERE r.place = 'uploads/' || u.id) FROM ( \
     (SELECT id, stored, touched_at FROM uploads WHERE state = 'ended' ORDER BY touched_at, id LIMIT $2) \
     UNION ALL (SELECT id, stored, touched_at FROM uploads WHERE state = 'closed' \
     AND touched_at <= now() - make_interval(secs => $1) ORDER BY touched_at, id LIMIT $2)) u \
     ORDER BY u.touched_at, u.id LIMIT $2";
const FORGET: &str = "DELETE FROM uploads WHERE id = $1 AND state <> 'open'";
const KNOWN: &str = "SELECT asked.id FROM unnest($1::TEXT[]) WITH ORDINALITY AS asked (id, place) \
     WHERE EXISTS (SELECT 1 FROM uploads u WHERE u.id = asked.id) \
     OR EXISTS (SELECT 1 FROM blob_places b WHERE b.place = 'uploads/' || asked.id) \
     OR EXISTS (SELECT 1 FROM retired_places r WHERE r.place = 'uploads/' || asked.id) ORDER BY asked.place";

/// Columns received, hashes, stored from `at` on.
fn progress_at(row: &Row, at: usize) -> Result<UploadProgress, String> {
    Ok(progress(rows::column(row, at)?, rows::column(row, at + 1)?, rows::column(row, at + 2)?))
}

fn state(row: &Row) -> Result<UploadState, String> {
    match rows::column(row, 0)? {
        "open" => progress_at(row, 1).map(UploadState::Open),
        "closed" => column::<OciDigest>(row, 4).map(UploadState::Closed),
        other => Err(format!("{other:?} is no state of a session")),
    }
}

fn claim(row: &Row) -> Result<Claim, String> {
    match rows::column(row, 0)? {
        "taken" => Ok(Claim::Taken { progress: progress_at(row, 1)?, took_over: rows::column(row, 5)? }),
        "busy" => progress_at(row, 1).map(Claim::Busy),
        "closed" => column(row, 4).map(Claim::Closed),
        "unknown" => Ok(Claim::Unknown),
        other => Err(format!("{other:?} is no answer")),
    }
}

fn id(row: &Row) -> Result<UploadId, String> {
    let text: &str = rows::column(row, 0)?;
    UploadId::parse(text).ok_or_else(|| format!("{text:?} is no id of an upload"))
}

fn ended(row: &Row) -> Result<EndedUpload, String> {
    Ok(EndedUpload { id: id(row)?, stored: Stored(rows::column(row, 1)?), placed: rows::column(row, 2)? })
}

#[async_trait]
impl UploadSessions for PostgresMetadata {
    async fn begin_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        limits: &UploadLimits,
    ) -> Result<Begun, MetadataError> {
        let operation = Operation::BeginUpload;
        let (sessions, quota) = (number(limits.sessions), limits.quota.map(number));
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &id.as_str(), &sessions, &quota];
        let answer: String = self.value(operation, BEGIN, values).await?;
        match answer.as_str() {
            "started" => Ok(Begun::Started),
            "too many" => Ok(Begun::TooMany),
            "over quota" => Ok(Begun::OverQuota),
            _ => Err(failed(operation, "its id is taken")),
        }
    }

    async fn upload(&self, image: &ImageKey, id: &UploadId) -> Result<Option<UploadState>, MetadataError> {
        let values: Values<'_> = &[&id.as_str(), &image.repo.0, &image.name.as_str()];
        let rows = self.read(Operation::Upload, UPLOAD, values).await?;
        Ok(readable(&rows, self.pool.statements(), "uploads", state).pop())
    }

    async fn claim_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        lease: Duration,
    ) -> Result<Claim, MetadataError> {
        let lease = seconds(lease);
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &id.as_str(), &writer, &lease];
        let row = self.answer(Operation::ClaimUpload, CLAIM, values).await?;
        Ok(kept(claim(&row), self.pool.statements(), "uploads").unwrap_or(Claim::Unknown))
    }

    async fn save_upload(
        &self,
        id: &UploadId,
        writer: &str,
        progress: &UploadProgress,
        lease: Option<Duration>,
    ) -> Result<bool, MetadataError> {
        let (received, lease) = (number(progress.offset), lease.map(seconds));
        let values: Values<'_> =
            &[&id.as_str(), &writer, &received, &progress.hashes, &progress.stored.0, &lease];
        Ok(!self.read(Operation::SaveUpload, SAVE, values).await?.is_empty())
    }

    async fn has_room(&self, repo: RepoId, more: u64, quota: u64) -> Result<bool, MetadataError> {
        let used: i64 = self.value(Operation::HasRoom, USED, &[&repo.0]).await?;
        Ok(used.cast_unsigned().saturating_add(more) <= quota)
    }

    async fn close_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        body: &ClosedUpload,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError> {
        let ClosedUpload { digest, blob, size, place } = body;
        let operation = Operation::CloseUpload;
        let values: Values<'_> = &[
            &image.repo.0,
            &image.name.as_str(),
            &id.as_str(),
            &writer,
            &digest.to_string(),
            &blob.to_hex(),
            &number(*size),
            &place.as_ref().map(|place| place.0.as_str()),
            &quota.map(number),
        ];
        let answer: String = self.value(operation, CLOSE, values).await?;
        linking(operation, &answer)
    }

    async fn cancel_upload(&self, image: &ImageKey, id: &UploadId) -> Result<bool, MetadataError> {
        let values: Values<'_> = &[&id.as_str(), &image.repo.0, &image.name.as_str()];
        Ok(!self.read(Operation::CancelUpload, CANCEL, values).await?.is_empty())
    }

    async fn ended_uploads(&self, idle: Duration, limit: usize) -> Result<Vec<EndedUpload>, MetadataError> {
        let (idle, limit) = (seconds(idle), sql_limit(limit));
        let operation = Operation::EndedUploads;
        self.patiently(operation, END_IDLE, &[&idle, &limit]).await?;
        let rows = self.patiently(operation, ENDED, &[&idle, &limit]).await?;
        Ok(readable(&rows, self.pool.statements(), "uploads", ended))
    }

    async fn forget_upload(&self, id: &UploadId) -> Result<(), MetadataError> {
        self.read(Operation::ForgetUpload, FORGET, &[&id.as_str()]).await.map(drop)
    }

    async fn known_uploads(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, MetadataError> {
        let mut known = Vec::new();
        for part in ids.chunks(PART) {
            let asked: Vec<&str> = part.iter().map(UploadId::as_str).collect();
            let rows = self.read(Operation::KnownUploads, KNOWN, &[&asked]).await?;
            known.extend(readable(&rows, self.pool.statements(), "uploads", id));
        }
        Ok(known)
    }
}
