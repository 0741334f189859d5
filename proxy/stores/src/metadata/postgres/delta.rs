//! Changes of the configuration by the operator: only what differs, and only from the operator that leads.
//!
//! A leader knows its epoch, and the epochs only rise. The first thing a new leader does is to raise the fence to
//! its own ([`PostgresMetadata::raise_fence`]); from then on nothing an older one writes is taken, however long it
//! slept past its lease (RS-130).

use std::time::Duration;

use artifactapi_model::{
    RepoId,
    account::{Robot, RobotKey},
    failpoint,
    ports::MetadataError,
};
use deadpool_postgres::Object;
use tokio::time::Instant;

use super::{
    super::operation::{Operation, SqlStatements},
    PostgresMetadata,
    accounts::{Columns, DECLARE_ROBOTS},
    config::{Declared, Places, Steps, StoredObject},
    pool::within,
    sql_limit,
    trouble::Trouble,
};

/// Longest time of a change.
const PATIENCE: Duration = Duration::from_secs(15);
const FENCE: &str = "SELECT epoch FROM operator_fence";
const RAISE: &str = "INSERT INTO operator_fence (epoch) VALUES ($1) ON CONFLICT (is_only) DO UPDATE \
     SET epoch = excluded.epoch WHERE operator_fence.epoch < excluded.epoch";
const RETIRE: &str = "UPDATE repositories r SET retired_at = now() \
     FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) AS d (namespace, name, package_type) WHERE retired_at IS NULL \
     AND d.namespace = r.namespace AND d.name = r.name AND d.package_type = r.package_type";
const DROP_ROBOTS: &str = "DELETE FROM robots r USING unnest($1::TEXT[], $2::TEXT[]) AS d (namespace, name) \
     WHERE r.source = 'manifest' AND r.namespace = d.namespace AND r.name = d.name";

const PURGE: &str = "WITH picked AS MATERIALIZED (SELECT a.repo, a.epoch, a.path FROM artifacts a \
     WHERE a.repo = $1 AND EXISTS (SELECT 1 FROM repositories r WHERE r.id = a.repo AND r.retired_at IS NOT NULL) \
     LIMIT $2 FOR UPDATE), gone AS (DELETE FROM artifacts a USING picked p \
     WHERE a.repo = p.repo AND a.epoch = p.epoch AND a.path = p.path RETURNING 1) SELECT COUNT(*) FROM gone";

/// What is to change; everything else stays. Its cost is that of what it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Objects to add or replace.
    pub upserts: Vec<StoredObject>,
    /// Kind, namespace and name of objects to delete.
    pub deletes: Vec<(String, String, String)>,
    /// Repositories that exist after it.
    pub declare: Vec<Declared>,
    /// Repositories that retire.
    pub retire: Vec<Declared>,
    /// Robots that manifests have after it.
    pub robots: Vec<Robot>,
    /// Robots of manifests that go.
    pub robots_gone: Vec<RobotKey>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done: the version that has it. The same as before when nothing was to change.
    Version(i64),
    /// Another change came first: the version now. Nothing was changed.
    Outdated(i64),
    /// A leader of this higher epoch has taken over. Nothing was changed.
    Fenced(i64),
}

