//! Bodies for parsers on the blocking pool, and small bodies in memory.

use std::{
    io::{self, BufRead, Read, Seek, SeekFrom},
    sync::Arc,
};

use artifactapi_model::{
    ArtifactKey, Digest,
    ports::{BlobError, BlobReader, blobs::MAX_READ},
};
use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle;

use crate::{Engine, error::FetchError, hot::HotEntry};

/// A stored or staged body as `Read + Seek`, for parsers on the blocking pool.
pub(crate) struct BlockingReader {
    reader: Arc<dyn BlobReader>,
    size: u64,
    offset: u64,
    block: Bytes,
    handle: Handle,
}

impl BlockingReader {
    /// Reads `size` bytes of `reader`; must be used outside the async executor, with a handle to it.
    pub(crate) fn new(reader: Arc<dyn BlobReader>, size: u64, handle: Handle) -> Self {
        BlockingReader { reader, size, offset: 0, block: Bytes::new(), handle }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let block = self.fill_buf()?;
        let length = buf.len().min(block.len());
        buf[..length].copy_from_slice(&block[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for BlockingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.block.is_empty() {
            let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            if left > 0 {
                let read = self.reader.read_at(self.offset, left.min(MAX_READ));
                self.block = self.handle.block_on(read).map_err(io::Error::other)?;
                self.offset += self.block.len() as u64;
            }
        }
        Ok(&self.block)
    }

    fn consume(&mut self, amount: usize) {
        self.block.advance(amount.min(self.block.len()));
    }
}

impl Seek for BlockingReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.offset - self.block.len() as u64;
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.size.checked_add_signed(delta),
            SeekFrom::Current(delta) => at.checked_add_signed(delta),
        };
        let target = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if (at..=self.offset).contains(&target) {
            // No more than the block has.
            let passed = usize::try_from(target - at).unwrap_or(usize::MAX).min(self.block.len());
            self.block.advance(passed);
        } else {
            self.block = Bytes::new();
            self.offset = target;
        }
        Ok(target)
    }
}

/// A small body as one piece; `None` when it cannot be read, which only costs memory hits.
pub(crate) async fn whole(reader: &Arc<dyn BlobReader>, size: u64) -> Option<Bytes> {
    let size = usize::try_from(size).ok()?;
    let bytes = reader.read_at(0, size).await.ok()?;
    (bytes.len() == size).then_some(bytes)
}

impl Engine {
    /// A small stored body, or `None` when it cannot be read.
    pub(crate) async fn read_small(&self, digest: &Digest, size: u64) -> Option<Bytes> {
        let reader = self.ports.blobs.open(digest).await.ok()?;
        whole(&reader, size).await
    }

    /// A reader of what is stored under `key`, to make something else of it. When the bytes are gone, every trace of them
    /// is dropped first, so that asking again fetches them anew.
    pub(crate) async fn source_of(
        &self,
        key: &ArtifactKey,
        entry: &HotEntry,
    ) -> Result<Arc<dyn BlobReader>, FetchError> {
        let reader = self.reader_of(entry).await;
        if reader.as_ref().is_err_and(FetchError::is_loss) {
            self.forget(key, &entry.row.digest).await?;
        }
        reader
    }

    /// A reader of a stored body.
    pub(crate) async fn reader_of(&self, entry: &HotEntry) -> Result<Arc<dyn BlobReader>, FetchError> {
        match &entry.body {
            Some(body) => Ok(in_memory(body.clone())),
            None => Ok(self.ports.blobs.open(&entry.row.digest).await?),
        }
    }
}

/// A reader of bytes in memory.
pub(crate) fn in_memory(bytes: Bytes) -> Arc<dyn BlobReader> {
    Arc::new(MemoryReader(bytes))
}

struct MemoryReader(Bytes);

#[async_trait::async_trait]
impl BlobReader for MemoryReader {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(length).min(self.0.len());
        Ok(self.0.slice(start..end))
    }
}
