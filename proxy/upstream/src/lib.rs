//! The way out: one HTTP client for every Remote, careful about where it connects, what it shows to whom,
//! and how much it asks.
//!
//! A request passes, in this order:
//!
//! 1. [`target`]: may this URL be asked for this Remote at all (own origin, `fileHosts`, address literals)?
//! 2. [`limits`]: a place in `maxConcurrent`.
//! 3. [`redirect`]: the chain of hops, each of which passes 4 to 7. Secrets stay on the first origin.
//! 4. [`auth`], with [`challenge`], [`realm`], [`token`]: credentials, only for the Remote's own origin.
//! 5. [`hosts`], with [`breaker`] and [`retry_after`]: hosts that fail or asked for a pause are left alone.
//! 6. [`pool`], with [`tls`]: the client that connects the way this Remote wants.
//! 7. [`resolve`], with [`address`]: names become vetted addresses; the connector sees no others.
//! 8. [`body`] and [`coding`]: a stream of identity bytes that ends cleanly only when the body is whole.
//!
//! `address`, `breaker`, `challenge`, `rate`, `realm`, `redirect`, `retry_after` and `target` are pure.

mod address;
mod auth;
mod body;
mod breaker;
mod challenge;
mod client;
mod coding;
mod error;
mod hop;
mod hosts;
mod limits;
mod observe;
mod pool;
mod rate;
mod realm;
mod redirect;
mod resolve;
mod retry_after;
mod shared;
mod target;
mod tls;
mod token;
mod token_share;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use challenge::{Challenge, parse as parse_challenges};
pub use client::HttpUpstream;
pub use error::{host_of, way_of};
pub use observe::{BreakerState, NoObserver, Observer, Outcome};
pub use resolve::{Lookup, SystemLookup};
