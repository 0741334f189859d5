//! Where rows are.

#[cfg(any(test, feature = "suite"))]
pub mod housekeeping_suite;
mod memory;
mod operation;
pub mod postgres;
mod prefix;
mod registry_rows;
#[cfg(any(test, feature = "suite"))]
pub mod registry_suite;
mod sqlite;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
#[cfg(test)]
mod twins;

pub use memory::MemoryMetadata;
pub use operation::SqlStatements;
pub use postgres::PostgresMetadata;
pub use sqlite::{Posted, SqliteMetadata};
