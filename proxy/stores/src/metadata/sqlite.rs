//! Rows in one SQLite file: WAL, one writer, a few readers, every commit synced before it is acknowledged.
//!
//! Writes go through a bounded queue to one thread ([`writer`]), which lets all that waits share a transaction;
//! reads run on a bounded pool of connections ([`readers`]) and see every write that was acknowledged before.
//! Nothing here blocks an async worker. A hit does not come here: the engine keeps rows in memory.

/// Milliseconds since 1970 on the database's clock, taken where they are compared.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

mod accounts;
mod connection;
mod error;
mod housekeeping;
mod migrations;
mod notices;
mod numbers;
mod observations;
mod readers;
mod registry;
mod rows;
mod secrets;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Hold, Holds, Mutability, PackageType, RepoId, RepoName, Timestamp,
    ports::{
        MetadataError, MetadataStore,
        metadata::{AccessRecord, Announced, ArtifactPage, ArtifactRow, Committed, DerivedRow},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use rusqlite::{params, types::Value};

pub use self::notices::Posted;
use self::{
    numbers::Numbers,
    readers::Readers,
    rows::{access, artifact, artifact_with_key, derived, digest, headers_text, mutability_text},
    session::Session,
    statements as sql,
    writer::Writer,
};
use super::{
    operation::{Operation, SqlStatements},
    prefix,
};
use crate::OpenError;

/// Connections that read; more wait.
const READERS: usize = 4;

/// Rows of a long list that are written in one job, so that a fill waits for none of them long.
const PART: usize = 500;
/// Access records dropped in one job, for the same reason.
const EXPIRED: usize = 5_000;

/// The metadata database of a standalone proxy.
pub struct SqliteMetadata {
    // Dropped first: the last connection to close folds the log into the file, and only the writer's can.
    readers: Readers,
    writer: Writer,
    fetch_numbers: Numbers,
    holds: Arc<Holds>,
    path: PathBuf,
}

impl SqliteMetadata {
    /// Opens the database file at `path`, makes it when there is none, and brings its schema up to date.
    /// Statements are counted in `statements`.
    ///
    /// # Errors
    /// [`OpenError`] when it is no database of ours or a newer release has written it.
    pub async fn open(path: impl AsRef<Path>, statements: Arc<SqlStatements>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let writer = connection::writer(&path)?;
            let readers: Result<_, _> = (0..READERS).map(|_| connection::reader(&path)).collect();
            let readers = Readers::new(readers?, statements.clone());
            // Without it everything works, for as long as there is room.
            if let Err(error) = connection::reserve(&path) {
                tracing::warn!(%error, "no room can be reserved for the log of the database");
            }
            let writer = Writer::start(writer, statements).map_err(|source| OpenError::Io {
                path: path.clone(),
                doing: "starting the writing thread",
                source,
            })?;
            Ok(SqliteMetadata {
                readers,
                writer,
                fetch_numbers: Numbers::default(),
                holds: Arc::default(),
                path,
            })
        });
        opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Reserves what the log needs on a full disk, where there was no room for it before. What fails is of no harm yet.
    pub async fn reserve(&self) {
        let path = self.path.clone();
        let _ = tokio::task::spawn_blocking(move || connection::reserve(&path)).await;
    }
}

/// `None`: the blob is being deleted, and nothing was recorded.
fn commit(
    session: &Session<'_>,
    key: &ArtifactKey,
    row: &ArtifactRow,
) -> rusqlite::Result<Option<Committed>> {
    let is_immutable = row.mutability == Mutability::Immutable;
    let pinned = session.find(sql::PINNED, place(key), |row| digest(row, 0))?;
    if let Some(pinned) = pinned.filter(|pinned| is_immutable && *pinned != row.digest) {
        return Ok(Some(Committed::Pinned(pinned)));
    }
    if !housekeeping::keep(session, &row.digest, row.size)? {
        return Ok(None);
    }
    let values = params![
        key.repo.0,
        key.epoch.0,
        &*key.path,
        row.digest.to_hex(),
        row.size.cast_signed(),
        mutability_text(row.mutability),
        headers_text(&row.headers),
        row.source_url,
        row.verified,
        row.stored_at.0,
        row.checked_at.0,
        row.fetch_seq,
    ];
    if session.execute(sql::PUT_ARTIFACT, values)? == 0 {
        return Ok(Some(Committed::Superseded));
    }
    if is_immutable && pinned.is_none() {
        session.execute(sql::PIN, (key.repo.0, key.epoch.0, &*key.path, row.digest.to_hex()))?;
    }
    Ok(Some(Committed::Stored))
}

fn ensure(
    session: &Session<'_>,
    namespace: &str,
    name: &str,
    package_type: &str,
    base_url: &str,
) -> rusqlite::Result<RepoIdentity> {
    let found: Option<(i64, i64, String)> =
        session.find(sql::REPOSITORY, (namespace, name, package_type), |row| row.try_into())?;
    let (id, epoch) = match found {
        Some((id, epoch, stored)) if stored == base_url => (id, epoch),
        Some((id, epoch, _)) => {
            session.execute(sql::MOVE_REPOSITORY, (id, epoch + 1, base_url))?;
            (id, epoch + 1)
        }
        None => {
            let id = session.row(sql::COUNT, ("repositories", 1), |row| row.get(0))?;
            session.execute(sql::ADD_REPOSITORY, (id, namespace, name, package_type, base_url, 1))?;
            (id, 1)
        }
    };
    session.execute(sql::ADOPT_REPOSITORY, [id])?;
    Ok(RepoIdentity { id: RepoId(id), epoch: Epoch(epoch) })
}

