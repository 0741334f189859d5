//! Leaving a Redis alone that does not answer, and finding out when it does again (RS-84).

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    interfaces::ClientLike as _,
};

use super::{CALL, tally::RedisTally};

/// How long it is left alone at first.
const FIRST: Duration = Duration::from_secs(4);
/// How often it is asked after that.
const PERIOD: Duration = Duration::from_millis(500);

/// Whether Redis is being left alone.
pub(super) struct Quiet {
    on: AtomicBool,
    begun: tokio::sync::Notify,
    tally: Arc<RedisTally>,
}

impl Quiet {
    /// Not quiet. Ends its own watch when it is dropped.
    pub(super) fn start(client: WithOptions<Client>, tally: Arc<RedisTally>) -> Arc<Self> {
        let quiet = Arc::new(Quiet { on: AtomicBool::new(false), begun: tokio::sync::Notify::new(), tally });
        tokio::spawn(watch(Arc::downgrade(&quiet), client));
        quiet
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Redis did not answer, for `reason`.
    pub(super) fn begin(&self, reason: &str) {
        if !self.on.swap(true, AcqRel) {
            self.tally.set_local(true);
            tracing::warn!(
                reason,
                "REDIS_URL: redis does not answer; this replica works on its own until it does"
            );
            self.begun.notify_one();
        }
    }

    fn end(&self) {
        if self.on.swap(false, AcqRel) {
            self.tally.set_local(false);
            tracing::info!("redis answers again");
        }
    }
}

async fn watch(quiet: Weak<Quiet>, client: WithOptions<Client>) {
    loop {
        {
            let Some(quiet) = quiet.upgrade() else { return };
            // Looks up now and then, so that it ends with its coordinator.
            let _ = tokio::time::timeout(FIRST, quiet.begun.notified()).await;
            if !quiet.is_on() {
                continue;
            }
        }
        tokio::time::sleep(FIRST).await;
        while !matches!(tokio::time::timeout(CALL, client.ping::<()>(None)).await, Ok(Ok(()))) {
            if quiet.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
        if let Some(quiet) = quiet.upgrade() {
            quiet.end();
        }
    }
}
