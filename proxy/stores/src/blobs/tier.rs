//! Bodies in S3 behind a bounded directory of this replica: what `serve` uses.
//!
//! A commit uploads and answers when S3 has the object; the staged file then stays as a copy. Opening a body
//! that has a copy asks S3 nothing. Otherwise it is asked for once, whoever wants it: the body grows in a
//! staged file, is hashed while it comes ([`flight`]), and becomes a copy. Losing a copy costs one GET.
//! S3 alone answers what there is: `size` and `list` never look at the copies.

mod disk;
mod flight;
mod index;
#[cfg(test)]
mod tests;
pub(in crate::blobs) mod through;
mod uploads;

use std::{
    collections::{HashMap, HashSet, hash_map},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{
    Digest, Hasher,
    ports::{BlobError, BlobReader, BlobStore, StagedBlob},
};
use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

pub use self::uploads::S3Uploads;
use self::{
    disk::{Copies, Disk},
    flight::{Flight, fly},
};
use super::{fs::staged::StagedFile, s3::S3Blobs};
use crate::OpenError;

/// A bucket with a bounded directory in front of it.
#[derive(Clone)]
pub struct TieredBlobs(Arc<Inner>);

struct Inner {
    s3: S3Blobs,
    disk: Arc<Disk>,
    flights: Mutex<Flights>,
    tally: Arc<TierTally>,
}

#[derive(Default)]
struct Flights {
    under_way: HashMap<Digest, Arc<Flight>>,
    /// Bodies removed while they were under way: they do not stay.
    doomed: HashSet<Digest>,
}

/// Where the tier counts.
#[derive(Debug, Default)]
struct TierTally {
    hits: AtomicU64,
    streams: AtomicU64,
    throughs: AtomicU64,
    evictions: AtomicU64,
    damaged: AtomicU64,
}

/// What the tier has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierCounts {
    /// Bodies opened without asking S3.
    pub hits: u64,
    /// Bodies brought from S3 into the tier.
    pub streams: u64,
    /// Requests to S3 for bodies, or parts of them, that did not go into the tier.
    pub throughs: u64,
    /// Copies removed to make room.
    pub evictions: u64,
    /// Bodies whose bytes were not those of their digest.
    pub damaged: u64,
    /// Bytes in the tier now.
    pub bytes: u64,
}

impl TieredBlobs {
    /// Opens the tier in `root`, which is made when it is missing, for at most `bound` bytes of copies. What a
    /// dead process had staged is discarded; what it had kept is used.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process owns the directory, [`OpenError::Io`] otherwise.
    pub async fn open(s3: S3Blobs, root: impl Into<PathBuf>, bound: u64) -> Result<Self, OpenError> {
        let tally = Arc::new(TierTally::default());
        let disk = Disk::open(root.into(), bound, tally.clone()).await?;
        Ok(TieredBlobs(Arc::new(Inner { s3, disk, flights: Mutex::default(), tally })))
    }

    /// What the tier has done so far.
    pub fn counts(&self) -> TierCounts {
        let TierTally { hits, streams, throughs, evictions, damaged } = &*self.0.tally;
        TierCounts {
            hits: hits.load(Relaxed),
            streams: streams.load(Relaxed),
            throughs: throughs.load(Relaxed),
            evictions: evictions.load(Relaxed),
            damaged: damaged.load(Relaxed),
            bytes: self.0.disk.bytes(),
        }
    }

    /// The copies by themselves, to be scrubbed: what is quarantined here is dropped, and S3 is left alone. The
    /// bucket is looked at through [`TieredBlobs::s3`], which does not fill the tier.
    pub fn copies(&self) -> Arc<dyn BlobStore> {
        Arc::new(Copies(self.0.disk.clone()))
    }

    /// The bucket behind.
    pub fn s3(&self) -> &S3Blobs {
        &self.0.s3
    }
}

impl Inner {
    /// Keeps the whole body in `file` as a copy, if there is room.
    async fn keep(&self, file: StagedFile, digest: &Digest, size: u64) {
        if let Some(promise) = self.disk.promise(size).await
            && let Err(error) = self.disk.admit(file, digest, promise).await
        {
            tracing::warn!(%error, blob.digest = %digest, "a body cannot be kept in the disk tier");
        }
    }

    /// A poisoned lock hides nothing: each change of the lists is whole.
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `flight` from the list.
    fn land(&self, flight: &Arc<Flight>) {
        self.land_if(flight, |_| true);
    }

    /// Takes `flight` from the list if `condition` holds while nobody can board it.
    fn land_if(&self, flight: &Arc<Flight>, condition: fn(&Flight) -> bool) -> bool {
        let mut flights = self.flights();
        if !condition(flight) {
            return false;
        }
        let digest = flight.digest();
        if flights.under_way.get(&digest).is_some_and(|listed| Arc::ptr_eq(listed, flight)) {
            flights.under_way.remove(&digest);
            flights.doomed.remove(&digest);
            flight.has_landed();
        }
        true
    }

