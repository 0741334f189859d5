//! Bodies on their way to S3: one PUT when they are small, several parts at a time when they are not. Memory
//! is bounded for all uploads of the process together.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use artifactapi_model::{
    Digest, failpoint,
    ports::{BlobError, BlobReader, blobs::MAX_READ},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    MultipartId, ObjectStore, PutMode, PutOptions, PutPayload, multipart::MultipartStore, path::Path,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Shared, error::Failure, place_of, settings::RETRIES, stream::pause};

/// Largest body of one PUT, and the size of a part unless there would be too many.
pub(super) const PART: u64 = 8 << 20;
/// Parts of one upload under way together.
const PARTS_AT_ONCE: usize = 3;
/// Most parts of one upload; S3 takes 10,000.
const MAX_PARTS: u64 = 9_000;
/// Bytes in memory for all uploads together.
pub(in crate::blobs) const MEMORY: u64 = 64 << 20;
const UNIT: u64 = 4 << 10;
const DOING: &str = "writing to S3";

/// Memory for bodies on their way out.
#[derive(Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    taken: Arc<AtomicU64>,
    peak: AtomicU64,
}

/// Some of it.
pub(super) struct Taken {
    _permit: OwnedSemaphorePermit,
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let units = usize::try_from(MEMORY / UNIT).unwrap_or(usize::MAX);
        Memory { room: Arc::new(Semaphore::new(units)), taken: Arc::default(), peak: AtomicU64::new(0) }
    }

    /// Waits for room for `bytes`; more than there is in all takes all of it.
    pub(super) async fn take(&self, bytes: u64) -> Taken {
        let units = u32::try_from(bytes.min(MEMORY).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let Ok(permit) = self.room.clone().acquire_many_owned(units).await else {
            unreachable!("nobody closes this semaphore")
        };
        let taken = self.taken.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(taken, Relaxed);
        Taken { _permit: permit, bytes, all: self.taken.clone() }
    }

    /// Most bytes that were in memory at one time.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// Why a body did not get there.
pub(super) enum Failed {
    S3(Failure),
    Reading(BlobError),
}

impl From<object_store::Error> for Failed {
    fn from(error: object_store::Error) -> Self {
        Failed::S3(error.into())
    }
}

/// Puts the first `size` bytes of `reader` in the place of `digest` and returns when they are there. An object
/// of that length that is there already stays. An unknown outcome is settled by asking (RS-89).
pub(super) async fn upload(
    s3: &Arc<Shared>,
    digest: &Digest,
    size: u64,
    reader: &dyn BlobReader,
) -> Result<(), BlobError> {
    let place = place_of(digest);
    // A store that refuses to overwrite answers this question along with the PUT.
    if (size > PART || !s3.conditional_put()) && settled(s3, digest, size).await? {
        return Ok(());
    }
    failpoint("blob.upload.before");
    let mut tries = 0;
    loop {
        let sent = if size > PART {
            parts(s3, &place, size, reader).await
        } else {
            put(s3, &place, size, reader).await
        };
        let failure = match sent {
            Ok(()) => None,
            Err(Failed::Reading(error)) => return Err(error),
            Err(Failed::S3(failure)) => Some(failure),
        };
        if settled(s3, digest, size).await? {
            if let Some(failure) = failure.filter(|failure| !failure.is_conflict()) {
                tracing::info!(%failure, blob.digest = %digest, "S3 has the object although it said otherwise");
            }
            failpoint("blob.upload.after");
            return Ok(());
        }
        let failure = failure
            .unwrap_or_else(|| Failure::Broken(io::Error::other("S3 took the object and does not have it")));
        tries += 1;
        if tries > RETRIES || !(failure.may_pass() || failure.is_conflict()) {
            return Err(failure.into_blob(DOING));
        }
        tokio::time::sleep(pause(tries)).await;
    }
}

/// Whether the object is in its own place with the right length. One of another length is put aside.
pub(super) async fn settled(s3: &Shared, digest: &Digest, size: u64) -> Result<bool, BlobError> {
    match s3.head_at(&place_of(digest)).await? {
        Some(found) if found.size == size => Ok(true),
        Some(found) => {
            let wrong = found.size;
            tracing::error!(blob.digest = %digest, wrong, size, "an object of the wrong length is put aside");
            s3.quarantine_object(digest, &found).await?;
            Ok(false)
        }
        None => Ok(false),
    }
}

/// `length` bytes from `offset` on, as the pieces they are read in, onto `body`.
pub(super) async fn pieces(
    reader: &dyn BlobReader,
    offset: u64,
    length: u64,
    body: &mut Vec<Bytes>,
) -> Result<(), Failed> {
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(MAX_READ).min(MAX_READ);
        let piece = reader.read_at(at, want).await.map_err(Failed::Reading)?;
        if piece.is_empty() {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(Failed::Reading(BlobError::Io { doing: "reading a staged body", source }));
        }
        at += piece.len() as u64;
        body.push(piece);
    }
    Ok(())
}

async fn payload(reader: &dyn BlobReader, offset: u64, length: u64) -> Result<PutPayload, Failed> {
    let mut body = Vec::new();
    pieces(reader, offset, length, &mut body).await?;
    Ok(body.into_iter().collect())
}

async fn put(s3: &Shared, place: &Path, size: u64, reader: &dyn BlobReader) -> Result<(), Failed> {
    let _memory = s3.memory.take(size).await;
    let body = payload(reader, 0, size).await?;
    let mode = if s3.conditional_put() { PutMode::Create } else { PutMode::Overwrite };
    s3.store.put_opts(place, body, PutOptions { mode, ..PutOptions::default() }).await?;
    Ok(())
}

async fn parts(s3: &Arc<Shared>, place: &Path, size: u64, reader: &dyn BlobReader) -> Result<(), Failed> {
    let id = s3.store.create_multipart(place).await?;
    let mut unfinished = Unfinished { s3: s3.clone(), place: place.clone(), id: Some(id.clone()) };
    let part = PART.max(size.div_ceil(MAX_PARTS).next_multiple_of(MAX_READ as u64));
    let numbers = stream::iter((0..size.div_ceil(part)).zip(0_usize..));
    let sent = numbers.map(|(n, index)| {
        let id = &id;
        async move {
            let length = part.min(size - n * part);
            let _memory = s3.memory.take(length).await;
            let body = payload(reader, n * part, length).await?;
            let sent = s3.store.put_part(place, id, index, body).await?;
            failpoint("blob.upload.after_part");
            Ok::<_, Failed>(sent)
        }
    });
    let sent: Vec<_> = sent.buffered(PARTS_AT_ONCE).try_collect().await?;
    failpoint("blob.upload.before_complete");
    if let Err(error) = s3.store.complete_multipart(place, &id, sent).await {
        // It may be done all the same; then there is nothing to abort.
        let there = s3.head_at(place).await.map_err(Failed::Reading)?;
        if there.is_some_and(|there| there.size == size) {
            unfinished.id = None;
        }
        return Err(error.into());
    }
    unfinished.id = None;
    Ok(())
}

/// An upload to be aborted, unless it was completed: its parts cost room that nobody sees.
struct Unfinished {
    s3: Arc<Shared>,
    place: Path,
    id: Option<MultipartId>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let (s3, place) = (self.s3.clone(), self.place.clone());
        runtime.spawn(async move {
            if let Err(error) = s3.store.abort_multipart(&place, &id).await {
                let failure = Failure::from(error);
                tracing::warn!(%failure, "an upload could not be aborted; the bucket's lifecycle rule does it");
            }
        });
    }
}
