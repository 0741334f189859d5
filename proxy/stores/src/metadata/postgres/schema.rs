//! Whether the schema fits this release, and why the database cannot be used.

use std::time::Duration;

use deadpool_postgres::tokio_postgres::{Client, Error, error::SqlState};
use tokio::{task::AbortHandle, time::timeout};

use super::{settings::PostgresSettings, statements as sql, tls, trouble::describe};

/// The lowest version this release can work with: what it needs was added by that migration.
pub(super) const NEEDED: i64 = 9;
/// Longest time to connect and to look.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the database cannot be used. It has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It does not answer: trying again may help.
    #[error("PostgreSQL at {place}, database {database:?}, cannot be reached: {cause}")]
    Unreachable {
        /// `host:port`.
        place: String,
        /// Name of the database.
        database: String,
        /// The cause, without secrets.
        cause: String,
    },
    /// It answers, and refuses: the role, the password, the database or a right is wrong.
    #[error("PostgreSQL at {place}, database {database:?}, refuses: {cause}")]
    Refused {
        /// `host:port`.
        place: String,
        /// Name of the database.
        database: String,
        /// The cause, without secrets.
        cause: String,
    },
    /// The settings themselves are wrong.
    #[error("PostgreSQL at {place} cannot be used: {reason}")]
    Settings {
        /// `host:port`.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Its schema lacks what this release needs (RS-117).
    #[error(
        "database {database:?} at {place} has schema version {found}, this release needs {needed}; \
         run `artifactapi migrate`"
    )]
    TooOld {
        /// `host:port`.
        place: String,
        /// Name of the database.
        database: String,
        /// Version of the last migration applied to it.
        found: i64,
        /// Version this release needs.
        needed: i64,
    },
    /// A newer release has taken away what this one needs (RS-118).
    #[error(
        "database {database:?} at {place} has schema version {found}, which no release before schema version \
         {oldest} can use, and this one knows up to {known}; start a newer release, or restore the backup \
         taken before the upgrade"
    )]
    TooNew {
        /// `host:port`.
        place: String,
        /// Name of the database.
        database: String,
        /// Version of the last migration applied to it.
        found: i64,
        /// Lowest version a release must know to use it.
        oldest: i64,
        /// Version of the last migration of this release.
        known: i64,
    },
    /// Another process is migrating, and does not end.
    #[error("another process is migrating database {database:?} at {place}; try again when it has ended")]
    Busy {
        /// `host:port`.
        place: String,
        /// Name of the database.
        database: String,
    },
}

impl PostgresError {
    /// No patience mends it, nor anybody elsewhere: it must be seen.
    pub fn is_lasting(&self) -> bool {
        match self {
            PostgresError::TooNew { .. } | PostgresError::Settings { .. } => true,
            PostgresError::Unreachable { .. }
            | PostgresError::Refused { .. }
            | PostgresError::TooOld { .. }
            | PostgresError::Busy { .. } => false,
        }
    }

    pub(super) fn settings(settings: &PostgresSettings, reason: String) -> Self {
        PostgresError::Settings { place: settings.place(), reason }
    }

    pub(super) fn of(settings: &PostgresSettings, error: &Error) -> Self {
        let (place, database, cause) = (settings.place(), settings.database.clone(), describe(error));
        match error.code() {
            Some(code) if !may_pass(code) => PostgresError::Refused { place, database, cause },
            _ => PostgresError::Unreachable { place, database, cause },
        }
    }

    pub(super) fn late(settings: &PostgresSettings) -> Self {
        let cause = format!("no answer within {} s", PATIENCE.as_secs());
        PostgresError::Unreachable { place: settings.place(), database: settings.database.clone(), cause }
    }
}

/// Operator intervention (shutting down, starting), connection exceptions, too many connections.
fn may_pass(code: &SqlState) -> bool {
    ["08", "53", "57"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::LOCK_NOT_AVAILABLE
}

/// A connection outside the pool; it ends when dropped.
pub(super) struct Alone {
    pub(super) client: Client,
    driver: AbortHandle,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects, with bounded patience.
pub(super) async fn connect(settings: &PostgresSettings) -> Result<Alone, PostgresError> {
    let tls = tls::connector(&settings.tls).map_err(|reason| PostgresError::settings(settings, reason))?;
    let config = settings.config().await;
    let (client, connection) = timeout(PATIENCE, config.connect(tls))
        .await
        .map_err(|_| PostgresError::late(settings))?
        .map_err(|error| PostgresError::of(settings, &error))?;
    // Its error reaches whoever waits for an answer.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Alone { client, driver: driver.abort_handle() })
}

/// Which version is there, and from which on a release can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) found: i64,
    pub(super) oldest: i64,
}

pub(super) async fn versions(client: &Client) -> Result<Versions, Error> {
    let tables = client.query_one(sql::SCHEMA, &[]).await?;
    let (has_history, has_support): (bool, bool) = (tables.get(0), tables.get(1));
    let number = async |is_there: bool, statement| match is_there {
        true => Ok::<i64, Error>(client.query_one(statement, &[]).await?.get(0)),
        false => Ok(0),
    };
    Ok(Versions {
        found: number(has_history, sql::SCHEMA_VERSION).await?,
        oldest: number(has_support, sql::SCHEMA_OLDEST).await?,
    })
}

/// Refuses a schema that a newer release has made unusable for this one.
pub(super) fn refuse_newer(
    settings: &PostgresSettings,
    versions: Versions,
    known: i64,
) -> Result<(), PostgresError> {
    let Versions { found, oldest } = versions;
    let (place, database) = (settings.place(), settings.database.clone());
    if oldest > known { Err(PostgresError::TooNew { place, database, found, oldest, known }) } else { Ok(()) }
}

/// Whether this release can work with the schema that is there.
pub(super) async fn check(settings: &PostgresSettings) -> Result<(), PostgresError> {
    let alone = connect(settings).await?;
    let found = timeout(PATIENCE, versions(&alone.client))
        .await
        .map_err(|_| PostgresError::late(settings))?
        .map_err(|error| PostgresError::of(settings, &error))?;
    refuse_newer(settings, found, super::migrations::known())?;
    if found.found < NEEDED {
        let (place, database) = (settings.place(), settings.database.clone());
        return Err(PostgresError::TooOld { place, database, found: found.found, needed: NEEDED });
    }
    Ok(())
}
