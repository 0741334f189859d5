//! What a replica can learn from a twin: the bytes of a fill that runs there, from the first one on, while they
//! come. It saves upstream requests and waiting; whoever follows hashes for itself, and a twin that cannot be
//! reached costs one more upstream request.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::key::ArtifactKey;

/// Why a twin's fill cannot be followed (any longer).
#[derive(Clone, Debug, thiserror::Error)]
#[error("the twin at {address} cannot be followed: {reason}")]
pub struct PeerError {
    /// Its address.
    pub address: String,
    /// Why not.
    pub reason: String,
}

/// One part of a followed fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is known of the body before its bytes, in the engine's own JSON. At most once, before any data.
    Head(Bytes),
    /// The next bytes; none at all is a sign of life.
    Data(Bytes),
    /// How it ended, in the engine's own JSON. The last part.
    End(Bytes),
}

/// The parts of a fill in their order. It ends after [`Part::End`]; an earlier end or an error means that the
/// twin is lost.
pub type Parts = Pin<Box<dyn Stream<Item = Result<Part, PeerError>> + Send>>;

/// The twins.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// `host:port` where twins reach this replica; shown in its leases. Empty: nobody can follow it.
    fn address(&self) -> String;

    /// Follows the fill of `key` at `address`, which a lease has named and which may be anything.
    ///
    /// # Errors
    /// [`PeerError`] when nobody of ours answers there, or no such fill runs.
    async fn follow(&self, address: &str, key: &ArtifactKey) -> Result<Parts, PeerError>;
}

/// For a process without twins.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    fn address(&self) -> String {
        String::new()
    }

    async fn follow(&self, address: &str, _key: &ArtifactKey) -> Result<Parts, PeerError> {
        Err(PeerError { address: address.to_owned(), reason: "this process has no twins".into() })
    }
}
