//! Writes that met a full disk, told to whoever can make room.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use artifactapi_model::ports::BlobError;
use tokio::sync::Notify;

/// Where such writes are noted.
#[derive(Debug, Default)]
pub struct Shortage {
    /// The largest body, in bytes, for which there was no room; 0 where no length was known.
    wanted: AtomicU64,
    met: Notify,
}

impl Shortage {
    /// Notes `error` if the disk was full for a body of `wanted` bytes.
    pub(in crate::blobs) fn note(&self, error: &BlobError, wanted: u64) {
        if matches!(error, BlobError::Full(_)) {
            self.wanted.fetch_max(wanted, Relaxed);
            self.met.notify_one();
        }
    }

    /// Waits for a write that meets a full disk, if there was none since the last call.
    pub async fn met(&self) {
        self.met.notified().await;
    }

    /// The largest body for which there was no room since the last call, in bytes; 0 where no length was known.
    pub fn take_wanted(&self) -> u64 {
        self.wanted.swap(0, Relaxed)
    }
}
