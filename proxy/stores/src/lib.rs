//! Adapters of the three storage ports of the model: where bytes, rows and leases really are.
//!
//! | Port | Production twin (later) | Standalone | Test twin |
//! |---|---|---|---|
//! | blobs | S3 | a directory (next) | [`MemoryBlobs`] |
//! | metadata | PostgreSQL | SQLite (next) | [`MemoryMetadata`] |
//! | coordination | Redis | [`LocalCoordinator`], in process | the same |
//!
//! Each port has one conformance suite (`blobs::suite`, `metadata::suite`, `coordination::suite`, behind the
//! feature `suite`) that every adapter passes. Adapters decide nothing: what to keep and for how long is the
//! engine's business.

pub mod blobs;
pub mod coordination;
pub mod metadata;
mod open;
mod random;

pub use blobs::{CountingBlobs, MemoryBlobs};
pub use coordination::LocalCoordinator;
pub use metadata::MemoryMetadata;
pub use open::OpenError;
