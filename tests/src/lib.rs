//! What the end-to-end tests are made of: a scripted upstream that misbehaves on request, the proxy as a
//! process, package trees as the ecosystems publish them, and the ecosystems' own clients.
//!
//! Tests that need a tool this machine lacks report themselves as ignored with the reason; `hack/test` names
//! them at its end.

pub mod balancer;
pub mod client;
pub mod disk;
pub mod fingerprint;
pub mod fixtures;
mod forward;
pub mod http;
pub mod kubernetes;
pub mod link;
pub mod manifest;
pub mod metrics;
pub mod oracle;
mod process;
pub mod proxy;
pub mod raw;
pub mod registry;
pub mod replicas;
pub mod scenario;
pub mod site;
pub mod upstream;
pub mod wait;

pub use balancer::Balancer;
pub use client::{Missing, Run};
pub use disk::Disk;
pub use link::{Fault, Link};
pub use manifest::RemoteManifest;
pub use oracle::Oracle;
pub use proxy::Proxy;
pub use registry::Registry;
pub use replicas::{Cluster, Services};
pub use site::{Server, Site};
pub use upstream::{Act, Answer, Behaviour, Framing, Gate, Guard, Recorded, Tree, Upstream};
