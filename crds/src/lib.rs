//! The API of ArtifactAPI: the custom resources `Remote`, `Virtual`, `Local` and `Robot`, and the way from a
//! manifest to a validated repository.
//!
//! The same types guard three entrances: the Kubernetes API server (through the generated schema and its CEL
//! rules), standalone manifests, and the management API. A manifest passes these stages, and every error of
//! every stage is reported with its field path:
//!
//! 1. [`manifests::parse`]: text → known kinds, with file, document and line;
//! 2. [`schema`]: structure, limits, unknown fields, defaults and CEL rules, as an API server would check them;
//! 3. [`validate`]: what no schema can say: patterns compile, Secrets hold what they should, members exist;
//! 4. [`set::Set::load`]: all of it over many files, plus conflicts between repositories.
//!
//! Everything here is pure: text and values in, values out. Types deserialise leniently (durations and
//! quantities stay text) because a watch over thousands of objects must not break on one; nobody past
//! [`validate`] reads a raw spec.

#![expect(unreachable_pub, reason = "kube's derives make copies of public types inside functions")]

pub mod access;
#[cfg(any(test, feature = "bad"))]
pub mod bad;
pub mod duration;
pub mod error;
pub mod generate;
pub mod limits;
pub mod locals;
pub mod manifests;
pub mod object;
pub mod quantity;
pub mod references;
pub mod remotes;
pub mod robots;
pub mod schema;
pub mod set;
pub mod status;
pub mod validate;
pub mod virtuals;

pub use error::FieldError;
pub use locals::Local;
pub use references::References;
pub use remotes::Remote;
pub use robots::Robot;
pub use set::{Loaded, Problem, Set};
pub use virtuals::Virtual;

/// API group of all kinds.
pub const GROUP: &str = "artifactapi.io";
/// The one version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Namespace of standalone manifests that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
