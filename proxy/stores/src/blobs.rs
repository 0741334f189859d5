//! Where bodies are.

mod counting;
mod fs;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use counting::{BlobCounts, BlobTally, CountingBlobs};
pub use fs::FsBlobs;
pub use memory::MemoryBlobs;
