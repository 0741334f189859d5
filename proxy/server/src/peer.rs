//! The line between replicas: one serves the fills it runs, the others follow them.
//!
//! `GET /fill` on the peer port, in HTTP/1.1. Both ends prove that they have the shared key: the asker by a code
//! over its request, the answerer by a code over everything but the bytes of the body, which are hashed by whoever
//! gets them. Nothing depends on a clock. Only addresses that live replicas have registered are dialled.

mod code;
mod dial;
mod frames;
mod listen;
#[cfg(test)]
mod tests;

pub use code::PeerKey;
pub use dial::{HEARTBEAT, HttpPeers, Roster};
pub use listen::serve;
