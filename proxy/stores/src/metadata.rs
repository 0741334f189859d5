//! Where rows are.

mod accounts;
#[cfg(any(test, feature = "suite"))]
pub mod accounts_suite;
#[cfg(any(test, feature = "suite"))]
pub mod housekeeping_suite;
mod memory;
mod observation_rows;
#[cfg(any(test, feature = "suite"))]
pub mod observations_suite;
mod operation;
pub mod postgres;
mod prefix;
mod registry_rows;
#[cfg(any(test, feature = "suite"))]
pub mod registry_suite;
#[cfg(test)]
mod registry_twins;
mod sqlite;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
#[cfg(test)]
mod twins;

use std::time::Duration;

pub use memory::MemoryMetadata;
pub use operation::SqlStatements;
pub use postgres::PostgresMetadata;
pub use sqlite::{Posted, SqliteMetadata};

/// How long a token that has expired is still listed.
const EXPIRED_TOKENS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
