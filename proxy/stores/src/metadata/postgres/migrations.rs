//! Brings the schema up to date: each migration in a transaction of its own, under a lock that one process has
//! at a time. A process that dies gives the lock back, and the next one goes on after the last migration that
//! was completed (RS-117).

use std::{fmt, time::Duration};

use deadpool_postgres::tokio_postgres::{Error, error::SqlState};
use tokio::time::Instant;

use super::{
    schema::{self, Alone, PostgresError},
    settings::PostgresSettings,
};

/// Longest wait for another process that migrates.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts at a migration that finds its tables locked.
const ATTEMPTS: u32 = 5;
/// A lock that is not to be had soon is given up: everyone else would queue up behind us.
const BOUNDS: &str = "SET lock_timeout = '2s'; SET statement_timeout = 0";
/// Whose lock it is: "artifac" in ASCII.
const LOCK: &str = "SELECT pg_advisory_lock(27428917051023715)";

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// What [`super::PostgresMetadata::migrate`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Version before; 0 for an empty database.
    pub from: i64,
    /// Version now.
    pub to: i64,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "the schema has version {} already", self.to)
        } else {
            write!(f, "the schema went from version {} to {}", self.from, self.to)
        }
    }
}

/// Version of the last migration of this release.
pub(super) fn known() -> i64 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0)
}

pub(super) async fn run(settings: &PostgresSettings) -> Result<Migrated, PostgresError> {
    let mut alone = schema::connect(settings).await?;
    let failed = |error: &Error| PostgresError::of(settings, error);
    alone.client.batch_execute(BOUNDS).await.map_err(|error| failed(&error))?;
    lock(settings, &alone).await?;
    let before = schema::versions(&alone.client).await.map_err(|error| failed(&error))?;
    schema::refuse_newer(settings, before, known())?;
    if before.found >= known() {
        return Ok(Migrated { from: before.found, to: before.found });
    }
    apply(settings, &mut alone).await?;
    Ok(Migrated { from: before.found, to: known() })
}

/// Makes the schema of an older release.
#[cfg(test)]
pub(super) async fn run_up_to(settings: &PostgresSettings, version: i32) {
    let mut alone = schema::connect(settings).await.unwrap();
    let runner = embedded::migrations::runner().set_target(refinery::Target::Version(version));
    runner.run_async(&mut alone.client).await.unwrap();
}

async fn lock(settings: &PostgresSettings, alone: &Alone) -> Result<(), PostgresError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match alone.client.batch_execute(LOCK).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                if Instant::now() >= end {
                    let (place, database) = (settings.place(), settings.database.clone());
                    return Err(PostgresError::Busy { place, database });
                }
            }
            Err(error) => return Err(PostgresError::of(settings, &error)),
        }
    }
}

async fn apply(settings: &PostgresSettings, alone: &mut Alone) -> Result<(), PostgresError> {
    for attempt in 1.. {
        let Err(error) = embedded::migrations::runner().run_async(&mut alone.client).await else { break };
        let cause = cause(&error);
        let is_locked = cause.is_some_and(|cause| cause.code() == Some(&SqlState::LOCK_NOT_AVAILABLE));
        if is_locked && attempt < ATTEMPTS {
            continue;
        }
        return Err(match cause {
            Some(cause) => PostgresError::of(settings, cause),
            // Without a cause it is about the list of migrations, whose text names no file; no patience mends it.
            None => PostgresError::settings(settings, format!("database {:?}: {error}", settings.database)),
        });
    }
    Ok(())
}

/// What the server said.
fn cause(error: &refinery::Error) -> Option<&Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
