//! One fill, and one making, for all replicas. A lease says which replica asks upstream; the others follow its growing body, and
//! one of them takes over when it falls silent. The lease saves requests, it never protects data: every commit is
//! fenced in SQL, and a coordinator that does not answer only means that each replica fills for itself.

mod follow;
mod hear;
mod lease;
mod lend;
mod make;
mod wire;

pub(crate) use follow::Followed;
pub(crate) use hear::RECHECKS;
pub use hear::RecheckAges;
pub(crate) use lease::{Claim, Held, lease_key};
pub(crate) use make::Making;
