//! Uploads in S3, for replicas: each is one multipart upload that lives as long as its session.
//!
//! ```text
//! uploads/<id>                           the body, once it is whole, until it is copied to its own place
//! uploads/<id>.tail-<offset>-<random>    what a request left that is too short for a part, until the next one
//! ```
//! A body that comes to its end before anything was sent goes straight to its own place. What comes in is staged in
//! the tier's directory part by part, so that a slow client holds no memory.
//!
//! Two writers never use the same part number, nor the same name of a tail: who takes over leaves out [`SKIPPED`]
//! numbers, and nobody goes further than [`WINDOW`] beyond what is recorded. A fenced writer that comes to its end
//! completes the upload with its own bytes (the client that sent them has said what they are, and its digest
//! agreed); its successor finds that out, and fails unless it has the very same body. So it does where somebody has
//! discarded the upload. Where the store refuses to overwrite, the first body that is complete stays.

mod segment;
mod state;
mod writer;

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, Place, Stored, UploadId, UploadStore, UploadWriter},
};
use async_trait::async_trait;
use bytes::BytesMut;
use object_store::path::Path;

use self::{
    state::{State, Tail},
    writer::Writer,
};
use super::{Inner, TieredBlobs};
use crate::blobs::{
    lost,
    memory::Whole,
    s3::{NotSent, key_of},
};

/// Parts that may be sent beyond what is recorded.
const WINDOW: u32 = 16;
/// Part numbers left out by who takes over: more than the one before may have used. It was at most [`WINDOW`] beyond
/// what it last gave to be recorded, and that as much beyond what is; ending its request may take two more.
const SKIPPED: u32 = 48;

/// Uploads beside the bodies of one [`TieredBlobs`].
#[derive(Clone)]
pub struct S3Uploads(Arc<Inner>);

impl TieredBlobs {
    /// Where uploads are kept until they are bodies of this store.
    pub fn uploads(&self) -> S3Uploads {
        S3Uploads(self.0.clone())
    }
}

fn key_of_upload(id: &UploadId) -> Path {
    Path::from(format!("uploads/{id}"))
}

fn key_of_place(place: &Place) -> Result<Path, BlobError> {
    key_of(place).map_err(|source| BlobError::Io { doing: "looking at the place of a blob", source })
}

#[async_trait]
impl UploadStore for S3Uploads {
    async fn resume(
        &self,
        id: &UploadId,
        stored: &Stored,
        offset: u64,
        took_over: bool,
    ) -> Result<Box<dyn UploadWriter>, BlobError> {
        let mut state = State::read(id, stored)?;
        state.cut(offset)?;
        if took_over {
            state.next += SKIPPED;
        }
        for tail in std::mem::take(&mut state.spent) {
            self.forget_tail(tail);
        }
        Ok(Box::new(Writer::new(self.0.clone(), id, state, took_over)))
    }

    async fn read(
        &self,
        id: &UploadId,
        stored: &Stored,
        length: u64,
    ) -> Result<Arc<dyn BlobReader>, BlobError> {
        let mut state = State::read(id, stored)?;
        state.cut(length)?;
        let (s3, key) = (&self.0.s3, key_of_upload(id));
        if let Some(multipart) = state.multipart.clone().filter(|_| !state.parts.is_empty()) {
            // S3 gives no bytes of an upload that is not complete.
            if s3.object_size(&key).await? != Some(length) {
                if let Some(tail) = state.tail.take() {
                    let (size, body) = (tail.size, self.tail(&tail).await?);
                    let number = state.next + SKIPPED;
                    let sent = s3.send_part(&key, &multipart, number, &[(body, size)]).await;
                    state.parts.push(sent.map_err(|not_sent| match not_sent {
                        NotSent::Gone => lost(),
                        NotSent::Failed(error) => error,
                    })?);
                }
                s3.complete_parts(&key, &multipart, &state.parts, None).await?;
            }
            return Ok(s3.object_reader(key, length));
        }
        match &state.tail {
            Some(tail) => self.tail(tail).await,
            None => Ok(Arc::new(Whole(bytes::Bytes::new()))),
        }
    }

