//! The proxy's outer shell: configuration, HTTP, telemetry, and the one place that chooses adapters.

pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod telemetry;

pub use app::App;
