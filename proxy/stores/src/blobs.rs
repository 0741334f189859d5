//! Where bodies are.

mod counting;
mod fs;
mod memory;
#[cfg(test)]
mod mount;
mod s3;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod tier;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod uploads_crash;
#[cfg(any(test, feature = "suite"))]
pub mod uploads_suite;

use std::io;

use artifactapi_model::ports::BlobError;

pub use counting::{BlobCounts, BlobTally, CountingBlobs};
pub use fs::{FsBlobs, FsUploads, Shortage};
pub use memory::{MemoryBlobs, MemoryUploads};
pub use s3::{S3Blobs, S3CheckError, S3Counts, S3Settings, S3Tally};
pub use tier::{S3Uploads, TierCounts, TieredBlobs};

/// Somebody else writes this upload by now.
fn taken_over() -> BlobError {
    let source = io::Error::new(io::ErrorKind::PermissionDenied, "another request has taken the upload over");
    BlobError::Io { doing: "writing an upload", source }
}

/// An upload has fewer bytes than its record says.
fn lost() -> BlobError {
    let source = io::Error::new(io::ErrorKind::NotFound, "bytes of the upload that were kept are not there");
    BlobError::Io { doing: "going on with an upload", source }
}
