//! Real services for tests: PostgreSQL, Redis, MinIO, Distribution, dockerd and the API server of Kubernetes, each in
//! a temporary directory and on a free loopback port or a socket of its own, stopped, paused and started again by its
//! own process id; and a whole node of Kubernetes by `hack/cluster`. Nothing here knows the product.

mod distribution;
mod dockerd;
mod kubernetes;
mod minio;
mod node;
mod postgres;
mod process;
mod programs;
mod redis;
mod scratch;

pub use distribution::{Distribution, Storage};
pub use dockerd::Dockerd;
pub use kubernetes::{Access, Kubernetes};
pub use minio::Minio;
pub use node::Node;
pub use postgres::Postgres;
pub use process::Process;
pub use programs::{Missing, installed, provided};
pub use redis::Redis;
pub use scratch::scratch;
