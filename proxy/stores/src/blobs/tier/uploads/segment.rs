//! A piece of a body that waits in the tier's directory to be sent.

use std::sync::Arc;

use artifactapi_model::ports::{BlobError, BlobReader, StagedBlob};
use async_trait::async_trait;
use bytes::Bytes;

use crate::blobs::{
    fs::{reader::readable, staged::StagedFile},
    tier::disk::Disk,
};

/// One staged file.
pub(super) struct Segment {
    pub(super) file: StagedFile,
    pub(super) length: u64,
}

impl Segment {
    /// An empty one, with room for `room` bytes where that is known.
    pub(super) async fn new(disk: &Arc<Disk>, room: Option<u64>) -> Result<Self, BlobError> {
        Ok(Segment { file: disk.stage(room).await?, length: 0 })
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.length += bytes.len() as u64;
        self.file.write(bytes).await
    }

    /// Its bytes, readable also when it is gone.
    pub(super) fn body(&self) -> (Arc<dyn BlobReader>, u64) {
        (self.file.reader(), self.length)
    }
}

/// Segments as one body.
pub(super) struct Chain(pub(super) Vec<(Arc<dyn BlobReader>, u64)>);

impl Chain {
    pub(super) fn length(&self) -> u64 {
        self.0.iter().map(|(_, length)| length).sum()
    }
}

#[async_trait]
impl BlobReader for Chain {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let mut start = offset;
        for (reader, size) in &self.0 {
            if start < *size {
                return reader.read_at(start, readable(*size, start, length)).await;
            }
            start -= size;
        }
        Ok(Bytes::new())
    }
}
