//! What replicas tell each other.

mod local;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use artifactapi_model::ports::{Heard, Messages};
use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};

pub use local::LocalCoordinator;

/// What `receiver` gets, as a stream; what it was too slow for is a [`Heard::Gap`].
fn heard(receiver: Receiver<Bytes>) -> Messages {
    Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
        let heard = match receiver.recv().await {
            Ok(message) => Heard::Message(message),
            Err(RecvError::Lagged(_)) => Heard::Gap,
            Err(RecvError::Closed) => return None,
        };
        Some((heard, receiver))
    }))
}
