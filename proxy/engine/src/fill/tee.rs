//! Feeds one body to the hash and the stage while readers follow.

use std::sync::Arc;

use artifactapi_formats::Resource;
use artifactapi_model::{
    Hasher,
    digest::Hashed,
    ports::{BlobReader, StagedBlob, upstream::Framing},
};
use bytes::Bytes;
use tokio::sync::watch;

use super::{Head, Progress};
use crate::{error::FetchError, verify};

/// Bytes looked at to tell the kind of a body.
const KIND_BYTES: usize = 8;
/// Feeds one body to the hash and the stage, and tells readers how far it is.
pub(super) struct Tee<'a> {
    resource: &'a Resource,
    progress: &'a watch::Sender<Progress>,
    head: Arc<Head>,
    staged: Box<dyn StagedBlob>,
    reader: Arc<dyn BlobReader>,
    hasher: Hasher,
    written: u64,
    kind: Vec<u8>,
    kind_known: bool,
}

impl<'a> Tee<'a> {
    pub(super) fn new(
        resource: &'a Resource,
        progress: &'a watch::Sender<Progress>,
        head: Arc<Head>,
        staged: Box<dyn StagedBlob>,
    ) -> Self {
        Tee {
            resource,
            progress,
            reader: staged.reader(),
            hasher: Hasher::for_checksums(&head.checksums),
            head,
            staged,
            written: 0,
            kind: Vec::with_capacity(KIND_BYTES),
            kind_known: false,
        }
    }

    /// Takes the next piece of the body.
    pub(super) async fn take(&mut self, mut chunk: Bytes) -> Result<(), FetchError> {
        if let Framing::Length(length) = self.head.framing {
            // What comes after the announced end is no part of the body (RS-06).
            let left = usize::try_from(length - self.written).unwrap_or(usize::MAX);
            chunk.truncate(left);
        }
        if chunk.is_empty() {
            return Ok(());
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
        self.staged.write(chunk).await?;
        if self.kind_known {
            let (head, reader, written) = (self.head.clone(), self.reader.clone(), self.written);
            self.progress.send_replace(Progress::Growing { head, reader, written });
        }
        Ok(())
    }

    fn check_kind(&mut self) -> Result<(), FetchError> {
        let content_type = self.head.header("content-type").unwrap_or_default();
        verify::check_kind(self.resource.magic, content_type, &self.kind)?;
        self.kind_known = true;
        Ok(())
    }

    /// Ends the body; its framing must agree.
    pub(super) fn finish(mut self) -> Result<(Box<dyn StagedBlob>, Hashed), FetchError> {
        if !self.kind_known {
            self.check_kind()?;
        }
        if let Framing::Length(length) = self.head.framing
            && self.written != length
        {
            return Err(FetchError::Truncated(format!("{} of {length} bytes came", self.written)));
        }
        Ok((self.staged, self.hasher.finish()))
    }
}
