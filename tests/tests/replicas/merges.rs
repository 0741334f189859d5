//! Merged indexes with replicas: one of them makes what all need, and nobody goes without when that one is lost.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Cluster, RemoteManifest, Services, Upstream,
    http::{self, Fetched},
    manifest,
    replicas::Options,
};
use reqwest::Method;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

/// Charts of each member: what takes a while to merge.
const CHARTS: usize = 4_000;
const CLIENTS: usize = 30;
/// A lease's life, and what a slow machine needs besides.
const PATIENCE: Duration = Duration::from_secs(40);
/// What a replica says when it has made one.
const MADE: &str = "a merged index was made";

struct Stand {
    _upstreams: [Upstream; 2],
    cluster: Cluster,
}

impl Stand {
    async fn start(services: &Services) -> Self {
        let upstreams = [Upstream::start().await, Upstream::start().await];
        let names = ["first", "second"];
        let mut documents = Vec::new();
        for (name, upstream) in names.iter().zip(&upstreams) {
            upstream.put("index.yaml", index(name));
            let remote = RemoteManifest::new(name, PackageType::Helm, upstream);
            // Nothing grows old while the test runs.
            documents.push(remote.set("mutableTTL", "1h").document());
        }
        documents.push(manifest::united("v", PackageType::Helm, &names, &json!({})));
        let cluster = Options::new(manifest::join(&documents)).start(services).await;
        Stand { _upstreams: upstreams, cluster }
    }

    fn url(&self, replica: usize) -> String {
        format!("{}/api/v1/virtual/v/index.yaml", self.cluster.replicas()[replica].url())
    }

    /// So many clients at once, by turns at these replicas; each gets the same whole index.
    async fn ask(&self, clients: usize, replicas: &[usize]) -> Duration {
        let began = Instant::now();
        let mut asking = JoinSet::new();
        for client in 0..clients {
            let url = self.url(replicas[client % replicas.len()]);
            asking.spawn(async move { http::get(&url).await });
        }
        let answers = asking.join_all().await;
        let first = answers[0].clone();
        for answer in &answers {
            assert!(answer.is_ok(), "{} {}\n{}", answer.status, answer.text(), self.cluster.logs());
            assert!(answer.body == first.body, "replicas serve different indexes");
        }
        assert_eq!(charts(&first), 2 * CHARTS);
        began.elapsed()
    }

    /// Ends all replicas, since logs are whole then, and counts the merges that each has told of.
    async fn merges(&mut self) -> Vec<usize> {
        let mut counts = Vec::new();
        for number in 0..self.cluster.replicas().len() {
            let replica = self.cluster.replica(number);
            if !replica.has_ended() {
                replica.terminate();
                replica.ended().await;
            }
            counts.push(replica.logs().matches(MADE).count());
        }
        counts
    }
}

/// An index of many charts, whose names begin with `member`.
fn index(member: &str) -> String {
    let mut text = String::from("apiVersion: v1\nentries:\n");
    for number in 0..CHARTS {
        let name = format!("{member}-{number}");
        text += &format!(
            "  {name}:\n  - apiVersion: v2\n    name: {name}\n    version: 1.0.0\n    description: {}\n    urls:\n    - charts/{name}-1.0.0.tgz\n",
            "A chart that is described at some length. ".repeat(4)
        );
    }
    text + "generated: \"2024-01-01T00:00:00Z\"\n"
}

fn charts(index: &Fetched) -> usize {
    index.json()["entries"].as_object().map_or(0, serde_json::Map::len)
}

pub(crate) async fn once(services: &mut Services) {
    let mut stand = Stand::start(services).await;
    let took = stand.ask(CLIENTS, &[0, 1, 2]).await;
    let merges = stand.merges().await;
    println!(
        "\nfigure: {CLIENTS} clients of a cold merged index of {} charts over 3 replicas: merges {merges:?}, all in {:.1} s",
        2 * CHARTS,
        took.as_secs_f64()
    );
    assert_eq!(merges.iter().sum::<usize>(), 1, "one merge for all replicas:\n{}", stand.cluster.logs());
}

pub(crate) async fn killed(services: &mut Services) {
    let mut stand = Stand::start(services).await;
    // The first two passings are the members' own indexes, which are rewritten before they are merged.
    let replica = stand.cluster.replica(0);
    replica.terminate();
    assert_eq!(replica.ended().await, Some(0));
    replica.set_env("ARTIFACTAPI_FAILPOINT", Some("derive.blob.after@3"));
    replica.start_again().await;
    let _cut = http::try_request(Method::GET, &stand.url(0), &[]).await;
    let ended = stand.cluster.replica(0).ended().await;
    assert_eq!(ended, None, "it dies with the lease:\n{}", stand.cluster.logs());
    let took = stand.ask(CLIENTS, &[1, 2]).await;
    stand.cluster.replica(0).set_env("ARTIFACTAPI_FAILPOINT", None);
    stand.cluster.replica(0).start_again().await;
    stand.ask(3, &[0, 1, 2]).await;
    let merges = stand.merges().await;
    println!(
        "\nfigure: after the death of the replica that merged: merges {merges:?}, {CLIENTS} clients of the others served in {:.1} s",
        took.as_secs_f64()
    );
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(merges.iter().sum::<usize>(), 1, "one takes over, for all:\n{}", stand.cluster.logs());
}

pub(crate) async fn without_redis(services: &mut Services) {
    let mut stand = Stand::start(services).await;
    services.redis.0.stop();
    let took = stand.ask(CLIENTS, &[0, 1, 2]).await;
    let merges = stand.merges().await;
    println!("\nfigure: without Redis: merges {merges:?}, all in {:.1} s", took.as_secs_f64());
    assert!(merges.iter().all(|count| *count <= 1) && merges.iter().sum::<usize>() >= 1, "{merges:?}");
    services.redis.0.start_again();
}
