//! Rows in one SQLite file: WAL, every commit synced before it is acknowledged.
//!
//! One connection, used from the blocking pool by whoever holds its lock, which is held for one transaction
//! and never across an await. A hit does not come here: the engine keeps rows in memory.

mod rows;
mod statements;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, PackageType, RepoId, RepoName, Timestamp, failpoint,
    ports::{
        MetadataError, MetadataStore,
        metadata::{AccessRecord, ArtifactPage, ArtifactRow, Committed, DerivedRow},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use self::{
    rows::{artifact, artifact_with_key, derived, digest, headers_text, mutability_text},
    statements as sql,
};
use crate::{OpenError, random};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// The metadata database of a standalone proxy.
#[derive(Clone)]
pub struct SqliteMetadata {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteMetadata {
    /// Opens the database file at `path`, makes it when there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] when it is no database of ours or a newer release has written it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        let connection = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(SqliteMetadata { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in one transaction on the blocking pool.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let connection = self.connection.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction()?;
            let value = work(&transaction)?;
            failpoint("metadata.commit.before");
            transaction.commit()?;
            failpoint("metadata.commit.after");
            Ok(value)
        });
        match ran.await {
            Ok(result) => result.map_err(|error| failed(doing, &error)),
            Err(_) => Err(MetadataError::Unavailable("the database task was stopped".into())),
        }
    }
}

fn open(path: &Path) -> Result<Connection, OpenError> {
    let unusable = |reason: String| OpenError::Unusable { path: path.to_owned(), reason };
    let mut connection = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
    let set = |name, value: &dyn rusqlite::ToSql| connection.pragma_update(None, name, value);
    set("journal_mode", &"WAL")
        .and_then(|()| set("synchronous", &"FULL"))
        .and_then(|()| set("busy_timeout", &5000))
        .map_err(|error| unusable(error.to_string()))?;
    let runner = embedded::migrations::runner();
    let known =
        runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0);
    let found = schema_version(&connection).map_err(|error| unusable(error.to_string()))?;
    if found > known {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known });
    }
    runner.run(&mut connection).map_err(|error| unusable(error.to_string()))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Version of the last migration applied; 0 for a new file.
fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, "refinery_schema_history")? {
        return Ok(0);
    }
    connection
        .query_row("SELECT COALESCE(MAX(version), 0) FROM refinery_schema_history", [], |row| row.get(0))
}

fn failed(doing: &'static str, error: &rusqlite::Error) -> MetadataError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => MetadataError::Full(message),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            MetadataError::Unavailable(message)
        }
        _ => MetadataError::Failed { doing, message },
    }
}

fn next(transaction: &Transaction<'_>, counter: &str) -> rusqlite::Result<i64> {
    transaction.prepare_cached(sql::COUNT)?.query_row([counter], |row| row.get(0))
}

fn commit(
    transaction: &Transaction<'_>,
    key: &ArtifactKey,
    row: &ArtifactRow,
) -> rusqlite::Result<Committed> {
    let place = params![key.repo.0, key.epoch.0, &*key.path];
    let is_immutable = row.mutability == Mutability::Immutable;
    let pinned =
        transaction.prepare_cached(sql::PINNED)?.query_row(place, |row| digest(row, 0)).optional()?;
    if let Some(pinned) = pinned.filter(|pinned| is_immutable && *pinned != row.digest) {
        return Ok(Committed::Pinned(pinned));
    }
    let changed = transaction.prepare_cached(sql::PUT_ARTIFACT)?.execute(params![
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
    ])?;
    if changed == 0 {
        return Ok(Committed::Superseded);
    }
    if is_immutable && pinned.is_none() {
        let pin = params![key.repo.0, key.epoch.0, &*key.path, row.digest.to_hex()];
        transaction.prepare_cached(sql::PIN)?.execute(pin)?;
    }
    Ok(Committed::Stored)
}

