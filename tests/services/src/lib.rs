//! Real services for tests: PostgreSQL, Redis, MinIO, Distribution and dockerd, each in a temporary directory and on a
//! free loopback port or a socket of its own,
//! stopped, paused and started again by its own process id. Nothing here knows the product.

mod distribution;
mod dockerd;
mod minio;
mod postgres;
mod process;
mod programs;
mod redis;

pub use distribution::{Distribution, Storage};
pub use dockerd::Dockerd;
pub use minio::Minio;
pub use postgres::Postgres;
pub use process::Process;
pub use programs::{Missing, provided};
pub use redis::Redis;
