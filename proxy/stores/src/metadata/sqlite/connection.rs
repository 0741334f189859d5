//! Opening the database file, for the writer and for readers.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::migrations::{self, Refused};
use crate::OpenError;

/// Statements a connection keeps prepared; more than there are.
const PREPARED: usize = 192;
/// More than the 1000 pages after which SQLite folds the log into the file, in bytes.
const LOG: u64 = 4 << 20;
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
    keep_private(path).map_err(|source| OpenError::Io {
        path: path.to_owned(),
        doing: "keeping it from other users",
        source,
    })?;
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

/// Reserves room for the log of `path`, so that rows can be written, and above all deleted, on a full disk: [`LOG`] bytes
/// hold all that is written between two times at which it is folded into the file. SQLite uses them again and again,
/// and sees nothing of it, since the length stays. What has it already stays as it is.
pub(super) fn reserve(path: &Path) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let log = OpenOptions::new().write(true).open(name)?;
    match fallocate(&log, FallocateFlags::KEEP_SIZE, 0, LOG) {
        // Not every file system can.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The file holds secrets and may hold signing keys: it is made, or becomes, one that only its owner can read. What
/// SQLite puts beside it gets the same mode, but for what an earlier release has left there.
fn keep_private(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::metadata(&name) {
            Ok(there) if there.is_file() && there.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&name, Permissions::from_mode(0o600))?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.busy_timeout(BUSY)
}

fn unusable(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), reason: error.to_string() }
}
