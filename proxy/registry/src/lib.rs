//! Locals: registries one can push to.
//!
//! A push (OCI distribution specification 1.1) passes these stages; every one is a transaction of the database or
//! a step of the byte store, so that any process may do the next:
//!
//! 1. [`push`]: a session is opened; each request claims it, goes on where the last one ended (bytes by the
//!    [`UploadStore`](artifactapi_model::ports::UploadStore), running [`hashes`] in the session's row) and gives it
//!    back; the last one compares digests, makes the body durable and links it to the image, in that order;
//! 2. [`manifest`]: what a manifest says, read strictly and purely;
//! 3. [`registry`]: manifests, tags, referrers, deletions, and what is pulled;
//! 4. [`sweep`]: what is left over goes: sessions nobody goes on with, links no manifest needs, manifests that no
//!    tag holds.
//!
//! Who may do what is decided before anything here is called. Nothing here knows HTTP.

mod bodies;
pub mod error;
pub mod hashes;
pub mod manifest;
pub mod push;
pub mod registry;
pub mod sweep;

pub use error::RegistryError;
pub use push::{BodyLost, Pushed, Span};
pub use registry::Registry;