    async fn discard(&self, id: &UploadId, stored: &Stored, placed: bool) -> Result<(), BlobError> {
        let (s3, key) = (&self.0.s3, key_of_upload(id));
        // What cannot be read names nothing that is not found below.
        let known = State::read(id, stored).ok().and_then(|state| state.multipart);
        if let Some(multipart) = &known {
            s3.abort_parts(&key, multipart).await?;
        }
        // Also what a writer began and did not live to tell.
        for multipart in s3.begun_parts(&key).await? {
            if known.as_ref() != Some(&multipart) {
                s3.abort_parts(&key, &multipart).await?;
            }
        }
        let mut after = None;
        loop {
            let (objects, more) = s3.page_of_objects(key.as_ref(), after.take()).await?;
            for object in &objects {
                if !(placed && object.location == key) {
                    s3.remove_object(&object.location).await?;
                }
            }
            after = objects.last().map(|object| object.location.to_string());
            if !more || after.is_none() {
                return Ok(());
            }
        }
    }

    async fn settle(&self, place: &Place, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        self.0.no_doubt(digest).await;
        self.0.s3.settle_object(&key_of_place(place)?, digest, size).await
    }

    async fn remove_place(&self, place: &Place) -> Result<(), BlobError> {
        self.0.s3.remove_object(&key_of_place(place)?).await
    }

    async fn list(
        &self,
        after: Option<&UploadId>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError> {
        let oldest = now().saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        // Behind all that belongs to this id.
        let mut offset = after.map(|id| format!("uploads/{id}.z"));
        let (mut ids, mut current) = (Vec::new(), None::<(UploadId, bool)>);
        loop {
            if ids.len() >= limit {
                return Ok(ids);
            }
            let (objects, more) = self.0.s3.page_of_objects("uploads/", offset.take()).await?;
            offset = objects.last().map(|object| object.location.to_string());
            for object in objects {
                let name = object.location.filename().unwrap_or_default();
                let Some(id) = UploadId::parse(name.split('.').next().unwrap_or_default()) else { continue };
                let old = object.last_modified.timestamp() <= oldest;
                match &mut current {
                    Some((same, all_old)) if *same == id => *all_old &= old,
                    _ => ids.extend(current.replace((id, old)).and_then(|(id, old)| old.then_some(id))),
                }
            }
            if !more || offset.is_none() {
                ids.extend(current.and_then(|(id, old)| old.then_some(id)));
                ids.truncate(limit);
                return Ok(ids);
            }
            ids.truncate(limit);
        }
    }
}

impl S3Uploads {
    /// The bytes of a tail, in memory.
    async fn tail(&self, tail: &Tail) -> Result<Arc<dyn BlobReader>, BlobError> {
        let mut stream = self.0.s3.stream_object(&tail.key).await?.ok_or_else(lost)?;
        let mut body = BytesMut::new();
        while let Some(bytes) = stream.next().await? {
            body.extend_from_slice(&bytes);
        }
        let size = usize::try_from(tail.size).ok().filter(|size| *size <= body.len()).ok_or_else(lost)?;
        body.truncate(size);
        Ok(Arc::new(Whole(body.freeze())))
    }

    /// Removes a tail that nobody needs any more, some time.
    fn forget_tail(&self, key: Path) {
        let s3 = self.0.s3.clone();
        tokio::spawn(async move {
            if let Err(error) = s3.remove_object(&key).await {
                tracing::debug!(%error, "a piece of an upload stays until its session ends");
            }
        });
    }
}

/// Seconds since 1970. S3 believes no request whose clock is wrong by more than a quarter of an hour, so it can be
/// held against its own times.
#[expect(clippy::disallowed_methods, reason = "held against S3's times, which no test can move")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
