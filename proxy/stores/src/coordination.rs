//! What replicas tell each other.

mod local;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use local::LocalCoordinator;
