//! RS-80, RS-84, I5: however many clients ask all replicas at once for what nobody has, the upstream is asked once,
//! and nobody waits for the end of the first one's download.

use std::{sync::Arc, time::Duration};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Cluster, Gate, Oracle, RemoteManifest, Services, Upstream,
    fixtures::noise,
    oracle::{History, Outcome, Percentiles},
    replicas::Options,
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// The upstream's latency.
const LATENCY: Duration = Duration::from_millis(1_500);
/// What the upstream sends before it waits for all clients to have begun.
const BEGINNING: usize = 1 << 20;
/// Longest wait for all clients to have a first byte.
const FIRST_BYTES: Duration = Duration::from_secs(90);
/// Longest time without progress of any of them: the first one waits for the others' first bytes too.
const PAUSE: Duration = Duration::from_secs(150);

/// A cold artifact, and the gates on its way.
struct Cold {
    upstream: Upstream,
    head: Gate,
    rest: Gate,
    oracle: Arc<Oracle>,
}

impl Cold {
    async fn of(length: usize) -> (Self, String) {
        let cold = Cold {
            upstream: Upstream::start().await,
            head: Gate::new(),
            rest: Gate::new(),
            oracle: Oracle::new_with_pauses(PAUSE),
        };
        let bytes = noise(length as u64, length);
        cold.oracle.knows("big.bin", bytes.clone());
        cold.upstream.put("big.bin", bytes);
        let slow = Behaviour::StallAt(BEGINNING, cold.rest.clone());
        cold.upstream.script("big.bin", Behaviour::HoldHead(cold.head.clone(), Box::new(slow)));
        let manifest = RemoteManifest::new("files", PackageType::Generic, &cold.upstream)
            .set("timeouts", json!({ "firstByte": "60s", "idle": "300s" }));
        (cold, manifest.document())
    }

    /// So many clients at once, through the balancer.
    fn ask(&self, cluster: &Cluster, clients: usize) -> JoinSet<()> {
        self.ask_at(&[cluster.remote("files")], clients)
    }

    /// So many clients at once, by turns at these places.
    fn ask_at(&self, places: &[String], clients: usize) -> JoinSet<()> {
        let mut asking = JoinSet::new();
        for place in places.iter().cycle().take(clients) {
            let (oracle, url) = (self.oracle.clone(), format!("{place}big.bin"));
            // Numbered in this order, so that its number tells a client's place.
            let client = oracle.client();
            asking.spawn(async move {
                oracle.get(client, "big.bin", &url).await;
            });
        }
        asking
    }
}

/// How clients come to the replicas.
#[derive(Clone, Copy)]
enum Way {
    /// All by the balancer, which takes turns.
    Balancer,
    /// A third of them to each replica: what the balancer copies would cost more than what the replicas do.
    Direct,
}

async fn stampede(services: &Services, clients: usize, length: usize, way: Way) {
    let (cold, manifest) = Cold::of(length).await;
    let cluster = Options::new(manifest).start(services).await;
    let start = Instant::now();
    let asking = match way {
        Way::Balancer => cold.ask(&cluster, clients),
        Way::Direct => {
            let places: Vec<_> = cluster.replicas().iter().map(|replica| replica.remote("files")).collect();
            cold.ask_at(&places, clients)
        }
    };
    cold.head.reached_by(1).await;
    sleep(LATENCY).await;
    cold.head.open();
    let head = Instant::now();
    cold.oracle.begun_by(clients, FIRST_BYTES).await;
    // Nobody has the end: the upstream has not sent it.
    let begun = Instant::now();
    cold.rest.open();
    asking.join_all().await;
    let took = start.elapsed();
    let history = cold.oracle.history();
    history.assert_no_wrong_bytes();
    history.assert_all_complete("a stampede");
    assert_eq!(history.empty_at(begun), 0, "every client has bytes before the fill ends");
    assert_eq!(history.records().len(), clients);
    let fetches = cold.upstream.hits_by("GET", "big.bin");
    let answered = match way {
        Way::Balancer => cluster.balancer().answered(),
        Way::Direct => answered_directly(&history, cluster.replicas().len()),
    };
    println!(
        "\nfigure: stampede of {clients} clients on {} MiB over {} replicas {answered:?}: upstream GETs {fetches}; \
         {history}; first byte after the upstream's head: {}; after the request: {}; whole: {}; all in {:.1} s",
        length >> 20,
        cluster.replicas().len(),
        lags_since(&history, head),
        history.lags(),
        history.latencies(),
        took.as_secs_f64(),
    );
    assert_eq!(fetches, 1, "one fetch for all replicas:\n{}", warnings(&cluster));
    assert!(
        answered.iter().all(|count| *count >= (clients / 4) as u64),
        "all replicas took part: {answered:?}"
    );
    // One object, one truth, nothing asked again.
    for replica in cluster.replicas() {
        let url = replica.remote("files") + "big.bin";
        cold.oracle.get(cold.oracle.client(), "big.bin", &url).await;
    }
    cold.oracle.history().assert_all_complete("afterwards");
    cold.oracle.history().assert_no_wrong_bytes();
    let asked: Vec<_> =
        cold.upstream.requests().into_iter().map(|request| (request.method, request.headers)).collect();
    assert_eq!(asked.len(), 1, "it is stored, and nobody asks again: {asked:?}\n{}", warnings(&cluster));
}

/// How many whole answers each of so many replicas gave to clients that came by turns.
fn answered_directly(history: &History, replicas: usize) -> Vec<u64> {
    let mut counts = vec![0; replicas];
    for record in history.records().iter().filter(|record| record.outcome == Outcome::Complete) {
        counts[record.client % replicas] += 1;
    }
    counts
}

/// What replicas complained about.
fn warnings(cluster: &Cluster) -> String {
    let logs = cluster.logs();
    let of_interest =
        |line: &&str| line.starts_with("---") || line.contains("WARN") || line.contains("ERROR");
    logs.lines().filter(of_interest).collect::<Vec<_>>().join("\n")
}

fn lags_since(history: &History, start: Instant) -> Percentiles {
    let first = history.records().iter().filter_map(|record| record.first_byte);
    Percentiles::of(first.map(|first| first.saturating_duration_since(start)))
}

pub(crate) async fn small(services: &mut Services) {
    stampede(services, 200, 8 << 20, Way::Balancer).await;
}

pub(crate) async fn large(services: &mut Services) {
    stampede(services, 1_000, 64 << 20, Way::Direct).await;
}

/// Redis saves work and protects nothing: without it every replica fetches once, and all bytes are right.
pub(crate) async fn without_redis(services: &mut Services) {
    const CLIENTS: usize = 60;
    let (cold, manifest) = Cold::of(2 << 20).await;
    let cluster = Options::new(manifest).start(services).await;
    services.redis.0.stop();
    let asking = cold.ask(&cluster, CLIENTS);
    cold.head.reached_by(1).await;
    cold.head.open();
    cold.oracle.begun_by(CLIENTS, FIRST_BYTES).await;
    cold.rest.open();
    asking.join_all().await;
    let history = cold.oracle.history();
    let (fetches, replicas) = (cold.upstream.hits_by("GET", "big.bin"), cluster.replicas().len());
    println!(
        "\nfigure: stampede of {CLIENTS} clients without Redis over {replicas} replicas: upstream GETs {fetches}; {history}"
    );
    history.assert_no_wrong_bytes();
    history.assert_all_complete("a stampede without Redis");
    assert!((1..=replicas).contains(&fetches), "I5: {fetches} fetches");
    services.redis.0.start_again();
}
