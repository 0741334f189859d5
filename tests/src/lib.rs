//! What the end-to-end tests are made of: a scripted upstream that misbehaves on request, the proxy as a
//! process, package trees as the ecosystems publish them, and the ecosystems' own clients.
//!
//! Tests that need a tool this machine lacks report themselves as ignored with the reason; `hack/test` names
//! them at its end.

pub mod http;
pub mod upstream;
pub mod wait;

pub use upstream::{Act, Answer, Behaviour, Framing, Gate, Guard, Recorded, Upstream};
