//! Why an index could not be read.

use std::io;

use crate::limits;

/// Why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is not what its type promises.
    #[error("the index is malformed: {0}")]
    Malformed(String),
    /// It exceeds a limit (size, inflated size, depth, number of entries).
    #[error("the index exceeds a limit: {0}")]
    TooLarge(&'static str),
    /// Its bytes could not be read or written.
    #[error("reading the index failed: {0}")]
    Io(#[source] io::Error),
    /// What clients verify could not be signed; a text without secrets.
    #[error("the index cannot be signed: {0}")]
    Signing(String),
    /// One of these is wrong with what a member of a Virtual has.
    #[error("member {name}: {source}")]
    Member {
        /// The member's name.
        name: String,
        /// What is wrong.
        source: Box<IndexError>,
    },
}

impl IndexError {
    /// The error of what is not as its type promises.
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        IndexError::Malformed(what.into())
    }
}

impl From<io::Error> for IndexError {
    /// Keeps the message of a [`limits`] breach apart from other failures.
    fn from(error: io::Error) -> Self {
        match limits::breach(&error) {
            Some(limit) => IndexError::TooLarge(limit),
            None => IndexError::Io(error),
        }
    }
}
