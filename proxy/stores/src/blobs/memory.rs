//! Bodies in memory: the test twin of the directory and of S3.

mod uploads;

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, BlobStore, StagedBlob, UploadId, blobs::MAX_READ},
};
use async_trait::async_trait;
use bytes::Bytes;

pub use self::uploads::MemoryUploads;
use self::uploads::Upload;

/// A blob store that forgets everything with the process.
#[derive(Debug)]
pub struct MemoryBlobs {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    blobs: BTreeMap<Digest, Bytes>,
    quarantined: BTreeMap<Digest, Bytes>,
    /// Bytes that still fit.
    room: u64,
    uploads: BTreeMap<UploadId, Upload>,
    /// Writers of uploads so far.
    writers: u64,
}

impl Default for MemoryBlobs {
    fn default() -> Self {
        Self::with_room(u64::MAX)
    }
}

impl MemoryBlobs {
    /// A store that is full after `room` bytes, staged and stored together.
    pub fn with_room(room: u64) -> Self {
        let (blobs, quarantined, uploads) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let shelf = Shelf { blobs, quarantined, room, uploads, writers: 0 };
        MemoryBlobs { shelf: Arc::new(Mutex::new(shelf)) }
    }

    /// Flips one bit of a stored body, as a failing disk would. `false`: it is empty or not there.
    pub fn damage(&self, digest: &Digest) -> bool {
        let mut shelf = lock(&self.shelf);
        let Some(body) = shelf.blobs.get_mut(digest) else { return false };
        let mut bytes = body.to_vec();
        let Some(byte) = bytes.last_mut() else { return false };
        *byte ^= 1;
        *body = bytes.into();
        true
    }

    /// Digests of what has been quarantined.
    pub fn quarantined(&self) -> Vec<Digest> {
        lock(&self.shelf).quarantined.keys().copied().collect()
    }
}

/// A poisoned lock means that a test has panicked; the maps are whole all the same.
fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    fn take_room(&mut self, bytes: u64) -> Result<(), BlobError> {
        match self.room.checked_sub(bytes) {
            Some(left) => {
                self.room = left;
                Ok(())
            }
            None => Err(BlobError::Full(io::ErrorKind::StorageFull.into())),
        }
    }

    fn give_room(&mut self, bytes: u64) {
        self.room = self.room.saturating_add(bytes);
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        let reserved = length.unwrap_or(0);
        lock(&self.shelf).take_room(reserved)?;
        Ok(Box::new(Staged { shelf: self.shelf.clone(), body: Arc::default(), taken: reserved }))
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        match lock(&self.shelf).blobs.get(digest) {
            Some(body) => Ok(Arc::new(Whole(body.clone()))),
            None => Err(BlobError::NotFound(*digest)),
        }
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(lock(&self.shelf).blobs.get(digest).map(|body| body.len() as u64))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let mut shelf = lock(&self.shelf);
        if let Some(body) = shelf.blobs.remove(digest) {
            shelf.give_room(body.len() as u64);
        }
        Ok(())
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        let mut shelf = lock(&self.shelf);
        if let Some(body) = shelf.blobs.remove(digest) {
            shelf.quarantined.insert(*digest, body);
        }
        Ok(())
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelf = lock(&self.shelf);
        let page = shelf.blobs.range((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(digest, body)| (*digest, body.len() as u64)).collect())
    }
}

struct Staged {
    shelf: Arc<Mutex<Shelf>>,
    body: Arc<RwLock<Vec<u8>>>,
    /// Room taken for this body: what was announced, or what has come if that is more.
    taken: u64,
}

#[async_trait]
impl StagedBlob for Staged {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let mut body = self.body.write().unwrap_or_else(PoisonError::into_inner);
        let needed = (body.len() + bytes.len()) as u64;
        if let Some(more) = needed.checked_sub(self.taken) {
            lock(&self.shelf).take_room(more)?;
            self.taken = needed;
        }
        body.extend_from_slice(&bytes);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn BlobReader> {
        Arc::new(Growing(self.body.clone()))
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<(), BlobError> {
        let body = Bytes::copy_from_slice(&self.body.read().unwrap_or_else(PoisonError::into_inner));
        let mut shelf = lock(&self.shelf);
        if !shelf.blobs.contains_key(digest) {
            self.taken -= body.len() as u64;
            shelf.blobs.insert(*digest, body);
        }
        drop(shelf);
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        lock(&self.shelf).give_room(self.taken);
    }
}

struct Growing(Arc<RwLock<Vec<u8>>>);

#[async_trait]
impl BlobReader for Growing {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let body = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (start, end) = window(body.len(), offset, length);
        Ok(Bytes::copy_from_slice(&body[start..end]))
    }
}

pub(super) struct Whole(pub(super) Bytes);

#[async_trait]
impl BlobReader for Whole {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let (start, end) = window(self.0.len(), offset, length);
        Ok(self.0.slice(start..end))
    }
}

/// The part of a body of `size` bytes that a read may return.
fn window(size: usize, offset: u64, length: usize) -> (usize, usize) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(size);
    (start, start + length.min(MAX_READ).min(size - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::suite;

    #[tokio::test]
    async fn conforms() {
        suite::suite(async || Arc::new(MemoryBlobs::default()) as Arc<dyn BlobStore>).await;
    }

    #[tokio::test]
    async fn rs_96_conforms_when_full() {
        suite::full(async |room| Arc::new(MemoryBlobs::with_room(room)) as Arc<dyn BlobStore>).await;
    }

    #[tokio::test]
    async fn damage_changes_what_is_read_and_not_the_length() {
        let store = MemoryBlobs::default();
        let digest = suite::put(&store, b"body").await;
        assert!(store.damage(&digest));
        assert_eq!(store.size(&digest).await.unwrap(), Some(4));
        assert_ne!(&store.open(&digest).await.unwrap().read_at(0, 4).await.unwrap()[..], b"body");
        store.quarantine(&digest).await.unwrap();
        assert_eq!(store.quarantined(), [digest]);
        assert!(!store.damage(&digest));
    }
}