impl PostgresMetadata {
    /// Epoch of the fence; 0 before the first operator.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn fence(&self) -> Result<i64, MetadataError> {
        let rows = self.read(Operation::Fence, FENCE, &[]).await?;
        Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
    }

    /// Raises the fence to `epoch`, behind every change that is under way: whoever has a lower one writes nothing
    /// more. Returns the epoch of the fence, which is higher if another leader came later.
    ///
    /// # Errors
    /// [`MetadataError`]; doing it again is harmless.
    pub async fn raise_fence(&self, epoch: i64) -> Result<i64, MetadataError> {
        let operation = Operation::Fence;
        let raising = async {
            let deadline = Instant::now() + PATIENCE;
            let mut client = self.pool.acquire(deadline).await?;
            let outcome = within(deadline, async {
                let transaction = client.transaction().await?;
                let steps =
                    Steps { transaction: &transaction, statements: self.pool.statements(), operation };
                // Changes hold it until they are committed.
                steps.lock().await?;
                steps.changes(RAISE, &[&epoch]).await?;
                let rows = steps.rows(FENCE, &[]).await?;
                transaction.commit().await?;
                Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
            });
            let outcome = outcome.await;
            self.pool.settle(client, outcome)
        };
        raising.await.map_err(|trouble: Trouble| trouble.into_error(operation))
    }

    /// Deletes up to `limit` artifacts of a repository that has retired, and returns how many. The collector frees their
    /// bytes.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn purge_artifacts(&self, repo: RepoId, limit: usize) -> Result<u64, MetadataError> {
        self.counted(Operation::ApplyDelta, PURGE, &[&repo.0, &sql_limit(limit)]).await
    }

    /// Changes the configuration for the leader of `epoch`, one caller at a time; `based_on` is the version the change
    /// was made for. When something changed, the version rises by one and every listener hears of it.
    ///
    /// # Errors
    /// [`MetadataError`]; after [`MetadataError::Unavailable`] nobody knows whether it was done, and doing it again is
    /// harmless.
    pub async fn apply_delta(
        &self,
        epoch: i64,
        based_on: i64,
        delta: &Delta,
    ) -> Result<Written, MetadataError> {
        let operation = Operation::ApplyDelta;
        let applying = async {
            let deadline = Instant::now() + PATIENCE;
            let mut client = self.pool.acquire(deadline).await?;
            let work = apply(&mut client, self.pool.statements(), epoch, based_on, delta);
            let outcome = within(deadline, work).await;
            self.pool.settle(client, outcome)
        };
        applying.await.map_err(|trouble: Trouble| trouble.into_error(operation))
    }
}

async fn apply(
    client: &mut Object,
    statements: &SqlStatements,
    epoch: i64,
    based_on: i64,
    delta: &Delta,
) -> Result<Written, Trouble> {
    // No `..`: what is added to a change must not be forgotten here.
    let Delta { upserts, deletes, declare, retire, robots, robots_gone } = delta;
    let transaction = client.transaction().await?;
    let steps = Steps { transaction: &transaction, statements, operation: Operation::ApplyDelta };
    let version = steps.lock().await?;
    let fence = steps.rows(FENCE, &[]).await?.first().map_or(0, |row| row.get::<_, i64>(0));
    if fence > epoch {
        return Ok(Written::Fenced(fence));
    }
    if version != based_on {
        return Ok(Written::Outdated(version));
    }
    if fence < epoch {
        steps.changes(RAISE, &[&epoch]).await?;
    }
    let next = version + 1;
    let mut is_changed = false;
    if !deletes.is_empty() {
        is_changed |= steps.delete(deletes).await?;
    }
    if !upserts.is_empty() {
        is_changed |= steps.put(upserts, next).await?;
    }
    failpoint("operator.sql.after_objects");
    if !retire.is_empty() {
        let Places { namespaces, names, types } = Places::of(retire);
        is_changed |= steps.changes(RETIRE, &[&namespaces, &names, &types]).await?;
    }
    if !declare.is_empty() {
        is_changed |= steps.declare(declare).await?;
    }
    is_changed |= steps.change_robots(robots, robots_gone).await?;
    if is_changed {
        steps.tell(next).await?;
    }
    failpoint("operator.sql.before_commit");
    transaction.commit().await?;
    failpoint("operator.sql.after_commit");
    Ok(Written::Version(if is_changed { next } else { version }))
}

impl Steps<'_> {
    async fn change_robots(&self, robots: &[Robot], gone: &[RobotKey]) -> Result<bool, Trouble> {
        let mut is_changed = false;
        if !gone.is_empty() {
            let namespaces: Vec<&str> = gone.iter().map(|key| key.namespace.as_str()).collect();
            let names: Vec<&str> = gone.iter().map(|key| key.name.as_str()).collect();
            is_changed |= self.changes(DROP_ROBOTS, &[&namespaces, &names]).await?;
        }
        if !robots.is_empty() {
            let Columns { namespaces, names, grants, ttls } = Columns::of(robots);
            let (others_go, kept): (bool, [&str; 0]) = (false, []);
            let values: super::Values<'_> =
                &[&namespaces, &names, &grants, &ttls, &others_go, &&kept[..], &&kept[..]];
            let rows = self.rows(DECLARE_ROBOTS, values).await?;
            is_changed |= rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0);
        }
        Ok(is_changed)
    }
}
