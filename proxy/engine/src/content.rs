//! What the engine hands to a server: enough to answer HEAD, conditional and range requests without opening
//! the body.

use std::{sync::Arc, time::Duration};

use artifactapi_formats::Answer;
use artifactapi_model::{
    ArtifactKey, Digest, Mutability, Timestamp,
    ports::{BlobError, BlobReader as _, UpstreamResponse},
};
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    error::FetchError,
    fetch::HOLD_BACK,
    fill::{Finished, Progress},
    window::Place,
};

/// The answer to a request.
pub enum Reply {
    /// A document or file.
    Content(Box<Content>),
    /// Something that needs neither store nor upstream.
    Answer(Answer),
    /// Upstream's own answer, passed through uncached.
    Passed(Box<UpstreamResponse>),
}

/// Where a body came from, for `X-Cache`, `Cache-Status`, metrics and the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheOutcome {
    /// Stored and fresh.
    Hit,
    /// Fetched for this request.
    Miss,
    /// Fetched by another request that was under way.
    Collapsed,
    /// Stored, stale, confirmed by upstream for this request.
    Revalidated,
    /// Stored and stale: it is being revalidated, or upstream could not confirm it.
    Stale,
    /// Not stored.
    Bypass,
}

impl CacheOutcome {
    /// The word for `X-Cache` (upper case there), metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheOutcome::Hit => "hit",
            CacheOutcome::Miss => "miss",
            CacheOutcome::Collapsed => "collapsed",
            CacheOutcome::Revalidated => "revalidated",
            CacheOutcome::Stale => "stale",
            CacheOutcome::Bypass => "bypass",
        }
    }
}

/// A document or file, described; its bytes are behind [`Content::body`].
pub struct Content {
    /// Cache key, for logs; the path part is canonical.
    pub key: ArtifactKey,
    /// Length in bytes; unknown only while a body without announced length is being fetched.
    pub size: Option<u64>,
    /// SHA-256 of exactly these bytes; unknown while they are being fetched, unless the request named it.
    pub digest: Option<Digest>,
    /// `Content-Type`.
    pub content_type: String,
    /// Upstream's `Last-Modified`, an HTTP date; empty for what has none; `None`: when it was stored.
    pub last_modified: Option<String>,
    /// Further headers of this type and this body (`Docker-Content-Digest`, `Content-Disposition`, …).
    pub headers: Vec<(&'static str, String)>,
    /// Whether the bytes behind this path may change.
    pub mutability: Mutability,
    /// Time since upstream last confirmed the body.
    pub age: Duration,
    /// Time for which it stays fresh; `None` forever, zero when stale.
    pub fresh_for: Option<Duration>,
    /// When it was stored; the moment of the request for a body in flight.
    pub stored_at: Timestamp,
    /// Whether another body of this path may have a later date, so that only the very date tells that a client has it.
    pub is_dated_exactly: bool,
    /// Where it came from.
    pub outcome: CacheOutcome,
    /// Representations depend on `Accept`.
    pub varies_by_accept: bool,
    /// The gzip form of a derived document: its body and digest.
    pub gzip: Option<(Body, Digest, u64)>,
    /// The bytes.
    pub body: Body,
}

/// Where the bytes are.
#[derive(Clone)]
pub enum Body {
    /// There are none to send (the answer to a HEAD that did not fetch them).
    Absent,
    /// In memory.
    Memory(Bytes),
    /// In the blob store, not opened yet: see `Engine::open`.
    Stored(Digest),
    /// Being fetched.
    Growing(GrowingBody),
}

/// One reader's view of a body that is being fetched. It reads what is safe to show: everything but the last
/// 64 KiB until the whole has been verified and committed, then the rest.
#[derive(Clone)]
pub struct GrowingBody {
    pub(crate) place: Arc<Place>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Keeps the fetch going for as long as this reader lives.
    pub(crate) _interest: crate::flights::Interest,
}

/// Why a growing body ended early. The connection to the client must be aborted.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The fetch failed or the body was not what it should be.
    #[error(transparent)]
    Fetch(Arc<FetchError>),
    /// The staged bytes could not be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl GrowingBody {
    /// How many bytes may be shown now, and whether that is all there is.
    fn safe(progress: &Progress) -> Result<(u64, bool), BodyError> {
        match progress {
            Progress::Asking => Ok((0, false)),
            Progress::Growing { written, .. } => Ok((written.saturating_sub(HOLD_BACK), false)),
            Progress::Done(
                Finished::Stored(entry) | Finished::Confirmed(entry) | Finished::Landed(entry),
            ) => Ok((entry.row.size, true)),
            Progress::Done(Finished::Unstored { size, .. }) => Ok((*size, true)),
            Progress::Done(Finished::Failed(error)) => Err(BodyError::Fetch(error.clone())),
        }
    }

    /// Reads at most `length` bytes at `offset`, waiting until there are some; empty at the end of the body.
    ///
    /// # Errors
    /// [`BodyError`] when the fetch fails: the body will never be whole.
    pub async fn read(&mut self, offset: u64, length: usize) -> Result<Bytes, BodyError> {
        self.place.advance(offset);
        let safe = {
            let reached = |progress: &Progress| match Self::safe(progress) {
                Ok((safe, whole)) => whole || safe > offset,
                Err(_) => true,
            };
            match self.progress.wait_for(reached).await {
                Ok(progress) => Self::safe(&progress)?.0,
                Err(_) => return Err(BodyError::Fetch(Arc::new(FetchError::Abandoned))),
            }
        };
        let left = usize::try_from(safe.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Bytes::new());
        }
        let block = self.place.window.read_at(offset, length.min(left)).await?;
        // Of what is known to be there nothing can be missing: an end here would be taken for the body's.
        if block.is_empty() {
            return Err(BodyError::Fetch(Arc::new(FetchError::Abandoned)));
        }
        Ok(block)
    }

    /// Waits until the whole body is there, verified; returns its length in bytes. A body that is not being
    /// stored cannot be waited for.
    ///
    /// # Errors
    /// [`BodyError`] when the fetch fails.
    pub async fn whole(&mut self) -> Result<u64, BodyError> {
        self.place.leave();
        let abandoned = || BodyError::Fetch(Arc::new(FetchError::Abandoned));
        let over =
            |progress: &Progress| matches!(progress, Progress::Done(_)) || self.place.window.is_spilling();
        let finished = self.progress.wait_for(over).await;
        let size = Self::safe(&*finished.map_err(|_| abandoned())?)?.0;
        if self.place.window.is_spilling() { Err(abandoned()) } else { Ok(size) }
    }
}
