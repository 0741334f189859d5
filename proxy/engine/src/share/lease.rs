//! Whose turn something is: taking the lease, and keeping it for as long as the work goes on.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey, Digest,
    ports::{Coordinator, Lease},
};

use crate::Engine;

/// Life of a lease that is not renewed (RS-81).
pub(super) const TTL: Duration = Duration::from_secs(10);
/// How often it is renewed (RS-82).
const RENEWAL: Duration = Duration::from_millis(3_333);
/// When that is tried again after it could not be asked for.
const AGAIN: Duration = Duration::from_secs(1);

/// Whose turn it is.
pub(crate) enum Claim {
    /// Ours, for as long as this lives.
    Ours(Held),
    /// A twin's, reached at this address.
    Theirs(String),
    /// The coordinator does not answer: ours, and perhaps others' as well.
    Unknown,
}

/// A lease that renews itself until it is dropped, and is then given back.
pub(crate) struct Held {
    coordinator: Arc<dyn Coordinator>,
    lease: Lease,
    renewal: tokio::task::JoinHandle<()>,
}

/// The lease's name: the same on every replica, of a bounded length, telling nothing.
pub(crate) fn lease_key(key: &ArtifactKey) -> String {
    format!("fill/{}", Digest::of(format!("{key:?}").as_bytes()).to_hex())
}

impl Engine {
    /// Tries to become the one who fills `key`.
    pub(crate) async fn claim(&self, key: &ArtifactKey) -> Claim {
        claim(&self.ports.coordinator, &lease_key(key), &self.ports.peers.address()).await
    }
}

/// Tries to get the lease called `key`, as the replica that is reached at `address`.
pub(super) async fn claim(coordinator: &Arc<dyn Coordinator>, key: &str, address: &str) -> Claim {
    match coordinator.acquire(key, address, TTL).await {
        Ok(Ok(lease)) => Claim::Ours(Held::new(coordinator.clone(), lease)),
        Ok(Err(address)) => Claim::Theirs(address),
        Err(error) => {
            tracing::debug!(lease = key, %error, "working without a lease");
            Claim::Unknown
        }
    }
}

impl Held {
    fn new(coordinator: Arc<dyn Coordinator>, lease: Lease) -> Self {
        let (renewing, renewed) = (coordinator.clone(), lease.clone());
        let renewal = tokio::spawn(async move {
            let mut pause = RENEWAL;
            loop {
                tokio::time::sleep(pause).await;
                pause = match renewing.renew(&renewed, TTL).await {
                    Ok(true) => RENEWAL,
                    // Lost or not, the work goes on: commits are fenced, or the same whoever makes them.
                    Ok(false) => {
                        tracing::info!(lease = renewed.key, "a lease was lost");
                        return;
                    }
                    Err(_) => AGAIN,
                };
            }
        });
        Held { coordinator, lease, renewal }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
        let (coordinator, lease) = (self.coordinator.clone(), self.lease.clone());
        tokio::spawn(async move {
            // Nobody needs to know: it ends by itself.
            let _ = coordinator.release(&lease).await;
        });
    }
}
