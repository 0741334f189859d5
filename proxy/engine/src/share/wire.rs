//! What one engine tells another about a fill, as JSON. Both run releases that may differ by one, so unknown
//! fields are passed over, and what cannot be read means that the twin cannot be followed.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Checksum, Digest, Mutability, Timestamp,
    ports::{UpstreamError, metadata::ArtifactRow, upstream::Framing},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{error::FetchError, fill::Head};

/// [`Head`], with the one checksum that a follower can use.
#[derive(Serialize, Deserialize)]
struct WireHead {
    headers: Vec<(String, String)>,
    source_url: String,
    length: Option<u64>,
    sha256: Option<String>,
    immutable: bool,
    framing: WireFraming,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireFraming {
    Length(u64),
    Delimited,
    Close,
}

/// [`ArtifactRow`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireRow {
    digest: String,
    size: u64,
    immutable: bool,
    headers: Vec<(String, String)>,
    source_url: String,
    verified: bool,
    stored_at: i64,
    checked_at: i64,
    fetch_seq: i64,
}

/// How a fill ended, as far as it concerns a twin.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    /// The body is stored.
    Stored(WireRow),
    /// Upstream confirmed the body that was stored.
    Confirmed(WireRow),
    /// It was stored by somebody else when the fill began.
    Landed(WireRow),
    /// It is whole, and could not or must not be kept.
    Unstored,
    /// There is none, and a twin would fare no better.
    Failed(Failure),
    /// It failed for reasons of the replica's own: try without it.
    Gone,
}

/// What a failed fill means to everyone.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    NotFound { gone: bool },
    Denied(u16),
    RateLimited { retry_after: Option<Duration> },
    UpstreamStatus(u16),
    Upstream(UpstreamError),
    Mutated { pinned: String },
    TooLarge { limit: u64 },
    Other(String),
}

impl Ending {
    /// The ending for `error`.
    pub(super) fn failed(error: &FetchError) -> Self {
        Ending::Failed(match error {
            FetchError::NotFound { gone } => Failure::NotFound { gone: *gone },
            FetchError::Denied(status) => Failure::Denied(*status),
            FetchError::RateLimited { retry_after } => Failure::RateLimited { retry_after: *retry_after },
            FetchError::UpstreamStatus(status) => Failure::UpstreamStatus(*status),
            FetchError::Upstream(error) => Failure::Upstream(error.clone()),
            FetchError::Mutated { pinned } => Failure::Mutated { pinned: pinned.to_hex() },
            FetchError::TooLarge { limit } => Failure::TooLarge { limit: *limit },
            FetchError::Mismatch { .. }
            | FetchError::WrongKind { .. }
            | FetchError::Truncated(_)
            | FetchError::Elsewhere(_)
            | FetchError::Index(_) => Failure::Other(error.to_string()),
            FetchError::Plan(_)
            | FetchError::Refused(_)
            | FetchError::Suspended
            | FetchError::Member { .. }
            | FetchError::Key(_)
            | FetchError::Abandoned
            | FetchError::Blob(_)
            | FetchError::Metadata(_) => return Ending::Gone,
        })
    }
}

impl Failure {
    pub(super) fn into_error(self) -> FetchError {
        match self {
            Failure::NotFound { gone } => FetchError::NotFound { gone },
            Failure::Denied(status) => FetchError::Denied(status),
            Failure::RateLimited { retry_after } => FetchError::RateLimited { retry_after },
            Failure::UpstreamStatus(status) => FetchError::UpstreamStatus(status),
            Failure::Upstream(error) => FetchError::Upstream(error),
            Failure::Mutated { pinned } => match pinned.parse() {
                Ok(pinned) => FetchError::Mutated { pinned },
                Err(_) => FetchError::Elsewhere("upstream now serves other bytes than before".into()),
            },
            Failure::TooLarge { limit } => FetchError::TooLarge { limit },
            Failure::Other(text) => FetchError::Elsewhere(text),
        }
    }
}

impl WireRow {
    pub(super) fn of(row: &ArtifactRow) -> Self {
        let ArtifactRow {
            digest,
            size,
            mutability,
            headers,
            source_url,
            verified,
            stored_at,
            checked_at,
            fetch_seq,
        } = row;
        WireRow {
            digest: digest.to_hex(),
            size: *size,
            immutable: *mutability == Mutability::Immutable,
            headers: headers.to_vec(),
            source_url: source_url.clone(),
            verified: *verified,
            stored_at: stored_at.0,
            checked_at: checked_at.0,
            fetch_seq: *fetch_seq,
        }
    }

    pub(super) fn into_row(self) -> Option<ArtifactRow> {
        Some(ArtifactRow {
            digest: self.digest.parse().ok()?,
            size: self.size,
            mutability: mutability(self.immutable),
            headers: self.headers.into(),
            source_url: self.source_url,
            verified: self.verified,
            stored_at: Timestamp(self.stored_at),
            checked_at: Timestamp(self.checked_at),
            fetch_seq: self.fetch_seq,
        })
    }
}

fn mutability(immutable: bool) -> Mutability {
    if immutable { Mutability::Immutable } else { Mutability::Mutable }
}

pub(super) fn encode_head(head: &Head) -> Bytes {
    let sha256 = head.checksums.iter().find_map(|checksum| match checksum {
        Checksum::Sha256(bytes) => Some(Digest(*bytes).to_hex()),
        _ => None,
    });
    let framing = match head.framing {
        Framing::Length(length) => WireFraming::Length(length),
        Framing::Delimited => WireFraming::Delimited,
        Framing::Close => WireFraming::Close,
    };
    json(&WireHead {
        headers: head.headers.to_vec(),
        source_url: head.source_url.clone(),
        length: head.length,
        sha256,
        immutable: head.mutability == Mutability::Immutable,
        framing,
    })
}

pub(super) fn decode_head(bytes: &[u8]) -> Option<Arc<Head>> {
    let head: WireHead = serde_json::from_slice(bytes).ok()?;
    let digest = head.sha256.map(|hex| hex.parse::<Digest>()).transpose().ok()?;
    Some(Arc::new(Head {
        headers: head.headers.into(),
        source_url: head.source_url,
        length: head.length,
        checksums: digest.map(|digest| Checksum::Sha256(digest.0)).into_iter().collect(),
        mutability: mutability(head.immutable),
        framing: match head.framing {
            WireFraming::Length(length) => Framing::Length(length),
            WireFraming::Delimited => Framing::Delimited,
            WireFraming::Close => Framing::Close,
        },
    }))
}

pub(super) fn encode_ending(ending: &Ending) -> Bytes {
    json(ending)
}

pub(super) fn decode_ending(bytes: &[u8]) -> Option<Ending> {
    serde_json::from_slice(bytes).ok()
}

/// Texts and numbers always serialise.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
