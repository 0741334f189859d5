//! Observations and probes in the file.

use std::{collections::HashMap, time::Duration};

use artifactapi_model::{
    Epoch, RepoId,
    ports::{
        MetadataError, Observations,
        observations::{DueProbe, Observed, ProbeRequest, Seen, TAKEN},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;
use rusqlite::{Row, types::Type};

use super::{SqliteMetadata, housekeeping::millis, session::Session, sql_limit};
use crate::metadata::{
    observation_rows::{Known, Merged, PAGE, merge},
    operation::Operation,
};

const KNOWN: &str =
    concat!("SELECT epoch, observation, written_at > ", now!(), " - ?2 FROM observations WHERE repo = ?1");
const PUT: &str = concat!(
    "INSERT INTO observations (repo, epoch, observation, version, written_at) \
     VALUES (?1, ?2, ?3, (SELECT COALESCE(MAX(version), 0) + 1 FROM observations), ",
    now!(),
    ") ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, observation = excluded.observation, \
     version = excluded.version, written_at = excluded.written_at"
);
const MOVE_PROBE: &str = concat!(
    "UPDATE probes SET due_at = ",
    now!(),
    " + ?3, token = NULL WHERE repo = ?1 AND epoch = ?2 AND (token IS NULL OR token = ?4)"
);
const OBSERVED: &str = "SELECT r.namespace, r.name, o.repo, o.epoch, o.version, o.observation \
     FROM observations o JOIN repositories r ON r.id = o.repo AND r.epoch = o.epoch \
     WHERE o.version > ?1 AND r.retired_at IS NULL ORDER BY o.version LIMIT ?2";
const REQUEST: &str = concat!(
    "INSERT INTO probes (repo, epoch, due_at, token, config) SELECT id, epoch, ",
    now!(),
    ", ?3, ?4 FROM repositories WHERE namespace = ?1 AND name = ?2 AND retired_at IS NULL \
     ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at, \
     token = excluded.token, config = excluded.config"
);
const SCHEDULE: &str = concat!(
    "INSERT INTO probes (repo, epoch, due_at, config) VALUES (?1, ?2, ",
    now!(),
    " + ?4, ?3) ON CONFLICT (repo) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at, \
     token = NULL, config = excluded.config WHERE probes.epoch < excluded.epoch"
);
const TAKE: &str = concat!(
    "UPDATE probes SET due_at = ",
    now!(),
    " + ?3 WHERE repo IN (SELECT repo FROM probes WHERE due_at <= ",
    now!(),
    " AND config <= ?1 ORDER BY due_at, repo LIMIT ?2) RETURNING repo, epoch, token"
);
const FORGET: &str = "DELETE FROM probes WHERE repo = ?1 AND epoch <= ?2";

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let text: String = row.get(1)?;
    // What makes no sense is written anew.
    let observation = serde_json::from_str(&text).unwrap_or_default();
    Ok(Known { epoch: Epoch(row.get(0)?), observation, is_fresh: row.get(2)? })
}

fn observed(row: &Row<'_>) -> rusqlite::Result<Observed> {
    let (name, text): (String, String) = (row.get(1)?, row.get(5)?);
    Ok(Observed {
        namespace: row.get(0)?,
        name: name.parse().map_err(|error| unreadable(1, error))?,
        identity: RepoIdentity { id: RepoId(row.get(2)?), epoch: Epoch(row.get(3)?) },
        version: row.get(4)?,
        observation: serde_json::from_str(&text).map_err(|error| unreadable(5, error))?,
    })
}

fn due(row: &Row<'_>) -> rusqlite::Result<DueProbe> {
    let identity = RepoIdentity { id: RepoId(row.get(0)?), epoch: Epoch(row.get(1)?) };
    Ok(DueProbe { identity, token: row.get(2)? })
}

fn observe(session: &Session<'_>, seen: &[Seen], spacing: Duration) -> rusqlite::Result<Vec<RepoIdentity>> {
    let mut rows = HashMap::new();
    for Seen { identity, .. } in seen {
        if let Some(row) = session.find(KNOWN, (identity.id.0, millis(spacing)), known)? {
            rows.insert(identity.id, row);
        }
    }
    let Merged { writes, settled } = merge(seen, |repo| rows.get(&repo).cloned());
    for write in writes {
        let RepoIdentity { id, epoch } = write.identity;
        session.execute(PUT, (id.0, epoch.0, write.text()))?;
        session.execute(MOVE_PROBE, (id.0, epoch.0, millis(write.probe_in()), write.token()))?;
    }
    Ok(settled)
}

#[async_trait]
impl Observations for SqliteMetadata {
    async fn observe(&self, seen: &[Seen], spacing: Duration) -> Result<Vec<RepoIdentity>, MetadataError> {
        let seen = seen.to_vec();
        self.writer
            .run(Operation::Observe, move |session: &Session<'_>| observe(session, &seen, spacing))
            .await
    }

    async fn observed(&self, after: i64) -> Result<Vec<Observed>, MetadataError> {
        let read = move |session: &Session<'_>| session.rows(OBSERVED, (after, sql_limit(PAGE)), observed);
        self.readers.run(Operation::Observed, read).await
    }

    async fn request_probes(&self, wanted: &[ProbeRequest]) -> Result<(), MetadataError> {
        let wanted = wanted.to_vec();
        let work = move |session: &Session<'_>| {
            for ProbeRequest { namespace, name, token, config } in &wanted {
                session.execute(REQUEST, (namespace, name.as_str(), token, config))?;
            }
            Ok(())
        };
        self.writer.run(Operation::RequestProbes, work).await
    }

    async fn schedule_probes(
        &self,
        remotes: &[RepoIdentity],
        config: i64,
        after: Duration,
    ) -> Result<(), MetadataError> {
        let remotes = remotes.to_vec();
        let work = move |session: &Session<'_>| {
            for RepoIdentity { id, epoch } in &remotes {
                session.execute(SCHEDULE, (id.0, epoch.0, config, millis(after)))?;
            }
            Ok(())
        };
        self.writer.run(Operation::ScheduleProbes, work).await
    }

    async fn take_probes(&self, config: i64, limit: usize) -> Result<Vec<DueProbe>, MetadataError> {
        let work =
            move |session: &Session<'_>| session.rows(TAKE, (config, sql_limit(limit), millis(TAKEN)), due);
        self.writer.run(Operation::TakeProbes, work).await
    }

    async fn forget_probes(&self, remotes: &[RepoIdentity]) -> Result<(), MetadataError> {
        let remotes = remotes.to_vec();
        let work = move |session: &Session<'_>| {
            for RepoIdentity { id, epoch } in &remotes {
                session.execute(FORGET, (id.0, epoch.0))?;
            }
            Ok(())
        };
        self.writer.run(Operation::ForgetProbes, work).await
    }
}
