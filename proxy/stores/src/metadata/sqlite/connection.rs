//! Opening the database file, for the writer and for readers.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::migrations::{self, Refused};
use crate::OpenError;

/// Statements a connection keeps prepared; more than there are.
const PREPARED: usize = 192;
/// How long to wait for another process that looks into the file (a backup, the `sqlite3` tool).
const BUSY: Duration = Duration::from_secs(5);

/// The connection that writes; makes the file when there is none and brings its schema up to date.
///
/// `synchronous=FULL`, not the `NORMAL` that is usual with WAL: under `NORMAL` a commit is only in the page
/// cache, and a power cut takes back rows whose bytes were already announced as stored (RS-98), or the ledger's
/// word on an immutable. `FULL` syncs the log before a commit returns; the writer spreads that cost over all
/// jobs that wait at the time.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let unusable = |error: rusqlite::Error| unusable(path, &error);
    let mut connection = Connection::open(path).map_err(unusable)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| prepare(&connection))
        .map_err(unusable)?;
    migrations::run(&mut connection).map_err(|refused| match refused {
        Refused::TooNew { found, known } => OpenError::TooNew { path: path.to_owned(), found, known },
        Refused::Failed(reason) => OpenError::Unusable { path: path.to_owned(), reason },
    })?;
    Ok(connection)
}

/// A connection that only reads; the writer's is open already.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| unusable(path, &error))?;
    prepare(&connection).map_err(|error| unusable(path, &error))?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.busy_timeout(BUSY)
}

fn unusable(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), reason: error.to_string() }
}
