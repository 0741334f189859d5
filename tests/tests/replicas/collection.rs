//! Evict, unpin, gc and fsck on the stores of a cluster, while its replicas run.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Cluster, RemoteManifest, Services, Upstream,
    fixtures::noise,
    http::{self, PATIENCE},
    proxy::Told,
    replicas::Options,
    wait,
};

const SIZE: usize = 300_000;
const SOUND: &str = "0 damaged blobs, 0 rows without bytes, 0 blobs without rows, 0 announced without bytes, 0 \
                     being deleted";

fn says(told: &Told, text: &str) {
    assert!(told.code == Some(0) && told.text.trim() == text, "{told:?} instead of {text:?}");
}

async fn everywhere(cluster: &Cluster, what: &str, path: &str, seen: impl Fn(&http::Fetched) -> bool) {
    for replica in cluster.replicas() {
        let url = replica.remote("files") + path;
        let what = format!("{what} at replica {}", replica.number());
        wait::until(&what, PATIENCE, async || seen(&http::get(&url).await)).await;
    }
}

pub(crate) async fn by_hand(services: &mut Services) {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("files", PackageType::Generic, &upstream).document();
    let cluster = Options::new(manifest).replicas(2).start(services).await;
    let (first, second) = (noise(1, SIZE), noise(2, SIZE));
    upstream.put("a/one.bin", first.clone()).put("kept.bin", noise(3, SIZE));
    everywhere(&cluster, "the first body", "a/one.bin", |answer| answer.body == first).await;
    everywhere(&cluster, "what stays", "kept.bin", http::Fetched::is_ok).await;

    upstream.put("a/one.bin", second.clone());
    says(&cluster.command(&["evict", "files", "a/", "--prefix"]).await, "1 evicted at files/a/*");
    // Each replica had it in memory for an hour; the first digest is still remembered (RS-08).
    everywhere(&cluster, "nothing", "a/one.bin", |answer| !answer.is_ok()).await;
    says(&cluster.command(&["unpin", "files", "a/one.bin"]).await, "1 unpinned at files/a/one.bin");
    everywhere(&cluster, "the second body", "a/one.bin", |answer| answer.body == second).await;

    let early = cluster.command(&["gc"]).await;
    assert!(early.code == Some(0) && early.text.contains("0 blobs condemned"), "{early:?}");
    let dry = cluster.command(&["gc", "--dry-run", "--grace", "0s"]).await;
    assert!(dry.text.contains("condemn 1 blobs (300000 bytes)"), "{dry:?}");
    let done = cluster.command(&["gc", "--grace", "0s"]).await;
    assert!(done.text.contains("1 blobs condemned (300000 bytes), 1 deleted (300000 bytes)"), "{done:?}");
    let told = cluster.command(&["fsck"]).await;
    assert!(told.code == Some(0) && told.text.contains(SOUND), "{told:?}");
    everywhere(&cluster, "the second body", "a/one.bin", |answer| answer.body == second).await;
}
