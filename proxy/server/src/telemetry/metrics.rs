//! Metrics for Prometheus. Labels are remote, type, outcome, status code and upstream host; never a path or a
//! user, so their number is bounded by the configuration (RS-69). The hit path holds its handles ready: no
//! label is looked up per request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use artifactapi_model::{PackageType, RepoName, ports::UpstreamError};
use artifactapi_upstream::{BreakerState, Observer};
use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    access::Outcome, collection::CollectionCounts, histogram::DurationHistogram, room::RoomCounts,
    stores::StoreCounts, upstreams::Gatherer,
};

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RepositoryLabels, DurationHistogram>,
    bytes: Family<BytesLabels, Counter>,
    upstream_requests: Family<UpstreamLabels, Counter>,
    upstream_durations: Family<RemoteLabels, DurationHistogram>,
    circuits: Family<HostLabels, Gauge>,
    /// Requests that name no repository.
    pub nameless: RepositoryMetrics,
    /// Client connections that are open.
    pub connections: Gauge<i64, AtomicI64>,
    /// Repositories being served.
    pub repositories: Gauge<i64, AtomicI64>,
    /// Problems in the manifests as last loaded.
    pub manifest_problems: Gauge<i64, AtomicI64>,
    /// Access records that did not reach the database.
    pub access_dropped: Counter<u64, AtomicU64>,
    /// Log lines that did not reach the output.
    pub lines_dropped: Counter<u64, AtomicU64>,
    /// Where the stores count what is asked of them.
    pub stores: StoreCounts,
    /// Where the collector counts what it does.
    pub collection: CollectionCounts,
    /// Where room on the disk is noted.
    pub room: RoomCounts,
    /// What is seen of upstreams.
    pub upstreams: Arc<Gatherer>,
}

/// The ready handles of one repository.
#[derive(Clone, Debug)]
pub struct RepositoryMetrics {
    outcomes: [Counter; Outcome::ALL.len()],
    duration: DurationHistogram,
    sent: Counter,
}

