//! SQLite's errors in the port's words.

use artifactapi_model::ports::MetadataError;
use rusqlite::ErrorCode;

use super::super::operation::Operation;

pub(super) fn failed(operation: Operation, error: &rusqlite::Error) -> MetadataError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => MetadataError::Full(message),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => MetadataError::Unavailable(message),
        _ => MetadataError::Failed { doing: operation.doing(), message },
    }
}

/// The store is being closed, or the work panicked.
pub(super) fn stopped() -> MetadataError {
    MetadataError::Unavailable("the database task was stopped".into())
}
