//! RS-81: the replica that fetches for all is lost halfway. Those who follow it through other replicas notice
//! nothing; nobody gets a body that looks whole and is not.

use std::{sync::Arc, time::Duration};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Cluster, Gate, Oracle, RemoteManifest, Services, Upstream,
    fixtures::noise,
    oracle::{History, Outcome},
    replicas::Options,
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

const BYTES: usize = 16 << 20;
/// Clients of each replica.
const CLIENTS: usize = 20;
/// Longest wait for an answer: far more than a lease.
const PATIENCE: Duration = Duration::from_secs(90);

struct Halfway {
    upstream: Upstream,
    rest: Gate,
    oracle: Arc<Oracle>,
    cluster: Cluster,
    /// Clients of replica 0, which leads, and those of the others.
    led: JoinSet<()>,
    others: JoinSet<()>,
}

impl Halfway {
    /// Replica 0 has half of a body and waits for the rest; clients of all replicas have begun to read.
    async fn new(services: &Services) -> Self {
        let upstream = Upstream::start().await;
        let (rest, oracle) = (Gate::new(), Oracle::new(PATIENCE));
        let bytes = noise(3, BYTES);
        oracle.knows("big.bin", bytes.clone());
        upstream.put("big.bin", bytes);
        let half = Behaviour::StallAt(BYTES / 2, rest.clone());
        upstream.script("big.bin", Behaviour::InTurn(vec![half, Behaviour::Serve]));
        let manifest = RemoteManifest::new("files", PackageType::Generic, &upstream)
            .set("timeouts", json!({ "idle": "300s" }))
            .document();
        let cluster = Options::new(manifest).start(services).await;
        let (led, others) = (JoinSet::new(), JoinSet::new());
        let mut halfway = Halfway { upstream, rest, oracle, cluster, led, others };
        halfway.ask(0, 1);
        halfway.rest.reached_by(1).await;
        halfway.ask(0, CLIENTS - 1);
        halfway.ask(1, CLIENTS);
        halfway.ask(2, CLIENTS);
        halfway.oracle.begun_by(3 * CLIENTS, PATIENCE).await;
        assert_eq!(halfway.upstream.hits("big.bin"), 1, "one leads:\n{}", halfway.cluster.logs());
        halfway
    }

    fn ask(&mut self, replica: usize, clients: usize) {
        let url = self.cluster.replicas()[replica].remote("files") + "big.bin";
        let asking = if replica == 0 { &mut self.led } else { &mut self.others };
        for _ in 0..clients {
            // The client's number tells the replica.
            let (oracle, url) = (self.oracle.clone(), url.clone());
            asking.spawn(async move {
                oracle.get(replica, "big.bin", &url).await;
            });
        }
    }

    /// Waits for the clients of the other replicas; how long it took them.
    async fn others_end(&mut self) -> Duration {
        let start = Instant::now();
        let ended = timeout(PATIENCE, async { while self.others.join_next().await.is_some() {} }).await;
        assert!(ended.is_ok(), "clients of other replicas still wait:\n{}", self.cluster.logs());
        start.elapsed()
    }

    fn of(&self, leads: bool) -> History {
        self.oracle.history().only(|record| (record.client == 0) == leads)
    }

    /// Every replica serves the truth, and nothing more is fetched.
    async fn judge(&self, case: &str, took: Duration) {
        let history = self.oracle.history();
        let fetches = self.upstream.hits_by("GET", "big.bin");
        let ranges =
            self.upstream.requests().iter().filter(|request| request.header("range").is_some()).count();
        let (led, others) = (self.of(true), self.of(false));
        println!(
            "\nfigure: leader {case} at half of {} MiB: upstream GETs {fetches}, {ranges} of them by Range; its own \
             clients: {led}; clients of the others: {others}, done {:.1} s after the loss",
            BYTES >> 20,
            took.as_secs_f64(),
        );
        history.assert_no_wrong_bytes();
        assert_eq!(history.spoiled().len(), 0, "no byte that is not the object's");
        others.assert_all_complete("clients of the other replicas");
        assert!(fetches <= 2, "{fetches} fetches");
        self.oracle.take_history();
        for replica in self.cluster.replicas() {
            self.oracle.get(replica.number(), "big.bin", &(replica.remote("files") + "big.bin")).await;
        }
        let afterwards = self.oracle.history();
        afterwards.assert_no_wrong_bytes();
        afterwards.assert_all_complete("afterwards");
        assert_eq!(self.upstream.hits_by("GET", "big.bin"), fetches, "it is stored");
    }
}

pub(crate) async fn killed(services: &mut Services) {
    let mut halfway = Halfway::new(services).await;
    halfway.cluster.replica(0).kill().await;
    let took = halfway.others_end().await;
    while halfway.led.join_next().await.is_some() {}
    assert_eq!(halfway.of(true).count(Outcome::Complete), 0, "half a body is not a whole one");
    halfway.rest.open();
    halfway.cluster.replica(0).start_again().await;
    halfway.judge("killed", took).await;
}

/// A leader that stands still is worse than a dead one: its connections stay open. When it wakes up, its commit is
/// fenced off or the same.
pub(crate) async fn paused(services: &mut Services) {
    let mut halfway = Halfway::new(services).await;
    halfway.cluster.replica(0).pause();
    let took = halfway.others_end().await;
    halfway.rest.open();
    halfway.cluster.replica(0).resume();
    let ended = timeout(PATIENCE, async { while halfway.led.join_next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "its own clients still wait:\n{}", halfway.cluster.logs());
    halfway.judge("paused", took).await;
}
