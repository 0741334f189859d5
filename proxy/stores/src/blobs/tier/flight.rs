//! One body on its way from S3 into the tier, and those who read it meanwhile.
//!
//! The body is hashed while it comes. Readers may have all that has come but the last [`HELD`] bytes of the
//! body: those wait until the digest agrees, so that nobody ends a transfer of wrong bytes well (RS-01).

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use artifactapi_model::{
    Digest, Hasher,
    ports::{BlobError, BlobReader, StagedBlob},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, watch};

use super::{Inner, disk::Promise, through::Through};
use crate::blobs::{
    fs::{reader::readable, staged::StagedFile},
    memory::Whole,
    s3::ObjectStream,
};

/// Last bytes of a body, kept back until its digest agrees.
pub(super) const HELD: u64 = 64 << 10;
/// A reader so far ahead of what has come asks S3 itself.
const AHEAD: u64 = 8 << 20;

pub(super) const WRONG: &str = "S3 sends other bytes than were stored";

/// How a flight has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The body is whole and right.
    Verified,
    /// The bytes are not those of the digest.
    Damaged,
    /// There is no such object.
    Missing,
    /// The tier has no room for it: read it from S3.
    NoRoom,
    /// S3 has failed, in words.
    Failed(io::ErrorKind, Arc<str>),
    /// Nobody wanted it any more.
    Abandoned,
}

/// How far a flight has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Readable bytes, but for those kept back.
    come: u64,
    end: Option<End>,
}

/// A body that is coming.
struct Coming {
    size: u64,
    reader: Arc<dyn BlobReader>,
}

/// One object asked for once, for all readers of this process.
pub(super) struct Flight {
    digest: Digest,
    progress: watch::Sender<Progress>,
    coming: OnceLock<Coming>,
    /// An open stream that the tier has no room for, for the first who wants it.
    spare: Mutex<Option<ObjectStream>>,
    readers: AtomicUsize,
    /// Has a permit once it is gone from the list of flights.
    landed: Semaphore,
}

/// One reader's interest in a flight.
pub(super) struct Ticket(Arc<Flight>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Relaxed);
    }
}

impl Flight {
    pub(super) fn new(digest: Digest) -> Arc<Self> {
        Arc::new(Flight {
            digest,
            progress: watch::Sender::new(Progress::default()),
            coming: OnceLock::new(),
            spare: Mutex::new(None),
            readers: AtomicUsize::new(0),
            landed: Semaphore::new(0),
        })
    }

    /// A flight that is over before it began: its object is under suspicion.
    pub(super) fn suspect(digest: Digest) -> Arc<Self> {
        let flight = Self::new(digest);
        flight.end(End::Damaged);
        flight
    }

    /// Counts one more reader; only while the list of flights is locked.
    pub(super) fn board(self: &Arc<Self>) -> Ticket {
        self.readers.fetch_add(1, Relaxed);
        Ticket(self.clone())
    }

    /// Whether nobody reads it and too little has come to go on.
    fn is_idle(&self) -> bool {
        let come = self.progress.borrow().come;
        let size = self.coming.get().map_or(u64::MAX, |coming| coming.size);
        self.readers.load(Relaxed) == 0 && come < size / 2
    }

    /// All of it is right; readers need not wait until it is kept.
    fn verified(&self, size: u64, reader: Arc<dyn BlobReader>) {
        let _ = self.coming.set(Coming { size, reader });
        self.end(End::Verified);
    }

