//! What goes and what stays: retention and collection of a standalone proxy, evict, refresh and unpin while it
//! runs, and a collection that dies at each of its points.

use std::time::Duration;

use artifactapi_model::{Digest, PackageType, failpoint::NAMES};
use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream, fixtures::noise, http, manifest, metrics, proxy::Options, proxy::Told,
    wait,
};
use bytes::Bytes;

/// Longest wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_secs(60);

fn is_kept(proxy: &Proxy, bytes: &Bytes) -> bool {
    let hex = Digest::of(bytes).to_hex();
    proxy.data().join("blobs/sha256").join(&hex[..2]).join(hex).exists()
}

/// Puts `count` bodies of `size` bytes at `upstream` and fetches them, one after the other.
async fn filled(upstream: &Upstream, proxy: &Proxy, seed: u64, count: u64, size: usize) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    for number in 0..count {
        let bytes = noise(seed + number, size);
        let path = format!("{seed}/{number}.bin");
        upstream.put(&path, bytes.clone());
        let answer = http::get(&format!("{}{path}", proxy.remote("g"))).await;
        assert!(answer.is_ok() && answer.body == bytes);
        bodies.push(bytes);
    }
    bodies
}

fn says(told: &Told, code: i32, text: &str) {
    assert!(told.code == Some(code) && told.text.trim() == text, "{told:?} instead of {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_frees_the_disk_of_a_running_proxy_and_serves_what_is_left() {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream)
        .set("retention", serde_json::json!({ "maxBytes": 1_000_000 }))
        .document();
    let proxy = Options::new(manifest)
        .env("ARTIFACTAPI_GC_INTERVAL", "300ms")
        .env("ARTIFACTAPI_GC_GRACE", "500ms")
        .start()
        .await;
    let bodies = filled(&upstream, &proxy, 1, 6, 300_000).await;
    let kept = || bodies.iter().filter(|bytes| is_kept(&proxy, bytes)).count();
    wait::until("the surplus goes", PATIENCE, async || kept() <= 3).await;
    let left = kept();
    assert_eq!(left, 3, "and no more than the surplus");
    for (number, bytes) in bodies.iter().enumerate() {
        let answer = http::get(&format!("{}1/{number}.bin", proxy.remote("g"))).await;
        assert!(answer.is_ok() && answer.body == *bytes, "{number}: {}", answer.status);
    }
    let samples = metrics::samples(&proxy).await;
    let count = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} in {samples:?}"));
    assert!(count("artifactapi_gc_deleted_blobs_total") >= 3.0, "{samples:?}");
    assert!(count("artifactapi_gc_freed_bytes_total") >= 900_000.0, "{samples:?}");
    assert!(count("artifactapi_gc_evicted_artifacts_total") >= 3.0, "{samples:?}");
    assert!(count("artifactapi_gc_runs_total{outcome=\"done\"}") >= 2.0, "{samples:?}");
    assert!(count("artifactapi_gc_last_run_timestamp_seconds") > 1e9, "{samples:?}");
    assert!(samples.contains_key("artifactapi_blob_bytes{state=\"live\"}"), "{samples:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evict_refresh_and_unpin_reach_a_running_proxy() {
    let upstream = Upstream::start().await;
    let manifests = manifest::join(&[
        RemoteManifest::new("g", PackageType::Generic, &upstream)
            .set("mutablePatterns", serde_json::json!(["^dir/"]))
            .document(),
        RemoteManifest::new("n", PackageType::Npm, &upstream).document(),
    ]);
    let proxy = Options::new(manifests).start().await;
    let url = |path: &str| proxy.remote("g") + path;
    let tool = async |arguments: &[&str]| proxy.tool(arguments, &[]).await;
    for path in ["dir/a", "dir/b", "f%20ile", "pinned"] {
        upstream.put(path, "one");
        assert_eq!(http::get(&url(path)).await.text(), "one");
    }
    let becomes = async |path: &str, text: &str| {
        let what = format!("{path} is {text}");
        wait::until(&what, PATIENCE, async || http::get(&url(path)).await.text() == text).await;
    };

    says(&tool(&["evict", "g", "f%20ile"]).await, 0, "1 evicted at g/f ile");
    says(&tool(&["evict", "g", "f ile"]).await, 0, "nothing is stored at g/f ile; nothing was changed");
    says(&tool(&["evict", "x", "f"]).await, 1, "artifactapi: no repository is called \"x\"");
    let odd = tool(&["evict", "g", "a/../b"]).await;
    assert!(odd.code == Some(1) && odd.text.contains("is no path of a generic repository"), "{odd:?}");

    upstream.put("dir/a", "two").put("dir/b", "two");
    assert_eq!(http::get(&url("dir/a")).await.text(), "one", "it is fresh");
    says(&tool(&["refresh", "g", "dir/", "--prefix"]).await, 0, "2 to be revalidated at g/dir/*");
    becomes("dir/a", "two").await;
    becomes("dir/b", "two").await;

    // An immutable one that changed upstream: evicting is not enough, the first digest is remembered (RS-08).
    upstream.put("pinned", "two");
    says(&tool(&["evict", "g", "pinned"]).await, 0, "1 evicted at g/pinned");
    let gone = async || !http::get(&url("pinned")).await.is_ok();
    wait::until("the pin holds", PATIENCE, gone).await;
    says(&tool(&["unpin", "g", "pinned"]).await, 0, "1 unpinned at g/pinned");
    becomes("pinned", "two").await;
    says(&tool(&["evict", "g", "", "--prefix"]).await, 0, "3 evicted at g/*");
    assert!(proxy.tool(&["gc"], &[]).await.text.contains("in use by another process"));
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_by_hand_says_what_it_does() {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream);
    let mut proxy = Options::new(manifest.document()).start().await;
    let bodies = filled(&upstream, &proxy, 1, 3, 1_000).await;
    proxy.stop().await;
    let tool = async |arguments: &[&str]| proxy.tool(arguments, &[]).await;
    says(&tool(&["evict", "g", "1/0.bin"]).await, 0, "1 evicted at g/1/0.bin");
    let dry = tool(&["gc", "--dry-run", "--grace", "0s"]).await;
    assert!(
        dry.text.starts_with("a run would evict 0 artifacts by size and condemn 1 blobs (1000 bytes)"),
        "{dry:?}"
    );
    assert!(is_kept(&proxy, &bodies[0]));
    let early = tool(&["gc"]).await;
    assert!(early.text.contains("0 blobs condemned (0 bytes), 0 deleted"), "a day has not passed: {early:?}");
    let done = tool(&["gc", "--grace", "0s"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.text.contains("1 blobs condemned (1000 bytes), 1 deleted (1000 bytes)"), "{done:?}");
    assert!(done.text.contains("now 2 blobs live (2000 bytes), 0 condemned"), "{done:?}");
    assert_eq!(bodies.iter().map(|bytes| is_kept(&proxy, bytes)).collect::<Vec<_>>(), [false, true, true]);
    let wrong = tool(&["gc", "--grace", "7d"]).await;
    assert!(wrong.code == Some(2) && wrong.text.contains("write 720h for 30 days"), "{wrong:?}");

    // With manifests, their retention counts, and what is not in them goes.
    let small = manifest.set("retention", serde_json::json!({ "maxBytes": 1_000 }));
    proxy.apply(&small.document());
    let manifests = proxy.manifests().to_string_lossy().into_owned();
    let done = tool(&["gc", "--grace", "0s", "--manifests", &manifests]).await;
    assert!(done.text.starts_with("1 artifacts evicted, 0 of retired repositories"), "{done:?}");
    assert!(done.text.contains("1 deleted (1000 bytes)"), "{done:?}");
    proxy.apply("kind: [");
    let refused = tool(&["gc", "--grace", "0s", "--manifests", &manifests]).await;
    assert!(refused.code == Some(1) && refused.text.contains("check-config"), "{refused:?}");
    proxy.apply("");
    let done = tool(&["gc", "--grace", "0s", "--manifests", &manifests]).await;
    assert!(done.text.starts_with("0 artifacts evicted, 1 of retired repositories"), "{done:?}");
    assert!(bodies.iter().all(|bytes| !is_kept(&proxy, bytes)));
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_by_hand_takes_no_virtual_for_one_that_is_gone() {
    let upstream = Upstream::start().await;
    upstream.put("index.yaml", "apiVersion: v1\nentries: {}\n");
    let remote = RemoteManifest::new("h", PackageType::Helm, &upstream).document();
    let of_both = manifest::join(&[
        remote.clone(),
        manifest::united("v", PackageType::Helm, &["h"], &serde_json::Value::Null),
    ]);
    let mut proxy = Options::new(of_both).start().await;
    let merged = http::get(&format!("{}/api/v1/virtual/v/index.yaml", proxy.url())).await;
    assert!(merged.is_ok(), "{merged:?}");
    proxy.stop().await;
    let manifests = proxy.manifests().to_string_lossy().into_owned();
    for (documents, want) in
        [(None, "0 of retired repositories"), (Some(remote), "1 of retired repositories")]
    {
        documents.iter().for_each(|documents| proxy.apply(documents));
        let done = proxy.tool(&["gc", "--grace", "0s", "--manifests", &manifests], &[]).await;
        assert!(done.code == Some(0) && done.text.contains(want), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_97_a_collection_that_dies_at_any_point_loses_nothing_and_is_finished_by_the_next() {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
    let mut proxy = Options::new(manifest).start().await;
    let kept = filled(&upstream, &proxy, 1, 2, 5_000).await;
    for (round, name) in NAMES.into_iter().filter(|name| name.starts_with("gc.")).enumerate() {
        for passing in 1..=2 {
            let case = format!("{name}@{passing}");
            let seed = 1_000 + 100 * round as u64 + 10 * passing;
            let garbage = filled(&upstream, &proxy, seed, 3, 5_000).await;
            proxy.stop().await;
            let stray = noise(seed + 9, 5_000);
            let hex = Digest::of(&stray).to_hex();
            let directory = proxy.data().join("blobs/sha256").join(&hex[..2]);
            std::fs::create_dir_all(&directory).expect("space");
            std::fs::write(directory.join(&hex), &stray).expect("space");
            let prefix = format!("{seed}/");
            let evicted = proxy.tool(&["evict", "g", &prefix, "--prefix"], &[]).await;
            says(&evicted, 0, &format!("3 evicted at g/{seed}/*"));
            let died = proxy.tool(&["gc", "--grace", "0s"], &[("ARTIFACTAPI_FAILPOINT", &case)]).await;
            let once = ["gc.retention.after", "gc.stray.after"].contains(&name);
            assert_eq!(died.code, (once && passing == 2).then_some(0), "{case}: {died:?}");
            let told = proxy.fsck(false).await;
            let sound = "0 damaged blobs, 0 rows without bytes";
            assert!(told.code == Some(0) && told.text.contains(sound), "{case}: {told:?}");
            // What is being deleted can be fetched again as soon as the proxy is up.
            proxy.respawn().await;
            let again = http::get(&format!("{}{seed}/0.bin", proxy.remote("g"))).await;
            assert!(again.is_ok() && again.body == garbage[0], "{case}: {}", again.status);
            for (number, bytes) in kept.iter().enumerate() {
                let before = upstream.hits(&format!("1/{number}.bin"));
                let answer = http::get(&format!("{}1/{number}.bin", proxy.remote("g"))).await;
                assert!(answer.is_ok() && answer.body == *bytes, "{case}: {}", answer.status);
                assert_eq!(upstream.hits(&format!("1/{number}.bin")), before, "{case}: it was never lost");
            }
            proxy.stop().await;
            says(
                &proxy.tool(&["evict", "g", &prefix, "--prefix"], &[]).await,
                0,
                &format!("1 evicted at g/{seed}/*"),
            );
            for _ in 0..2 {
                let done = proxy.tool(&["gc", "--grace", "0s"], &[]).await;
                assert_eq!(done.code, Some(0), "{case}: {done:?}");
            }
            let left = garbage.iter().chain([&stray]).filter(|bytes| is_kept(&proxy, bytes)).count();
            assert_eq!(left, 0, "{case}: all garbage goes in the end");
            let told = proxy.fsck(false).await;
            let clean = "2 artifacts, 0 derived documents: 0 damaged blobs, 0 rows without bytes, 0 blobs without \
                         rows, 0 announced without bytes, 0 being deleted";
            assert!(told.code == Some(0) && told.text.contains(clean), "{case}: {told:?}");
            proxy.respawn().await;
        }
    }
}
