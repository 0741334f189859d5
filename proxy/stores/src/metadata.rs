//! Where rows are.

#[cfg(any(test, feature = "suite"))]
pub mod housekeeping_suite;
mod memory;
mod sqlite;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
#[cfg(test)]
mod twins;

pub use memory::MemoryMetadata;
pub use sqlite::{SqlStatements, SqliteMetadata};
