//! One request's writing.
//!
//! What comes gathers in the segment `current`. One that has the size of a part becomes `full` and is sent as soon as
//! the next has the size of the smallest part, so that whenever the request ends, what is left is a part too.

use std::{collections::VecDeque, io, sync::Arc};

use artifactapi_model::{
    Digest, failpoint,
    ports::{BlobError, Place, Stored, UploadId, UploadWriter},
};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use tokio_util::task::AbortOnDropHandle;

use super::{
    WINDOW, key_of_upload,
    segment::{Chain, Segment},
    state::{State, Tail},
};
use crate::blobs::{
    fs::error::{failed, joined},
    lost,
    s3::{NotSent, SentPart},
    tier::Inner,
};

/// The smallest part that S3 takes, but for the last.
const SMALLEST: u64 = 5 << 20;
/// Most parts of an upload.
const LAST_NUMBER: u32 = 10_000;
/// Parts of one upload under way together.
const AT_ONCE: usize = 3;

/// The usual size of the part `number`: 8 MiB, growing so that the last one ends at about 500 GB.
fn part_size(number: u32) -> u64 {
    (8 << 20) * u64::from(1 + number / 500).min(7)
}

/// A part on its way.
struct Sending {
    number: u32,
    task: AbortOnDropHandle<Result<SentPart, NotSent>>,
}

pub(super) struct Writer {
    tier: Arc<Inner>,
    id: UploadId,
    key: Path,
    /// Parts that S3 has; the tail, as long as it was not sent with a part.
    state: State,
    /// Length of the body after the last write.
    length: u64,
    /// Whether the tail has been read into `current`.
    loaded: bool,
    full: Option<Segment>,
    current: Option<Segment>,
    sending: VecDeque<Sending>,
    /// The next part number.
    next: u32,
    /// The part number that was last given to be recorded; `None`: that of who was taken over from.
    kept: Option<u32>,
    /// The upload is no more: it was completed, or discarded. Only `finish` can tell.
    gone: bool,
}

impl Writer {
    pub(super) fn new(tier: Arc<Inner>, id: &UploadId, state: State, took_over: bool) -> Self {
        let length = state.in_parts() + state.tail.as_ref().map_or(0, |tail| tail.size);
        let next = state.next;
        Writer {
            tier,
            id: id.clone(),
            key: key_of_upload(id),
            loaded: state.tail.is_none(),
            state,
            length,
            full: None,
            current: None,
            sending: VecDeque::new(),
            next,
            kept: (!took_over).then_some(next),
            gone: false,
        }
    }

    /// The upload is no more. What comes from now on is only counted.
    fn is_gone(&mut self) {
        self.gone = true;
        self.sending.clear();
        (self.full, self.current) = (None, None);
    }

    /// Takes note of the parts that have arrived, in order; waits until no more than `most` are under way.
    async fn arrived(&mut self, most: usize) -> Result<(), BlobError> {
        loop {
            let within = self.sending.len() <= most;
            let Some(first) = self.sending.front_mut() else { return Ok(()) };
            if within && !first.task.is_finished() {
                return Ok(());
            }
            let done = (&mut first.task).await;
            self.sending.pop_front();
            match done.map_err(|error| failed("sending a part of an upload", joined(error)))? {
                Ok(part) => self.take(part),
                Err(NotSent::Gone) => self.is_gone(),
                Err(NotSent::Failed(error)) => return Err(error),
            }
        }
    }

    /// S3 has another part; the tail was in it.
    fn take(&mut self, part: SentPart) {
        self.state.parts.push(part);
        if let Some(tail) = self.state.tail.take() {
            self.state.spent.push(tail.key);
        }
    }

    /// Whether S3 has all that was written. It has not after a write that was broken off midway.
    fn is_whole(&self) -> Result<(), BlobError> {
        let tail = self.state.tail.as_ref().map_or(0, |tail| tail.size);
        if self.state.in_parts() + tail == self.length { Ok(()) } else { Err(lost()) }
    }

