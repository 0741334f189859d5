//! What an operator sees: metrics, logs, and one access line per request.

pub mod access;
pub mod access_line;
pub mod collection;
pub mod histogram;
pub mod logs;
pub mod metrics;
pub mod room;
pub mod stores;
pub mod upstreams;

pub use access::{AccessLog, Outcome, Record};
pub use metrics::{Metrics, RepositoryMetrics};
