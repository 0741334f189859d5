//! One request that writes to a session.

use std::{collections::VecDeque, time::Duration};

use artifactapi_model::{
    Digest, Hold, Local,
    oci::{Algorithm, OciDigest},
    ports::{
        ImageKey, Place, Stored, UploadId, UploadWriter,
        blobs::MAX_READ,
        metadata::Announced,
        registry::{Claim, ClosedUpload, Linking, UploadProgress},
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::{BodyLost, LEASE, Pushed, Write, over_quota, writer};
use crate::{Registry, RegistryError, hashes::Hashes};

/// How often a request says that it goes on, and what it has made durable.
const KEEP: Duration = Duration::from_secs(2);
/// The same in bytes: an adapter need not remember more.
const KEEP_BYTES: u64 = 64 << 20;
/// Longest time in which [`LEAST`] more bytes of a body come (RS-64).
const PATIENCE: Duration = Duration::from_secs(30);
/// See [`PATIENCE`].
const LEAST: usize = 1 << 10;
/// Pause before a session that somebody else has, or a blob that is being deleted, is asked for again.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest wait for a blob that is being deleted: its object is removed within it, or its collector died.
const DELETING: Duration = Duration::from_secs(15);
/// Smaller pieces of a body are gathered to this many bytes: after each one the hashes are remembered.
const GATHER: usize = 64 << 10;

/// A claimed session.
struct Session<'a> {
    registry: &'a Registry,
    local: &'a Local,
    image: &'a ImageKey,
    id: UploadId,
    /// The name under which it is claimed.
    writer: String,
    /// What is recorded.
    saved: UploadProgress,
    hashes: Hashes,
    offset: u64,
    /// Where it was last asked what is durable.
    kept_at: u64,
    /// States of the hashes at offsets after the recorded one: at most one for every [`GATHER`] bytes of what an
    /// adapter may hold back.
    marks: VecDeque<(u64, Hashes)>,
}

impl Registry {
    /// # Errors
    /// As of [`Registry::write`].
    pub(super) async fn write_here(
        &self,
        local: &Local,
        image: &ImageKey,
        write: Write,
    ) -> Result<Pushed, RegistryError> {
        let (id, whole) = (write.id.clone(), write.whole);
        let result = self.write_claimed(local, image, write).await;
        match result {
            // Nobody can go on with it, or give it up.
            Err(_) if whole => drop(self.rows.cancel_upload(image, &id).await?),
            // Whoever cancelled the session took its bytes away: that is no failure of the store.
            Err(RegistryError::Blob(_)) if self.rows.upload(image, &id).await?.is_none() => {
                return Err(RegistryError::UploadUnknown);
            }
            _ => {}
        }
        result
    }

    async fn write_claimed(
        &self,
        local: &Local,
        image: &ImageKey,
        write: Write,
    ) -> Result<Pushed, RegistryError> {
        let Write { id, span, body, digest, whole: _ } = write;
        let name = writer()?;
        let (progress, took_over) = match self.claim(image, &id, &name).await? {
            Claim::Taken { progress, took_over } => (progress, took_over),
            Claim::Busy(progress) => return Err(RegistryError::RangeInvalid { offset: progress.offset }),
            // Its answer was lost, and the client asks again.
            Claim::Closed(closed)
                if digest == Some(closed) && self.rows.linked(image, &closed, true).await?.is_some() =>
            {
                return Ok(Pushed::Blob(closed));
            }
            Claim::Closed(_) | Claim::Unknown => return Err(RegistryError::UploadUnknown),
        };
        let Ok(hashes) = Hashes::load(&progress.hashes) else {
            self.rows.cancel_upload(image, &id).await?;
            return Err(RegistryError::UploadUnknown);
        };
        let session = Session {
            registry: self,
            local,
            image,
            id,
            writer: name,
            hashes,
            offset: progress.offset,
            kept_at: progress.offset,
            saved: progress,
            marks: VecDeque::new(),
        };
        if span.is_some_and(|span| span.start != session.offset) {
            session.give_back(took_over).await?;
            return Err(RegistryError::RangeInvalid { offset: session.offset });
        }
        session.write(took_over, span, body, digest).await
    }

    /// Claims a session; waits for a claim that may be that of a process which died.
    async fn claim(&self, image: &ImageKey, id: &UploadId, writer: &str) -> Result<Claim, RegistryError> {
        let end = Instant::now() + LEASE + AGAIN;
        loop {
            match self.rows.claim_upload(image, id, writer, LEASE).await? {
                Claim::Busy(_) if Instant::now() < end => tokio::time::sleep(AGAIN).await,
                claim => return Ok(claim),
            }
        }
    }

    /// Drops bytes that are of no use any more. What fails is done by the sweep.
    pub(crate) async fn discard(&self, id: &UploadId, stored: &Stored, placed: bool) {
        if let Err(error) = self.uploads.discard(id, stored, placed).await {
            tracing::warn!(upload.id = %id, %error, "bytes of an upload are left for the next sweep");
        }
    }

    /// Tells the collector of a blob that is about to be put; the result lives until a row names it.
    async fn announce(&self, blob: &Digest, size: u64) -> Result<Hold, RegistryError> {
        let hold = self.metadata.hold(blob);
        let end = Instant::now() + DELETING;
        while self.metadata.announce_blob(blob, size).await? == Announced::BeingDeleted {
            if Instant::now() >= end {
                return Err(RegistryError::Busy("the same bytes are being deleted"));
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(hold)
    }
}

impl Session<'_> {
    async fn write(
        mut self,
        took_over: bool,
        span: Option<super::Span>,
        mut body: super::Body,
        digest: Option<OciDigest>,
    ) -> Result<Pushed, RegistryError> {
        let uploads = &self.registry.uploads;
        let opened = uploads.resume(&self.id, &self.saved.stored, self.offset, took_over).await;
        let mut bytes = match opened {
            Ok(bytes) => bytes,
            Err(error) => {
                self.give_back(took_over).await?;
                return Err(error.into());
            }
        };
        let came = self.receive(&mut *bytes, &mut body, span).await;
        match (came, digest) {
            (Ok(()), Some(digest)) => self.close(bytes, digest).await,
            (Ok(()), None) => {
                self.pause(bytes, None).await?;
                Ok(Pushed::Open { offset: self.offset })
            }
            // What came is good, and the client may go on from there.
            (Err(error @ RegistryError::BodyLost), _) => {
                self.pause(bytes, None).await?;
                Err(error)
            }
            // What came would count for as long as the session is open.
            (Err(error @ RegistryError::OverQuota(_)), _) => {
                drop(bytes);
                self.give_up().await?;
                Err(error)
            }
            (Err(error), _) => {
                drop(bytes);
                self.cut_back().await;
                self.give_back(true).await?;
                Err(error)
            }
        }
    }

    /// Drops bytes that came and are not recorded. They would not count, and stay for as long as the session.
    async fn cut_back(&mut self) {
        // Who has lost the session must not touch what its successor writes.
        if self.save(Some(LEASE)).await.is_err() {
            return;
        }
        let uploads = &self.registry.uploads;
        let cut = async {
            let bytes = uploads.resume(&self.id, &self.saved.stored, self.saved.offset, true).await?;
            bytes.pause().await
        };
        // If it fails, they go with the session.
        if let Ok(stored) = cut.await {
            self.saved.stored = stored;
        }
    }

    /// Takes the body in.
    async fn receive(
        &mut self,
        bytes: &mut dyn UploadWriter,
        body: &mut super::Body,
        span: Option<super::Span>,
    ) -> Result<(), RegistryError> {
        let end = span.map(|span| span.end.saturating_add(1));
        let mut ticks = tokio::time::interval(KEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let (mut last, mut since) = (Instant::now(), 0);
        let mut gathered = BytesMut::new();
        let ended = loop {
            let piece = tokio::select! {
                piece = body.next() => piece,
                _ = ticks.tick() => {
                    if last.elapsed() > PATIENCE {
                        break Err(RegistryError::BodyLost);
                    }
                    self.keep(bytes).await?;
                    continue;
                }
            };
            let piece = match piece {
                Some(Ok(piece)) => piece,
                Some(Err(BodyLost)) => break Err(RegistryError::BodyLost),
                None => break Ok(()),
            };
            let length = piece.len();
            let came = self.offset + (gathered.len() + length) as u64;
            if end.is_some_and(|end| came > end) {
                return Err(RegistryError::UploadInvalid("more bytes came than Content-Range says"));
            }
            if gathered.is_empty() && piece.len() >= GATHER {
                self.take(bytes, piece).await?;
            } else {
                gathered.extend_from_slice(&piece);
                if gathered.len() >= GATHER {
                    self.take(bytes, gathered.split().freeze()).await?;
                }
            }
            since += length;
            if since >= LEAST {
                // Not before: the store's time is not the client's.
                (last, since) = (Instant::now(), 0);
            }
        };
        self.take(bytes, gathered.freeze()).await?;
        ended?;
        match end {
            Some(end) if self.offset != end => {
                Err(RegistryError::UploadInvalid("fewer bytes came than Content-Range says"))
            }
            _ => self.room().await,
        }
    }

    /// Takes the next bytes, and remembers the hashes after them: the adapter may cut a part here.
    async fn take(&mut self, bytes: &mut dyn UploadWriter, piece: Bytes) -> Result<(), RegistryError> {
        if piece.is_empty() {
            return Ok(());
        }
        if bytes.must_keep() {
            self.keep(bytes).await?;
        }
        self.hashes.update(&piece);
        self.offset += piece.len() as u64;
        bytes.write(piece).await?;
        self.marks.push_back((self.offset, self.hashes.clone()));
        if self.offset - self.kept_at >= KEEP_BYTES {
            self.keep(bytes).await?;
        }
        Ok(())
    }

    /// Records what is durable by now and renews the claim.
    async fn keep(&mut self, bytes: &mut dyn UploadWriter) -> Result<(), RegistryError> {
        self.room().await?;
        let (durable, stored) = bytes.keep().await?;
        self.kept_at = self.offset;
        if durable == self.saved.offset {
            self.saved.stored = stored;
        } else if let Some(at) = self.marks.iter().position(|(offset, _)| *offset == durable) {
            self.saved = UploadProgress { offset: durable, hashes: self.marks[at].1.save(), stored };
            self.marks.drain(..=at);
        } else {
            return Err(RegistryError::Busy("the upload was cut where nobody knows its hash"));
        }
        self.save(Some(LEASE)).await
    }

    /// Whether the Local still has room for this upload.
    async fn room(&self) -> Result<(), RegistryError> {
        let Some(quota) = self.local.spec.quota else { return Ok(()) };
        let more = self.offset - self.saved.offset;
        if self.registry.rows.has_room(self.image.repo, more, quota).await? {
            Ok(())
        } else {
            Err(over_quota(self.local))
        }
    }

    async fn save(&self, lease: Option<Duration>) -> Result<(), RegistryError> {
        if self.registry.rows.save_upload(&self.id, &self.writer, &self.saved, lease).await? {
            Ok(())
        } else {
            Err(RegistryError::UploadUnknown)
        }
    }

    /// Ends the claim; the session stays where it was recorded. `in_disorder`: bytes may be on their way that are not
    /// recorded, so that who comes next has to take over.
    async fn give_back(&self, in_disorder: bool) -> Result<(), RegistryError> {
        match self.save(in_disorder.then_some(Duration::ZERO)).await {
            // Somebody else has it, or it is over: nothing is to be given back.
            Ok(()) | Err(RegistryError::UploadUnknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes durable what came, and gives the session back unless there is a `lease`.
    async fn pause(
        &mut self,
        bytes: Box<dyn UploadWriter>,
        lease: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let stored = match self.claimed_during(bytes.pause()).await {
            Ok(stored) => stored,
            Err(error) => {
                self.give_back(true).await?;
                return Err(error.into());
            }
        };
        self.saved = UploadProgress { offset: self.offset, hashes: self.hashes.save(), stored };
        self.save(lease).await
    }

    /// Does `work` and stays the one who has the session. Who loses it hears so at the next record.
    async fn claimed_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(KEEP);
        ticks.reset();
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => drop(self.save(Some(LEASE)).await),
            }
        }
    }

    /// Ends the session with a blob.
    async fn close(
        mut self,
        bytes: Box<dyn UploadWriter>,
        wanted: OciDigest,
    ) -> Result<Pushed, RegistryError> {
        let Some(got) = self.hashes.digest(wanted.algorithm()) else {
            return self.close_unannounced(bytes, wanted).await;
        };
        if got != wanted {
            drop(bytes);
            self.give_up().await?;
            return Err(RegistryError::mismatch(wanted, got));
        }
        let result = self.complete(bytes, wanted).await;
        if result.is_err() {
            // The client may try again, at once and anywhere.
            self.give_back(true).await?;
        }
        result
    }

    /// The digest is right: makes the body durable, then links it.
    async fn complete(
        &mut self,
        bytes: Box<dyn UploadWriter>,
        digest: OciDigest,
    ) -> Result<Pushed, RegistryError> {
        let blob = self.hashes.sha256();
        let _hold = self.claimed_during(self.registry.announce(&blob, self.offset)).await?;
        self.save(Some(LEASE)).await?;
        let place = self.claimed_during(bytes.finish(&blob)).await?;
        self.link(digest, blob, place).await
    }

    async fn link(
        &mut self,
        digest: OciDigest,
        blob: Digest,
        place: Option<Place>,
    ) -> Result<Pushed, RegistryError> {
        let rows = &self.registry.rows;
        let placed = place.is_some();
        let body = ClosedUpload { digest, blob, size: self.offset, place };
        match rows.close_upload(self.image, &self.id, &self.writer, &body, self.local.spec.quota).await? {
            Linking::Linked => {
                let (registry, id) = (self.registry.clone(), self.id.clone());
                let stored = std::mem::take(&mut self.saved.stored);
                // Nobody waits for that.
                tokio::spawn(async move { registry.discard(&id, &stored, placed).await });
                Ok(Pushed::Blob(digest))
            }
            Linking::OverQuota => {
                self.give_up().await?;
                Err(over_quota(self.local))
            }
            Linking::Missing => Err(RegistryError::UploadUnknown),
            Linking::BeingDeleted => Err(RegistryError::Busy("the same bytes are being deleted")),
        }
    }

    /// Ends the session without a blob; its bytes go.
    async fn give_up(&self) -> Result<(), RegistryError> {
        if self.registry.rows.cancel_upload(self.image, &self.id).await? {
            self.registry.discard(&self.id, &self.saved.stored, false).await;
        }
        Ok(())
    }

    /// The digest's algorithm was not announced, so that the bytes are read once more.
    async fn close_unannounced(
        mut self,
        bytes: Box<dyn UploadWriter>,
        wanted: OciDigest,
    ) -> Result<Pushed, RegistryError> {
        self.pause(bytes, Some(LEASE)).await?;
        let got = match self.claimed_during(self.hash_again(wanted.algorithm())).await {
            Ok(got) => got,
            Err(error) => {
                self.give_back(true).await?;
                return Err(error);
            }
        };
        if got != Some(wanted) {
            self.give_up().await?;
            let got = got.unwrap_or_else(|| self.hashes.sha256().into());
            return Err(RegistryError::mismatch(wanted, got));
        }
        let uploads = &self.registry.uploads;
        let result = match uploads.resume(&self.id, &self.saved.stored, self.offset, false).await {
            Ok(bytes) => self.complete(bytes, wanted).await,
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            self.give_back(true).await?;
        }
        result
    }

    async fn hash_again(&self, algorithm: Algorithm) -> Result<Option<OciDigest>, RegistryError> {
        let mut hashes = Hashes::for_algorithm(algorithm);
        let reader = self.registry.uploads.read(&self.id, &self.saved.stored, self.offset).await?;
        let mut at = 0;
        while at < self.offset {
            let piece = reader.read_at(at, MAX_READ).await?;
            if piece.is_empty() {
                return Err(RegistryError::Busy("the bytes of the upload are not all there"));
            }
            hashes.update(&piece);
            at += piece.len() as u64;
        }
        Ok(hashes.digest(algorithm))
    }
}
