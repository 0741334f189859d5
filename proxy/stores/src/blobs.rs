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

pub use counting::{BlobCounts, BlobTally, CountingBlobs};
pub use fs::FsBlobs;
pub use memory::MemoryBlobs;
pub use s3::{S3Blobs, S3CheckError, S3Counts, S3Settings, S3Tally};
pub use tier::{TierCounts, TieredBlobs};
