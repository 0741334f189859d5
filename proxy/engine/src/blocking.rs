//! Bodies for parsers on the blocking pool, and small bodies in memory.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, blobs::MAX_READ},
};
use bytes::Bytes;
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
        if self.block.is_empty() {
            let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(0);
            }
            let read = self.reader.read_at(self.offset, left.min(MAX_READ));
            self.block = self.handle.block_on(read).map_err(io::Error::other)?;
            self.offset += self.block.len() as u64;
        }
        let length = buf.len().min(self.block.len());
        buf[..length].copy_from_slice(&self.block.split_to(length));
        Ok(length)
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
        if target != at {
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
