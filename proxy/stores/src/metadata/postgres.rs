//! Rows in PostgreSQL, shared by all replicas: what they agree on.
//!
//! One call is one round trip wherever it can be: what writes in several steps is a function of the schema
//! (`migrations/postgres`). Calls are bounded, fail at once while the server is down, and work again when it is
//! back ([`pool`], [`gate`]). An unknown outcome of a write is [`MetadataError::Unavailable`] unless doing it
//! again is harmless (RS-86). Rows that make no sense count as absent (RS-88, [`rows`]).
//!
//! Besides the port this is where the configuration is ([`config`]), where replicas find each other
//! ([`replicas`]) and what tells them of changes ([`listen`]).
//!
//! The schema is brought up to date by [`PostgresMetadata::migrate`] only; [`PostgresMetadata::open`] looks
//! whether it fits. Hits do not come here: the engine keeps rows in memory.

mod access_log;
mod accounts;
mod config;
mod delta;
mod gate;
mod housekeeping;
mod listen;
mod migrations;
mod observations;
mod pool;
mod registry;
mod replicas;
mod rows;
mod schema;
mod secrets;
mod settings;
mod statements;
#[cfg(test)]
pub(in crate::metadata) mod tests;
mod tls;
mod trouble;

use std::sync::Arc;

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, PackageType, RepoId, RepoName, Timestamp,
    ports::{
        MetadataError, MetadataStore,
        metadata::{AccessRecord, Announced, ArtifactPage, ArtifactRow, Committed, DerivedRow, FetchStart},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::Row;

use self::{
    access_log::Days,
    pool::{Pool, Repeat, Values},
    rows::{columns_of, headers_text, kept, mutability_text, readable},
    statements as sql,
};
pub use self::{
    config::{Applied, Changes, Config, ConfigMark, Declared, StoredObject},
    delta::{Delta, Written},
    migrations::Migrated,
    schema::PostgresError,
    settings::{Password, PostgresSettings, PostgresTls},
};
use super::{
    operation::{Operation, SqlStatements},
    prefix,
};

/// Rows of a long list that go in one statement.
const PART: usize = 1_000;

/// The metadata database of a replica.
pub struct PostgresMetadata {
    settings: PostgresSettings,
    pool: Pool,
    days: Days,
}

impl PostgresMetadata {
    /// Connects and looks whether the schema fits this release; changes nothing. Statements are counted in
    /// `statements`.
    ///
    /// # Errors
    /// [`PostgresError`]; after [`PostgresError::Unreachable`] the caller may try again.
    pub async fn open(
        settings: PostgresSettings,
        statements: Arc<SqlStatements>,
    ) -> Result<Self, PostgresError> {
        schema::check(&settings).await?;
        let pool =
            Pool::new(&settings, statements).map_err(|reason| PostgresError::settings(&settings, reason))?;
        Ok(PostgresMetadata { settings, pool, days: Days::default() })
    }

    /// Brings the schema up to date, one process at a time; nothing happens when it is.
    ///
    /// # Errors
    /// [`PostgresError`]. What was done by then is kept, and the next time goes on from there.
    pub async fn migrate(settings: &PostgresSettings) -> Result<Migrated, PostgresError> {
        migrations::run(settings).await
    }

    /// What time it is at the server.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn now(&self) -> Result<Timestamp, MetadataError> {
        self.value(Operation::Ping, sql::NOW, &[]).await.map(Timestamp)
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// [`MetadataError::Unavailable`] with the cause.
    pub async fn ping(&self) -> Result<(), MetadataError> {
        self.read(Operation::Ping, sql::PING, &[]).await.map(drop)
    }

    /// Executes a statement that may be executed twice.
    async fn read(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, MetadataError> {
        self.pool.ask(operation, Repeat::Safe, statement, values).await
    }

    /// The same of a statement that returns one row of one column.
    async fn value<T: for<'a> deadpool_postgres::tokio_postgres::types::FromSql<'a>>(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<T, MetadataError> {
        let rows = self.read(operation, statement, values).await?;
        let row = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?;
        row.try_get(0).map_err(|error| failed(operation, error))
    }

    /// The digest in column `at`, if it is one.
    fn digest(&self, row: &Row, at: usize, table: &str) -> Option<Digest> {
        kept(rows::digest(row, at), self.pool.statements(), table)
    }
}

fn failed(operation: Operation, message: impl ToString) -> MetadataError {
    MetadataError::Failed { doing: operation.doing(), message: message.to_string() }
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl MetadataStore for PostgresMetadata {
    async fn ensure_repository(
        &self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
        base_url: &str,
    ) -> Result<RepoIdentity, MetadataError> {
        let operation = Operation::EnsureRepository;
        let values: Values<'_> = &[&namespace, &name.as_str(), &package_type.as_str(), &base_url];
        let rows = self.read(operation, sql::ENSURE_REPOSITORY, values).await?;
        let row = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?;
        Ok(RepoIdentity { id: RepoId(row.get(0)), epoch: Epoch(row.get(1)) })
    }

    async fn next_fetch_seq(&self) -> Result<i64, MetadataError> {
        self.value(Operation::NextFetchSeq, sql::NEXT_FETCH_SEQ, &[]).await
    }

    async fn begin_fetch(&self, key: &ArtifactKey) -> Result<FetchStart, MetadataError> {
        let operation = Operation::BeginFetch;
        let path = columns_of(&key.path).0;
        let rows = self.read(operation, sql::BEGIN_FETCH, &[&key.repo.0, &key.epoch.0, &path]).await?;
        let found = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?;
        let is_there = |at| found.try_get::<_, Option<&str>>(at).is_ok_and(|text| text.is_some());
        let row = is_there(2).then(|| kept(rows::artifact(found, 2), self.pool.statements(), "artifacts"));
        let pinned = is_there(1).then(|| self.digest(found, 1, "ledger"));
        Ok(FetchStart { fetch_seq: found.get(0), row: row.flatten(), pinned: pinned.flatten() })
    }

    async fn announce_blob(&self, digest: &Digest, size: u64) -> Result<Announced, MetadataError> {
        let values: Values<'_> = &[&digest.to_hex(), &size.cast_signed()];
        let is_kept: bool = self.value(Operation::AnnounceBlob, sql::ANNOUNCE_BLOB, values).await?;
        Ok(if is_kept { Announced::Kept } else { Announced::BeingDeleted })
    }

    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactRow>, MetadataError> {
        let path = columns_of(&key.path).0;
        let rows = self.read(Operation::Artifact, sql::ARTIFACT, &[&key.repo.0, &key.epoch.0, &path]).await?;
        Ok(readable(&rows, self.pool.statements(), "artifacts", |row| rows::artifact(row, 0)).pop())
    }

    async fn commit_artifact(
        &self,
        key: &ArtifactKey,
        row: &ArtifactRow,
    ) -> Result<Committed, MetadataError> {
        let operation = Operation::CommitArtifact;
        let (path, long_path) = columns_of(&key.path);
        let values: Values<'_> = &[
            &key.repo.0,
            &key.epoch.0,
            &path,
            &long_path,
            &row.digest.to_hex(),
            &row.size.cast_signed(),
            &mutability_text(row.mutability),
            &headers_text(&row.headers),
            &row.source_url,
            &row.verified,
            &row.stored_at.0,
            &row.checked_at.0,
            &row.fetch_seq,
        ];
        let answer: String = self.value(operation, sql::COMMIT_ARTIFACT, values).await?;
        match answer.as_str() {
            "stored" => Ok(Committed::Stored),
            "superseded" => Ok(Committed::Superseded),
            "deleting" => Err(failed(operation, "the collector is deleting its bytes")),
            pinned => pinned.parse().map(Committed::Pinned).map_err(|error| failed(operation, error)),
        }
    }

    async fn confirm_artifact(
        &self,
        key: &ArtifactKey,
        digest: &Digest,
        fetch_seq: i64,
        checked_at: Timestamp,
        headers: Option<&[(String, String)]>,
    ) -> Result<bool, MetadataError> {
        let (path, headers) = (columns_of(&key.path).0, headers.map(headers_text));
        let (repo, epoch, digest) = (&key.repo.0, &key.epoch.0, digest.to_hex());
        let values: Values<'_> = &[repo, epoch, &path, &fetch_seq, &checked_at.0, &headers, &digest];
        Ok(!self.read(Operation::ConfirmArtifact, sql::CONFIRM, values).await?.is_empty())
    }

    async fn forget_artifact(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), MetadataError> {
        let path = columns_of(&key.path).0;
        let values: Values<'_> = &[&key.repo.0, &key.epoch.0, &path, &digest.to_hex()];
        self.read(Operation::ForgetArtifact, sql::FORGET, values).await.map(drop)
    }

    async fn pinned(&self, key: &ArtifactKey) -> Result<Option<Digest>, MetadataError> {
        let path = columns_of(&key.path).0;
        let rows = self.read(Operation::Pinned, sql::PINNED, &[&key.repo.0, &key.epoch.0, &path]).await?;
        Ok(rows.first().and_then(|row| self.digest(row, 0, "ledger")))
    }

    async fn unpin(&self, key: &ArtifactKey) -> Result<(), MetadataError> {
        let path = columns_of(&key.path).0;
        self.read(Operation::Unpin, sql::UNPIN, &[&key.repo.0, &key.epoch.0, &path]).await.map(drop)
    }

    async fn paths_with_prefix(
        &self,
        repo: RepoId,
        epoch: Epoch,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, MetadataError> {
        let from = rows::indexed_prefix(prefix);
        let (limit, operation) = (sql_limit(limit), Operation::PathsWithPrefix);
        let rows = match prefix::end_of(from) {
            Some(to) => {
                let values: Values<'_> = &[&repo.0, &epoch.0, &from, &to, &prefix, &limit];
                self.read(operation, sql::BY_PREFIX, values).await?
            }
            None => {
                let values: Values<'_> = &[&repo.0, &epoch.0, &from, &prefix, &limit];
                self.read(operation, sql::BY_OPEN_PREFIX, values).await?
            }
        };
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, MetadataError> {
        let rows = self.read(Operation::Derived, sql::DERIVED, &[&inputs.to_hex()]).await?;
        Ok(readable(&rows, self.pool.statements(), "derived", |row| rows::derived(row, 0)).pop())
    }

    async fn put_derived(
        &self,
        inputs: &Digest,
        row: &DerivedRow,
        now: Timestamp,
    ) -> Result<(), MetadataError> {
        let operation = Operation::PutDerived;
        let values: Values<'_> = &[
            &inputs.to_hex(),
            &row.digest.to_hex(),
            &row.size.cast_signed(),
            &row.gzip.map(|(digest, _)| digest.to_hex()),
            &row.gzip.map(|(_, size)| size.cast_signed()),
            &row.content_type,
            &now.0,
        ];
        let is_kept: bool = self.value(operation, sql::PUT_DERIVED, values).await?;
        if is_kept { Ok(()) } else { Err(failed(operation, "the collector is deleting its bytes")) }
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
            let repos: Vec<i64> = part.iter().map(|(key, _)| key.repo.0).collect();
            let epochs: Vec<i64> = part.iter().map(|(key, _)| key.epoch.0).collect();
            let paths: Vec<_> = part.iter().map(|(key, _)| columns_of(&key.path).0).collect();
            let times: Vec<i64> = part.iter().map(|(_, at)| at.0).collect();
            self.read(Operation::Touch, sql::TOUCH, &[&repos, &epochs, &paths, &times]).await?;
        }
        Ok(())
    }

    async fn log_access(&self, records: &[AccessRecord]) -> Result<(), MetadataError> {
        access_log::append(&self.pool, &self.days, records).await
    }

    async fn expire_access_log(&self, before: Timestamp) -> Result<u64, MetadataError> {
        access_log::expire(&self.pool, &self.days, before).await
    }

    async fn artifacts_after(
        &self,
        after: Option<&ArtifactKey>,
        limit: usize,
    ) -> Result<ArtifactPage, MetadataError> {
        let (mut repo, mut epoch, mut path) = after.map_or((i64::MIN, i64::MIN, String::new()), |key| {
            (key.repo.0, key.epoch.0, columns_of(&key.path).0.into_owned())
        });
        loop {
            let values: Values<'_> = &[&repo, &epoch, &path, &sql_limit(limit)];
            let rows = self.read(Operation::ArtifactsAfter, sql::ARTIFACTS_AFTER, values).await?;
            let read = |row: &Row| Ok((rows::key(row, 0)?, rows::artifact(row, 3)?));
            let page = readable(&rows, self.pool.statements(), "artifacts", read);
            match rows.last() {
                // An empty page would end the walk: only the rows of this one make no sense.
                Some(last) if page.is_empty() => {
                    (repo, epoch, path) = (last.get(0), last.get(1), last.get(12));
                }
                _ => return Ok(page),
            }
        }
    }

    async fn referenced(&self, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let mut found = Vec::new();
        for part in digests.chunks(PART) {
            let asked: Vec<String> = part.iter().map(|digest| digest.to_hex()).collect();
            let rows = self.read(Operation::Referenced, sql::REFERENCED, &[&asked]).await?;
            found.extend(rows.iter().filter_map(|row| rows::digest(row, 0).ok()));
        }
        Ok(found)
    }

    async fn derived_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, DerivedRow)>, MetadataError> {
        let mut after = after.map_or_else(String::new, Digest::to_hex);
        loop {
            let values: Values<'_> = &[&after, &sql_limit(limit)];
            let rows = self.read(Operation::DerivedAfter, sql::DERIVED_AFTER, values).await?;
            let read = |row: &Row| Ok((rows::digest(row, 0)?, rows::derived(row, 1)?));
            let page = readable(&rows, self.pool.statements(), "derived", read);
            match rows.last() {
                Some(last) if page.is_empty() => after = last.get(0),
                _ => return Ok(page),
            }
        }
    }

    async fn forget_derived(&self, inputs: &Digest) -> Result<(), MetadataError> {
        self.read(Operation::ForgetDerived, sql::FORGET_DERIVED, &[&inputs.to_hex()]).await.map(drop)
    }
}
