//! What is stored and a later generation than what is seen.

use artifactapi_crds::manifests::ObjectRef;
use serde_json::{Value, json};

use super::bench::{Bench, remote};
use crate::sink::Sink as _;

async fn generation(bench: &Bench) -> Option<i64> {
    bench.sink.load().await.unwrap().rows[0].generation
}

/// A Remote of which the second generation is stored, with its first.
async fn changed(bench: &mut Bench) -> (ObjectRef, Value) {
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    let first = bench.cluster().objects[&npm].clone();
    bench.apply(&remote("team", "npm", json!({ "suspend": true })));
    bench.settle().await;
    assert_eq!(generation(bench).await, Some(2));
    (npm, first)
}

#[tokio::test(start_paused = true)]
async fn what_a_restored_cluster_has_is_stored_before_it_is_called_ready() {
    let mut bench = Bench::new();
    let (npm, first) = changed(&mut bench).await;
    bench.cluster().objects.insert(npm.clone(), first);
    bench.restart().await;
    assert_eq!(generation(&bench).await, Some(1));
    assert!(bench.ready(&npm).starts_with("True"));
    assert_eq!(bench.cluster().objects[&npm]["status"]["observedGeneration"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_undoes_nothing() {
    let mut bench = Bench::new();
    let (npm, first) = changed(&mut bench).await;
    let second = bench.cluster().objects[&npm].clone();
    let version = bench.sink.load().await.unwrap().version;
    bench.show(&first);
    bench.settle().await;
    // Nor while nobody can say whether it does.
    bench.cluster().failing = Some((500, "GET /apis/artifactapi.io"));
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    bench.settle().await;
    assert_eq!((generation(&bench).await, bench.sink.load().await.unwrap().version), (Some(2), version));
    assert_eq!(bench.cluster().objects[&npm], second, "nothing is said of it");
    bench.cluster().failing = None;
    bench.show(&second);
    bench.settle().await;
    assert_eq!(bench.sink.load().await.unwrap().version, version);
}
