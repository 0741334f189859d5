//! A wrapper that counts what is asked of a blob store, for promises such as "HEAD opens nothing".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, BlobStore, StagedBlob},
};
use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

/// Any blob store, counted.
pub struct CountingBlobs {
    inner: Arc<dyn BlobStore>,
    tally: Arc<BlobTally>,
}

/// Where the counts are.
#[derive(Debug, Default)]
pub struct BlobTally {
    stages: AtomicU64,
    opens: AtomicU64,
    sizes: AtomicU64,
    lists: AtomicU64,
    removals: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
}

/// What has been asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobCounts {
    /// Bodies begun.
    pub stages: u64,
    /// Blobs opened.
    pub opens: u64,
    /// Questions whether a blob is there.
    pub sizes: u64,
    /// Pages listed.
    pub lists: u64,
    /// Blobs removed or put aside.
    pub removals: u64,
    /// Calls of `read_at` on opened blobs; reads of staged bodies are not counted.
    pub reads: u64,
    /// Bytes that those reads returned.
    pub read_bytes: u64,
}

impl BlobTally {
    /// The counts so far.
    pub fn counts(&self) -> BlobCounts {
        let BlobTally { stages, opens, sizes, lists, removals, reads, read_bytes } = self;
        BlobCounts {
            stages: stages.load(Relaxed),
            opens: opens.load(Relaxed),
            sizes: sizes.load(Relaxed),
            lists: lists.load(Relaxed),
            removals: removals.load(Relaxed),
            reads: reads.load(Relaxed),
            read_bytes: read_bytes.load(Relaxed),
        }
    }
}

impl CountingBlobs {
    /// Counts in `tally` what is asked of `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, tally: Arc<BlobTally>) -> Self {
        CountingBlobs { inner, tally }
    }
}

#[async_trait]
impl BlobStore for CountingBlobs {
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        self.tally.stages.fetch_add(1, Relaxed);
        self.inner.stage(length).await
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        self.tally.opens.fetch_add(1, Relaxed);
        let inner = self.inner.open(digest).await?;
        Ok(Arc::new(CountingReader { inner, tally: self.tally.clone() }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.tally.sizes.fetch_add(1, Relaxed);
        self.inner.size(digest).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        self.tally.removals.fetch_add(1, Relaxed);
        self.inner.remove(digest).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        self.tally.removals.fetch_add(1, Relaxed);
        self.inner.quarantine(digest).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        self.tally.lists.fetch_add(1, Relaxed);
        self.inner.list(after, limit).await
    }

    async fn link(&self, digest: &Digest, size: u64, ttl: Duration) -> Result<Option<Url>, BlobError> {
        self.inner.link(digest, size, ttl).await
    }
}

struct CountingReader {
    inner: Arc<dyn BlobReader>,
    tally: Arc<BlobTally>,
}

#[async_trait]
impl BlobReader for CountingReader {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let bytes = self.inner.read_at(offset, length).await?;
        self.tally.reads.fetch_add(1, Relaxed);
        self.tally.read_bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryBlobs, blobs::suite};

    #[tokio::test]
    async fn conforms_and_counts() {
        suite::suite(async || {
            Arc::new(CountingBlobs::new(Arc::new(MemoryBlobs::default()), Arc::default()))
                as Arc<dyn BlobStore>
        })
        .await;
        let tally = Arc::new(BlobTally::default());
        let store = CountingBlobs::new(Arc::new(MemoryBlobs::default()), tally.clone());
        let digest = suite::put(&store, b"body").await;
        let staged = BlobCounts { stages: 1, ..BlobCounts::default() };
        assert_eq!(tally.counts(), staged);
        store.size(&digest).await.unwrap();
        store.list(None, 10).await.unwrap();
        store.open(&digest).await.unwrap().read_at(1, 100).await.unwrap();
        store.remove(&digest).await.unwrap();
        let want =
            BlobCounts { opens: 1, sizes: 1, lists: 1, removals: 1, reads: 1, read_bytes: 3, ..staged };
        assert_eq!(tally.counts(), want);
    }
}
