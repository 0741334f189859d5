//! What the requirements promise to a user whatever the type, end to end against the built proxy.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Gate, Proxy, RemoteManifest, Upstream, http,
    upstream::{gzip, spoiled},
};
use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

const FILE: &str = "files/tool.tar.gz";

/// Bytes that differ from each other along the way.
fn pattern(length: u32) -> Bytes {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into()
}

/// A generic repository `r` with one file, and the file's URL.
async fn generic(body: &Bytes) -> (Upstream, Proxy, String) {
    let upstream = Upstream::start().await;
    upstream.put(FILE, body.clone());
    let proxy = Proxy::start(RemoteManifest::new("r", PackageType::Generic, &upstream).document()).await;
    let url = format!("{}{FILE}", proxy.remote("r"));
    (upstream, proxy, url)
}

#[tokio::test]
async fn rs_01_whole_piece_and_head_tell_of_the_same_bytes() {
    let body = pattern(400_000);
    let (upstream, _proxy, url) = generic(&body).await;
    for _ in 0..2 {
        let whole = http::get(&url).await;
        assert!(whole.is_ok() && whole.body == body);
        let head = http::head(&url).await;
        assert_eq!((head.status, head.header("content-length")), (200, "400000"));
        let piece = http::request(Method::GET, &url, &[("range", "bytes=123456-345678")]).await;
        assert_eq!((piece.status, piece.header("content-range")), (206, "bytes 123456-345678/400000"));
        assert!(piece.body == body.slice(123_456..=345_678));
        assert_eq!(piece.header("etag"), head.header("etag"));
    }
    assert_eq!(upstream.hits(FILE), 1);
}

#[tokio::test]
async fn rs_05_a_body_without_a_framed_end_is_served_and_not_kept() {
    let body = pattern(100_000);
    let (upstream, _proxy, url) = generic(&body).await;
    upstream.script(FILE, Behaviour::CloseDelimited);
    for asked in 1..=2 {
        let answer = http::get(&url).await;
        assert!(answer.is_ok() && answer.body == body);
        assert_eq!(upstream.hits(FILE), asked, "it must not have been kept");
    }
}

#[tokio::test]
async fn rs_06_bytes_past_the_announced_end_are_nobodys() {
    let body = pattern(100_000);
    let (upstream, _proxy, url) = generic(&body).await;
    upstream.script(FILE, Behaviour::ExtraBytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".into()));
    upstream.put("other", "good");
    assert!(http::get(&url).await.body == body);
    let other = http::get(&url.replace(FILE, "other")).await;
    assert_eq!(other.body, "good", "the connection must not be used again");
}

#[tokio::test]
async fn rs_07_a_login_page_is_no_wheel() {
    let upstream = Upstream::start().await;
    let path = "packages/widget-1.0-py3-none-any.whl";
    upstream.put(path, &b"PK\x03\x04 and so on"[..]).script(path, Behaviour::Html);
    let proxy = Proxy::start(RemoteManifest::new("r", PackageType::Pypi, &upstream).document()).await;
    let url = format!("{}{path}", proxy.remote("r"));
    let refused = http::get(&url).await;
    assert_eq!(refused.status, 502);
    assert!(!refused.text().contains("Sign in"), "{refused:?}");
    upstream.behave();
    assert_eq!(http::get(&url).await.body, &b"PK\x03\x04 and so on"[..]);
}

#[tokio::test]
async fn rs_10_an_encoding_that_nobody_asked_for_is_taken_off() {
    // An archive that is gzip by itself keeps that layer and loses the one of the way.
    let body = gzip(&pattern(100_000));
    let (upstream, proxy, url) = generic(&body).await;
    let plain = pattern(50_000);
    upstream.put("files/list.json", plain.clone()).script_all(Behaviour::Gzip);
    for (url, body) in [(&url, &body), (&format!("{}files/list.json", proxy.remote("r")), &plain)] {
        for _ in 0..2 {
            let answer = http::get(url).await;
            assert!(answer.is_ok() && answer.body == *body, "{url}");
            assert_eq!(answer.header("content-encoding"), "");
        }
    }
    assert!(upstream.requests().iter().all(|request| request.header("accept-encoding") == Some("identity")));
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn rs_14_ranges_of_a_fill_in_progress() {
    let body = pattern(600_000);
    let (upstream, _proxy, url) = generic(&body).await;
    let gate = Gate::new();
    upstream.script(FILE, Behaviour::StallAt(400_000, gate.clone()));
    let whole = tokio::spawn({
        let url = url.clone();
        async move { http::get(&url).await }
    });
    gate.reached_by(1).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let range = |range: &'static str| client.get(&url).header("range", range).send();
    // Heads come while the body is under way; a piece holds back its own end until the whole is verified.
    let mut held = Vec::new();
    for (wanted, said, piece) in [
        ("bytes=1000-199999", "bytes 1000-199999/600000", 1000..200_000),
        ("bytes=100000-599999", "bytes 100000-599999/600000", 100_000..600_000),
        ("bytes=-500", "bytes 599500-599999/600000", 599_500..600_000),
    ] {
        let answer = range(wanted).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-range"]),
            (206, &said.parse().unwrap())
        );
        held.push((answer, piece));
    }
    let first = held[0].0.chunk().await.unwrap().unwrap();
    assert!(body[1000..].starts_with(&first), "what is there is shown before the whole is");
    held[0].1.start += first.len();
    let past = range("bytes=600000-").await.unwrap();
    assert_eq!(
        (past.status().as_u16(), &past.headers()["content-range"]),
        (416, &"bytes */600000".parse().unwrap())
    );
    gate.open();
    for (answer, piece) in held {
        assert!(answer.bytes().await.unwrap() == body.slice(piece.clone()), "{piece:?}");
    }
    assert!(whole.await.unwrap().body == body);
    assert_eq!(upstream.hits(FILE), 1, "one fetch for all of them");
}

#[tokio::test]
async fn rs_23_a_forged_host_poisons_nothing() {
    let upstream = Upstream::start().await;
    let tarball = format!("{}widget/-/widget-1.0.0.tgz", upstream.url());
    let packument = json!({ "name": "widget", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": {
        "name": "widget", "version": "1.0.0", "dist": { "tarball": tarball, "shasum": "00".repeat(20) },
    } } });
    upstream.put_with("widget", packument.to_string(), &[("content-type", "application/json")]);
    let proxy = Proxy::start(RemoteManifest::new("r", PackageType::Npm, &upstream).document()).await;
    let url = format!("{}widget", proxy.remote("r"));
    let forged = [("x-forwarded-host", "evil.test"), ("x-forwarded-proto", "https"), ("host", "evil.test")];
    http::request(Method::GET, &url, &forged).await;
    for headers in [&forged[..2], &[]] {
        let answer = http::request(Method::GET, &url, headers).await;
        assert!(!answer.text().contains("evil.test"), "{}", answer.text());
        let link = answer.json()["versions"]["1.0.0"]["dist"]["tarball"].clone();
        assert!(link.as_str().unwrap().starts_with(&proxy.remote("r")), "{link}");
    }
}

