//! What replicas tell each other. It saves work, it never protects data: every caller goes on when it
//! fails (RS-84), and commits are fenced in SQL.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

/// The service did not answer, or not in time. The caller behaves as if alone.
#[derive(Debug, thiserror::Error)]
#[error("the coordination service did not answer: {0}")]
pub struct CoordinationError(pub String);

/// A held lease. The token proves ownership to renew and release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub key: String,
    /// Random, unguessable.
    pub token: String,
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message, from a twin or from this process itself. It may be anything: others use the service too.
    Message(Bytes),
    /// Messages may have been missed (the connection was lost, or the subscriber was too slow): whatever they
    /// could have said must be taken as said.
    Gap,
}

/// Messages from now on. The stream ends with the coordinator only.
pub type Messages = Pin<Box<dyn Stream<Item = Heard> + Send>>;

/// Leases, expiring keys and messages. Every call ends within 100 ms.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// Takes `key` for `ttl`. `note` (a peer address) is shown to those who come too late.
    /// `Ok(Err(note))`: another holds it.
    async fn acquire(
        &self,
        key: &str,
        note: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, String>, CoordinationError>;

    /// Extends a lease; `false` when it was lost.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CoordinationError>;

    /// Gives a lease back; no error when it was lost.
    async fn release(&self, lease: &Lease) -> Result<(), CoordinationError>;

    /// Sets a key that vanishes after `ttl`.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError>;

    /// Reads such a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError>;

    /// Forgets such a key.
    async fn delete(&self, key: &str) -> Result<(), CoordinationError>;

    /// Tells all subscribers of all replicas, this one's included. Nobody knows whether it arrives.
    async fn publish(&self, message: Bytes) -> Result<(), CoordinationError>;

    /// Listens to messages. A subscriber that falls behind loses the oldest and hears [`Heard::Gap`].
    fn subscribe(&self) -> Messages;
}
