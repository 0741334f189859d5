//! What the collector and the command line ask of the file. Long work is done in parts, so that a fill, which
//! waits for the same writer, waits for none of them long.

pub(super) mod statements;

use std::{ops::Range, sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Holds, Notice, PackageType, RepoId, RepoName, Timestamp,
    ports::{
        Housekeeping, MetadataError,
        housekeeping::{Aged, BlobStates, Change, Recorded, Selection, Total, Turn},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use rusqlite::{Row, types::Value};

use self::statements as sql;
use super::{
    PART, SqliteMetadata, end_of_prefix, rows::digest, session::Session, sql_limit, statements::REFERENCED,
};
use crate::{OpenError, lock::ProcessLock, metadata::operation::Operation};

/// Says that the blob is named or about to be; `false` while it is being deleted.
pub(super) fn keep(session: &Session<'_>, digest: &Digest, size: u64) -> rusqlite::Result<bool> {
    Ok(session.execute(sql::KEEP_BLOB, (digest.to_hex(), size.cast_signed()))? > 0)
}

fn blob(row: &Row<'_>) -> rusqlite::Result<(Digest, u64)> {
    Ok((digest(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()))
}

fn total(row: &Row<'_>, at: usize) -> rusqlite::Result<Total> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(Total { count: number(at)?, bytes: number(at + 1)? })
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let text: String = row.get(1)?;
    let package_type = PackageType::ALL.into_iter().find(|kind| kind.as_str() == text);
    let unknown = || rusqlite::Error::InvalidColumnType(1, text.clone(), rusqlite::types::Type::Text);
    Ok(Recorded {
        namespace: row.get(0)?,
        package_type: package_type.ok_or_else(unknown)?,
        identity: RepoIdentity { id: RepoId(row.get(2)?), epoch: Epoch(row.get(3)?) },
        retired: row.get(4)?,
    })
}

pub(super) fn millis(grace: Duration) -> i64 {
    i64::try_from(grace.as_millis()).unwrap_or(i64::MAX / 2)
}

/// Claims what is condemned for `grace`. A condemned blob that rows name all the same (they are older than its
/// own row), or that somebody holds, is live.
fn claim(
    session: &Session<'_>,
    holds: &Holds,
    grace: Duration,
    limit: usize,
) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut claimed = session.rows(sql::HALF_DELETED, [sql_limit(limit)], blob)?;
    while claimed.len() < limit {
        let values = (millis(grace), sql_limit(limit - claimed.len()));
        let found = session.rows(sql::CONDEMNED, values, blob)?;
        if found.is_empty() {
            break;
        }
        for (digest, size) in found {
            if !holds.has(&digest) && session.execute(sql::CLAIM, [digest.to_hex()])? > 0 {
                claimed.push((digest, size));
            } else {
                keep(session, &digest, size)?;
            }
        }
    }
    Ok(claimed)
}

/// Claims what no row names, whatever its age. All writes go through one thread: who holds a blob from now on finds it
/// being deleted when it announces it, and who has announced it before is asked for here.
fn claim_unnamed(
    session: &Session<'_>,
    holds: &Holds,
    blobs: &[Digest],
) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut claimed = Vec::new();
    for digest in blobs.iter().filter(|digest| !holds.has(digest)) {
        let size: Option<i64> = session.find(sql::CLAIM_UNNAMED, [digest.to_hex()], |row| row.get(0))?;
        claimed.extend(size.map(|size| (*digest, size.cast_unsigned())));
    }
    Ok(claimed)
}

fn take_up(session: &Session<'_>, found: &[(Digest, u64)]) -> rusqlite::Result<u64> {
    let mut strays = 0;
    for (digest, size) in found {
        let named = session.find(REFERENCED, [digest.to_hex()], |_| Ok(()))?.is_some();
        let state = if named { "live" } else { "condemned" };
        let added = session.execute(sql::TAKE_UP, (digest.to_hex(), size.cast_signed(), state))?;
        strays += if named { 0 } else { added as u64 };
    }
    Ok(strays)
}

fn expire_retired(session: &Session<'_>, grace: Duration, limit: usize) -> rusqlite::Result<u64> {
    let kept: Vec<(i64, i64)> =
        session.rows(sql::FIRST_EPOCHS, [millis(grace)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut gone = 0;
    for (repo, first) in kept {
        if gone < limit {
            gone += session.execute(sql::EXPIRE_EPOCHS, (repo, first, sql_limit(limit - gone)))?;
        }
    }
    Ok(gone as u64)
}

/// The paths that are meant, as a range.
fn range(selection: &Selection) -> Range<Value> {
    match selection {
        Selection::Path(path) => Value::Text(path.clone())..Value::Text(format!("{path}\0")),
        Selection::Prefix(prefix) => Value::Text(prefix.clone())..end_of_prefix(prefix),
    }
}

/// What whoever else has the file open has to hear of a change.
fn notice(repo: RepoId, epoch: Epoch, selection: &Selection) -> Notice {
    match selection {
        Selection::Path(path) => {
            Notice::changed(&ArtifactKey { repo, epoch, path: path.as_str().into() }, "")
        }
        Selection::Prefix(prefix) => {
            Notice::ChangedBelow { repo: repo.0, epoch: epoch.0, prefix: prefix.clone() }
        }
    }
}

/// Changes the first part of `paths`: how many rows, and where the next part begins.
fn change_part(
    session: &Session<'_>,
    (repo, epoch): (i64, i64),
    paths: Range<Value>,
    change: Change,
) -> rusqlite::Result<(u64, Option<Value>)> {
    let (next, act) = match change {
        Change::Evict => (sql::NEXT_ARTIFACT, sql::EVICT),
        Change::Refresh => (sql::NEXT_ARTIFACT, sql::REFRESH),
        Change::Unpin => (sql::NEXT_PIN, sql::UNPIN),
    };
    let values = (repo, epoch, paths.start.clone(), paths.end.clone(), sql_limit(PART));
    let next: Option<Value> = session.find(next, values, |row| row.get(0))?;
    let end = next.clone().unwrap_or(paths.end);
    let changed = session.execute(act, (repo, epoch, paths.start, end))?;
    Ok((changed as u64, next))
}

#[async_trait]
impl Housekeeping for SqliteMetadata {
    /// A lock file beside the database, so that other processes see it too.
    async fn take_turn(&self, name: &'static str) -> Result<Option<Turn>, MetadataError> {
        let path = self.path.clone();
        let failed = |message: String| MetadataError::Failed { doing: "taking the turn", message };
        let taking = tokio::task::spawn_blocking(move || {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = std::fs::File::open(directory.unwrap_or(".".as_ref()))
                .map_err(|error| failed(error.to_string()))?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match ProcessLock::take(&directory, &format!("{file}.{name}"), &path) {
                Ok(lock) => Ok(Some(Box::new(lock) as Turn)),
                Err(OpenError::InUse(_)) => Ok(None),
                Err(error) => Err(failed(error.to_string())),
            }
        });
        taking.await.unwrap_or_else(|_| Err(super::error::stopped()))
    }

    async fn condemn_blobs(
        &self,
        grace: Duration,
        limit: usize,
        dry: bool,
    ) -> Result<Vec<(Digest, u64)>, MetadataError> {
        // The long search holds up no writer; the short check of each blob found is repeated where it counts.
        let values = (millis(grace), sql_limit(limit));
        let search = move |session: &Session<'_>| session.rows(sql::CONDEMNABLE, values, blob);
        let found = self.readers.run(Operation::CondemnBlobs, search).await?;
        if dry {
            return Ok(found);
        }
        let mut condemned = Vec::new();
        for part in found.chunks(PART) {
            let mut part = part.to_vec();
            let work = move |session: &Session<'_>| {
                let mut done = Vec::new();
                for (digest, size) in part.drain(..) {
                    if session.execute(sql::CONDEMN, (digest.to_hex(), millis(grace)))? > 0 {
                        done.push((digest, size));
                    }
                }
                Ok(done)
            };
            condemned.extend(self.writer.run(Operation::CondemnBlobs, work).await?);
        }
        Ok(condemned)
    }

    async fn claim_blobs(&self, grace: Duration, limit: usize) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let holds = self.holds.clone();
        self.writer.run(Operation::ClaimBlobs, move |session| claim(session, &holds, grace, limit)).await
    }

    async fn claim_unnamed(&self, blobs: &[Digest]) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let mut claimed = Vec::new();
        for part in blobs.chunks(PART) {
            let (holds, part): (Arc<Holds>, _) = (self.holds.clone(), part.to_vec());
            let work = move |session: &Session<'_>| claim_unnamed(session, &holds, &part);
            claimed.extend(self.writer.run(Operation::ClaimBlobs, work).await?);
        }
        Ok(claimed)
    }

    async fn drop_blob(&self, digest: &Digest) -> Result<(), MetadataError> {
        let digest = digest.to_hex();
        let work = move |session: &Session<'_>| session.execute(sql::DROP_BLOB, [digest]).map(drop);
        self.writer.run(Operation::DropBlob, work).await
    }

    async fn take_up_strays(&self, found: &[(Digest, u64)]) -> Result<u64, MetadataError> {
        let mut strays = 0;
        for part in found.chunks(PART) {
            let part = part.to_vec();
            let work = move |session: &Session<'_>| take_up(session, &part);
            strays += self.writer.run(Operation::TakeUpStrays, work).await?;
        }
        Ok(strays)
    }

    async fn blob_states(&self) -> Result<BlobStates, MetadataError> {
        let work = |session: &Session<'_>| {
            session.rows(sql::BLOB_STATES, [], |row| Ok((row.get::<_, String>(0)?, total(row, 1)?)))
        };
        let mut states = BlobStates::default();
        for (state, total) in self.readers.run(Operation::BlobStates, work).await? {
            match state.as_str() {
                "live" => states.live = total,
                "condemned" => states.condemned = total,
                _ => states.deleting = total,
            }
        }
        Ok(states)
    }

    async fn blobs_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let after = after.map_or_else(String::new, Digest::to_hex);
        let work =
            move |session: &Session<'_>| session.rows(sql::BLOBS_AFTER, (after, sql_limit(limit)), blob);
        self.readers.run(Operation::BlobsAfter, work).await
    }

    async fn usage(&self, repo: RepoId, epoch: Epoch) -> Result<Total, MetadataError> {
        let work =
            move |session: &Session<'_>| session.row(sql::USAGE, (repo.0, epoch.0), |row| total(row, 0));
        self.readers.run(Operation::Usage, work).await
    }

    async fn expire_unused(
        &self,
        repo: RepoId,
        epoch: Epoch,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ArtifactKey>, MetadataError> {
        let mut gone = Vec::new();
        while gone.len() < limit {
            let part = PART.min(limit - gone.len());
            let work = move |session: &Session<'_>| {
                let values = (repo.0, epoch.0, before.0, sql_limit(part));
                session.rows(sql::EXPIRE_UNUSED, values, |row| {
                    Ok(ArtifactKey { repo, epoch, path: row.get::<_, String>(0)?.into() })
                })
            };
            let keys = self.writer.run(Operation::ExpireUnused, work).await?;
            let last = keys.len() < part;
            gone.extend(keys);
            if last {
                break;
            }
        }
        Ok(gone)
    }

    async fn least_used(&self, repo: RepoId, epoch: Epoch, limit: usize) -> Result<Vec<Aged>, MetadataError> {
        let work = move |session: &Session<'_>| {
            session.rows(sql::LEAST_USED, (repo.0, epoch.0, sql_limit(limit)), |row| {
                let key = ArtifactKey { repo, epoch, path: row.get::<_, String>(0)?.into() };
                let (digest, size) = (digest(row, 1)?, row.get::<_, i64>(2)?.cast_unsigned());
                Ok(Aged { key, digest, size, used_at: Timestamp(row.get(3)?) })
            })
        };
        self.readers.run(Operation::LeastUsed, work).await
    }

    async fn recorded(&self, name: &RepoName) -> Result<Vec<Recorded>, MetadataError> {
        let name = name.to_string();
        let work = move |session: &Session<'_>| session.rows(sql::RECORDED, [name], recorded);
        self.readers.run(Operation::Recorded, work).await
    }

    async fn change(
        &self,
        repo: RepoId,
        epoch: Epoch,
        selection: &Selection,
        change: Change,
    ) -> Result<u64, MetadataError> {
        let Range { start, end } = range(selection);
        let (mut from, mut changed) = (Some(start), 0);
        let notice = notice(repo, epoch, selection);
        while let Some(start) = from {
            let paths = start..end.clone();
            let notice = notice.clone();
            let work = move |session: &Session<'_>| {
                let part = change_part(session, (repo.0, epoch.0), paths, change)?;
                if part.1.is_none() {
                    super::notices::post(session, &notice)?;
                }
                Ok(part)
            };
            let (rows, next) = self.writer.run(Operation::Change, work).await?;
            (from, changed) = (next, changed + rows);
        }
        Ok(changed)
    }

    async fn expire_derived(&self, before: Timestamp, limit: usize) -> Result<u64, MetadataError> {
        let work =
            move |session: &Session<'_>| session.execute(sql::EXPIRE_DERIVED, (before.0, sql_limit(limit)));
        Ok(self.writer.run(Operation::ExpireDerived, work).await? as u64)
    }

    async fn retire_others(&self, present: &[RepoId]) -> Result<(), MetadataError> {
        let present = serde_json::json!(present.iter().map(|repo| repo.0).collect::<Vec<_>>()).to_string();
        let work = move |session: &Session<'_>| {
            session.execute(sql::UNRETIRE, [&present])?;
            session.execute(sql::RETIRE, [&present]).map(drop)
        };
        self.writer.run(Operation::RetireOthers, work).await
    }

    async fn expire_retired(&self, grace: Duration, limit: usize) -> Result<u64, MetadataError> {
        self.writer.run(Operation::ExpireRetired, move |session| expire_retired(session, grace, limit)).await
    }
}
