//! Feeds one body to the hash and the stage, or past it, while readers follow.

use std::sync::Arc;

use artifactapi_formats::Resource;
use artifactapi_model::{
    Hasher,
    digest::Hashed,
    ports::{BlobError, BlobReader as _, StagedBlob, blobs::MAX_READ, upstream::Framing},
};
use bytes::{Buf as _, Bytes};
use tokio::sync::watch;

use super::{Head, Progress};
use crate::{error::FetchError, verify, window::Window};

/// Bytes looked at to tell the kind of a body.
const KIND_BYTES: usize = 8;

/// Where a piece of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// With all before it.
    InStage,
    /// Only until it has been read.
    InMemory,
}

/// A body that has come to its end.
pub(crate) struct Poured {
    /// All of it; `None` when there was no room.
    pub(crate) staged: Option<Box<dyn StagedBlob>>,
    /// Where it is read.
    pub(crate) window: Arc<Window>,
    /// Its length and digests.
    pub(crate) hashed: Hashed,
}

/// Feeds one body to the hash and the stage, and tells readers how far it is.
pub(crate) struct Tee<'a> {
    resource: &'a Resource,
    progress: &'a watch::Sender<Progress>,
    head: Arc<Head>,
    /// `None` where there is no room for it.
    staged: Option<Box<dyn StagedBlob>>,
    window: Arc<Window>,
    hasher: Hasher,
    written: u64,
    /// Where the source is: behind `written` while a body that begins anew is held against what was taken.
    position: u64,
    kind: Vec<u8>,
    kind_known: bool,
}

impl<'a> Tee<'a> {
    /// Of a body that goes to `staged` for as long as there is room.
    pub(crate) fn staged(
        resource: &'a Resource,
        progress: &'a watch::Sender<Progress>,
        head: Arc<Head>,
        staged: Box<dyn StagedBlob>,
    ) -> Self {
        let window = Window::over(staged.reader());
        Self::new(resource, progress, head, Some(staged), window)
    }

    /// Of a body that only passes through `window`.
    pub(crate) fn unstaged(
        resource: &'a Resource,
        progress: &'a watch::Sender<Progress>,
        head: Arc<Head>,
        window: Arc<Window>,
    ) -> Self {
        Self::new(resource, progress, head, None, window)
    }

    fn new(
        resource: &'a Resource,
        progress: &'a watch::Sender<Progress>,
        head: Arc<Head>,
        staged: Option<Box<dyn StagedBlob>>,
        window: Arc<Window>,
    ) -> Self {
        Tee {
            resource,
            progress,
            hasher: Hasher::for_checksums(&head.checksums),
            head,
            staged,
            window,
            written: 0,
            position: 0,
            kind: Vec::with_capacity(KIND_BYTES),
            kind_known: false,
        }
    }

    /// What is known of the body.
    pub(crate) fn head(&self) -> Arc<Head> {
        self.head.clone()
    }

    /// Bytes taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Another source gives the body from its begin: what has been taken is compared, since readers have seen it.
    pub(crate) fn begin_again(&mut self) {
        self.position = 0;
    }

    /// Another source gives the body from here on.
    pub(crate) fn go_on(&mut self) {
        self.position = self.written;
    }

    /// Whether `head` can be the same body: readers have been told its length.
    ///
    /// # Errors
    /// [`FetchError::Truncated`].
    pub(crate) fn expect_same(&self, head: &Head) -> Result<(), FetchError> {
        if head.length == self.head.length { Ok(()) } else { Err(changed()) }
    }

    /// Holds the body against the claims of `head` from now on, also what has been taken already.
    pub(crate) async fn retarget(&mut self, head: Arc<Head>) -> Result<(), FetchError> {
        let mut hasher = Hasher::for_checksums(&head.checksums);
        let mut offset = 0;
        while offset < self.written {
            let left = usize::try_from(self.written - offset).unwrap_or(usize::MAX);
            let block = self.window.read_at(offset, left.min(MAX_READ)).await?;
            if block.is_empty() {
                return Err(changed());
            }
            hasher.update(&block);
            offset += block.len() as u64;
        }
        (self.hasher, self.head) = (hasher, head);
        Ok(())
    }

    /// Takes off `chunk` what has been taken before, if it is the same.
    async fn compare(&mut self, chunk: &mut Bytes) -> Result<(), FetchError> {
        while self.position < self.written && !chunk.is_empty() {
            let left = usize::try_from(self.written - self.position).unwrap_or(usize::MAX);
            let before = self.window.read_at(self.position, left.min(chunk.len())).await?;
            if before.is_empty() || before[..] != chunk[..before.len()] {
                return Err(changed());
            }
            chunk.advance(before.len());
            self.position += before.len() as u64;
        }
        Ok(())
    }

    /// Takes the next piece of the body.
    pub(crate) async fn take(&mut self, mut chunk: Bytes) -> Result<Kept, FetchError> {
        self.compare(&mut chunk).await?;
        if let Framing::Length(length) = self.head.framing {
            // What comes after the announced end is no part of the body (RS-06).
            let left = usize::try_from(length - self.written).unwrap_or(usize::MAX);
            chunk.truncate(left);
        }
        if chunk.is_empty() {
            return Ok(self.kept());
        }
        if !self.kind_known {
            self.kind.extend(chunk.iter().take(KIND_BYTES - self.kind.len()));
            if self.kind.len() >= KIND_BYTES {
                self.check_kind()?;
            }
        }
        self.written += chunk.len() as u64;
        self.position = self.written;
        if let Some(limit) = self.resource.max_size.filter(|limit| self.written > *limit) {
            return Err(FetchError::TooLarge { limit });
        }
        self.hasher.update(&chunk);
        self.keep(chunk).await?;
        if self.kind_known {
            let (head, window, written) = (self.head.clone(), self.window.clone(), self.written);
            self.progress.send_replace(Progress::Growing { head, window, written });
        }
        Ok(self.kept())
    }

    fn kept(&self) -> Kept {
        if self.staged.is_some() { Kept::InStage } else { Kept::InMemory }
    }

    /// Stages `chunk`, already counted. Where that fails for want of room and clients have begun to read, the
    /// rest of the body passes by the stage: they get it all the same (RS-96).
    async fn keep(&mut self, chunk: Bytes) -> Result<(), FetchError> {
        if let Some(staged) = &mut self.staged {
            let base = self.written - chunk.len() as u64;
            match staged.write(chunk.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ BlobError::Full(_)) if self.window.spill(base) => {
                    tracing::warn!(error = %error, url = self.head.source_url, "the rest of a body is not stored");
                    self.staged = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.window.push(chunk).await { Ok(()) } else { Err(FetchError::Abandoned) }
    }

    fn check_kind(&mut self) -> Result<(), FetchError> {
        let content_type = self.head.header("content-type").unwrap_or_default();
        verify::check_kind(self.resource.magic, content_type, &self.kind)?;
        self.kind_known = true;
        Ok(())
    }

    /// Ends the body; its framing must agree.
    pub(crate) fn finish(mut self) -> Result<Poured, FetchError> {
        if !self.kind_known {
            self.check_kind()?;
        }
        if self.position < self.written {
            return Err(changed());
        }
        if let Framing::Length(length) = self.head.framing
            && self.written != length
        {
            return Err(FetchError::Truncated(format!("{} of {length} bytes came", self.written)));
        }
        Ok(Poured { staged: self.staged, window: self.window, hashed: self.hasher.finish() })
    }
}

/// A body that was begun cannot be ended with the bytes of another.
fn changed() -> FetchError {
    FetchError::Truncated("upstream's body changed while it was being fetched".into())
}