fn ensure(
    transaction: &Transaction<'_>,
    namespace: &str,
    name: &str,
    package_type: &str,
    base_url: &str,
) -> rusqlite::Result<RepoIdentity> {
    let found: Option<(i64, i64, String)> = transaction
        .prepare_cached(sql::REPOSITORY)?
        .query_row(params![namespace, name, package_type], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match found {
        Some((id, epoch, stored)) if stored == base_url => {
            Ok(RepoIdentity { id: RepoId(id), epoch: Epoch(epoch) })
        }
        Some((id, epoch, _)) => {
            transaction.prepare_cached(sql::MOVE_REPOSITORY)?.execute(params![id, epoch + 1, base_url])?;
            Ok(RepoIdentity { id: RepoId(id), epoch: Epoch(epoch + 1) })
        }
        None => {
            let id = next(transaction, "repositories")?;
            let row = params![id, namespace, name, package_type, base_url, 1];
            transaction.prepare_cached(sql::ADD_REPOSITORY)?.execute(row)?;
            Ok(RepoIdentity { id: RepoId(id), epoch: Epoch(1) })
        }
    }
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
        self.run("finding a repository", move |tx| {
            ensure(tx, &namespace, &name, package_type.as_str(), &base_url)
        })
        .await
    }

    async fn next_fetch_seq(&self) -> Result<i64, MetadataError> {
        self.run("numbering a fetch", |tx| next(tx, "fetch_seq")).await
    }

    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactRow>, MetadataError> {
        let key = key.clone();
        self.run("looking up an artifact", move |tx| {
            let place = params![key.repo.0, key.epoch.0, &*key.path];
            tx.prepare_cached(sql::ARTIFACT)?.query_row(place, |row| artifact(row, 0)).optional()
        })
        .await
    }

    async fn commit_artifact(
        &self,
        key: &ArtifactKey,
        row: &ArtifactRow,
    ) -> Result<Committed, MetadataError> {
        let (key, row) = (key.clone(), row.clone());
        self.run("recording an artifact", move |tx| commit(tx, &key, &row)).await
    }

    async fn confirm_artifact(
        &self,
        key: &ArtifactKey,
        fetch_seq: i64,
        checked_at: Timestamp,
        headers: Option<&[(String, String)]>,
    ) -> Result<bool, MetadataError> {
        let (key, headers) = (key.clone(), headers.map(headers_text));
        self.run("confirming an artifact", move |tx| {
            let values = params![key.repo.0, key.epoch.0, &*key.path, fetch_seq, checked_at.0, headers];
            Ok(tx.prepare_cached(sql::CONFIRM)?.execute(values)? > 0)
        })
        .await
    }

    async fn forget_artifact(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), MetadataError> {
        let (key, digest) = (key.clone(), digest.to_hex());
        self.run("forgetting an artifact", move |tx| {
            tx.prepare_cached(sql::FORGET)?.execute(params![key.repo.0, key.epoch.0, &*key.path, digest])?;
            Ok(())
        })
        .await
    }

    async fn pinned(&self, key: &ArtifactKey) -> Result<Option<Digest>, MetadataError> {
        let key = key.clone();
        self.run("reading the ledger", move |tx| {
            let place = params![key.repo.0, key.epoch.0, &*key.path];
            tx.prepare_cached(sql::PINNED)?.query_row(place, |row| digest(row, 0)).optional()
        })
        .await
    }

    async fn unpin(&self, key: &ArtifactKey) -> Result<(), MetadataError> {
        let key = key.clone();
        self.run("clearing a pin", move |tx| {
            tx.prepare_cached(sql::UNPIN)?.execute(params![key.repo.0, key.epoch.0, &*key.path])?;
            Ok(())
        })
        .await
    }

    async fn paths_with_prefix(
        &self,
        repo: RepoId,
        epoch: Epoch,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, MetadataError> {
        // The range of all texts that begin with the prefix; U+10FFFF sorts after any of its continuations.
        let (from, to) = (prefix.to_owned(), format!("{prefix}\u{10ffff}"));
        self.run("listing artifacts", move |tx| {
            let mut statement = tx.prepare_cached(sql::BY_PREFIX)?;
            let values = params![repo.0, epoch.0, from, to, i64::try_from(limit).unwrap_or(i64::MAX)];
            statement.query_map(values, |row| row.get(0))?.collect()
        })
        .await
    }

    async fn derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, MetadataError> {
        let inputs = inputs.to_hex();
        self.run("looking up a derived document", move |tx| {
            tx.prepare_cached(sql::DERIVED)?.query_row([inputs], |row| derived(row, 0)).optional()
        })
        .await
    }

    async fn put_derived(
        &self,
        inputs: &Digest,
        row: &DerivedRow,
        now: Timestamp,
    ) -> Result<(), MetadataError> {
        let (inputs, row) = (inputs.to_hex(), row.clone());
        self.run("recording a derived document", move |tx| {
            tx.prepare_cached(sql::PUT_DERIVED)?.execute(params![
                inputs,
                row.digest.to_hex(),
                row.size.cast_signed(),
                row.gzip.map(|(digest, _)| digest.to_hex()),
                row.gzip.map(|(_, size)| size.cast_signed()),
                row.content_type,
                now.0,
            ])?;
            Ok(())
        })
        .await
    }

    async fn shared_secret(&self, name: &str) -> Result<[u8; 32], MetadataError> {
        let name = name.to_owned();
        let fresh: [u8; 32] = random::random().map_err(|error| MetadataError::Failed {
            doing: "making a secret",
            message: error.to_string(),
        })?;
        let text: String = self
            .run("reading a secret", move |tx| {
                tx.prepare_cached(sql::PUT_SECRET)?.execute(params![name, hex::encode(fresh)])?;
                tx.prepare_cached(sql::SECRET)?.query_row([name], |row| row.get(0))
            })
            .await?;
        let mut secret = [0; 32];
        hex::decode_to_slice(text, &mut secret).map_err(|error| MetadataError::Failed {
            doing: "reading a secret",
            message: error.to_string(),
        })?;
        Ok(secret)
    }

    async fn touch(&self, uses: &[(ArtifactKey, Timestamp)]) -> Result<(), MetadataError> {
        let uses = uses.to_vec();
        self.run("noting uses", move |tx| {
            let mut statement = tx.prepare_cached(sql::TOUCH)?;
            for (key, at) in uses {
                statement.execute(params![key.repo.0, key.epoch.0, &*key.path, at.0])?;
            }
            Ok(())
        })
        .await
    }

    async fn log_access(&self, records: &[AccessRecord]) -> Result<(), MetadataError> {
        let records = records.to_vec();
        self.run("writing the access log", move |tx| {
            let mut statement = tx.prepare_cached(sql::LOG_ACCESS)?;
            for record in records {
                statement.execute(params![
                    record.at.0,
                    record.repository,
                    record.method,
                    record.path,
                    record.status,
                    record.outcome,
                    record.bytes.cast_signed(),
                    record.duration_us.cast_signed(),
                    record.client,
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn expire_access_log(&self, before: Timestamp) -> Result<u64, MetadataError> {
        self.run("expiring the access log", move |tx| {
            Ok(tx.prepare_cached(sql::EXPIRE_ACCESS)?.execute([before.0])? as u64)
        })
        .await
    }

    async fn artifacts_after(
        &self,
        after: Option<&ArtifactKey>,
        limit: usize,
    ) -> Result<ArtifactPage, MetadataError> {
        let (repo, epoch, path) = after.map_or((i64::MIN, i64::MIN, String::new()), |key| {
            (key.repo.0, key.epoch.0, key.path.to_string())
        });
        self.run("listing artifacts", move |tx| {
            let mut statement = tx.prepare_cached(sql::ARTIFACTS_AFTER)?;
            let values = params![repo, epoch, path, i64::try_from(limit).unwrap_or(i64::MAX)];
            statement.query_map(values, artifact_with_key)?.collect()
        })
        .await
    }

    async fn referenced(&self, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let digests = digests.to_vec();
        self.run("looking for references", move |tx| {
            let mut statement = tx.prepare_cached(sql::REFERENCED)?;
            let mut found = Vec::new();
            for digest in digests {
                if statement.exists([digest.to_hex()])? {
                    found.push(digest);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn derived_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, DerivedRow)>, MetadataError> {
        let after = after.map_or_else(String::new, Digest::to_hex);
        self.run("listing derived documents", move |tx| {
            let mut statement = tx.prepare_cached(sql::DERIVED_AFTER)?;
            let values = params![after, i64::try_from(limit).unwrap_or(i64::MAX)];
            statement.query_map(values, |row| Ok((digest(row, 0)?, derived(row, 1)?)))?.collect()
        })
        .await
    }

    async fn forget_derived(&self, inputs: &Digest) -> Result<(), MetadataError> {
        let inputs = inputs.to_hex();
        self.run("forgetting a derived document", move |tx| {
            tx.prepare_cached(sql::FORGET_DERIVED)?.execute([inputs])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::suite;

    #[tokio::test]
    async fn passes_the_suite() {
        let dir = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        suite::suite(async || {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let store = SqliteMetadata::open(dir.path().join(format!("{number}.db"))).await.unwrap();
            Arc::new(store) as Arc<dyn MetadataStore>
        })
        .await;
    }

    #[tokio::test]
    async fn rs_118_a_file_that_is_no_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.db");
        std::fs::write(&path, "these are not the rows you are looking for").unwrap();
        assert!(matches!(SqliteMetadata::open(&path).await, Err(OpenError::Unusable { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"these are not the rows you are looking for");
    }
}
