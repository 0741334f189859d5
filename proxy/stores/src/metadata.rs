//! Where rows are.

mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use memory::MemoryMetadata;
