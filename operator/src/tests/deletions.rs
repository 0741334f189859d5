//! The end of objects, with and without the end of their bytes.

use std::time::Duration;

use serde_json::json;

use super::bench::{Bench, local, remote};
use crate::{seen::FINALIZER, sink::SinkError};

#[tokio::test(start_paused = true)]
async fn only_purge_needs_a_finalizer_and_it_goes_with_the_bytes() {
    let mut bench = Bench::new();
    let kept = bench.apply(&local("team", "kept", "Retain"));
    let purged = bench.apply(&local("team", "purged", "Purge"));
    let cache = bench.apply(&remote("team", "cache", json!({ "deletionPolicy": "Purge" })));
    bench.settle().await;
    assert!(bench.cluster().objects[&kept]["metadata"].get("finalizers").is_none());
    for object in [&purged, &cache] {
        assert_eq!(bench.cluster().objects[object]["metadata"]["finalizers"], json!([FINALIZER]));
    }
    for object in [&kept, &purged, &cache] {
        bench.delete(object);
    }
    bench.settle().await;
    assert!(bench.stored().await.is_empty(), "served no more");
    assert!(bench.sink.purged().is_empty(), "proxies get a moment first");
    assert!(bench.cluster().objects.contains_key(&purged));
    bench.wait_for_purges().await;
    assert_eq!(bench.sink.purged().into_iter().collect::<Vec<_>>(), ["cache", "purged"]);
    assert!(bench.cluster().objects.is_empty(), "{:?}", bench.cluster().objects.keys());
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_their_mind_keeps_the_bytes() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    bench.apply(&local("team", "images", "Retain"));
    bench.settle().await;
    assert_eq!(bench.cluster().objects[&images]["metadata"]["finalizers"], json!([]));
    bench.delete(&images);
    bench.settle().await;
    bench.wait_for_purges().await;
    assert!(bench.sink.purged().is_empty());
    assert!(bench.cluster().objects.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_their_mind_and_deletes_at_once_keeps_the_bytes() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    // Both before anybody looks.
    bench.apply(&local("team", "images", "Retain"));
    bench.delete(&images);
    bench.settle().await;
    bench.wait_for_purges().await;
    assert!(bench.sink.purged().is_empty(), "{:?}", bench.sink.purged());
    assert!(bench.stored().await.is_empty());
    assert!(bench.cluster().objects.is_empty(), "and its namespace waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_their_mind_before_a_purge_has_begun_keeps_the_bytes() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    bench.delete(&images);
    bench.settle().await;
    let mut kept = bench.cluster().objects[&images].clone();
    kept["spec"]["deletionPolicy"] = json!("Retain");
    bench.cluster().objects.insert(images.clone(), kept.clone());
    bench.show(&kept);
    bench.settle().await;
    bench.wait_for_purges().await;
    assert!(bench.sink.purged().is_empty(), "{:?}", bench.sink.purged());
    assert!(bench.cluster().objects.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_that_came_with_the_manifest_goes_as_well_and_those_of_others_stay() {
    const OTHER: &str = "other.test/hold";
    let with = |name: &str, policy: &str, finalizers: &[&str]| {
        let mut manifest = local("team", name, policy);
        manifest["metadata"]["finalizers"] = json!(finalizers);
        manifest
    };
    let mut bench = Bench::new();
    let purged = bench.apply(&with("purged", "Purge", &[FINALIZER]));
    let shared = bench.apply(&with("shared", "Purge", &[OTHER, FINALIZER]));
    let kept = bench.apply(&with("kept", "Retain", &[FINALIZER, OTHER]));
    bench.settle().await;
    assert_eq!(bench.cluster().objects[&kept]["metadata"]["finalizers"], json!([OTHER]));
    bench.delete(&purged);
    bench.delete(&shared);
    bench.settle().await;
    // Somebody changes the list, and the watch is late.
    let changed = json!([OTHER, FINALIZER, "another.test/hold"]);
    bench.cluster().objects.get_mut(&shared).unwrap()["metadata"]["finalizers"] = changed.clone();
    bench.wait_for_purges().await;
    assert!(!bench.cluster().objects.contains_key(&purged), "nothing holds it any more");
    let held = bench.cluster().objects[&shared].clone();
    assert_eq!(held["metadata"]["finalizers"], changed, "nothing is taken from a list nobody has seen");
    bench.show(&held);
    bench.settle().await;
    bench.wait_for_purges().await;
    let left = bench.cluster().objects[&shared]["metadata"]["finalizers"].clone();
    assert_eq!(left, json!([OTHER, "another.test/hold"]));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_with_a_purge() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    bench.delete(&images);
    bench.settle().await;
    bench.restart().await;
    bench.wait_for_purges().await;
    assert_eq!(bench.sink.purged().len(), 1);
    assert!(bench.cluster().objects.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_database_does_not_hold_a_namespace_for_ever() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    bench.delete(&images);
    bench.settle().await;
    bench.sink.fail(Some(SinkError::Unavailable("the database is unavailable".into())));
    bench.wait_for_purges().await;
    assert!(bench.cluster().objects.is_empty(), "it is let go after a while");
    let events = bench.cluster().events.clone();
    let told = events.iter().find(|(reason, _)| reason == "PurgeIncomplete").unwrap();
    assert!(told.1.contains("artifactapi purge images"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_go_holds_no_namespace_either() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Purge"));
    bench.settle().await;
    bench.sink.fail(Some(SinkError::Unavailable("the database is unavailable".into())));
    bench.delete_since(&images, Duration::from_secs(3_600));
    bench.operator.work().await;
    bench.operator.deliver().await;
    assert!(bench.cluster().objects.is_empty());
    bench.sink.fail(None);
    bench.gone(&images);
    tokio::time::advance(Duration::from_secs(60)).await;
    bench.settle().await;
    assert!(bench.stored().await.is_empty(), "it goes when the database is back");
}

#[tokio::test]
async fn deleted_and_made_again_it_is_the_same_repository() {
    let mut bench = Bench::new();
    let images = bench.apply(&local("team", "images", "Retain"));
    bench.settle().await;
    let before = bench.repositories().await;
    bench.delete(&images);
    bench.settle().await;
    assert!(bench.repositories().await.is_empty());
    bench.apply(&local("team", "images", "Retain"));
    bench.settle().await;
    assert_eq!(bench.repositories().await, before, "adopted by namespace, name and type");
    assert!(bench.ready(&images).starts_with("True"));
}

#[tokio::test]
async fn news_are_told_once() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    assert!(bench.cluster().events.is_empty(), "that it works is no news");
    for _ in 0..3 {
        bench.apply(&remote("team", "npm", json!({ "baseURL": "ftp://x" })));
        bench.settle().await;
    }
    bench.apply(&remote("team", "npm", json!({ "suspend": true })));
    bench.settle().await;
    let events = bench.cluster().events.clone();
    let reasons: Vec<&str> = events.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["Invalid", "Stored"], "{events:?}");
    assert!(events[0].1.contains("spec.baseURL"));
    assert!(bench.ready(&npm).starts_with("True"));
}
