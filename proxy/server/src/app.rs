//! Everything a request needs, put together once.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use arc_swap::ArcSwap;
use artifactapi_engine::{Engine, Ports};
use artifactapi_model::Clock;
use artifactapi_registry::Registry;

use crate::{
    access::Gate,
    config::Snapshot,
    http::{blocks::Budget, forwarded::Outside, health::Health, origins::Origins},
    signing::SigningKeys,
    telemetry::{AccessLog, Metrics},
};

/// The running proxy.
pub struct App {
    /// The cache engine.
    pub engine: Arc<Engine>,
    /// What one can push to.
    pub registry: Registry,
    /// The keys that merged indexes are signed with.
    pub signing: SigningKeys,
    /// The repositories of this moment.
    pub snapshot: ArcSwap<Snapshot>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access records.
    pub access: Arc<AccessLog>,
    /// Who may do what.
    pub gate: Gate,
    /// How clients reach us.
    pub outside: Outside,
    /// Host names seen, where no public URL is configured.
    pub origins: Origins,
    /// Memory that bodies share.
    pub budget: Arc<Budget>,
    /// Readiness.
    pub health: Health,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Version of the configuration in [`App::snapshot`], or of an earlier one.
    version: AtomicI64,
}

impl App {
    /// A proxy without repositories over `ports`.
    pub fn new(
        ports: &Ports,
        engine: Arc<Engine>,
        registry: Registry,
        signing: SigningKeys,
        gate: Gate,
        metrics: Arc<Metrics>,
        outside: Outside,
    ) -> Arc<Self> {
        Arc::new(Self::of(ports, engine, registry, signing, gate, metrics, outside))
    }

    /// The same as one of many: once ready, it stays so for as long as it can serve what it has, whatever becomes of
    /// the stores.
    pub fn replica(
        ports: &Ports,
        engine: Arc<Engine>,
        registry: Registry,
        signing: SigningKeys,
        gate: Gate,
        metrics: Arc<Metrics>,
        outside: Outside,
    ) -> Arc<Self> {
        let app = Self::of(ports, engine, registry, signing, gate, metrics, outside);
        Arc::new(App { health: app.health.without_stores(), ..app })
    }

    fn of(
        ports: &Ports,
        engine: Arc<Engine>,
        registry: Registry,
        signing: SigningKeys,
        gate: Gate,
        metrics: Arc<Metrics>,
        outside: Outside,
    ) -> Self {
        engine.set_keys(Arc::new(signing.clone()));
        App {
            engine,
            registry,
            signing,
            gate,
            snapshot: ArcSwap::default(),
            access: AccessLog::new(metrics.clone()),
            metrics,
            outside,
            origins: Origins::default(),
            budget: Arc::default(),
            health: Health::new(ports.blobs.clone(), ports.metadata.clone()),
            clock: ports.clock.clone(),
            version: AtomicI64::new(0),
        }
    }

    /// The version of the configuration in service; a later one may be there by now. 0 where configurations have none.
    pub fn config_version(&self) -> i64 {
        self.version.load(SeqCst)
    }

    /// The snapshot that was taken up is that of `version`; whoever looks for probes looks again.
    pub fn set_config_version(&self, version: i64) {
        self.version.store(version, SeqCst);
        self.metrics.upstreams.wake.notify_one();
    }
}
