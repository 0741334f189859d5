//! A body on its way in: staged under a name of its own, then made durable and moved to its digest.

use std::{io, sync::Arc};

use artifactapi_model::{
    Digest, failpoint,
    ports::{BlobError, BlobReader, StagedBlob},
};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::{
    fs::{FallocateFlags, fallocate, ftruncate},
    io::Errno,
};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    error::{blocking, failed, joined},
    growth::{GrowingFile, Growth},
    layout::Layout,
    reader::FileIo,
};

/// One file in `staging`.
pub(in crate::blobs) struct StagedFile {
    layout: Arc<Layout>,
    growth: Arc<Growth>,
    /// Name in `staging`; `None` once it has been moved.
    name: Option<String>,
    /// Bytes reserved beyond those that may come.
    reserved: u64,
    /// The write to the file that is under way.
    filing: Option<JoinHandle<io::Result<()>>>,
}

impl StagedFile {
    /// Makes the file and takes room for `length` bytes. Blocks.
    pub(in crate::blobs) fn create(
        layout: Arc<Layout>,
        io: Arc<FileIo>,
        length: Option<u64>,
    ) -> Result<Self, BlobError> {
        let wanted = length.unwrap_or_default();
        let shortage = layout.shortage.clone();
        Self::with_room(layout, io, length).inspect_err(|error| shortage.note(error, wanted))
    }

    fn with_room(layout: Arc<Layout>, io: Arc<FileIo>, length: Option<u64>) -> Result<Self, BlobError> {
        let (file, name) = layout.create_staged()?;
        let growth = Arc::new(Growth::new(file, io));
        let mut staged = StagedFile { layout, growth, name: Some(name), reserved: 0, filing: None };
        failpoint("blob.stage.after_create");
        if let Some(length) = length.filter(|length| *length > 0) {
            staged.reserve(length)?;
        }
        Ok(staged)
    }

    fn reserve(&mut self, length: u64) -> Result<(), BlobError> {
        match fallocate(&self.growth.file, FallocateFlags::KEEP_SIZE, 0, length) {
            Ok(()) => {
                self.reserved = length;
                Ok(())
            }
            // Not every file system can; then a full disk shows while writing.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            // More than a file can ever be.
            Err(Errno::INVAL) => Err(BlobError::Full(Errno::FBIG.into())),
            Err(errno) => Err(failed("taking room for a blob", errno)),
        }
    }

    /// Waits for the write that is under way. May be called again after it was cancelled.
    async fn filed(&mut self) -> Result<(), BlobError> {
        if let Some(filing) = &mut self.filing {
            let done = filing.await;
            self.filing = None;
            let done = done.map_err(joined).flatten().map_err(|error| failed("writing a blob", error));
            done.inspect_err(|error| self.layout.shortage.note(error, 0))?;
        }
        Ok(())
    }

    /// Brings everything written into the file and returns how much that is. Nothing may be written after.
    pub(in crate::blobs) async fn settle(&mut self) -> Result<u64, BlobError> {
        self.filed().await?;
        let (growth, reserved) = (self.growth.clone(), self.reserved);
        blocking("writing a blob", move || settle(&growth, reserved)).await
    }

    /// Everything after the last write. Blocks.
    pub(in crate::blobs) fn finish(self, digest: &Digest) -> Result<(), BlobError> {
        let shortage = self.layout.shortage.clone();
        self.place(digest).inspect_err(|error| shortage.note(error, 0))
    }

    fn place(mut self, digest: &Digest) -> Result<(), BlobError> {
        let doing = "committing a blob";
        let size = settle(&self.growth, self.reserved)?;
        if self.layout.is_durable() {
            failpoint("blob.commit.before_fdatasync");
            self.growth.file.sync_data().map_err(|error| failed(doing, error))?;
            failpoint("blob.commit.after_fdatasync");
        }
        if let Some(name) = &self.name
            && self.layout.place(name, digest, size)?
        {
            self.name = None;
        }
        Ok(())
    }
}

/// Brings the last pieces into the file and gives back room that was not needed. Blocks.
fn settle(growth: &Growth, reserved: u64) -> Result<u64, BlobError> {
    let size = growth.written();
    growth.file_pieces().map_err(|error| failed("writing a blob", error))?;
    if reserved > size {
        ftruncate(&growth.file, size).map_err(|errno| failed("committing a blob", errno))?;
    }
    Ok(size)
}

#[async_trait]
impl StagedBlob for StagedFile {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.growth.push(bytes) {
            // One write at a time: memory holds one write under way and the pieces of the next.
            self.filed().await?;
            let growth = self.growth.clone();
            self.filing = Some(spawn_blocking(move || {
                growth.file_pieces()?;
                failpoint("blob.write.after_filing");
                Ok(())
            }));
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn BlobReader> {
        Arc::new(GrowingFile(self.growth.clone()))
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<(), BlobError> {
        self.filed().await?;
        let digest = *digest;
        blocking("committing a blob", move || self.finish(&digest)).await
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let layout = self.layout.clone();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || layout.discard(&name))),
            Err(_) => layout.discard(&name),
        }
    }
}
