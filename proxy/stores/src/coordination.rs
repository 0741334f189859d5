//! What replicas tell each other.

mod local;
mod redis;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use artifactapi_model::ports::{Heard, Messages};
use tokio::sync::broadcast::{Receiver, error::RecvError};

pub use local::LocalCoordinator;
pub use redis::{RedisCoordinator, RedisCounts, RedisOptions, RedisTally, RedisUrlError};

/// What `receiver` gets, as a stream; what it was too slow for is a [`Heard::Gap`].
fn heard(receiver: Receiver<Heard>) -> Messages {
    Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
        let heard = match receiver.recv().await {
            Ok(heard) => heard,
            Err(RecvError::Lagged(_)) => Heard::Gap,
            Err(RecvError::Closed) => return None,
        };
        Some((heard, receiver))
    }))
}
