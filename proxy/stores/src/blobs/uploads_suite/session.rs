//! The caller's side of an upload, as small as can be.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, MetadataError, Place, Placements, Stored, UploadId, UploadStore, UploadWriter},
};
use async_trait::async_trait;
use bytes::Bytes;

use super::Bench;

/// Bytes of one write.
pub(super) const PIECE: usize = 200_000;

/// Which bodies are not in their own place: a table in memory.
#[derive(Debug, Default)]
pub struct Places {
    table: Mutex<HashMap<Digest, Place>>,
    asked: AtomicUsize,
    broken: AtomicBool,
}

impl Places {
    /// Notes a place.
    pub fn set(&self, digest: &Digest, place: Place) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, place);
    }

    /// Forgets one.
    pub fn forget(&self, digest: &Digest) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Nobody gets an answer until this is called with `false`.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Relaxed);
    }

    /// How often has been asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

#[async_trait]
impl Placements for Places {
    async fn place(&self, digest: &Digest) -> Result<Option<Place>, MetadataError> {
        self.asked.fetch_add(1, Relaxed);
        if self.broken.load(Relaxed) {
            return Err(MetadataError::Unavailable("broken by the test".into()));
        }
        Ok(self.table.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned())
    }

    async fn placed(
        &self,
        _after: Option<&Digest>,
        _limit: usize,
    ) -> Result<Vec<(Digest, u64, Place)>, MetadataError> {
        Ok(Vec::new())
    }

    async fn settled(&self, _digest: &Digest, _place: &Place) -> Result<bool, MetadataError> {
        Ok(false)
    }

    async fn retired_places(&self, _age: Duration, _limit: usize) -> Result<Vec<Place>, MetadataError> {
        Ok(Vec::new())
    }

    async fn pushed(&self, _blobs: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        Ok(Vec::new())
    }

    async fn forget_place(&self, _place: &Place) -> Result<(), MetadataError> {
        Ok(())
    }
}

/// One session. Each request goes to the other process than the one before.
pub(super) struct Session<'a> {
    bench: &'a Bench,
    pub(super) id: UploadId,
    pub(super) offset: u64,
    pub(super) stored: Stored,
    placed: bool,
    turn: usize,
}

/// An id that no other session has.
pub(super) fn random_id() -> UploadId {
    UploadId::of(crate::random::random().unwrap())
}

impl<'a> Session<'a> {
    pub(super) fn new(bench: &'a Bench) -> Self {
        let (offset, stored) = (0, Stored::default());
        Session { bench, id: random_id(), offset, stored, placed: false, turn: 0 }
    }

    fn uploads(&mut self) -> Arc<dyn UploadStore> {
        self.turn += 1;
        self.bench.uploads[self.turn % 2].clone()
    }

    pub(super) async fn try_open(&mut self, took_over: bool) -> Result<Box<dyn UploadWriter>, BlobError> {
        self.uploads().resume(&self.id, &self.stored, self.offset, took_over).await
    }

    pub(super) async fn open(&mut self, took_over: bool) -> Box<dyn UploadWriter> {
        self.try_open(took_over).await.unwrap()
    }

    pub(super) fn record(&mut self, offset: u64, stored: Stored) {
        assert!(stored.0.len() < 1 << 20, "the state is no longer than it may be");
        (self.offset, self.stored) = (offset, stored);
    }

    /// Writes as who has the session.
    pub(super) async fn send(
        &mut self,
        writer: &mut Box<dyn UploadWriter>,
        bytes: &Bytes,
    ) -> Result<(), BlobError> {
        for start in (0..bytes.len()).step_by(PIECE) {
            if writer.must_keep() {
                let (offset, stored) = writer.keep().await?;
                self.record(offset, stored);
                assert!(!writer.must_keep(), "once is enough");
            }
            writer.write(bytes.slice(start..bytes.len().min(start + PIECE))).await?;
        }
        Ok(())
    }

    /// Writes as who had the session and has not noticed yet that it is lost: nothing is recorded any more.
    pub(super) async fn send_unheard(&self, writer: &mut Box<dyn UploadWriter>, bytes: &Bytes) {
        for start in (0..bytes.len()).step_by(PIECE) {
            let piece = bytes.slice(start..bytes.len().min(start + PIECE));
            if writer.must_keep() || writer.write(piece).await.is_err() {
                return;
            }
        }
    }

    /// Ends a request in order.
    pub(super) async fn give_back(&mut self, writer: Box<dyn UploadWriter>, offset: u64) {
        let stored = writer.pause().await.unwrap();
        self.record(offset, stored);
    }

    /// One request that goes well.
    pub(super) async fn append(&mut self, bytes: &Bytes) {
        let (mut writer, start) = (self.open(false).await, self.offset);
        self.send(&mut writer, bytes).await.unwrap();
        self.give_back(writer, start + bytes.len() as u64).await;
    }

    /// The last request, which brings `rest`. The answer gets lost: nothing but the blob's place is recorded.
    pub(super) async fn close(&mut self, rest: &Bytes, digest: &Digest) -> Result<Option<Place>, BlobError> {
        let (offset, stored) = (self.offset, self.stored.clone());
        let mut writer = self.try_open(true).await?;
        self.send(&mut writer, rest).await?;
        let place = writer.finish(digest).await?;
        self.record(offset, stored);
        self.placed(digest, place.clone());
        Ok(place)
    }

    /// Notes what [`UploadWriter::finish`] has told.
    pub(super) fn placed(&mut self, digest: &Digest, place: Option<Place>) {
        match place {
            Some(place) => {
                assert_eq!(place.0, format!("uploads/{}", self.id));
                self.bench.places.set(digest, place);
                self.placed = true;
            }
            None => self.bench.places.forget(digest),
        }
    }

    /// Drops what is left.
    pub(super) async fn end(&mut self) {
        let (uploads, placed) = (self.uploads(), self.placed);
        uploads.discard(&self.id, &self.stored, placed).await.unwrap();
    }
}
