//! Adapters of the storage ports of the model: where bytes, rows and leases really are.
//!
//! | Port | Production twin | Standalone | Test twin |
//! |---|---|---|---|
//! | blobs | [`TieredBlobs`], S3 behind a directory | [`FsBlobs`], a directory | [`MemoryBlobs`] |
//! | uploads | [`S3Uploads`], parts in S3 | [`FsUploads`], the same directory | [`MemoryUploads`] |
//! | metadata | [`PostgresMetadata`], PostgreSQL | [`SqliteMetadata`], one file | [`MemoryMetadata`] |
//! | coordination | [`RedisCoordinator`], Redis | [`LocalCoordinator`], in process | the same |
//!
//! Each port has one conformance suite (`blobs::suite`, `blobs::uploads_suite`, `metadata::suite`,
//! `coordination::suite`, behind the feature `suite`) that every adapter passes. Adapters decide nothing: what to
//! keep and for how long is the engine's business.

pub mod blobs;
pub mod coordination;
pub mod environment;
pub mod exchange;
pub mod listen;
mod lock;
pub mod metadata;
mod open;
mod random;

pub use blobs::{
    BlobCounts, BlobTally, CountingBlobs, FsBlobs, FsUploads, MemoryBlobs, MemoryUploads, S3Blobs,
    S3CheckError, S3Counts, S3Settings, S3Tally, S3Uploads, Shortage, TierCounts, TieredBlobs,
};
pub use coordination::{
    LocalCoordinator, RedisCoordinator, RedisCounts, RedisOptions, RedisTally, RedisUrlError,
};
pub use metadata::{MemoryMetadata, Posted, PostgresMetadata, SqlStatements, SqliteMetadata, postgres};
pub use open::OpenError;