    fn is_doomed(&self, digest: &Digest) -> bool {
        self.flights().doomed.contains(digest)
    }

    /// Looks at the object again, on its own: wrong bytes twice, and it is put aside.
    async fn convict(&self, digest: &Digest) {
        self.tally.damaged.fetch_add(1, Relaxed);
        match self.proof(digest).await {
            Ok(Some(true)) => {
                tracing::warn!(blob.digest = %digest, "an object was damaged on its way from S3")
            }
            Ok(None) => {}
            Ok(Some(false)) => {
                tracing::error!(blob.digest = %digest, "an object in S3 is damaged and put aside");
                if let Err(error) = self.s3.quarantine(digest).await {
                    tracing::error!(%error, blob.digest = %digest, "a damaged object cannot be put aside");
                }
            }
            Err(error) => {
                tracing::warn!(%error, blob.digest = %digest, "a damaged object cannot be looked at again")
            }
        }
    }

    /// Whether the object's bytes are those of its digest; `None`: it is not there.
    async fn proof(&self, digest: &Digest) -> Result<Option<bool>, BlobError> {
        let Some(mut stream) = self.s3.stream(digest, 0).await? else { return Ok(None) };
        let mut hasher = Hasher::for_checksums(&[]);
        while let Some(bytes) = stream.next().await? {
            hasher.update(&bytes);
        }
        Ok(Some(hasher.finish().digest == *digest))
    }

    /// Has an object looked at again; until that is done nobody reads it and nobody counts on it.
    fn suspect(self: &Arc<Self>, digest: Digest) {
        let flight = {
            let mut flights = self.flights();
            let hash_map::Entry::Vacant(free) = flights.under_way.entry(digest) else { return };
            free.insert(Flight::suspect(digest)).clone()
        };
        let tier = self.clone();
        tokio::spawn(async move {
            tier.convict(&digest).await;
            tier.land(&flight);
        });
    }

    /// Waits until no doubt about the object is left: a commit must not find a damaged one and be content.
    async fn no_doubt(&self, digest: &Digest) {
        loop {
            let flight = self.flights().under_way.get(digest).cloned();
            match flight {
                Some(flight) if flight.is_damaged() => flight.landed().await,
                _ => return,
            }
        }
    }

    /// Nothing under way may bring the body back.
    fn doom(&self, digest: &Digest) {
        let mut flights = self.flights();
        if flights.under_way.contains_key(digest) {
            flights.doomed.insert(*digest);
        }
    }
}

#[async_trait]
impl BlobStore for TieredBlobs {
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        let staged = self.0.disk.stage(length).await?;
        Ok(Box::new(Staged { tier: self.0.clone(), file: staged }))
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        if let Some(reader) = self.0.disk.open_blob(digest).await {
            self.0.tally.hits.fetch_add(1, Relaxed);
            return Ok(reader);
        }
        let ticket = {
            let mut flights = self.0.flights();
            match flights.under_way.entry(*digest) {
                hash_map::Entry::Occupied(flight) => flight.get().board(),
                hash_map::Entry::Vacant(free) => {
                    let flight = free.insert(Flight::new(*digest));
                    let ticket = flight.board();
                    tokio::spawn(fly(self.0.clone(), flight.clone()));
                    ticket
                }
            }
        };
        ticket.reader(&self.0).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.0.s3.size(digest).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.doom(digest);
        self.0.s3.remove(digest).await?;
        self.0.disk.remove(digest).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.doom(digest);
        self.0.s3.quarantine(digest).await?;
        self.0.disk.remove(digest).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        self.0.s3.list(after, limit).await
    }

    async fn link(&self, digest: &Digest, size: u64, ttl: Duration) -> Result<Option<Url>, BlobError> {
        self.0.s3.link(digest, size, ttl).await
    }
}

/// A body on its way in.
struct Staged {
    tier: Arc<Inner>,
    file: StagedFile,
}

#[async_trait]
impl StagedBlob for Staged {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.file.write(bytes).await
    }

    fn reader(&self) -> Arc<dyn BlobReader> {
        self.file.reader()
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<(), BlobError> {
        let Staged { tier, mut file } = *self;
        let size = file.settle().await?;
        tier.no_doubt(digest).await;
        tier.s3.upload(digest, size, &*file.reader()).await?;
        tier.keep(file, digest, size).await;
        Ok(())
    }

    async fn adopt(self: Box<Self>, digest: &Digest) -> Result<(), BlobError> {
        let Staged { tier, mut file } = *self;
        let size = file.settle().await?;
        tier.keep(file, digest, size).await;
        Ok(())
    }
}
