//! Real services for tests: PostgreSQL, Redis and MinIO, each on a free loopback port in a temporary directory,
//! stopped, paused and started again by its own process id. Nothing here knows the product.

mod minio;
mod postgres;
mod process;
mod programs;
mod redis;

pub use minio::Minio;
pub use postgres::Postgres;
pub use process::Process;
pub use programs::{Missing, provided};
pub use redis::Redis;
