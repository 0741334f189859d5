//! Pushes under way.

use std::time::Duration;

use artifactapi_model::{
    RepoId,
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
use rusqlite::Row;

use super::{
    super::{
        super::{
            operation::Operation,
            registry_rows::{number, progress},
        },
        SqliteMetadata,
        housekeeping::millis,
        session::Session,
        sql_limit,
    },
    column, key,
    links::link,
    nonsense, places,
};

const TABLE: &str = "uploads";

const OWNER: &str = "SELECT repo, image, state FROM uploads WHERE id = ?1";
const OPEN: &str =
    "SELECT COUNT(*), COALESCE(SUM(received), 0) FROM uploads WHERE repo = ?1 AND state = 'open'";
const USED: &str = "SELECT COALESCE((SELECT bytes FROM local_usage WHERE repo = ?1), 0) \
     + COALESCE((SELECT SUM(received) FROM uploads WHERE repo = ?1 AND state = 'open'), 0)";
const BEGIN: &str = concat!(
    "INSERT INTO uploads (id, repo, image, state, touched_at) VALUES (?1, ?2, ?3, 'open', ",
    now!(),
    ")"
);
const UPLOAD: &str = concat!(
    "SELECT state, received, hashes, stored, digest, writer, writer_until > ",
    now!(),
    ", taken_over FROM uploads WHERE id = ?1 AND repo = ?2 AND image = ?3 AND state <> 'ended'"
);
const CLAIM: &str = concat!(
    "UPDATE uploads SET writer = ?2, writer_until = ",
    now!(),
    " + ?3, taken_over = ?4, left_by = NULL, touched_at = ",
    now!(),
    " WHERE id = ?1"
);
/// Giving a session back a second time changes nothing.
const SAVE: &str = concat!(
    "UPDATE uploads SET received = ?3, hashes = ?4, stored = ?5, touched_at = ",
    now!(),
    ", writer = CASE WHEN ?6 IS NULL THEN NULL ELSE writer END, left_by = CASE WHEN ?6 IS NULL THEN ?2 END, \
     writer_until = ",
    now!(),
    " + ?6 WHERE id = ?1 AND state = 'open' AND (writer = ?2 OR (writer IS NULL AND left_by = ?2 \
     AND ?6 IS NULL AND received = ?3 AND hashes = ?4 AND stored = ?5))"
);
const CLOSE: &str = concat!(
    "UPDATE uploads SET state = 'closed', digest = ?2, hashes = '', touched_at = ",
    now!(),
    " WHERE id = ?1"
);
const CANCEL: &str = concat!(
    "UPDATE uploads SET state = 'ended', writer = NULL, touched_at = ",
    now!(),
    " WHERE id = ?1 AND repo = ?2 AND image = ?3 AND state = 'open'"
);
const END_IDLE: &str = concat!(
    "UPDATE uploads SET state = 'ended', writer = NULL WHERE id IN (SELECT id FROM uploads \
     WHERE state = 'open' AND touched_at <= ",
    now!(),
    " - ?1 AND (writer IS NULL OR writer_until <= ",
    now!(),
    ") ORDER BY touched_at, id LIMIT ?2)"
);
const ENDED: &str = concat!(
    "SELECT u.id, u.stored, EXISTS (SELECT 1 FROM blob_places b WHERE b.place = 'uploads/' || u.id) \
     OR EXISTS (SELECT 1 FROM retired_places r WHERE r.place = 'uploads/' || u.id) FROM ( \
     SELECT * FROM (SELECT id, stored, touched_at FROM uploads WHERE state = 'ended' \
     ORDER BY touched_at, id LIMIT ?2) \
     UNION ALL SELECT * FROM (SELECT id, stored, touched_at FROM uploads WHERE state = 'closed' \
     AND touched_at <= ",
    now!(),
    " - ?1 ORDER BY touched_at, id LIMIT ?2)) u ORDER BY u.touched_at, u.id LIMIT ?2"
);
const FORGET: &str = "DELETE FROM uploads WHERE id = ?1 AND state <> 'open'";
const KNOWN: &str = "SELECT 1 FROM uploads WHERE id = ?1 \
     UNION ALL SELECT 1 FROM blob_places WHERE place = 'uploads/' || ?1 \
     UNION ALL SELECT 1 FROM retired_places WHERE place = 'uploads/' || ?1 LIMIT 1";

/// A session that has not ended.
struct Found {
    state: UploadState,
    writer: Option<String>,
    is_claimed: bool,
    taken_over: bool,
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let state = match row.get::<_, String>(0)?.as_str() {
        "closed" => UploadState::Closed(column(row, 4)?),
        _ => UploadState::Open(progress(row.get(1)?, row.get(2)?, row.get(3)?)),
    };
    let writer: Option<String> = row.get(5)?;
    let is_claimed = writer.is_some() && row.get::<_, Option<bool>>(6)? == Some(true);
    Ok(Found { state, writer, is_claimed, taken_over: row.get(7)? })
}

fn find(session: &Session<'_>, image: &ImageKey, id: &UploadId) -> rusqlite::Result<Option<Found>> {
    let (repo, name) = key(image);
    session.sensible_row((TABLE, UPLOAD), (id.as_str(), repo, name), found)
}

/// `None`: the id is somebody else's.
fn begin(
    session: &Session<'_>,
    image: &ImageKey,
    id: &UploadId,
    limits: &UploadLimits,
) -> rusqlite::Result<Option<Begun>> {
    let (repo, name) = key(image);
    let owner: Option<(i64, String, String)> = session.find(OWNER, [id.as_str()], |row| row.try_into())?;
    if let Some((known_repo, known_name, state)) = owner {
        let is_own = (known_repo, known_name.as_str(), state.as_str()) == (repo, name, "open");
        return Ok(is_own.then_some(Begun::Started));
    }
    let (sessions, _): (i64, i64) = session.row(OPEN, [repo], |row| row.try_into())?;
    if sessions >= number(limits.sessions) {
        return Ok(Some(Begun::TooMany));
    }
    let used: i64 = session.row(USED, [repo], |row| row.get(0))?;
    if limits.quota.is_some_and(|quota| used >= number(quota)) {
        return Ok(Some(Begun::OverQuota));
    }
    session.execute(BEGIN, (id.as_str(), repo, name))?;
    Ok(Some(Begun::Started))
}

fn claim(
    session: &Session<'_>,
    image: &ImageKey,
    id: &UploadId,
    writer: &str,
    lease: Duration,
) -> rusqlite::Result<Claim> {
    let Some(found) = find(session, image, id)? else { return Ok(Claim::Unknown) };
    let progress = match found.state {
        UploadState::Closed(digest) => return Ok(Claim::Closed(digest)),
        UploadState::Open(progress) => progress,
    };
    let is_own = found.writer.as_deref() == Some(writer);
    if found.is_claimed && !is_own {
        return Ok(Claim::Busy(progress));
    }
    let took_over = found.writer.is_some() && (!is_own || found.taken_over);
    session.execute(CLAIM, (id.as_str(), writer, millis(lease), took_over))?;
    Ok(Claim::Taken { progress, took_over })
}

fn close(
    session: &Session<'_>,
    image: &ImageKey,
    id: &UploadId,
    writer: &str,
    body: &ClosedUpload,
    quota: Option<u64>,
) -> rusqlite::Result<Linking> {
    let found = find(session, image, id)?.filter(|found| found.writer.as_deref() == Some(writer));
    match found.map(|found| found.state) {
        None => return Ok(Linking::Missing),
        // Asked a second time.
        Some(UploadState::Closed(digest)) if digest == body.digest => return Ok(Linking::Linked),
        Some(UploadState::Closed(_)) => return Ok(Linking::Missing),
        Some(UploadState::Open(_)) => {}
    }
    let linking = link(session, image, &body.digest, (body.blob, body.size), quota)?;
    if linking == Linking::Linked {
        places::set(session, &body.blob, body.place.as_ref())?;
        session.execute(CLOSE, (id.as_str(), body.digest.to_string()))?;
    }
    Ok(linking)
}

fn id(row: &Row<'_>) -> rusqlite::Result<UploadId> {
    let text: String = row.get(0)?;
    UploadId::parse(&text).ok_or_else(|| nonsense(0, format!("{text:?} is no id of an upload")))
}

fn ended(row: &Row<'_>) -> rusqlite::Result<EndedUpload> {
    Ok(EndedUpload { id: id(row)?, stored: Stored(row.get(1)?), placed: row.get(2)? })
}

#[async_trait]
impl UploadSessions for SqliteMetadata {
    async fn begin_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        limits: &UploadLimits,
    ) -> Result<Begun, MetadataError> {
        let (operation, limits) = (Operation::BeginUpload, *limits);
        let (image, id) = (image.clone(), id.clone());
        let begun = self.writer.run(operation, move |session| begin(session, &image, &id, &limits)).await?;
        let message = || "its id is taken".to_owned();
        begun.ok_or_else(|| MetadataError::Failed { doing: operation.doing(), message: message() })
    }

    async fn upload(&self, image: &ImageKey, id: &UploadId) -> Result<Option<UploadState>, MetadataError> {
        let (image, id) = (image.clone(), id.clone());
        let work = move |session: &Session<'_>| find(session, &image, &id);
        Ok(self.readers.run(Operation::Upload, work).await?.map(|found| found.state))
    }

    async fn claim_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        lease: Duration,
    ) -> Result<Claim, MetadataError> {
        let (image, id, writer) = (image.clone(), id.clone(), writer.to_owned());
        let work = move |session: &Session<'_>| claim(session, &image, &id, &writer, lease);
        self.writer.run(Operation::ClaimUpload, work).await
    }

    async fn save_upload(
        &self,
        id: &UploadId,
        writer: &str,
        progress: &UploadProgress,
        lease: Option<Duration>,
    ) -> Result<bool, MetadataError> {
        let (id, writer, lease) = (id.clone(), writer.to_owned(), lease.map(millis));
        let UploadProgress { offset, hashes, stored } = progress.clone();
        let work = move |session: &Session<'_>| {
            let values = (id.as_str(), writer, number(offset), hashes, stored.0, lease);
            Ok(session.execute(SAVE, values)? > 0)
        };
        self.writer.run(Operation::SaveUpload, work).await
    }

    async fn has_room(&self, repo: RepoId, more: u64, quota: u64) -> Result<bool, MetadataError> {
        let work = move |session: &Session<'_>| session.row(USED, [repo.0], |row| row.get::<_, i64>(0));
        let used = self.readers.run(Operation::HasRoom, work).await?;
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
        let (image, id, writer, body) = (image.clone(), id.clone(), writer.to_owned(), body.clone());
        let work = move |session: &Session<'_>| close(session, &image, &id, &writer, &body, quota);
        self.writer.run(Operation::CloseUpload, work).await
    }

    async fn cancel_upload(&self, image: &ImageKey, id: &UploadId) -> Result<bool, MetadataError> {
        let (image, id) = (image.clone(), id.clone());
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            Ok(session.execute(CANCEL, (id.as_str(), repo, name))? > 0)
        };
        self.writer.run(Operation::CancelUpload, work).await
    }

    async fn ended_uploads(&self, idle: Duration, limit: usize) -> Result<Vec<EndedUpload>, MetadataError> {
        let values = (millis(idle), sql_limit(limit));
        let work = move |session: &Session<'_>| {
            session.execute(END_IDLE, values)?;
            session.page((TABLE, ENDED), values, ended)
        };
        let rows = self.writer.run(Operation::EndedUploads, work).await?;
        Ok(rows.into_iter().filter_map(|(_, ended)| ended).collect())
    }

    async fn forget_upload(&self, id: &UploadId) -> Result<(), MetadataError> {
        let id = id.clone();
        let work = move |session: &Session<'_>| session.execute(FORGET, [id.as_str()]).map(drop);
        self.writer.run(Operation::ForgetUpload, work).await
    }

    async fn known_uploads(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, MetadataError> {
        let ids = ids.to_vec();
        let work = move |session: &Session<'_>| {
            let mut known = Vec::new();
            for id in ids {
                if session.find(KNOWN, [id.as_str()], |_| Ok(()))?.is_some() {
                    known.push(id);
                }
            }
            Ok(known)
        };
        self.readers.run(Operation::KnownUploads, work).await
    }
}
