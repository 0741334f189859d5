//! Where bodies are.

mod counting;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use counting::{BlobCounts, CountingBlobs};
pub use memory::MemoryBlobs;
