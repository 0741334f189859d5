//! Why a store cannot be opened. Nothing has been changed when one of these comes back.

use std::{io, path::PathBuf};

/// Why a directory or a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error(
        "{} is in use by another process; stop that one or choose another data directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// A newer release has written it (RS-118).
    #[error(
        "{} has schema version {found}, this release knows up to {known}; start a release that knows it, \
         or restore the backup taken before the upgrade",
        path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Version of the last migration applied to it.
        found: i64,
        /// Version of the last migration of this release.
        known: i64,
    },
    /// It holds something that this program did not write or cannot read.
    #[error("{} is no usable database: {reason}; restore a backup or move the file away", path.display())]
    Unusable {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("{} could not be opened ({doing}): {source}", path.display())]
    Io {
        /// Which directory or file.
        path: PathBuf,
        /// What was tried, as "taking the lock".
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
}
