//! A gate that holds upstream answers until the test opens it: waiting for an event instead of sleeping.

use std::sync::Arc;

use tokio::{sync::watch, time::timeout};

use crate::http::PATIENCE;

/// Shared by the test and every answer that waits at it.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { open: Arc::new(watch::Sender::new(false)), waiting: Arc::new(watch::Sender::new(0)) }
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Holds what comes from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Returns once `count` answers have reached the gate since it was made.
    ///
    /// # Panics
    /// When they do not come within [`crate::http::PATIENCE`].
    pub async fn reached_by(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives in `self`, so that only time can run out.
        let reached = timeout(PATIENCE, waiting.wait_for(|n| *n >= count)).await;
        assert!(reached.is_ok(), "waited {PATIENCE:?} in vain for {count} answers at a gate");
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        let mut open = self.open.subscribe();
        self.waiting.send_modify(|n| *n += 1);
        let _ = open.wait_for(|open| *open).await;
    }
}
