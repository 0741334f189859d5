//! What replicas tell each other about an upstream host: that it asked for a pause (RS-91), that its breaker
//! opened (RS-94), who probes it. A help only: when the coordinator fails, each replica finds out by itself.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Clock, Notice, Timestamp,
    ports::{Coordinator, Lease},
};
use quick_cache::sync::Cache;
use tokio::{runtime::Handle, task::JoinHandle};

use crate::breaker::OPEN_FOR;

/// For how long a look at what the others know is good; notices come in between.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Hosts whose last look is remembered.
const MAX_LOOKS: usize = 4096;

/// What the others know about a host: milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// End of its pause.
    pub(crate) paused_until: Option<i64>,
    /// Until when its breaker stays open.
    pub(crate) failing_until: Option<i64>,
}

/// What is kept about a host. Each has a key of its own, so that the end of one says nothing about the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// It asked for a pause.
    Paused,
    /// Its breaker is open.
    Failing,
}

impl Fact {
    fn key(self, host: &str) -> String {
        match self {
            Fact::Paused => format!("paused/{host}"),
            Fact::Failing => format!("failing/{host}"),
        }
    }
}

/// Who is to probe a host.
pub(crate) enum Probe {
    /// This replica; the lease says so to the others.
    Ours(Lease),
    /// Another does at the moment.
    Theirs,
    /// Nobody could be asked: whoever wants to.
    Anyone,
}

/// The way to the other replicas.
#[derive(Clone)]
pub(crate) struct Shared {
    coordinator: Arc<dyn Coordinator>,
    clock: Arc<dyn Clock>,
    /// This replica, so that it does not listen to itself.
    name: Arc<str>,
    looks: Arc<Cache<String, Timestamp>>,
}

impl Shared {
    /// Speaks as the replica `name`.
    pub(crate) fn new(coordinator: Arc<dyn Coordinator>, clock: Arc<dyn Clock>, name: &str) -> Self {
        Shared { coordinator, clock, name: name.into(), looks: Arc::new(Cache::new(MAX_LOOKS)) }
    }

    /// Whether a notice `by` somebody is this replica's own.
    pub(crate) fn is_me(&self, by: &str) -> bool {
        &*self.name == by
    }

    /// What the others know about `host`; nothing when they were asked a moment ago, or do not answer.
    pub(crate) async fn look(&self, host: &str) -> Option<Known> {
        let now = self.clock.now();
        if self.looks.get(host).is_some_and(|at| now >= at && now.since(at) < LOOK_EVERY) {
            return None;
        }
        self.looks.insert(host.to_owned(), now);
        let paused_until = self.until(Fact::Paused, host).await;
        Some(Known { paused_until, failing_until: self.until(Fact::Failing, host).await })
    }

    async fn until(&self, fact: Fact, host: &str) -> Option<i64> {
        let value = self.coordinator.get(&fact.key(host)).await.ok()??;
        serde_json::from_slice(&value).ok()
    }

    /// Tells the others that `fact` holds of `host` until `until`, in the background; the handle is there to wait
    /// until it is said. Nobody is told outside of a runtime.
    pub(crate) fn tell(
        &self,
        host: &str,
        fact: Fact,
        until: Timestamp,
        notice: Notice,
    ) -> Option<JoinHandle<()>> {
        let (shared, host) = (self.clone(), host.to_owned());
        let life = until.since(self.clock.now());
        let tell = async move {
            let value = until.0.to_string();
            let kept = shared.coordinator.put(&fact.key(&host), value.into(), life).await;
            let said = shared.coordinator.publish(notice.encode().into()).await;
            if let Err(error) = kept.and(said) {
                tracing::debug!(upstream.host = host, %error, "the other replicas could not be told");
            }
        };
        Handle::try_current().ok().map(|runtime| runtime.spawn(tell))
    }

    /// A breaker opened, and this replica tells.
    pub(crate) fn failing(&self, host: &str) -> Notice {
        Notice::Failing { host: host.to_owned(), by: self.name.to_string() }
    }

    /// The host answers again: those who have not heard of it yet need not hear that it failed.
    pub(crate) fn recovered(&self, host: &str) {
        let (coordinator, key) = (self.coordinator.clone(), Fact::Failing.key(host));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { coordinator.delete(&key).await });
        }
    }

    /// Asks to be the one that probes `host`.
    pub(crate) async fn probe(&self, host: &str) -> Probe {
        match self.coordinator.acquire(&format!("probe/{host}"), &self.name, OPEN_FOR).await {
            Ok(Ok(lease)) => Probe::Ours(lease),
            Ok(Err(_)) => Probe::Theirs,
            Err(_) => Probe::Anyone,
        }
    }

    /// The probe has reported.
    pub(crate) fn probed(&self, lease: Lease) {
        let coordinator = self.coordinator.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { coordinator.release(&lease).await });
        }
    }
}