impl RepositoryMetrics {
    /// Counts an answered request: its outcome, the bytes of its body that were sent, and its duration.
    pub fn observe(&self, outcome: Outcome, bytes: u64, duration: Duration) {
        self.outcomes[outcome as usize].inc();
        self.sent.inc_by(bytes);
        self.duration.observe(duration);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryLabels {
    remote: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    remote: String,
    r#type: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    remote: String,
    r#type: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemoteLabels {
    remote: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    remote: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("artifactapi");
        let requests = Family::default();
        registry.register("requests", "Requests by cache outcome", requests.clone());
        let durations = Family::default();
        let help = "Time from a request's head to the last byte of its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        let bytes = Family::default();
        registry.register("bytes", "Body bytes", bytes.clone());
        let upstream_requests = Family::default();
        registry.register("upstream_requests", "Requests to upstreams by status", upstream_requests.clone());
        let upstream_durations = Family::default();
        let help = "Time from sending a request upstream to the head of its answer";
        registry.register_with_unit("upstream_duration", help, Unit::Seconds, upstream_durations.clone());
        let circuits = Family::default();
        let help = "Circuit breaker of an upstream host: 1 half open, 2 open; closed ones are not listed";
        registry.register("circuit_state", help, circuits.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open client connections", connections.clone());
        let repositories = Gauge::default();
        registry.register("repositories", "Repositories being served", repositories.clone());
        let manifest_problems = Gauge::default();
        let help = "Problems in the manifests as last loaded";
        registry.register("manifest_problems", help, manifest_problems.clone());
        let access_dropped = Counter::default();
        let help = "Access records that did not reach the database";
        registry.register("access_log_dropped", help, access_dropped.clone());
        let lines_dropped = Counter::default();
        registry.register(
            "log_lines_dropped",
            "Log lines that did not reach the output",
            lines_dropped.clone(),
        );
        registry.register("build", "This release", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let stores = StoreCounts::default();
        registry.register_collector(Box::new(stores.clone()));
        let collection = CollectionCounts::default();
        registry.register_collector(Box::new(collection.clone()));
        let room = RoomCounts::new(collection.0.clone());
        registry.register_collector(Box::new(room.clone()));
        let nameless = handles(&requests, &durations, &bytes, "", "");
        Metrics {
            registry,
            requests,
            durations,
            bytes,
            upstream_requests,
            upstream_durations,
            circuits,
            nameless,
            connections,
            repositories,
            manifest_problems,
            access_dropped,
            lines_dropped,
            stores,
            collection,
            room,
            upstreams: Arc::default(),
        }
    }

    /// The handles of a repository; the same numbers go on when it is asked for again.
    pub fn repository(&self, name: &RepoName, package_type: PackageType) -> RepositoryMetrics {
        handles(&self.requests, &self.durations, &self.bytes, name.as_str(), package_type.as_str())
    }

    /// Stops showing a repository that is no longer configured.
    pub fn forget(&self, name: &RepoName, package_type: PackageType) {
        let (remote, r#type) = (name.to_string(), package_type.as_str());
        for outcome in Outcome::ALL {
            self.requests.remove(&RequestLabels {
                remote: remote.clone(),
                r#type,
                outcome: outcome.as_str(),
            });
        }
        self.durations.remove(&RepositoryLabels { remote: remote.clone(), r#type });
        self.bytes.remove(&BytesLabels { remote: remote.clone(), r#type, direction: "sent" });
        self.upstream_durations.remove(&RemoteLabels { remote });
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

fn handles(
    requests: &Family<RequestLabels, Counter>,
    durations: &Family<RepositoryLabels, DurationHistogram>,
    bytes: &Family<BytesLabels, Counter>,
    remote: &str,
    r#type: &'static str,
) -> RepositoryMetrics {
    let remote = || remote.to_owned();
    let outcomes = Outcome::ALL.map(|outcome| {
        let labels = RequestLabels { remote: remote(), r#type, outcome: outcome.as_str() };
        requests.get_or_create_owned(&labels)
    });
    RepositoryMetrics {
        outcomes,
        duration: durations.get_or_create_owned(&RepositoryLabels { remote: remote(), r#type }),
        sent: bytes.get_or_create_owned(&BytesLabels { remote: remote(), r#type, direction: "sent" }),
    }
}

/// Counts what goes upstream.
pub struct UpstreamObserver(pub Arc<Metrics>);

impl Observer for UpstreamObserver {
    fn on_request(
        &self,
        remote: &RepoName,
        _host: &str,
        outcome: Result<StatusCode, &UpstreamError>,
        duration: Duration,
    ) {
        let code = match outcome {
            Ok(status) => status.as_str().to_owned(),
            Err(UpstreamError::Timeout { .. }) => "timeout".to_owned(),
            Err(_) => "error".to_owned(),
        };
        let remote = remote.to_string();
        self.0.upstream_durations.get_or_create(&RemoteLabels { remote: remote.clone() }).observe(duration);
        self.0.upstream_requests.get_or_create(&UpstreamLabels { remote, code }).inc();
    }

    fn on_breaker(&self, host: &str, state: BreakerState) {
        let labels = HostLabels { host: host.to_owned() };
        let value = match state {
            BreakerState::Closed => {
                self.0.circuits.remove(&labels);
                return;
            }
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        tracing::warn!(upstream.host = host, state = ?state, "circuit breaker changed");
        // Breakers live in a bounded map, and only those that are not closed are listed.
        self.0.circuits.get_or_create(&labels).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_69_shows_repositories_and_never_paths() {
        let metrics = Arc::new(Metrics::new());
        let name = RepoName::try_from("pypi").unwrap();
        let handles = metrics.repository(&name, PackageType::Pypi);
        handles.observe(Outcome::Hit, 10, Duration::from_millis(2));
        metrics.repository(&name, PackageType::Pypi).observe(Outcome::Hit, 5, Duration::from_millis(2));
        let observer = UpstreamObserver(metrics.clone());
        observer.on_request(&name, "up.test:443", Ok(StatusCode::OK), Duration::from_millis(30));
        observer.on_breaker("up.test:443", BreakerState::Open);
        let page = metrics.encode();
        for line in [
            r#"artifactapi_requests_total{remote="pypi",type="pypi",outcome="hit"} 2"#,
            r#"artifactapi_bytes_total{remote="pypi",type="pypi",direction="sent"} 15"#,
            r#"artifactapi_request_duration_seconds_count{remote="pypi",type="pypi"} 2"#,
            r#"artifactapi_request_duration_seconds_bucket{le="0.0025",remote="pypi",type="pypi"} 2"#,
            r#"artifactapi_upstream_requests_total{remote="pypi",code="200"} 1"#,
            r#"artifactapi_circuit_state{host="up.test:443"} 2"#,
            "artifactapi_build_info{version=",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        observer.on_breaker("up.test:443", BreakerState::Closed);
        metrics.forget(&name, PackageType::Pypi);
        let page = metrics.encode();
        assert!(!page.contains(r#"type="pypi""#) && !page.contains("up.test"), "{page}");
    }
}
