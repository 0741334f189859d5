//! RS-119: told to stop, the proxy takes nothing new and ends what it has begun.

use std::time::{Duration, Instant};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Gate, Proxy, RemoteManifest, Upstream,
    http::{self, PATIENCE},
    proxy::Options,
    wait,
};
use reqwest::Method;

use artifactapi_tests::fixtures::noise;

/// Whether a load balancer would send somebody here.
async fn invites(proxy: &Proxy) -> bool {
    let url = format!("{}/readyz", proxy.url());
    http::try_request(Method::GET, &url, &[]).await.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_119_a_transfer_under_way_ends_whole_and_nothing_new_begins() {
    let upstream = Upstream::start().await;
    let body = noise(1, 3 << 20);
    let (gate, held) = (Gate::new(), Gate::new());
    for (path, half, gate) in [("long.bin", 1 << 20, &gate), ("headless.bin", 0, &held)] {
        upstream.put(path, body.clone());
        upstream.script(path, Behaviour::StallAt(half, gate.clone()));
    }
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
    let mut proxy = Proxy::start(manifest).await;
    let url = |path: &str| format!("{}{path}", proxy.remote("g"));
    let urls = [url("long.bin"), url("long.bin"), url("headless.bin")];
    let transfers = urls.map(|url| tokio::spawn(async move { http::get(&url).await }));
    gate.reached_by(1).await;
    held.reached_by(1).await;
    assert!(invites(&proxy).await);

    proxy.terminate();
    wait::until("readiness to end", PATIENCE, async || !invites(&proxy).await).await;
    assert!(!proxy.has_ended(), "transfers are under way:\n{}", proxy.logs());
    let late = http::try_request(Method::GET, &url_of(&proxy, "new.bin"), &[]).await;
    assert!(late.is_err() || late.is_ok_and(|late| late.status == 503), "nothing new begins");
    assert_eq!(upstream.hits("new.bin"), 0);

    gate.open();
    held.open();
    for transfer in transfers {
        let answer = transfer.await.expect("an answer");
        assert!(answer.is_ok(), "{} {}", answer.status, answer.complete);
        assert!(answer.body == body, "other bytes: {} of {}", answer.body.len(), body.len());
    }
    assert_eq!(proxy.ended().await, Some(0), "{}", proxy.logs());
    assert!(!proxy.logs().contains("were cut off"), "{}", proxy.logs());

    // What came is stored, and there are no remains.
    upstream.off().await;
    proxy.respawn().await;
    for path in ["long.bin", "headless.bin"] {
        let answer = http::get(&url_of(&proxy, path)).await;
        assert!(answer.is_ok() && answer.body == body, "{path}: {}", answer.status);
    }
    proxy.stop().await;
    let told = proxy.fsck(false).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
}

fn url_of(proxy: &Proxy, path: &str) -> String {
    format!("{}{path}", proxy.remote("g"))
}

/// Who does not want to wait says so twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::start().await;
    let gate = Gate::new();
    upstream.put("long.bin", noise(1, 2 << 20)).script("long.bin", Behaviour::StallAt(1 << 20, gate.clone()));
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
    let mut proxy = Proxy::start(manifest).await;
    let url = url_of(&proxy, "long.bin");
    let transfer = tokio::spawn(async move { http::try_request(Method::GET, &url, &[]).await });
    gate.reached_by(1).await;
    proxy.terminate();
    crate::support::logged(&proxy, "stopping").await;
    proxy.terminate();
    assert_eq!(proxy.ended().await, Some(0), "{}", proxy.logs());
    let answer = transfer.await.expect("an end");
    assert!(!answer.is_ok_and(|answer| answer.complete), "half a body is not a whole one");
}

/// Whoever kills it after a while has to know how long it takes: what is still under way then is cut off in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_drain_is_cut_off() {
    let upstream = Upstream::start().await;
    let gate = Gate::new();
    upstream.put("long.bin", noise(1, 2 << 20)).script("long.bin", Behaviour::StallAt(1 << 20, gate.clone()));
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
    let mut proxy = Options::new(manifest).env("ARTIFACTAPI_DRAIN", "1s").start().await;
    let url = url_of(&proxy, "long.bin");
    let transfer = tokio::spawn(async move { http::try_request(Method::GET, &url, &[]).await });
    gate.reached_by(1).await;
    let told = Instant::now();
    proxy.terminate();
    assert_eq!(proxy.ended().await, Some(0), "{}", proxy.logs());
    assert!(told.elapsed() < Duration::from_secs(20), "it took {:?}", told.elapsed());
    assert!(proxy.logs().contains("connections were cut off"), "{}", proxy.logs());
    let answer = transfer.await.expect("an end");
    assert!(!answer.is_ok_and(|answer| answer.complete), "half a body is not a whole one");
}
