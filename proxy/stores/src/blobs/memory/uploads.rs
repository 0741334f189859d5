//! Uploads in memory: the test twin.

use std::{
    ops::Bound,
    sync::{Arc, Mutex},
    time::Duration,
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, Place, Stored, UploadId, UploadStore, UploadWriter},
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{MemoryBlobs, Shelf, Whole, lock};
use crate::blobs::{lost, taken_over};

/// Uploads beside the bodies of one [`MemoryBlobs`].
#[derive(Clone, Debug)]
pub struct MemoryUploads(Arc<Mutex<Shelf>>);

/// One body on its way in.
#[derive(Debug)]
pub(super) struct Upload {
    body: Vec<u8>,
    /// Number of the writer that may append.
    writer: u64,
    touched: Instant,
}

impl MemoryBlobs {
    /// Where uploads are kept until they are bodies of this store.
    pub fn uploads(&self) -> MemoryUploads {
        MemoryUploads(self.shelf.clone())
    }
}

impl Shelf {
    fn drop_upload(&mut self, id: &UploadId) {
        if let Some(upload) = self.uploads.remove(id) {
            self.give_room(upload.body.len() as u64);
        }
    }
}

#[async_trait]
impl UploadStore for MemoryUploads {
    async fn resume(
        &self,
        id: &UploadId,
        _stored: &Stored,
        offset: u64,
        _took_over: bool,
    ) -> Result<Box<dyn UploadWriter>, BlobError> {
        let mut shelf = lock(&self.0);
        shelf.writers += 1;
        let number = shelf.writers;
        let start = usize::try_from(offset).map_err(|_| lost())?;
        if start == 0 && !shelf.uploads.contains_key(id) {
            let upload = Upload { body: Vec::new(), writer: number, touched: Instant::now() };
            shelf.uploads.insert(id.clone(), upload);
        }
        let mut gone = true;
        if let Some(upload) = shelf.uploads.get_mut(id) {
            let beyond = upload.body.len().checked_sub(start).ok_or_else(lost)?;
            upload.body.truncate(start);
            upload.writer = number;
            gone = false;
            shelf.give_room(beyond as u64);
        }
        Ok(Box::new(Writer { shelf: self.0.clone(), id: id.clone(), number, written: offset, gone }))
    }

    async fn read(
        &self,
        id: &UploadId,
        _stored: &Stored,
        length: u64,
    ) -> Result<Arc<dyn BlobReader>, BlobError> {
        let shelf = lock(&self.0);
        let body = shelf.uploads.get(id).map(|upload| &upload.body[..]).unwrap_or_default();
        let body = usize::try_from(length).ok().and_then(|length| body.get(..length)).ok_or_else(lost)?;
        Ok(Arc::new(Whole(Bytes::copy_from_slice(body))))
    }

    async fn discard(&self, id: &UploadId, _stored: &Stored, _placed: bool) -> Result<(), BlobError> {
        lock(&self.0).drop_upload(id);
        Ok(())
    }

    async fn settle(&self, _place: &Place, _digest: &Digest, _size: u64) -> Result<bool, BlobError> {
        Ok(false)
    }

    async fn remove_place(&self, _place: &Place) -> Result<(), BlobError> {
        Ok(())
    }

    async fn list(
        &self,
        after: Option<&UploadId>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelf = lock(&self.0);
        let uploads = shelf.uploads.range((from, Bound::Unbounded));
        let old = uploads.filter(|(_, upload)| !upload.body.is_empty() && upload.touched.elapsed() >= age);
        Ok(old.map(|(id, _)| id.clone()).take(limit).collect())
    }
}

struct Writer {
    shelf: Arc<Mutex<Shelf>>,
    id: UploadId,
    number: u64,
    /// Length of the body after the last write.
    written: u64,
    /// The bytes are not there any more: they became a blob, or were discarded.
    gone: bool,
}

impl Writer {
    fn upload<'a>(&self, shelf: &'a mut Shelf) -> Result<&'a mut Upload, BlobError> {
        let upload = shelf.uploads.get_mut(&self.id);
        upload.filter(|upload| upload.writer == self.number).ok_or_else(taken_over)
    }
}

#[async_trait]
impl UploadWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        if !self.gone {
            let mut shelf = lock(&self.shelf);
            self.upload(&mut shelf)?;
            shelf.take_room(bytes.len() as u64)?;
            let upload = self.upload(&mut shelf)?;
            upload.body.extend_from_slice(&bytes);
            upload.touched = Instant::now();
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn keep(&mut self) -> Result<(u64, Stored), BlobError> {
        if self.gone {
            return Err(lost());
        }
        self.upload(&mut lock(&self.shelf))?;
        Ok((self.written, Stored::default()))
    }

    async fn pause(self: Box<Self>) -> Result<Stored, BlobError> {
        if self.gone {
            return Err(lost());
        }
        self.upload(&mut lock(&self.shelf))?;
        Ok(Stored::default())
    }

    async fn finish(self: Box<Self>, digest: &Digest) -> Result<Option<Place>, BlobError> {
        let mut shelf = lock(&self.shelf);
        if shelf.blobs.get(digest).is_some_and(|body| body.len() as u64 == self.written) {
            if self.upload(&mut shelf).is_ok() {
                shelf.drop_upload(&self.id);
            }
            return Ok(None);
        }
        if self.gone {
            return Err(lost());
        }
        self.upload(&mut shelf)?;
        if let Some(upload) = shelf.uploads.remove(&self.id)
            && let Some(wrong) = shelf.blobs.insert(*digest, upload.body.into())
        {
            shelf.give_room(wrong.len() as u64);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::uploads_suite::{self, Bench};

    #[tokio::test]
    async fn uploads_conform() {
        uploads_suite::suite(async || {
            let blobs = MemoryBlobs::default();
            let uploads = [Arc::new(blobs.uploads()) as Arc<dyn UploadStore>, Arc::new(blobs.uploads())];
            Bench { blobs: Arc::new(blobs), uploads, places: Arc::default() }
        })
        .await;
    }

    #[tokio::test]
    async fn rs_96_uploads_conform_when_full() {
        uploads_suite::full(async |room| {
            let blobs = MemoryBlobs::with_room(room);
            let uploads = [Arc::new(blobs.uploads()) as Arc<dyn UploadStore>, Arc::new(blobs.uploads())];
            Bench { blobs: Arc::new(blobs), uploads, places: Arc::default() }
        })
        .await;
    }
}
