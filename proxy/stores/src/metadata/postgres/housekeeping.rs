//! What the collector and the command line ask. The collector's steps are functions of the schema, which says
//! how they and those who name blobs keep out of each other's way.

use std::time::Duration;

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Notice, PackageType, RepoId, RepoName, Timestamp,
    ports::{
        Housekeeping, MetadataError,
        housekeeping::{Aged, BlobStates, Change, Recorded, Selection, Total, Turn},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::{Row, error::SqlState};
use tokio::time::{Instant, timeout};

use super::{
    super::{operation::Operation, prefix},
    PostgresMetadata, Values, failed,
    pool::{CALL, Repeat, within},
    rows::{self, columns_of, readable},
    schema::{self, PostgresError},
    sql_limit,
    trouble::Trouble,
    trouble::describe,
};

/// Longest time of a statement that walks many rows. Nobody's request waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for a turn: who gives one back may need a moment.
const TURN: &str = "SET lock_timeout = 200; SET idle_session_timeout = 0";
const TAKE_TURN: &str = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
/// Strays taken up in one statement.
const PART: usize = 1_000;

const CONDEMN: &str = "SELECT out_digest, out_size FROM condemn_blobs($1, $2, $3)";
const CLAIM: &str = "SELECT out_digest, out_size FROM claim_blobs($1, $2)";
const DROP: &str = "DELETE FROM blobs WHERE digest = $1 AND state = 'deleting'";
const TAKE_UP: &str = "WITH added AS (INSERT INTO blobs (digest, size, state) \
     SELECT digest, size, CASE WHEN blob_is_named(digest) THEN 'live' ELSE 'condemned' END \
     FROM unnest($1::TEXT[], $2::BIGINT[]) AS found (digest, size) ORDER BY digest \
     ON CONFLICT (digest) DO NOTHING RETURNING state) \
     SELECT COUNT(*) FROM added WHERE state = 'condemned'";
const STATES: &str = "SELECT state, COUNT(*), COALESCE(SUM(size), 0)::BIGINT FROM blobs GROUP BY state";
const BLOBS_AFTER: &str =
    "SELECT digest, size FROM blobs WHERE digest > $1 AND state <> 'deleting' ORDER BY digest LIMIT $2";
const RECORDED: &str = "SELECT namespace, package_type, id, epoch, retired_at IS NOT NULL FROM repositories \
     WHERE name = $1 ORDER BY id";
const USAGE: &str =
    "SELECT COUNT(*), COALESCE(SUM(size), 0)::BIGINT FROM artifacts WHERE repo = $1 AND epoch = $2";
// What is picked is picked once: a subquery with a limit and locks might be executed for every row.
const EXPIRE_UNUSED: &str = "WITH picked AS MATERIALIZED (SELECT repo, epoch, path FROM artifacts \
     WHERE repo = $1 AND epoch = $2 AND used_at < $3 ORDER BY used_at, path LIMIT $4 FOR UPDATE SKIP LOCKED) \
     DELETE FROM artifacts a USING picked p WHERE a.repo = p.repo AND a.epoch = p.epoch AND a.path = p.path \
     RETURNING a.repo, a.epoch, COALESCE(a.long_path, a.path)";
const LEAST_USED: &str = "SELECT repo, epoch, COALESCE(long_path, path), digest, size, used_at FROM artifacts \
     WHERE repo = $1 AND epoch = $2 ORDER BY used_at, path LIMIT $3";
const EXPIRE_DERIVED: &str = "WITH picked AS MATERIALIZED (SELECT inputs FROM derived WHERE made_at < $1 \
     ORDER BY made_at LIMIT $2 FOR UPDATE SKIP LOCKED), \
     gone AS (DELETE FROM derived d USING picked p WHERE d.inputs = p.inputs RETURNING 1) \
     SELECT COUNT(*) FROM gone";
/// Never one that the stored configuration has: whoever asks may not have heard of it yet, and replicas that load the
/// configuration at this moment would go without it.
const RETIRE: &str = "UPDATE repositories r SET retired_at = CASE WHEN id = ANY ($1) THEN NULL ELSE now() END \
     WHERE (retired_at IS NULL) <> (id = ANY ($1)) AND (id = ANY ($1) OR NOT EXISTS (SELECT 1 FROM objects o \
     WHERE o.kind IN ('Remote', 'Virtual', 'Local') AND o.namespace = r.namespace AND o.name = r.name))";
/// Of each repository the artifacts of epochs before the first that is kept: none is, when it retired long ago.
const EXPIRE_RETIRED: &str = "WITH picked AS MATERIALIZED (SELECT past.repo, past.epoch, past.path \
     FROM repositories r CROSS JOIN LATERAL (SELECT a.repo, a.epoch, a.path FROM artifacts a \
     WHERE a.repo = r.id AND a.epoch < CASE WHEN r.retired_at <= now() - make_interval(secs => $1) \
     THEN 9223372036854775807 ELSE r.epoch END LIMIT $2) past LIMIT $2), \
     gone AS (DELETE FROM artifacts a USING picked p \
     WHERE a.repo = p.repo AND a.epoch = p.epoch AND a.path = p.path RETURNING 1) SELECT COUNT(*) FROM gone";

fn total(row: &Row, at: usize) -> Total {
    Total { count: row.get::<_, i64>(at).cast_unsigned(), bytes: row.get::<_, i64>(at + 1).cast_unsigned() }
}

fn recorded(row: &Row) -> Result<Recorded, String> {
    let text: &str = rows::column(row, 1)?;
    let package_type = PackageType::ALL.into_iter().find(|known| known.as_str() == text);
    Ok(Recorded {
        namespace: rows::column(row, 0)?,
        package_type: package_type.ok_or_else(|| format!("{text:?} is no type"))?,
        identity: RepoIdentity { id: RepoId(rows::column(row, 2)?), epoch: Epoch(rows::column(row, 3)?) },
        retired: rows::column(row, 4)?,
    })
}

fn blob(row: &Row) -> Result<(Digest, u64), String> {
    Ok((rows::digest(row, 0)?, rows::column::<i64>(row, 1)?.cast_unsigned()))
}

/// The statement that makes `change` to all rows of a table that fulfil `which`, tells replicas, and counts.
fn changing(change: Change, which: &str, notice: u8) -> String {
    let all = match change {
        Change::Evict => format!("DELETE FROM artifacts WHERE {which}"),
        Change::Refresh => format!("UPDATE artifacts SET checked_at = 0 WHERE {which}"),
        Change::Unpin => format!("DELETE FROM ledger WHERE {which}"),
    };
    format!(
        "WITH changed AS ({all} RETURNING 1), told AS (SELECT pg_notify('artifactapi', ${notice})) \
         SELECT (SELECT COUNT(*) FROM changed), (SELECT COUNT(*) FROM told)"
    )
}

impl PostgresMetadata {
    /// Executes one statement that may take long.
    pub(super) async fn patiently(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, MetadataError> {
        let work = async {
            let mut client = self.pool.acquire(Instant::now() + CALL).await?;
            let outcome = within(Instant::now() + PATIENCE + CALL, async {
                let transaction = client.transaction().await?;
                let bound = format!("SET LOCAL statement_timeout = {}", PATIENCE.as_millis());
                transaction.batch_execute(&bound).await?;
                let statement = transaction.prepare_cached(statement).await?;
                self.pool.statements().count(operation);
                let rows = transaction.query(&statement, values).await?;
                transaction.commit().await?;
                Ok(rows)
            });
            let outcome = outcome.await;
            self.pool.settle(client, outcome)
        };
        work.await.map_err(|trouble: Trouble| trouble.into_error(operation))
    }

    /// The same of a statement that counts.
    pub(super) async fn counted(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<u64, MetadataError> {
        let rows = self.patiently(operation, statement, values).await?;
        let row = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }

    fn blobs(&self, rows: &[Row]) -> Vec<(Digest, u64)> {
        readable(rows, self.pool.statements(), "blobs", blob)
    }
}

#[async_trait]
impl Housekeeping for PostgresMetadata {
    /// A lock of a session of its own, which ends with the process.
    async fn take_turn(&self, name: &'static str) -> Result<Option<Turn>, MetadataError> {
        let operation = Operation::TakeTurn;
        let failed = |error: PostgresError| MetadataError::Unavailable(error.to_string());
        let alone = schema::connect(&self.settings).await.map_err(failed)?;
        let name = format!("artifactapi turn {name}");
        let taking = timeout(CALL, async {
            alone.client.batch_execute(TURN).await?;
            self.pool.statements().count(operation);
            alone.client.execute(TAKE_TURN, &[&name]).await
        });
        match taking.await {
            Ok(Ok(_)) => Ok(Some(Box::new(alone))),
            Ok(Err(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
            Ok(Err(error)) => Err(MetadataError::Unavailable(describe(&error))),
            Err(_) => Err(Trouble::Late.into_error(operation)),
        }
    }

    async fn condemn_blobs(
        &self,
        grace: Duration,
        limit: usize,
        dry: bool,
    ) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let values: Values<'_> = &[&grace.as_secs_f64(), &sql_limit(limit), &dry];
        Ok(self.blobs(&self.patiently(Operation::CondemnBlobs, CONDEMN, values).await?))
    }

    async fn claim_blobs(&self, grace: Duration, limit: usize) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let values: Values<'_> = &[&grace.as_secs_f64(), &sql_limit(limit)];
        Ok(self.blobs(&self.patiently(Operation::ClaimBlobs, CLAIM, values).await?))
    }

    async fn drop_blob(&self, digest: &Digest) -> Result<(), MetadataError> {
        self.read(Operation::DropBlob, DROP, &[&digest.to_hex()]).await.map(drop)
    }

    async fn take_up_strays(&self, found: &[(Digest, u64)]) -> Result<u64, MetadataError> {
        let mut strays = 0;
        for part in found.chunks(PART) {
            let digests: Vec<String> = part.iter().map(|(digest, _)| digest.to_hex()).collect();
            let sizes: Vec<i64> = part.iter().map(|(_, size)| size.cast_signed()).collect();
            strays += self.counted(Operation::TakeUpStrays, TAKE_UP, &[&digests, &sizes]).await?;
        }
        Ok(strays)
    }

    async fn blob_states(&self) -> Result<BlobStates, MetadataError> {
        let mut states = BlobStates::default();
        for row in self.patiently(Operation::BlobStates, STATES, &[]).await? {
            let total = total(&row, 1);
            match row.get(0) {
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
        let values: Values<'_> = &[&after, &sql_limit(limit)];
        Ok(self.blobs(&self.patiently(Operation::BlobsAfter, BLOBS_AFTER, values).await?))
    }

    async fn usage(&self, repo: RepoId, epoch: Epoch) -> Result<Total, MetadataError> {
        let rows = self.patiently(Operation::Usage, USAGE, &[&repo.0, &epoch.0]).await?;
        Ok(rows.first().map_or_else(Total::default, |row| total(row, 0)))
    }

    async fn expire_unused(
        &self,
        repo: RepoId,
        epoch: Epoch,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ArtifactKey>, MetadataError> {
        let values: Values<'_> = &[&repo.0, &epoch.0, &before.0, &sql_limit(limit)];
        let rows = self.patiently(Operation::ExpireUnused, EXPIRE_UNUSED, values).await?;
        Ok(readable(&rows, self.pool.statements(), "artifacts", |row| rows::key(row, 0)))
    }

    async fn least_used(&self, repo: RepoId, epoch: Epoch, limit: usize) -> Result<Vec<Aged>, MetadataError> {
        let values: Values<'_> = &[&repo.0, &epoch.0, &sql_limit(limit)];
        let rows = self.patiently(Operation::LeastUsed, LEAST_USED, values).await?;
        Ok(readable(&rows, self.pool.statements(), "artifacts", |row| {
            Ok(Aged {
                key: rows::key(row, 0)?,
                digest: rows::digest(row, 3)?,
                size: rows::column::<i64>(row, 4)?.cast_unsigned(),
                used_at: Timestamp(rows::column(row, 5)?),
            })
        }))
    }

    async fn recorded(&self, name: &RepoName) -> Result<Vec<Recorded>, MetadataError> {
        let rows = self.read(Operation::Recorded, RECORDED, &[&name.as_str()]).await?;
        Ok(readable(&rows, self.pool.statements(), "repositories", recorded))
    }

    async fn change(
        &self,
        repo: RepoId,
        epoch: Epoch,
        selection: &Selection,
        change: Change,
    ) -> Result<u64, MetadataError> {
        let operation = Operation::Change;
        let place = "repo = $1 AND epoch = $2 AND";
        match selection {
            Selection::Path(path) => {
                let key = ArtifactKey { repo, epoch, path: path.as_str().into() };
                let (column, notice) = (columns_of(path).0, Notice::changed(&key, "").encode());
                let statement = changing(change, &format!("{place} path = $3"), 4);
                self.counted(operation, &statement, &[&repo.0, &epoch.0, &column, &notice]).await
            }
            Selection::Prefix(whole) => {
                let (RepoId(repo), Epoch(epoch)) = (repo, epoch);
                let notice = Notice::ChangedBelow { repo, epoch, prefix: whole.clone() }.encode();
                let from = rows::indexed_prefix(whole);
                let which = format!("{place} path >= $3 AND starts_with(COALESCE(long_path, path), $4)");
                match prefix::end_of(from) {
                    Some(to) => {
                        let statement = changing(change, &format!("{which} AND path < $6"), 5);
                        let values: Values<'_> = &[&repo, &epoch, &from, whole, &notice, &to];
                        self.counted(operation, &statement, values).await
                    }
                    None => {
                        let values: Values<'_> = &[&repo, &epoch, &from, whole, &notice];
                        self.counted(operation, &changing(change, &which, 5), values).await
                    }
                }
            }
        }
    }

    async fn expire_derived(&self, before: Timestamp, limit: usize) -> Result<u64, MetadataError> {
        self.counted(Operation::ExpireDerived, EXPIRE_DERIVED, &[&before.0, &sql_limit(limit)]).await
    }

    async fn retire_others(&self, present: &[RepoId]) -> Result<(), MetadataError> {
        let present: Vec<i64> = present.iter().map(|repo| repo.0).collect();
        self.pool.ask(Operation::RetireOthers, Repeat::Safe, RETIRE, &[&present]).await.map(drop)
    }

    async fn expire_retired(&self, grace: Duration, limit: usize) -> Result<u64, MetadataError> {
        let values: Values<'_> = &[&grace.as_secs_f64(), &sql_limit(limit)];
        self.counted(Operation::ExpireRetired, EXPIRE_RETIRED, values).await
    }
}
