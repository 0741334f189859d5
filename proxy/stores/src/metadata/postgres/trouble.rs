//! What goes wrong between us and the server, in the port's words.

use artifactapi_model::ports::MetadataError;
use deadpool_postgres::tokio_postgres::{Error, error::SqlState};

use super::super::operation::Operation;

/// Why a call did not end well.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection: the cause.
    Unreachable(String),
    /// No answer in time. What was asked may have been done all the same.
    Late,
    /// The connection or the statement failed.
    Postgres(Error),
    /// The answer makes no sense, or a rule forbids it.
    Refused(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Postgres(error)
    }
}

impl Trouble {
    /// The connection is of no use any more: gone, stuck, or to a server that no longer takes writes.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Trouble::Late => true,
            Trouble::Postgres(error) => match error.code() {
                Some(code) => {
                    is_about_the_server(code)
                        || matches!(
                            *code,
                            SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::FEATURE_NOT_SUPPORTED
                        )
                }
                None => lost(error),
            },
            Trouble::Unreachable(_) | Trouble::Refused(_) => false,
        }
    }

    /// The same may go well at once on another connection.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Trouble::Postgres(error) => {
                self.spoils_connection()
                    || matches!(
                        error.code(),
                        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED)
                    )
            }
            Trouble::Late | Trouble::Unreachable(_) | Trouble::Refused(_) => false,
        }
    }

    /// Whether the statement failed with `state`.
    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Trouble::Postgres(error) if error.code() == Some(state))
    }

    pub(super) fn into_error(self, operation: Operation) -> MetadataError {
        let doing = operation.doing();
        match self {
            Trouble::Unreachable(cause) => MetadataError::Unavailable(cause),
            Trouble::Late => MetadataError::Unavailable(format!("it did not answer in time while {doing}")),
            Trouble::Refused(message) => MetadataError::Failed { doing, message },
            Trouble::Postgres(error) => {
                let message = describe(&error);
                match error.code() {
                    Some(&SqlState::DISK_FULL) => MetadataError::Full(message),
                    Some(code) if is_unavailability(code) => MetadataError::Unavailable(message),
                    None if lost(&error) => MetadataError::Unavailable(message),
                    _ => MetadataError::Failed { doing, message },
                }
            }
        }
    }
}

/// Neither the server's word nor a mistake of ours in a value: the connection.
fn lost(error: &Error) -> bool {
    use std::error::Error as _;
    error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
}

fn is_about_the_server(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || matches!(*code, SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW)
}

fn is_unavailability(code: &SqlState) -> bool {
    is_about_the_server(code)
        || matches!(
            *code,
            SqlState::QUERY_CANCELED
                | SqlState::LOCK_NOT_AVAILABLE
                | SqlState::TOO_MANY_CONNECTIONS
                | SqlState::OUT_OF_MEMORY
                | SqlState::READ_ONLY_SQL_TRANSACTION
                | SqlState::T_R_SERIALIZATION_FAILURE
                | SqlState::T_R_DEADLOCK_DETECTED
        )
}

/// The error without values of rows: of the server's word only the message and the code.
pub(super) fn describe(error: &Error) -> String {
    use std::error::Error as _;
    match error.as_db_error() {
        Some(word) => format!("{} ({})", word.message(), word.code().code()),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
