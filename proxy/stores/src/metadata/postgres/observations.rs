//! Observations and probes. Rows are merged in a transaction under one lock, so that their versions become visible in
//! order; it is short, and nobody's request waits for it.

use std::{collections::HashMap, time::Duration};

use artifactapi_model::{
    Epoch, Notice, RepoId,
    ports::{
        MetadataError, Observations,
        observations::{DueProbe, Observed, ProbeRequest, Seen, TAKEN},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use deadpool_postgres::{Object, Transaction, tokio_postgres::Row};
use tokio::time::Instant;

use super::{
    super::{
        observation_rows::{Known, Merged, PAGE, Write, merge},
        operation::{Operation, SqlStatements},
    },
    PART, PostgresMetadata, Values,
    pool::{CALL, Repeat, within},
    rows::{column, readable},
    sql_limit,
    trouble::Trouble,
};

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('artifactapi observations'))";
const KNOWN: &str = "SELECT repo, epoch, observation, written_at > now() - make_interval(secs => $2) \
     FROM observations WHERE repo = ANY ($1)";
const PUT: &str = "INSERT INTO observations (repo, epoch, observation, version, written_at) \
     SELECT w.repo, w.epoch, w.observation, nextval('observed_version'), now() \
     FROM unnest($1::BIGINT[], $2::BIGINT[], $3::TEXT[]) AS w (repo, epoch, observation) \
     ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, observation = excluded.observation, \
     version = excluded.version, written_at = excluded.written_at";
/// Everyone who changes several takes them in this order.
const LOCK_PROBES: &str = "SELECT 1 FROM probes WHERE repo = ANY ($1) ORDER BY repo FOR UPDATE";
const MOVE_PROBES: &str = "UPDATE probes p SET due_at = now() + make_interval(secs => w.after), token = NULL \
     FROM unnest($1::BIGINT[], $2::BIGINT[], $3::DOUBLE PRECISION[], $4::TEXT[]) AS w (repo, epoch, after, token) \
     WHERE p.repo = w.repo AND p.epoch = w.epoch AND (p.token IS NULL OR p.token = w.token)";
const NOTIFY: &str = "SELECT pg_notify('artifactapi', $1)";
const OBSERVED: &str = "SELECT r.namespace, r.name, o.repo, o.epoch, o.version, o.observation \
     FROM observations o JOIN repositories r ON r.id = o.repo AND r.epoch = o.epoch \
     WHERE o.version > $1 AND r.retired_at IS NULL ORDER BY o.version LIMIT $2";
const REQUEST: &str = "WITH put AS (INSERT INTO probes (repo, epoch, due_at, token, config) \
     SELECT DISTINCT ON (r.id) r.id, r.epoch, now(), w.token, w.config \
     FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[]) WITH ORDINALITY \
     AS w (namespace, name, token, config, place) JOIN repositories r ON r.namespace = w.namespace \
     AND r.name = w.name WHERE r.retired_at IS NULL ORDER BY r.id, w.place DESC \
     ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at, \
     token = excluded.token, config = excluded.config RETURNING 1) \
     SELECT pg_notify('artifactapi', $5) FROM (SELECT 1 FROM put LIMIT 1) AS told";
const SCHEDULE: &str = "INSERT INTO probes (repo, epoch, config, due_at) \
     SELECT DISTINCT ON (w.repo) w.repo, w.epoch, $3, now() + make_interval(secs => $4) \
     FROM unnest($1::BIGINT[], $2::BIGINT[]) AS w (repo, epoch) ORDER BY w.repo, w.epoch DESC \
     ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at, token = NULL, \
     config = excluded.config WHERE probes.epoch < excluded.epoch";
const TAKE: &str = "WITH picked AS MATERIALIZED (SELECT repo FROM probes WHERE due_at <= now() AND config <= $1 \
     ORDER BY due_at, repo LIMIT $2 FOR UPDATE SKIP LOCKED) \
     UPDATE probes p SET due_at = now() + make_interval(secs => $3) FROM picked WHERE p.repo = picked.repo \
     RETURNING p.repo, p.epoch, p.token";
const FORGET: &str = "DELETE FROM probes p USING unnest($1::BIGINT[], $2::BIGINT[]) AS w (repo, epoch) \
     WHERE p.repo = w.repo AND p.epoch <= w.epoch";

fn identity(row: &Row, at: usize) -> Result<RepoIdentity, String> {
    Ok(RepoIdentity { id: RepoId(column(row, at)?), epoch: Epoch(column(row, at + 1)?) })
}

fn observed(row: &Row) -> Result<Observed, String> {
    let name: &str = column(row, 1)?;
    Ok(Observed {
        namespace: column(row, 0)?,
        name: name.parse().map_err(|error| format!("{error}"))?,
        identity: identity(row, 2)?,
        version: column(row, 4)?,
        observation: serde_json::from_str(column(row, 5)?).map_err(|error| error.to_string())?,
    })
}

fn columns(remotes: &[RepoIdentity]) -> (Vec<i64>, Vec<i64>) {
    remotes.iter().map(|RepoIdentity { id, epoch }| (id.0, epoch.0)).unzip()
}

/// One part of what was seen, in its transaction.
struct Steps<'a> {
    transaction: Transaction<'a>,
    statements: &'a SqlStatements,
}

