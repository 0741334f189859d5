//! Reading files: on the spot what the page cache holds, on a thread that may block what it does not.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, blobs::MAX_READ},
};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::{
    buffers::{Buffer, Buffers},
    error::{failed, joined},
};

/// What all reads of a store share.
#[derive(Debug, Default)]
pub(in crate::blobs) struct FileIo {
    pub(in crate::blobs) buffers: Arc<Buffers>,
    /// The file system does not know reads that do not wait.
    must_wait: AtomicBool,
}

impl FileIo {
    /// Fills the first `length` bytes of `buffer` from `file` at `offset`; the file must be that long.
    pub(in crate::blobs) async fn read(
        &self,
        file: &Arc<File>,
        offset: u64,
        mut buffer: Buffer,
        length: usize,
    ) -> io::Result<Buffer> {
        let cached = self.read_cached(file, offset, &mut buffer.as_mut()[..length]);
        if cached == length {
            return Ok(buffer);
        }
        let file = file.clone();
        let rest = spawn_blocking(move || {
            file.read_exact_at(&mut buffer.as_mut()[cached..length], offset + cached as u64)?;
            Ok(buffer)
        });
        rest.await.map_err(joined)?
    }

    /// Reads without waiting for the disk; how many bytes, 0 to all. Errors are left for the read that may
    /// wait, and so is a short result: some kernels end such a read early.
    #[cfg(target_os = "linux")]
    fn read_cached(&self, file: &File, offset: u64, buffer: &mut [u8]) -> usize {
        use rustix::io::{ReadWriteFlags, preadv2};

        if self.must_wait.load(Relaxed) {
            return 0;
        }
        match preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => read,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.must_wait.store(true, Relaxed);
                0
            }
            Err(_) => 0,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached(&self, _file: &File, _offset: u64, _buffer: &mut [u8]) -> usize {
        0
    }
}

/// How many bytes a read of `length` at `offset` returns from a body of `size`.
pub(in crate::blobs) fn readable(size: u64, offset: u64, length: usize) -> usize {
    usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length).min(MAX_READ)
}

/// A committed blob, open.
pub(in crate::blobs) struct BlobFile {
    file: Arc<File>,
    size: u64,
    digest: Digest,
    io: Arc<FileIo>,
}

impl BlobFile {
    pub(in crate::blobs) fn new(file: File, size: u64, digest: Digest, io: Arc<FileIo>) -> Self {
        BlobFile { file: Arc::new(file), size, digest, io }
    }
}

#[async_trait]
impl BlobReader for BlobFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let length = readable(self.size, offset, length);
        if length == 0 {
            return Ok(Bytes::new());
        }
        match self.io.read(&self.file, offset, self.io.buffers.take(length), length).await {
            Ok(buffer) => Ok(Bytes::from_owner(buffer)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(BlobError::Damaged(self.digest, "it is shorter than when it was opened"))
            }
            Err(error) => Err(failed("reading a blob", error)),
        }
    }
}