    fn set_spare(&self, stream: ObjectStream) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    pub(super) fn end(&self, end: End) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether its object is under suspicion.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.progress.borrow().end, Some(End::Damaged))
    }

    /// It is gone from the list.
    pub(super) fn has_landed(&self) {
        self.landed.add_permits(1);
    }

    /// Waits until it is gone from the list.
    pub(super) async fn landed(&self) {
        let _permit = self.landed.acquire().await;
    }

    fn error(&self, end: &End) -> BlobError {
        match end {
            End::Missing => BlobError::NotFound(self.digest),
            End::Damaged => BlobError::Damaged(self.digest, WRONG),
            End::Failed(kind, text) => {
                BlobError::Io { doing: "reading from S3", source: io::Error::new(*kind, text.to_string()) }
            }
            End::Verified | End::NoRoom | End::Abandoned => {
                BlobError::Io { doing: "reading from S3", source: io::ErrorKind::Interrupted.into() }
            }
        }
    }
}

impl Ticket {
    /// A reader, once it is known that there is something to read.
    pub(super) async fn reader(self, tier: &Arc<Inner>) -> Result<Arc<dyn BlobReader>, BlobError> {
        let flight = &self.0;
        let mut progress = flight.progress.subscribe();
        loop {
            let end = progress.borrow_and_update().end.clone();
            let coming = flight.coming.get();
            match (end, coming) {
                (Some(End::Verified), Some(coming)) => return Ok(coming.reader.clone()),
                (Some(End::NoRoom), _) => {
                    let spare = flight.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let through = Through::open(tier.clone(), flight.digest, spare).await?;
                    return Ok(Arc::new(through));
                }
                (Some(end), _) => return Err(flight.error(&end)),
                (None, Some(coming)) => {
                    let own = Through::lazy(tier.clone(), flight.digest, coming.size);
                    return Ok(Arc::new(Follower { ticket: self, own }));
                }
                (None, None) => {}
            }
            if progress.changed().await.is_err() {
                return Err(flight.error(&End::Abandoned));
            }
        }
    }
}

/// A reader of a body that is coming.
struct Follower {
    ticket: Ticket,
    /// For reads far ahead, and after the local disk has failed.
    own: Through,
}

#[async_trait]
impl BlobReader for Follower {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let flight = &self.ticket.0;
        let Some(Coming { size, reader }) = flight.coming.get() else {
            return Err(flight.error(&End::Abandoned));
        };
        let length = readable(*size, offset, length);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let end = offset + length as u64;
        let free = size.saturating_sub(HELD);
        let mut progress = flight.progress.subscribe();
        loop {
            let Progress { come, end: over } = progress.borrow_and_update().clone();
            match over {
                Some(End::Verified) => return reader.read_at(offset, length).await,
                Some(End::Damaged) => return Err(flight.error(&End::Damaged)),
                _ if end <= come.min(free) => return reader.read_at(offset, length).await,
                Some(End::NoRoom) => return self.own.read_at(offset, length).await,
                Some(over) => return Err(flight.error(&over)),
                None if end <= free && offset > come.saturating_add(AHEAD) => {
                    return self.own.read_at(offset, length).await;
                }
                None => {}
            }
            if progress.changed().await.is_err() {
                return Err(flight.error(&End::Abandoned));
            }
        }
    }
}

/// Takes a flight from the list, whatever has become of it.
struct Landing {
    tier: Arc<Inner>,
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flight.end(End::Abandoned);
        self.tier.land(&self.flight);
    }
}

/// Flies. The flight stays in the list until everything that follows from its end is done.
pub(super) async fn fly(tier: Arc<Inner>, flight: Arc<Flight>) {
    let Landing { tier, flight } = &Landing { tier, flight };
    let end = match bring(tier, flight).await {
        Ok(end) => end,
        Err(error @ BlobError::Full(_)) => {
            tracing::debug!(%error, blob.digest = %flight.digest, "no room in the disk tier");
            End::NoRoom
        }
        Err(BlobError::Damaged(..)) => End::Damaged,
        Err(BlobError::NotFound(_)) => End::Missing,
        Err(BlobError::Io { source, .. }) => End::Failed(source.kind(), source.to_string().into()),
    };
    let damaged = matches!(end, End::Damaged);
    flight.end(end);
    if damaged {
        tier.convict(&flight.digest).await;
    }
}

