//! The content-addressed store. Bytes are staged, verified by the caller, then committed under their
//! SHA-256; nothing is ever written under a live key (RS rule 2).

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use crate::digest::Digest;

/// Room on the file system of a store, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What can still be written.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

/// Largest piece a [`BlobReader`] returns at once, in bytes.
pub const MAX_READ: usize = 1 << 20;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No such blob.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// The device or bucket has no room. The caller may serve the bytes all the same.
    #[error("the blob store is full")]
    Full(#[source] io::Error),
    /// The bytes on disk are not the bytes that were stored.
    #[error("blob {0} is damaged: {1}")]
    Damaged(Digest, &'static str),
    /// Anything else.
    #[error("the blob store failed while {doing}")]
    Io {
        /// What was tried, as "opening a blob".
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A content-addressed store of immutable bodies.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a body. Dropping the result discards it, also when the process dies. Where the length is
    /// known, room for it is taken at once, so that a full store says so before anyone reads (RS-96).
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError>;

    /// Opens a blob for reading at any offset. The reader outlives a later [`BlobStore::remove`].
    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError>;

    /// Length in bytes, or `None` when it is not there. Opens nothing.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// Forgets a blob; no error when it is not there.
    async fn remove(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Moves a damaged blob out of the way, kept for inspection; no error when it is not there.
    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Up to `limit` blobs in digest order, after `after`.
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError>;

    /// A link under which a client gets the blob of `size` bytes without us until `ttl` is over; `None` where
    /// there is no such thing, or where the blob is known to be missing.
    async fn link(&self, digest: &Digest, size: u64, ttl: Duration) -> Result<Option<Url>, BlobError> {
        let _ = (digest, size, ttl);
        Ok(None)
    }
}

/// A body on its way in: appended by one writer, readable by many while it grows.
#[async_trait]
pub trait StagedBlob: Send + Sync {
    /// Appends bytes. After an error the staged body may only be dropped or read.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// A reader of what has been written; offsets beyond that are the caller's mistake. It stays valid
    /// after commit and after drop.
    fn reader(&self) -> Arc<dyn BlobReader>;

    /// Makes the body durable and visible under `digest`, which the caller has computed over everything
    /// written. When it returns, the bytes survive a power cut (RS-98). A blob that is already there
    /// stays; same key, same bytes.
    async fn commit(self: Box<Self>, digest: &Digest) -> Result<(), BlobError>;

    /// The same body is durable under `digest` already, put there by a twin: keeps these bytes as a local copy
    /// where the store has such, at no cost to others.
    async fn adopt(self: Box<Self>, digest: &Digest) -> Result<(), BlobError> {
        self.commit(digest).await
    }
}

/// Random access to one body.
#[async_trait]
pub trait BlobReader: Send + Sync {
    /// Reads at most `length` (and at most [`MAX_READ`]) bytes at `offset`. Shorter only at the end of the
    /// body; empty at or past the end. Never blocks the executor.
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError>;
}
