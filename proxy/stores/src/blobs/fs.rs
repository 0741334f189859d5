//! Bodies in a directory of the local machine.
//!
//! ```text
//! <root>/lock                      held by the one process that owns the directory
//! <root>/blobs/sha256/aa/<hex>     bodies, each named by its SHA-256
//! <root>/staging/                  bodies on their way in; emptied on start
//! <root>/uploads/<id>              bodies of pushes that are under way; they outlive the process
//! <root>/quarantine/<hex>          damaged bodies, kept for inspection
//! ```
//! A commit is: write everything, `fdatasync` the file, rename it into place, `fsync` the directory, only
//! then answer (RS-98). Whatever the moment of a crash, a name under `blobs/` has its whole body.

mod buffers;
pub(super) mod error;
mod growth;
pub(super) mod layout;
pub(super) mod reader;
mod shortage;
pub(super) mod staged;
#[cfg(test)]
mod tests;
mod uploads;

use std::{path::PathBuf, sync::Arc};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, BlobStore, Space, StagedBlob},
};
use async_trait::async_trait;

use self::{
    error::{blocking, joined},
    layout::{Layout, Purpose},
    reader::{BlobFile, FileIo},
    staged::StagedFile,
    uploads::Writers,
};
pub use self::{shortage::Shortage, uploads::FsUploads};
use crate::OpenError;

/// A blob store in a directory, owned by one process at a time.
#[derive(Debug)]
pub struct FsBlobs {
    layout: Arc<Layout>,
    io: Arc<FileIo>,
    writers: Arc<Writers>,
}

impl FsBlobs {
    /// Opens the store in `root`, which is made when it is missing, and discards what a dead process had
    /// staged. The directory stays locked until the store, its staged bodies and running calls are gone.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process owns the directory, [`OpenError::Io`] otherwise.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let root = root.into();
        let layout = tokio::task::spawn_blocking(move || Layout::open(&root, Purpose::Store)).await;
        let layout = layout.map_err(|error| OpenError::Io {
            path: PathBuf::new(),
            doing: "waiting for the disk",
            source: joined(error),
        })??;
        Ok(FsBlobs { layout: Arc::new(layout), io: Arc::default(), writers: Arc::default() })
    }

    /// Room on the file system that the directory is on.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub async fn space(&self) -> Result<Space, BlobError> {
        let layout = self.layout.clone();
        blocking("measuring the file system", move || layout.space()).await
    }

    /// Where writes that meet a full disk are noted.
    pub fn shortage(&self) -> Arc<Shortage> {
        self.layout.shortage.clone()
    }
}

#[async_trait]
impl BlobStore for FsBlobs {
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        let (layout, io) = (self.layout.clone(), self.io.clone());
        blocking("staging a blob", move || {
            let staged = StagedFile::create(layout, io, length)?;
            Ok(Box::new(staged) as Box<dyn StagedBlob>)
        })
        .await
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        let (layout, io, digest) = (self.layout.clone(), self.io.clone(), *digest);
        blocking("opening a blob", move || {
            let (file, size) = layout.open_blob(&digest)?.ok_or(BlobError::NotFound(digest))?;
            Ok(Arc::new(BlobFile::new(file, size, digest, io)) as Arc<dyn BlobReader>)
        })
        .await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let (layout, digest) = (self.layout.clone(), *digest);
        blocking("looking for a blob", move || layout.size(&digest)).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let (layout, digest) = (self.layout.clone(), *digest);
        blocking("removing a blob", move || layout.remove(&digest)).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        let (layout, digest) = (self.layout.clone(), *digest);
        blocking("quarantining a blob", move || layout.quarantine(&digest)).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        let layout = self.layout.clone();
        blocking("listing blobs", move || layout.list(after, limit)).await
    }
}
