//! The cluster's signing keys, as merges need them.

use std::sync::Arc;

use artifactapi_formats::merge::Signer;
use async_trait::async_trait;

/// Why there is no signing key: a sentence with the way out, without secrets.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub String);

/// Finds or makes the signing keys. All replicas get the same.
#[async_trait]
pub trait Keys: Send + Sync + 'static {
    /// Whether there can be keys at all: a cluster without an encryption key has none.
    fn can_sign(&self) -> bool;

    /// Signs with them. The first call of a cluster makes them, which takes seconds; later ones are quick.
    async fn signer(&self) -> Result<Arc<dyn Signer + Send + Sync>, KeyError>;
}