#[tokio::test]
async fn rs_24_another_upstream_is_another_repository() {
    let (old, new) = (pattern(300_000), spoiled(&pattern(300_000)));
    let (_upstream, proxy, url) = generic(&old).await;
    assert!(http::get(&url).await.body == old);
    let other = Upstream::start().await;
    other.put(FILE, new.clone());
    proxy.apply(&RemoteManifest::new("r", PackageType::Generic, &other).document());
    let moved = http::get_until(&url, |answer| answer.body != old).await;
    assert!(moved.is_ok() && moved.body == new);
}

#[tokio::test]
async fn rs_83_a_herd_on_an_expired_document_asks_once() {
    let upstream = Upstream::start().await;
    upstream.put("latest", "1.0");
    let manifest = RemoteManifest::new("r", PackageType::Generic, &upstream);
    let manifest = manifest.set("mutablePatterns", json!(["^latest$"])).set("mutableTTL", "1ms");
    let proxy = Proxy::start(manifest.document()).await;
    let url = format!("{}latest", proxy.remote("r"));
    http::get(&url).await;
    let gate = Gate::new();
    upstream.script("latest", Behaviour::HoldHead(gate.clone(), Box::new(Behaviour::Serve)));
    http::get_until(&url, |answer| answer.header("x-cache") == "STALE").await;
    gate.reached_by(1).await;
    // The one revalidation is held: whoever comes now is served what is stored, and asks for nothing more.
    for answer in join_all((0..100).map(|_| http::get(&url))).await {
        assert!(answer.is_ok() && answer.body == "1.0", "{answer:?}");
        assert_eq!(answer.header("x-cache"), "STALE");
    }
    assert_eq!(upstream.hits("latest"), 2, "the first fetch and one conditional request");
    assert!(upstream.requests()[1].header("if-none-match").is_some());
    gate.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_share_one_cold_fetch_and_all_stream_from_its_start() {
    let body = pattern(32 << 20);
    let (upstream, _proxy, url) = generic(&body).await;
    let gate = Gate::new();
    upstream.script(FILE, Behaviour::StallAt(16 << 20, gate.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let begin = async |_| {
        let mut answer = client.get(&url).send().await.unwrap();
        let first = answer.chunk().await.unwrap().unwrap();
        (answer, first)
    };
    // Half of the body is held back upstream: that everyone has bytes now means that all stream.
    let begun = join_all((0..200).map(begin)).await;
    assert_eq!(upstream.hits(FILE), 1);
    gate.open();
    let end = async |(mut answer, first): (reqwest::Response, Bytes)| {
        assert!(body.starts_with(&first));
        let mut at = first.len();
        while let Some(chunk) = answer.chunk().await.unwrap() {
            assert!(body[at..].starts_with(&chunk), "wrong bytes at {at}");
            at += chunk.len();
        }
        assert_eq!(at, body.len());
    };
    join_all(begun.into_iter().map(end)).await;
    assert_eq!(upstream.hits(FILE), 1);
}
