//! The cache engine: one data path for ten package types.
//!
//! A request is planned by its format, judged by policy, looked up, and then [`decide`]d on with `now` as an
//! argument; only after that is anything done. A miss becomes a [`fill`]: one upstream request, however many
//! readers, each streaming from the growing staged body, none seeing its last 64 KiB before framing and
//! checksums agree and the bytes are durable.
//!
//! ```text
//! Engine::get ─► plan, policy ─► lookup (hot index, then SQL) ─► decide
//!                                 │ Serve            │ Revalidate, Fetch
//!                                 ▼                  ▼
//!                       derived document ◄── fill: upstream ─► tee(hash, staged) ─► verify ─► commit
//! ```
//!
//! Among replicas one holds the [`share`] lease of a key and asks upstream; the others follow its fill and stream
//! to their clients from its first byte.

mod announce;
mod blocking;
pub mod content;
pub mod decide;
mod derive;
mod engine;
pub mod error;
mod facts;
mod fetch;
mod fill;
mod flights;
pub mod gc;
mod heads;
mod hot;
pub mod keys;
mod lookup;
mod members;
pub mod merged;
mod negative;
mod pieces;
mod recheck;
pub mod scrub;
mod serve;
mod share;
mod tags;
mod through;
mod verify;
mod weighed;
mod window;

pub use content::{Body, CacheOutcome, Content, GrowingBody, Reply};
pub use engine::{Engine, Options, Ports};
pub use error::FetchError;
pub use share::RecheckAges;
