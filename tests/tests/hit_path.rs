//! What a hit costs the stores of the running proxy, as its own metrics tell it.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use artifactapi_model::PackageType;
use artifactapi_tests::{Proxy, RemoteManifest, Upstream, http, manifest, metrics, wait};
use reqwest::Method;

const HITS: usize = 1_000;
/// How long what may change is believed without a look at the database.
const LOCAL_AGE: Duration = Duration::from_secs(5);
const STATEMENTS: &str = "artifactapi_sql_statements_total";
const CALLS: &str = "artifactapi_blob_calls_total";
/// Written in batches by tasks of their own, never by a request.
const BACKGROUND: [&str; 6] = ["log_access", "touch", "notices", "observe", "schedule_probes", "take_probes"];

struct Warm {
    proxy: Proxy,
    upstream: Upstream,
}

impl Warm {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        let tarball = format!("{}pkg/-/pkg-1.0.0.tgz", upstream.url());
        let versions = serde_json::json!({ "1.0.0": { "dist": { "tarball": tarball } } });
        let packument = serde_json::json!({ "name": "pkg", "versions": versions });
        upstream.put("pkg", packument.to_string());
        upstream.put("small", vec![7; 2 << 10]).put("large", vec![9; 1 << 20]);
        let manifests = manifest::join(&[
            RemoteManifest::new("files", PackageType::Generic, &upstream).document(),
            RemoteManifest::new("npm", PackageType::Npm, &upstream).document(),
        ]);
        let proxy = Proxy::start(manifests).await;
        for url in
            [proxy.remote("files") + "small", proxy.remote("files") + "large", proxy.remote("npm") + "pkg"]
        {
            http::get_until(&url, |answer| answer.is_ok() && answer.header("x-cache") == "HIT").await;
        }
        Warm { proxy, upstream }
    }

    /// Asks [`HITS`] times; what the database and the blob store were asked meanwhile.
    async fn hits(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        status: u16,
    ) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
        let before = metrics::samples(&self.proxy).await;
        let began = Instant::now();
        for _ in 0..HITS {
            let answer = http::request(method.clone(), url, headers).await;
            assert!(answer.status == status && answer.complete, "{answer:?}");
            assert_eq!(answer.header("x-cache"), "HIT");
        }
        let after = metrics::samples(&self.proxy).await;
        let mut statements = metrics::growth(&before, &after, STATEMENTS);
        statements.retain(|operation, _| !BACKGROUND.contains(&operation.as_str()));
        // What may change is looked up again when it was last looked up too long ago, however many ask for it.
        let rechecks = 1.0 + (began.elapsed().as_secs_f64() / LOCAL_AGE.as_secs_f64()).floor();
        statements.retain(|operation, count| operation != "artifact" || *count > rechecks);
        let mut calls = metrics::growth(&before, &after, CALLS);
        calls.remove("read");
        (statements, calls)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_executes_no_sql_and_asks_the_blobs_at_most_for_one_open() {
    let warm = Warm::start().await;
    let asked = warm.upstream.requests().len();
    let seen = metrics::samples(&warm.proxy).await;
    let fill = metrics::growth(&BTreeMap::new(), &seen, STATEMENTS);
    assert!(fill["commit_artifact"] >= 3.0, "the counter counts: {fill:?}");
    let small = warm.proxy.remote("files") + "small";
    let large = warm.proxy.remote("files") + "large";
    let index = warm.proxy.remote("npm") + "pkg";
    let etag = http::head(&large).await.header("etag").to_owned();
    let none: BTreeMap<String, f64> = BTreeMap::new();
    let opens = BTreeMap::from([("open".to_owned(), HITS as f64)]);
    let cases = [
        ("small body", Method::GET, &small, vec![], 200, &none),
        ("rewritten index", Method::GET, &index, vec![], 200, &none),
        ("HEAD", Method::HEAD, &large, vec![], 200, &none),
        ("not modified", Method::GET, &large, vec![("if-none-match", etag.as_str())], 304, &none),
        ("large body", Method::GET, &large, vec![], 200, &opens),
        ("range", Method::GET, &large, vec![("range", "bytes=5-9")], 206, &opens),
    ];
    for (name, method, url, headers, status, want) in cases {
        let (statements, calls) = warm.hits(method, url, &headers, status).await;
        assert_eq!(statements, none, "{name}: SQL on the hit path");
        assert_eq!(&calls, want, "{name}: blob calls");
    }
    assert_eq!(warm.upstream.requests().len(), asked, "hits ask the upstream nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hits_leave_behind_is_written_later_and_once() {
    let warm = Warm::start().await;
    let small = warm.proxy.remote("files") + "small";
    let before = metrics::samples(&warm.proxy).await;
    warm.hits(Method::GET, &small, &[], 200).await;
    // The access log is drained a few times a second, and drops rather than waits: each hit is a row or counted.
    wait::until("the access log", Duration::from_secs(30), async || {
        let after = metrics::samples(&warm.proxy).await;
        let rows = metrics::growth(&before, &after, STATEMENTS).get("log_access").copied().unwrap_or(0.0);
        let dropped = "artifactapi_access_log_dropped_total";
        rows + after[dropped] - before[dropped] >= HITS as f64
    })
    .await;
    let after = metrics::samples(&warm.proxy).await;
    let touched = metrics::growth(&before, &after, STATEMENTS).get("touch").copied().unwrap_or(0.0);
    assert!(touched <= 3.0, "a key is touched once a period, however often it was asked for: {touched}");
}