    /// The state that says what S3 has.
    fn stored(&mut self) -> Stored {
        self.state.next = self.sending.front().map_or(self.next, |first| first.number);
        self.state.write(&self.id)
    }

    /// Brings the tail back.
    async fn load(&mut self) -> Result<(), BlobError> {
        if self.loaded || self.gone {
            return Ok(());
        }
        if let Some(Tail { key, size }) = self.state.tail.clone() {
            let Some(mut stream) = self.tier.s3.stream_object(&key).await? else {
                self.is_gone();
                return Ok(());
            };
            if stream.size() < size {
                return Err(lost());
            }
            let mut segment = Segment::new(&self.tier.disk, None).await?;
            while segment.length < size
                && let Some(mut bytes) = stream.next().await?
            {
                bytes.truncate(usize::try_from(size - segment.length).unwrap_or(usize::MAX));
                segment.write(bytes).await?;
            }
            self.current = Some(segment);
        }
        self.loaded = true;
        Ok(())
    }

    /// Begins to send these segments as one part.
    async fn send(&mut self, segments: Vec<Segment>) -> Result<(), BlobError> {
        if self.gone {
            return Ok(());
        }
        if self.next > LAST_NUMBER {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, "S3 takes 10,000 parts and no more");
            return Err(BlobError::Full(source));
        }
        self.arrived(AT_ONCE - 1).await?;
        let multipart = match &self.state.multipart {
            Some(multipart) => multipart.clone(),
            None => {
                let begun = self.tier.s3.begin_parts(&self.key).await?;
                self.state.multipart.insert(begun).clone()
            }
        };
        let (s3, key, number) = (self.tier.s3.clone(), self.key.clone(), self.next);
        self.next += 1;
        let task = tokio::spawn(async move {
            let bodies: Vec<_> = segments.iter().map(Segment::body).collect();
            s3.send_part(&key, &multipart, number, &bodies).await
        });
        self.sending.push_back(Sending { number, task: AbortOnDropHandle::new(task) });
        Ok(())
    }

    /// Sends what is left as a part, or two when both are large enough. With `last`, the end may be short.
    async fn send_rest(&mut self, last: bool) -> Result<(), BlobError> {
        let (full, current) = (self.full.take(), self.current.take());
        match (full, current) {
            (Some(full), Some(current)) if current.length < SMALLEST => self.send(vec![full, current]).await,
            (full, current) => {
                if let Some(full) = full {
                    self.send(vec![full]).await?;
                }
                match current {
                    Some(current) if last || current.length >= SMALLEST => self.send(vec![current]).await,
                    current => {
                        self.current = current;
                        Ok(())
                    }
                }
            }
        }
    }

    /// Whether anything of the body is, or will be, a part.
    fn has_parts(&self) -> bool {
        !self.state.parts.is_empty() || !self.sending.is_empty()
    }

    /// Puts the whole body, of which nothing was sent, in its own place.
    async fn put(self, digest: &Digest) -> Result<(), BlobError> {
        let Writer { tier, key, state, length, full, current, .. } = self;
        let chain = Chain([&full, &current].into_iter().flatten().map(Segment::body).collect());
        if chain.length() != length {
            return Err(lost());
        }
        failpoint("upload.finish.before_complete");
        tier.no_doubt(digest).await;
        tier.s3.upload(digest, length, &chain).await?;
        failpoint("upload.finish.after_complete");
        if let (Some(mut all), None) | (None, Some(mut all)) = (full, current) {
            all.file.settle().await?;
            tier.keep(all.file, digest, length).await;
        }
        abort(&tier, &key, state.multipart.as_deref()).await;
        Ok(())
    }

    /// What became of an upload that is no more: somebody else has completed it with the same body, or it is lost.
    async fn completed_by_another(&self, digest: &Digest) -> Result<Option<Place>, BlobError> {
        let s3 = &self.tier.s3;
        if s3.own_size(digest).await? == Some(self.length) {
            return Ok(None);
        }
        if s3.is_body(&self.key, self.length, digest).await? {
            return Ok(Some(Place(self.key.to_string())));
        }
        Err(lost())
    }
}

