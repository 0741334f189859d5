//! Why there is nothing to serve. No status codes here: the server has one table for them.

use std::{sync::Arc, time::Duration};

use artifactapi_formats::{IndexError, PlanError};
use artifactapi_model::{
    Digest, Refusal, RepoName,
    ports::{BlobError, MetadataError, UpstreamError},
};

use crate::keys::KeyError;

/// Why there is nothing to serve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The request is malformed or names nothing of this type.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Policy refuses the path.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Upstream does not have it (404 or 410; or, for a composed or indexed document, its index does not).
    #[error("upstream does not have it")]
    NotFound {
        /// Upstream said 410.
        gone: bool,
    },
    /// The repository is suspended and nothing is stored for the path.
    #[error("this repository is suspended and has no stored copy")]
    Suspended,
    /// Upstream refused us: 401 or 403.
    #[error("upstream refused the request with {0}; check this repository's credentials")]
    Denied(u16),
    /// Upstream asked for a pause.
    #[error("upstream asked for a pause")]
    RateLimited {
        /// For how long.
        retry_after: Option<Duration>,
    },
    /// Upstream answered with a status that is no answer.
    #[error("upstream answered {0}")]
    UpstreamStatus(u16),
    /// No answer came.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The body contradicts a published checksum.
    #[error("upstream's bytes do not match the published {algorithm} checksum; nothing was kept")]
    Mismatch {
        /// Which kind of checksum.
        algorithm: &'static str,
    },
    /// The body contradicts what was served under this path before.
    #[error(
        "upstream now serves other bytes than {pinned}, which this path had before; unpin it to accept them"
    )]
    Mutated {
        /// The digest first seen.
        pinned: Digest,
    },
    /// The body is something else than its name says (an HTML page for an archive).
    #[error("upstream answered with {got} instead of {wanted}; nothing was kept")]
    WrongKind {
        /// What came.
        got: String,
        /// What was due.
        wanted: &'static str,
    },
    /// The body is larger than its kind may be.
    #[error("upstream's answer exceeds the limit of {limit} bytes for this kind of document")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The body broke off.
    #[error("upstream's answer broke off: {0}")]
    Truncated(String),
    /// Another replica tried, and this is what it said.
    #[error("{0}")]
    Elsewhere(String),
    /// A member of a Virtual cannot say what it has, so that nobody else has it for sure.
    #[error("its member {name} cannot say what it has: {cause}")]
    Member {
        /// The member.
        name: RepoName,
        /// Why.
        cause: Arc<FetchError>,
    },
    /// There is no key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Everyone who wanted the body left.
    #[error("the fetch was given up because every client had left")]
    Abandoned,
    /// An index could not be read.
    #[error("upstream's index cannot be used: {0}")]
    Index(Arc<IndexError>),
    /// The blob store failed.
    #[error("storage failed: {0}")]
    Blob(Arc<BlobError>),
    /// The database failed.
    #[error("storage failed: {0}")]
    Metadata(Arc<MetadataError>),
}

impl From<BlobError> for FetchError {
    fn from(error: BlobError) -> Self {
        FetchError::Blob(Arc::new(error))
    }
}

impl From<MetadataError> for FetchError {
    fn from(error: MetadataError) -> Self {
        FetchError::Metadata(Arc::new(error))
    }
}

impl From<IndexError> for FetchError {
    fn from(error: IndexError) -> Self {
        FetchError::Index(Arc::new(error))
    }
}

impl FetchError {
    /// Whether stored bytes are gone or spoiled, so that only another fetch or making helps.
    pub fn is_loss(&self) -> bool {
        matches!(self, FetchError::Blob(error) if matches!(**error, BlobError::NotFound(_) | BlobError::Damaged(..)))
    }

    /// Whether a stored copy may stand in (stale-if-error): upstream is failing, rather than saying
    /// something about the path or the request being wrong.
    pub fn permits_stale(&self) -> bool {
        match self {
            FetchError::Denied(_)
            | FetchError::RateLimited { .. }
            | FetchError::UpstreamStatus(_)
            | FetchError::Upstream(_)
            | FetchError::Mismatch { .. }
            | FetchError::Mutated { .. }
            | FetchError::WrongKind { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Truncated(_)
            | FetchError::Elsewhere(_)
            | FetchError::Member { .. }
            | FetchError::Key(_)
            | FetchError::Abandoned
            | FetchError::Index(_)
            | FetchError::Blob(_)
            | FetchError::Metadata(_) => true,
            FetchError::Plan(_)
            | FetchError::Refused(_)
            | FetchError::NotFound { .. }
            | FetchError::Suspended => false,
        }
    }
}
