//! Feeds one body to the hash and the stage, or past it, while readers follow.

use std::sync::Arc;

use artifactapi_formats::Resource;
use artifactapi_model::{
    Hasher,
    digest::Hashed,
    ports::{BlobError, StagedBlob, upstream::Framing},
};
use bytes::Bytes;
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
    kind: Vec<u8>,
    kind_known: bool,
}

impl<'a> Tee<'a> {
    /// Of a body that goes to `staged` for as long as there is room.
    pub(super) fn staged(
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
            kind: Vec::with_capacity(KIND_BYTES),
            kind_known: false,
        }
    }

    /// Takes the next piece of the body.
    pub(crate) async fn take(&mut self, mut chunk: Bytes) -> Result<Kept, FetchError> {
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
        if let Framing::Length(length) = self.head.framing
            && self.written != length
        {
            return Err(FetchError::Truncated(format!("{} of {length} bytes came", self.written)));
        }
        Ok(Poured { staged: self.staged, window: self.window, hashed: self.hasher.finish() })
    }
}