/// Gives up a multipart upload that is not needed; if that fails, it is done when the session's bytes are dropped.
async fn abort(tier: &Inner, key: &Path, multipart: Option<&str>) {
    if let Some(multipart) = multipart
        && let Err(error) = tier.s3.abort_parts(key, multipart).await
    {
        tracing::debug!(%error, "the parts of an upload stay until its session ends");
    }
}

#[async_trait]
impl UploadWriter for Writer {
    fn must_keep(&self) -> bool {
        !self.gone && self.kept.is_none_or(|kept| self.next - kept >= WINDOW)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.load().await?;
        self.length += bytes.len() as u64;
        if self.gone {
            return Ok(());
        }
        if self.must_keep() {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "what was written is to be recorded first");
            return Err(BlobError::Io { doing: "writing an upload", source });
        }
        if self.current.is_none() {
            let room = (self.full.is_some() || self.has_parts()).then(|| part_size(self.next));
            self.current = Some(Segment::new(&self.tier.disk, room).await?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        current.write(bytes).await?;
        let length = current.length;
        if length >= SMALLEST
            && let Some(full) = self.full.take()
        {
            self.send(vec![full]).await?;
        }
        if length >= part_size(self.next) {
            self.full = self.current.take();
        }
        Ok(())
    }

    async fn keep(&mut self) -> Result<(u64, Stored), BlobError> {
        self.arrived(AT_ONCE).await?;
        if self.gone {
            return Err(lost());
        }
        let stored = self.stored();
        self.kept = Some(self.state.next);
        let tail = self.state.tail.as_ref().map_or(0, |tail| tail.size);
        Ok((self.state.in_parts() + tail, stored))
    }

    async fn pause(mut self: Box<Self>) -> Result<Stored, BlobError> {
        self.send_rest(false).await?;
        self.arrived(0).await?;
        if self.gone {
            return Err(lost());
        }
        failpoint("upload.pause.before");
        if let Some(rest) = self.current.take() {
            let start = self.length - rest.length;
            let random = crate::random::random::<8>()
                .map_err(|source| BlobError::Io { doing: "naming a piece of an upload", source })?;
            let key = Path::from(format!("{}.tail-{start}-{}", self.key, hex::encode(random)));
            let (reader, size) = rest.body();
            self.tier.s3.put_object(&key, &*reader, size).await?;
            if let Some(old) = self.state.tail.replace(Tail { key, size }) {
                self.state.spent.push(old.key);
            }
        }
        self.is_whole()?;
        Ok(self.stored())
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<Option<Place>, BlobError> {
        self.load().await?;
        if !self.gone && !self.has_parts() {
            self.put(digest).await?;
            return Ok(None);
        }
        let tier = self.tier.clone();
        tier.no_doubt(digest).await;
        if tier.s3.own_size(digest).await? == Some(self.length) {
            self.sending.clear();
            abort(&tier, &self.key, self.state.multipart.as_deref()).await;
            return Ok(None);
        }
        self.send_rest(true).await?;
        self.arrived(0).await?;
        let Some(multipart) = self.state.multipart.clone().filter(|_| !self.gone) else {
            return self.completed_by_another(digest).await;
        };
        self.is_whole()?;
        failpoint("upload.finish.before_complete");
        tier.s3.complete_parts(&self.key, &multipart, &self.state.parts, Some(digest)).await?;
        failpoint("upload.finish.after_complete");
        Ok(Some(Place(self.key.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_half_a_terabyte_fit_into_numbers_and_memory() {
        let all: u64 = (1..=LAST_NUMBER).map(part_size).sum();
        assert!((490_000_000_000..600_000_000_000).contains(&all), "{all}");
        assert!(part_size(LAST_NUMBER) + SMALLEST <= crate::blobs::s3::UPLOAD_MEMORY);
    }
}