async fn bring(tier: &Arc<Inner>, flight: &Arc<Flight>) -> Result<End, BlobError> {
    let stream = tier.s3.ask(&flight.digest, 0).await?;
    if stream.size() <= HELD {
        bring_small(tier, flight, stream).await
    } else {
        bring_large(tier, flight, stream).await
    }
}

/// All of it would be kept back, so nobody has seen a byte: wrong ones are asked for once more.
async fn bring_small(
    tier: &Arc<Inner>,
    flight: &Arc<Flight>,
    mut stream: ObjectStream,
) -> Result<End, BlobError> {
    let digest = flight.digest;
    let mut body = whole(&mut stream).await?;
    if Digest::of(&body) != digest {
        tier.tally.damaged.fetch_add(1, Relaxed);
        body = whole(&mut tier.s3.ask(&digest, 0).await?).await?;
        if Digest::of(&body) != digest {
            return Err(BlobError::Damaged(digest, WRONG));
        }
    }
    tier.tally.streams.fetch_add(1, Relaxed);
    let size = body.len() as u64;
    flight.verified(size, Arc::new(Whole(body.clone())));
    if let Some(promise) = tier.disk.promise(size).await {
        match tier.disk.stage(Some(size)).await {
            Ok(mut staged) => {
                staged.write(body).await.map_err(no_room)?;
                keep(tier, flight, staged, promise).await;
            }
            Err(error) => tracing::debug!(%error, "no room in the disk tier"),
        }
    }
    Ok(End::Verified)
}

async fn whole(stream: &mut ObjectStream) -> Result<Bytes, BlobError> {
    let mut body = BytesMut::new();
    while let Some(bytes) = stream.next().await? {
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

async fn bring_large(
    tier: &Arc<Inner>,
    flight: &Arc<Flight>,
    mut stream: ObjectStream,
) -> Result<End, BlobError> {
    let size = stream.size();
    let Some(promise) = tier.disk.promise(size).await else {
        flight.set_spare(stream);
        return Ok(End::NoRoom);
    };
    let mut staged = match tier.disk.stage(Some(size)).await {
        Ok(staged) => staged,
        Err(error) => {
            flight.set_spare(stream);
            return Err(no_room(error));
        }
    };
    tier.tally.streams.fetch_add(1, Relaxed);
    let _ = flight.coming.set(Coming { size, reader: staged.reader() });
    flight.progress.send_modify(|_| {});
    let mut hasher = Hasher::for_checksums(&[]);
    while let Some(bytes) = stream.next().await? {
        hasher.update(&bytes);
        staged.write(bytes).await.map_err(no_room)?;
        flight.progress.send_modify(|progress| progress.come = stream.at());
        if flight.is_idle() && tier.land_if(flight, Flight::is_idle) {
            return Ok(End::Abandoned);
        }
    }
    if hasher.finish().digest != flight.digest {
        return Err(BlobError::Damaged(flight.digest, WRONG));
    }
    flight.verified(size, staged.reader());
    keep(tier, flight, staged, promise).await;
    Ok(End::Verified)
}

/// Makes the body one of the tier, unless it was removed meanwhile.
async fn keep(tier: &Arc<Inner>, flight: &Flight, staged: StagedFile, promise: Promise) {
    let digest = flight.digest;
    if tier.is_doomed(&digest) {
        return;
    }
    if let Err(error) = tier.disk.admit(staged, &digest, promise).await {
        tracing::warn!(%error, blob.digest = %digest, "a body cannot be kept in the disk tier");
    }
    // Perhaps removed before it had its place.
    if tier.is_doomed(&digest)
        && let Err(error) = tier.disk.remove(&digest).await
    {
        tracing::warn!(%error, blob.digest = %digest, "a removed body stays in the disk tier");
    }
}

/// A disk that fails is a tier without room.
fn no_room(error: BlobError) -> BlobError {
    BlobError::Full(io::Error::other(error))
}
