//! Metrics for Prometheus. Labels are kinds, results and reasons, never names: their number is fixed.

use std::time::Duration;

use artifactapi_crds::schema::Kind;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::conditions::Reason;

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of a pass, in seconds.
const BOUNDS: [f64; 9] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<KindLabels, Counter>,
    failures: Family<ReasonLabels, Counter>,
    passes: Histogram,
    writes: Family<WriteLabels, Counter>,
    /// Objects that wait to be reconciled.
    pub waiting: Gauge,
    /// Statuses that wait to be written.
    pub statuses: Gauge,
    /// Whether this operator leads.
    pub leader: Gauge,
    /// Failures of the sink.
    pub sink_failures: Counter,
    /// Watches without which the operator goes on since they cannot be listed.
    pub lists_missing: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    to: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let metrics = Metrics {
            registry: Registry::with_prefix("artifactapi_operator"),
            reconciles: Family::default(),
            failures: Family::default(),
            passes: Histogram::new(BOUNDS),
            writes: Family::default(),
            waiting: Gauge::default(),
            statuses: Gauge::default(),
            leader: Gauge::default(),
            sink_failures: Counter::default(),
            lists_missing: Gauge::default(),
        };
        // What has never happened shows as 0, so that alerts need no case for it.
        for kind in Kind::ALL {
            let _ = metrics.reconciles.get_or_create(&KindLabels { kind: kind.as_str() });
        }
        for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Stored) {
            let _ = metrics.failures.get_or_create(&ReasonLabels { reason: reason.as_str() });
        }
        metrics.wrote_status(0);
        metrics.wrote_change(0);
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("reconciles", "Objects reconciled, by kind", self.reconciles.clone());
        registry.register("failures", "Objects that were not accepted, by reason", self.failures.clone());
        registry.register_with_unit(
            "pass_duration",
            "Time to reconcile all objects that waited at one moment",
            Unit::Seconds,
            self.passes.clone(),
        );
        registry.register("writes", "Writes, by where to", self.writes.clone());
        registry.register("queue_depth", "Objects that wait to be reconciled", self.waiting.clone());
        registry.register("statuses_waiting", "Statuses that wait to be written", self.statuses.clone());
        registry.register("leader", "Whether this operator leads", self.leader.clone());
        registry.register(
            "sink_failures",
            "Times that accepted objects could not be handed on",
            self.sink_failures.clone(),
        );
        registry.register(
            "lists_missing",
            "Watches that cannot be listed, and without which the operator goes on",
            self.lists_missing.clone(),
        );
        self
    }

    /// Counts a reconciled object.
    pub fn reconciled(&self, kind: &'static str) {
        self.reconciles.get_or_create(&KindLabels { kind }).inc();
    }

    /// Counts an object that was not accepted.
    pub fn refused(&self, reason: Reason) {
        self.failures.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Notes how long a pass took.
    pub fn passed(&self, duration: Duration) {
        self.passes.observe(duration.as_secs_f64());
    }

    /// Counts statuses written.
    pub fn wrote_status(&self, count: u64) {
        self.writes.get_or_create(&WriteLabels { to: "status" }).inc_by(count);
    }

    /// Counts changes of the configuration.
    pub fn wrote_change(&self, count: u64) {
        self.writes.get_or_create(&WriteLabels { to: "sink" }).inc_by(count);
    }

    /// All of them as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.refused(Reason::SecretNotFound);
        let page = metrics.encode();
        for line in [
            "artifactapi_operator_reconciles_total{kind=\"Remote\"} 0",
            "artifactapi_operator_failures_total{reason=\"SecretNotFound\"} 1",
            "artifactapi_operator_failures_total{reason=\"NameConflict\"} 0",
            "artifactapi_operator_writes_total{to=\"sink\"} 0",
            "artifactapi_operator_queue_depth 0",
            "artifactapi_operator_leader 0",
            "artifactapi_operator_pass_duration_seconds_count 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
