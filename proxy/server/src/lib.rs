//! The proxy's outer shell: configuration, HTTP, telemetry, upkeep, and the one place that chooses adapters.

pub mod access;
pub mod app;
pub mod change;
pub mod cli;
pub mod clock;
pub mod config;
pub mod fsck;
pub mod http;
pub mod layout;
pub mod peer;
pub mod setup;
pub mod signing;
pub mod telemetry;
pub mod upkeep;

pub use app::App;
