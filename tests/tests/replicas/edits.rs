//! An edit of a Remote is seen by every replica soon, each time.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    RemoteManifest, Services, Upstream,
    http::{self, PATIENCE},
    oracle::Percentiles,
    replicas::Options,
};
use tokio::time::{Instant, sleep};

const EDITS: usize = 100;
/// The bound of the issue, for 99 of 100 edits.
const SOON: Duration = Duration::from_secs(2);
/// Pause between two looks at one replica.
const PERIOD: Duration = Duration::from_millis(5);

pub(crate) async fn hundred(services: &mut Services) {
    let upstream = Upstream::start().await;
    upstream.put("probe.bin", vec![1; 1_000]);
    let manifest = |blocked: bool| {
        let blocklist: &[&str] = if blocked { &["^probe[.]bin$"] } else { &[] };
        RemoteManifest::new("files", PackageType::Generic, &upstream).set("blocklist", blocklist).document()
    };
    let cluster = Options::new(manifest(false)).start(services).await;
    for replica in cluster.replicas() {
        let answer = http::get(&(replica.remote("files") + "probe.bin")).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
    let (mut since_command, mut since_commit) = (Vec::new(), Vec::new());
    for edit in 0..EDITS {
        let blocked = edit % 2 == 0;
        let start = Instant::now();
        let told = cluster.apply(&manifest(blocked)).await;
        assert_eq!(told.code, Some(0), "edit {edit}: {}", told.text);
        let applied = Instant::now();
        let want = if blocked { 403 } else { 200 };
        for replica in cluster.replicas() {
            let url = replica.remote("files") + "probe.bin";
            while http::get(&url).await.status != want {
                assert!(
                    applied.elapsed() < PATIENCE,
                    "edit {edit} is not seen by replica {}",
                    replica.number()
                );
                sleep(PERIOD).await;
            }
        }
        since_command.push(start.elapsed());
        since_commit.push(applied.elapsed());
    }
    let (since_command, since_commit) = (Percentiles::of(since_command), Percentiles::of(since_commit));
    println!(
        "\nfigure: {EDITS} edits seen by {} replicas: {since_command} after the command began, {since_commit} after it ended",
        cluster.replicas().len(),
    );
    assert!(since_command.p99 <= SOON, "{since_command}");
}
