//! A body read from S3 without a copy: it does not fit the tier, or somebody reads far ahead. Memory holds one
//! block and what is kept back.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use artifactapi_model::{
    Digest, Hasher,
    ports::{BlobError, BlobReader},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::Mutex;

use super::{
    Inner,
    flight::{HELD, WRONG},
};
use crate::blobs::{
    fs::reader::readable,
    s3::{ObjectStream, S3Blobs},
};

/// Reads one body in order, from any offset; every jump is another request. Read from its begin it is hashed,
/// and its last bytes are kept back until the digest agrees. Read from elsewhere it cannot be.
///
/// Without a tier nothing is hashed: whoever reads does that.
pub(in crate::blobs) struct Through {
    s3: S3Blobs,
    tier: Option<Arc<Inner>>,
    digest: Digest,
    size: u64,
    cursor: Mutex<Cursor>,
}

#[derive(Default)]
struct Cursor {
    stream: Option<ObjectStream>,
    hasher: Option<Hasher>,
    /// Offset of the first byte of `ready`.
    at: u64,
    ready: VecDeque<Bytes>,
    ready_bytes: u64,
}

impl Through {
    /// Over a stream from offset 0 that is open already, or one that is opened now.
    pub(super) async fn open(
        tier: Arc<Inner>,
        digest: Digest,
        stream: Option<ObjectStream>,
    ) -> Result<Self, BlobError> {
        tier.tally.throughs.fetch_add(1, Relaxed);
        let stream = match stream {
            Some(stream) => stream,
            None => tier.s3.ask(&digest, 0).await?,
        };
        let (s3, size) = (tier.s3.clone(), stream.size());
        let cursor = Mutex::new(Cursor::over(stream, true));
        Ok(Through { s3, tier: Some(tier), digest, size, cursor })
    }

    /// One that asks when it is read.
    pub(super) fn lazy(tier: Arc<Inner>, digest: Digest, size: u64) -> Self {
        Through { s3: tier.s3.clone(), tier: Some(tier), digest, size, cursor: Mutex::default() }
    }

    /// One without a tier.
    pub(in crate::blobs) async fn bare(s3: S3Blobs, digest: Digest) -> Result<Self, BlobError> {
        let stream = s3.ask(&digest, 0).await?;
        let size = stream.size();
        Ok(Through { s3, tier: None, digest, size, cursor: Mutex::new(Cursor::over(stream, false)) })
    }

    /// Brings what a read up to `end` needs.
    async fn bring(&self, cursor: &mut Cursor, end: u64) -> Result<(), BlobError> {
        let kept_back = cursor.hasher.is_some() && end > self.size.saturating_sub(HELD);
        let need = if kept_back { self.size } else { end };
        while cursor.at + cursor.ready_bytes < need {
            let Some(stream) = &mut cursor.stream else { return Err(self.damaged()) };
            match stream.next().await? {
                Some(bytes) => cursor.push(bytes),
                None => return Err(self.damaged()),
            }
        }
        if kept_back
            && let Some(hasher) = cursor.hasher.take()
            && hasher.finish().digest != self.digest
        {
            *cursor = Cursor::default();
            if let Some(tier) = &self.tier {
                tier.suspect(self.digest);
            }
            return Err(self.damaged());
        }
        Ok(())
    }

    /// Bytes in memory between two reads.
    #[cfg(test)]
    pub(super) async fn ready_bytes(&self) -> u64 {
        self.cursor.lock().await.ready_bytes
    }

    fn damaged(&self) -> BlobError {
        BlobError::Damaged(self.digest, WRONG)
    }
}

impl Cursor {
    fn over(stream: ObjectStream, hashed: bool) -> Self {
        let hasher = (hashed && stream.at() == 0).then(|| Hasher::for_checksums(&[]));
        Cursor { at: stream.at(), stream: Some(stream), hasher, ..Cursor::default() }
    }

    fn push(&mut self, bytes: Bytes) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.ready_bytes += bytes.len() as u64;
        self.ready.push_back(bytes);
    }

    /// The next `length` bytes, which are there.
    fn take(&mut self, length: usize) -> Bytes {
        self.at += length as u64;
        self.ready_bytes -= length as u64;
        if let Some(first) = self.ready.front_mut()
            && first.len() > length
        {
            return first.split_to(length);
        }
        let mut block = BytesMut::with_capacity(length);
        while let Some(mut piece) = self.ready.pop_front() {
            let missing = length - block.len();
            if piece.len() > missing {
                block.extend_from_slice(&piece.split_to(missing));
                self.ready.push_front(piece);
                break;
            }
            block.extend_from_slice(&piece);
            if block.len() == length {
                break;
            }
        }
        block.freeze()
    }
}

#[async_trait]
impl BlobReader for Through {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let length = readable(self.size, offset, length);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut cursor = self.cursor.lock().await;
        if cursor.stream.is_none() || cursor.at != offset {
            *cursor = Cursor::default();
            if let Some(tier) = &self.tier {
                tier.tally.throughs.fetch_add(1, Relaxed);
            }
            let stream = self.s3.ask(&self.digest, offset).await?;
            if stream.size() != self.size {
                return Err(self.damaged());
            }
            *cursor = Cursor::over(stream, self.tier.is_some());
        }
        self.bring(&mut cursor, offset + length as u64).await?;
        Ok(cursor.take(length))
    }
}
