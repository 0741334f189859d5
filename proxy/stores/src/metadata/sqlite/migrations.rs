//! The schema's versions. A file that a newer release has written is refused before anything is changed.

use rusqlite::Connection;

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Why the schema cannot be brought up to date.
pub(super) enum Refused {
    TooNew { found: i64, known: i64 },
    Failed(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Refused::Failed(error.to_string())
    }
}

pub(super) fn run(connection: &mut Connection) -> Result<(), Refused> {
    let runner = embedded::migrations::runner();
    let known =
        runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0);
    let found = version(connection)?;
    if found > known {
        return Err(Refused::TooNew { found, known });
    }
    runner.run(connection).map_err(|error| Refused::Failed(error.to_string()))?;
    Ok(())
}

/// Makes the schema of an older release.
#[cfg(test)]
pub(super) fn run_up_to(connection: &mut Connection, version: i32) {
    let runner = embedded::migrations::runner().set_target(refinery::Target::Version(version));
    runner.run(connection).unwrap();
}

/// Version of the last migration applied; 0 for a new file.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, "refinery_schema_history")? {
        return Ok(0);
    }
    connection
        .query_row("SELECT COALESCE(MAX(version), 0) FROM refinery_schema_history", [], |row| row.get(0))
}
