//! Bytes of a push on their way in: kept under the session's id, whichever process takes the next request.
//!
//! Where the bytes are is told by a [`Stored`] state that the caller keeps in the session's row; an adapter keeps
//! nothing in memory between two requests. One writer at a time: the caller has claimed the session. A writer that
//! was fenced (it slept, another took over) may still write; it never damages what its successor wrote.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BlobError, BlobReader};
use crate::digest::Digest;

/// The id of an upload session: 32 lower-case hex digits, not to be guessed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Reads an id.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(known)).then(|| UploadId(text.to_owned()))
    }

    /// An id of random bytes.
    pub fn of(random: [u8; 16]) -> Self {
        UploadId(hex::encode(random))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the adapter has to know to go on: its own text (at most 1 MiB), empty at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(pub String);

/// Where the bytes of a blob are, when they are not yet in the blob store's own place for their digest: a key of the
/// same store, `uploads/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub String);

/// Where uploads are kept.
#[async_trait]
pub trait UploadStore: Send + Sync + 'static {
    /// Goes on with `id` at `offset`, where `stored` was left. `took_over`: the writer before did not end in order,
    /// so that it may have written more than `stored` says, and may still be writing; that counts as not written.
    async fn resume(
        &self,
        id: &UploadId,
        stored: &Stored,
        offset: u64,
        took_over: bool,
    ) -> Result<Box<dyn UploadWriter>, BlobError>;

    /// The bytes written so far, to be hashed again. Nothing else reads an upload. An adapter may have to close the
    /// body for it: what was read can be finished or discarded, and no longer be appended to.
    async fn read(
        &self,
        id: &UploadId,
        stored: &Stored,
        length: u64,
    ) -> Result<std::sync::Arc<dyn BlobReader>, BlobError>;

    /// Drops all bytes of `id`; no error when there are none. `placed`: the body itself stays, since a blob has it
    /// for its place; only what else was left goes.
    async fn discard(&self, id: &UploadId, stored: &Stored, placed: bool) -> Result<(), BlobError>;

    /// Copies the body at `place` to the blob store's own place for `digest`, without moving bytes through this
    /// process; `false`: this store cannot (the body is too large for one request), and it stays where it is.
    async fn settle(&self, place: &Place, digest: &Digest, size: u64) -> Result<bool, BlobError>;

    /// Removes the body at `place`, once nobody names it; no error when there is none.
    async fn remove_place(&self, place: &Place) -> Result<(), BlobError>;

    /// Ids of up to `limit` uploads that have bytes here and were last written at least `age` ago, after `after` in
    /// order: sessions that no row knows any more are found so.
    async fn list(
        &self,
        after: Option<&UploadId>,
        age: std::time::Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError>;
}

/// One request's writing. Dropping it loses what was not kept by [`UploadWriter::keep`] or [`UploadWriter::pause`],
/// and nothing else. After a call that failed or was broken off midway it may only be dropped.
#[async_trait]
pub trait UploadWriter: Send {
    /// Whether [`UploadWriter::keep`] has to be called, and what it returns recorded, before the next
    /// [`UploadWriter::write`]: a successor that takes over knows from the record which names this writer may have
    /// used. To be asked before each write; one that comes all the same may fail.
    fn must_keep(&self) -> bool {
        false
    }

    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes as much durable as can be without cost, and says how far that is: the offset up to which bytes survive
    /// this process, and the state that says so. The offset is where the writer began or where some write ended, and
    /// never goes back. Called every second or so; cheap when nothing is to be done. What one call returned is
    /// recorded, or the writer dropped, before the next call.
    async fn keep(&mut self) -> Result<(u64, Stored), BlobError>;

    /// Makes everything written durable, for the next request.
    async fn pause(self: Box<Self>) -> Result<Stored, BlobError>;

    /// Everything is written, and its SHA-256 is `digest`: makes the body durable as a whole, reading none of it
    /// again beyond a short tail. `None`: it is in the blob store's own place, as after
    /// [`super::StagedBlob::commit`]. The caller has announced the blob before. May be repeated by another process
    /// from the same `stored`, also when this one got through and nobody heard.
    async fn finish(self: Box<Self>, digest: &Digest) -> Result<Option<Place>, BlobError>;
}