/// Records a derived document; `false`: one of its blobs is being deleted, and nothing was recorded.
fn put_derived(
    session: &Session<'_>,
    inputs: &Digest,
    row: &DerivedRow,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    for (digest, size) in std::iter::once((row.digest, row.size)).chain(row.gzip) {
        if !housekeeping::keep(session, &digest, size)? {
            return Ok(false);
        }
    }
    let values = (
        inputs.to_hex(),
        row.digest.to_hex(),
        row.size.cast_signed(),
        row.gzip.map(|(digest, _)| digest.to_hex()),
        row.gzip.map(|(_, size)| size.cast_signed()),
        &row.content_type,
        now.0,
    );
    session.execute(sql::PUT_DERIVED, values)?;
    Ok(true)
}

fn being_deleted(operation: Operation) -> MetadataError {
    MetadataError::Failed { doing: operation.doing(), message: "its blob is being deleted".into() }
}

/// The end of the range that begins with `prefix`. SQLite sorts every text before any blob.
fn end_of_prefix(prefix: &str) -> Value {
    prefix::end_of(prefix).map_or(Value::Blob(Vec::new()), Value::Text)
}

fn place(key: &ArtifactKey) -> (i64, i64, &str) {
    (key.repo.0, key.epoch.0, &key.path)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl MetadataStore for SqliteMetadata {
    async fn ensure_repository(
        &self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
        base_url: &str,
    ) -> Result<RepoIdentity, MetadataError> {
        let (namespace, name, base_url) = (namespace.to_owned(), name.to_string(), base_url.to_owned());
        let work =
            move |session: &Session<'_>| ensure(session, &namespace, &name, package_type.as_str(), &base_url);
        self.writer.run(Operation::EnsureRepository, work).await
    }

    async fn next_fetch_seq(&self) -> Result<i64, MetadataError> {
        loop {
            if let Some(number) = self.fetch_numbers.take() {
                return Ok(number);
            }
            let reserve = |session: &Session<'_>| {
                session.row(sql::COUNT, ("fetch_seq", numbers::BLOCK), |row| row.get(0))
            };
            let last = self.writer.run(Operation::NextFetchSeq, reserve).await?;
            self.fetch_numbers.add_block_up_to(last);
        }
    }

    async fn announce_blob(&self, digest: &Digest, size: u64) -> Result<Announced, MetadataError> {
        let digest = *digest;
        let work = move |session: &Session<'_>| housekeeping::keep(session, &digest, size);
        let kept = self.writer.run(Operation::AnnounceBlob, work).await?;
        Ok(if kept { Announced::Kept } else { Announced::BeingDeleted })
    }

    fn hold(&self, digest: &Digest) -> Hold {
        self.holds.hold(digest)
    }

    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactRow>, MetadataError> {
        let key = key.clone();
        let work =
            move |session: &Session<'_>| session.find(sql::ARTIFACT, place(&key), |row| artifact(row, 0));
        self.readers.run(Operation::Artifact, work).await
    }

    async fn commit_artifact(
        &self,
        key: &ArtifactKey,
        row: &ArtifactRow,
    ) -> Result<Committed, MetadataError> {
        let (key, row) = (key.clone(), row.clone());
        let work = move |session: &Session<'_>| commit(session, &key, &row);
        let committed = self.writer.run(Operation::CommitArtifact, work).await?;
        committed.ok_or_else(|| being_deleted(Operation::CommitArtifact))
    }

    async fn confirm_artifact(
        &self,
        key: &ArtifactKey,
        digest: &Digest,
        fetch_seq: i64,
        checked_at: Timestamp,
        headers: Option<&[(String, String)]>,
    ) -> Result<bool, MetadataError> {
        let (key, digest, headers) = (key.clone(), digest.to_hex(), headers.map(headers_text));
        let work = move |session: &Session<'_>| {
            let (repo, epoch, path) = place(&key);
            let values = (repo, epoch, path, fetch_seq, checked_at.0, headers, digest);
            let changed = session.execute(sql::CONFIRM, values)?;
            Ok(changed > 0)
        };
        self.writer.run(Operation::ConfirmArtifact, work).await
    }

    async fn forget_artifact(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), MetadataError> {
        let (key, digest) = (key.clone(), digest.to_hex());
        let work = move |session: &Session<'_>| {
            let (repo, epoch, path) = place(&key);
            session.execute(sql::FORGET, (repo, epoch, path, digest)).map(drop)
        };
        self.writer.run(Operation::ForgetArtifact, work).await
    }

    async fn pinned(&self, key: &ArtifactKey) -> Result<Option<Digest>, MetadataError> {
        let key = key.clone();
        let work = move |session: &Session<'_>| session.find(sql::PINNED, place(&key), |row| digest(row, 0));
        self.readers.run(Operation::Pinned, work).await
    }

    async fn unpin(&self, key: &ArtifactKey) -> Result<(), MetadataError> {
        let key = key.clone();
        let work = move |session: &Session<'_>| session.execute(sql::UNPIN, place(&key)).map(drop);
        self.writer.run(Operation::Unpin, work).await
    }

    async fn paths_with_prefix(
        &self,
        repo: RepoId,
        epoch: Epoch,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, MetadataError> {
        let (from, to) = (prefix.to_owned(), end_of_prefix(prefix));
        let work = move |session: &Session<'_>| {
            let values = (repo.0, epoch.0, from, to, sql_limit(limit));
            session.rows(sql::BY_PREFIX, values, |row| row.get(0))
        };
        self.readers.run(Operation::PathsWithPrefix, work).await
    }

    async fn derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, MetadataError> {
        let inputs = inputs.to_hex();
        let work = move |session: &Session<'_>| session.find(sql::DERIVED, [inputs], |row| derived(row, 0));
        self.readers.run(Operation::Derived, work).await
    }

    async fn put_derived(
        &self,
        inputs: &Digest,
        row: &DerivedRow,
        now: Timestamp,
    ) -> Result<(), MetadataError> {
        let (inputs, row) = (*inputs, row.clone());
        let work = move |session: &Session<'_>| put_derived(session, &inputs, &row, now);
        let done = self.writer.run(Operation::PutDerived, work).await?;
        if done { Ok(()) } else { Err(being_deleted(Operation::PutDerived)) }
    }

    async fn shared_secret(&self, name: &str) -> Result<[u8; 32], MetadataError> {
        self.secret(name).await
    }

    async fn signing_key(
        &self,
        name: &str,
        candidate: Option<&str>,
    ) -> Result<Option<String>, MetadataError> {
        self.first_key(name, candidate).await
    }

    async fn touch(&self, uses: &[(ArtifactKey, Timestamp)]) -> Result<(), MetadataError> {
        for part in uses.chunks(PART) {
            let uses = part.to_vec();
            let work = move |session: &Session<'_>| {
                for (key, at) in &uses {
                    let (repo, epoch, path) = place(key);
                    session.execute(sql::TOUCH, (repo, epoch, path, at.0))?;
                }
                Ok(())
            };
            self.writer.run(Operation::Touch, work).await?;
        }
        Ok(())
    }

    async fn log_access(&self, records: &[AccessRecord]) -> Result<(), MetadataError> {
        for part in records.chunks(PART) {
            let records = part.to_vec();
            let work = move |session: &Session<'_>| {
                for record in &records {
                    session.execute(sql::LOG_ACCESS, access(record))?;
                }
                Ok(())
            };
            self.writer.run(Operation::LogAccess, work).await?;
        }
        Ok(())
    }

    async fn expire_access_log(&self, before: Timestamp) -> Result<u64, MetadataError> {
        let mut expired = 0;
        loop {
            let work = move |session: &Session<'_>| {
                session.execute(sql::EXPIRE_ACCESS, (before.0, sql_limit(EXPIRED)))
            };
            let dropped = self.writer.run(Operation::ExpireAccessLog, work).await?;
            expired += dropped as u64;
            if dropped < EXPIRED {
                return Ok(expired);
            }
        }
    }

    async fn artifacts_after(
        &self,
        after: Option<&ArtifactKey>,
        limit: usize,
    ) -> Result<ArtifactPage, MetadataError> {
        let (repo, epoch, path) = after.map_or((i64::MIN, i64::MIN, String::new()), |key| {
            (key.repo.0, key.epoch.0, key.path.to_string())
        });
        let work = move |session: &Session<'_>| {
            session.rows(sql::ARTIFACTS_AFTER, (repo, epoch, path, sql_limit(limit)), artifact_with_key)
        };
        self.readers.run(Operation::ArtifactsAfter, work).await
    }

    async fn referenced(&self, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let digests = digests.to_vec();
        let work = move |session: &Session<'_>| {
            let mut found = Vec::new();
            for digest in digests {
                if session.find(sql::REFERENCED, [digest.to_hex()], |_| Ok(()))?.is_some() {
                    found.push(digest);
                }
            }
            Ok(found)
        };
        self.readers.run(Operation::Referenced, work).await
    }

    async fn derived_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, DerivedRow)>, MetadataError> {
        let after = after.map_or_else(String::new, Digest::to_hex);
        let work = move |session: &Session<'_>| {
            session.rows(sql::DERIVED_AFTER, (after, sql_limit(limit)), |row| {
                Ok((digest(row, 0)?, derived(row, 1)?))
            })
        };
        self.readers.run(Operation::DerivedAfter, work).await
    }

    async fn forget_derived(&self, inputs: &Digest) -> Result<(), MetadataError> {
        let inputs = inputs.to_hex();
        let work = move |session: &Session<'_>| session.execute(sql::FORGET_DERIVED, [inputs]).map(drop);
        self.writer.run(Operation::ForgetDerived, work).await
    }
}