impl Steps<'_> {
    async fn rows(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Trouble> {
        self.statements.count(Operation::Observe);
        let statement = self.transaction.prepare_cached(statement).await?;
        Ok(self.transaction.query(&statement, values).await?)
    }

    async fn known(&self, seen: &[Seen], spacing: Duration) -> Result<HashMap<RepoId, Known>, Trouble> {
        let repos: Vec<i64> = seen.iter().map(|seen| seen.identity.id.0).collect();
        let rows = self.rows(KNOWN, &[&repos, &spacing.as_secs_f64()]).await?;
        let known = |row: &Row| {
            let text: &str = row.get(2);
            // What makes no sense is written anew.
            let observation = serde_json::from_str(text).unwrap_or_default();
            (RepoId(row.get(0)), Known { epoch: Epoch(row.get(1)), observation, is_fresh: row.get(3) })
        };
        Ok(rows.iter().map(known).collect())
    }

    async fn write(&self, writes: &[Write]) -> Result<(), Trouble> {
        if writes.is_empty() {
            return Ok(());
        }
        let (repos, epochs): (Vec<i64>, Vec<i64>) =
            writes.iter().map(|write| (write.identity.id.0, write.identity.epoch.0)).unzip();
        let texts: Vec<String> = writes.iter().map(Write::text).collect();
        let afters: Vec<f64> = writes.iter().map(|write| write.probe_in().as_secs_f64()).collect();
        let tokens: Vec<Option<&str>> = writes.iter().map(Write::token).collect();
        self.rows(PUT, &[&repos, &epochs, &texts]).await?;
        self.rows(LOCK_PROBES, &[&repos]).await?;
        self.rows(MOVE_PROBES, &[&repos, &epochs, &afters, &tokens]).await?;
        if writes.iter().any(|write| write.is_news) {
            self.rows(NOTIFY, &[&Notice::Observed.encode()]).await?;
        }
        Ok(())
    }
}

async fn observe(
    client: &mut Object,
    statements: &SqlStatements,
    seen: &[Seen],
    spacing: Duration,
) -> Result<Vec<RepoIdentity>, Trouble> {
    let steps = Steps { transaction: client.transaction().await?, statements };
    steps.rows(LOCK, &[]).await?;
    let known = steps.known(seen, spacing).await?;
    let Merged { writes, settled } = merge(seen, |repo| known.get(&repo).cloned());
    steps.write(&writes).await?;
    steps.transaction.commit().await?;
    Ok(settled)
}

#[async_trait]
impl Observations for PostgresMetadata {
    async fn observe(&self, seen: &[Seen], spacing: Duration) -> Result<Vec<RepoIdentity>, MetadataError> {
        let mut settled = Vec::new();
        for part in seen.chunks(PART) {
            let deadline = Instant::now() + CALL;
            let failed = |trouble: Trouble| trouble.into_error(Operation::Observe);
            let mut client = self.pool.acquire(deadline).await.map_err(failed)?;
            let work = observe(&mut client, self.pool.statements(), part, spacing);
            let outcome = within(deadline, work).await;
            settled.extend(self.pool.settle(client, outcome).map_err(failed)?);
        }
        Ok(settled)
    }

    async fn observed(&self, after: i64) -> Result<Vec<Observed>, MetadataError> {
        let rows = self.read(Operation::Observed, OBSERVED, &[&after, &sql_limit(PAGE)]).await?;
        Ok(readable(&rows, self.pool.statements(), "observations", observed))
    }

    async fn request_probes(&self, wanted: &[ProbeRequest]) -> Result<(), MetadataError> {
        for part in wanted.chunks(PART) {
            let namespaces: Vec<&str> = part.iter().map(|request| request.namespace.as_str()).collect();
            let names: Vec<&str> = part.iter().map(|request| request.name.as_str()).collect();
            let tokens: Vec<&str> = part.iter().map(|request| request.token.as_str()).collect();
            let configs: Vec<i64> = part.iter().map(|request| request.config).collect();
            let notice = Notice::Probe.encode();
            let values: Values<'_> = &[&namespaces, &names, &tokens, &configs, &notice];
            self.read(Operation::RequestProbes, REQUEST, values).await?;
        }
        Ok(())
    }

    async fn schedule_probes(
        &self,
        remotes: &[RepoIdentity],
        config: i64,
        after: Duration,
    ) -> Result<(), MetadataError> {
        for part in remotes.chunks(PART) {
            let (repos, epochs) = columns(part);
            self.read(Operation::ScheduleProbes, SCHEDULE, &[&repos, &epochs, &config, &after.as_secs_f64()])
                .await?;
        }
        Ok(())
    }

    async fn take_probes(&self, config: i64, limit: usize) -> Result<Vec<DueProbe>, MetadataError> {
        let values: Values<'_> = &[&config, &sql_limit(limit), &TAKEN.as_secs_f64()];
        // What was taken and not heard of is due again in a while.
        let rows = self.pool.ask(Operation::TakeProbes, Repeat::Never, TAKE, values).await?;
        let due = |row: &Row| Ok(DueProbe { identity: identity(row, 0)?, token: column(row, 2)? });
        Ok(readable(&rows, self.pool.statements(), "probes", due))
    }

    async fn forget_probes(&self, remotes: &[RepoIdentity]) -> Result<(), MetadataError> {
        let (repos, epochs) = columns(remotes);
        self.read(Operation::ForgetProbes, FORGET, &[&repos, &epochs]).await.map(drop)
    }
}
