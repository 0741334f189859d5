//! The manifest directory while the proxy runs: changes, mistakes, Secrets, and the server's certificate.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Guard, Proxy, RemoteManifest, Upstream,
    http::{self, Fetched, PATIENCE},
    manifest, proxy,
    proxy::{Options, Told},
    upstream::Authority,
    wait,
};
use serde_json::json;

use crate::support::logged;

fn generic(name: &str, upstream: &Upstream) -> RemoteManifest {
    RemoteManifest::new(name, PackageType::Generic, upstream)
}

async fn upstream_with(path: &str, text: &'static str) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.put(path, text);
    upstream
}

async fn check(proxy: &Proxy) -> Told {
    let dir = proxy.manifests().display().to_string();
    proxy::command(["check-config", "--manifests", &dir]).await
}

fn says(answer: &Fetched, text: &str) -> bool {
    answer.is_ok() && answer.text() == text
}

#[tokio::test]
async fn what_is_added_is_served_and_what_is_deleted_is_gone() {
    let (one, two) = (upstream_with("f", "one").await, upstream_with("f", "two").await);
    let (a, b) = (generic("a", &one).document(), generic("b", &two).document());
    let proxy = Proxy::start(a.clone()).await;
    let (at_a, at_b) = (format!("{}f", proxy.remote("a")), format!("{}f", proxy.remote("b")));
    assert!(says(&http::get(&at_a).await, "one"));
    assert_eq!(http::get(&at_b).await.status, 404);
    proxy.apply(&manifest::join(&[a.clone(), b.clone()]));
    http::get_until(&at_b, |answer| says(answer, "two")).await;
    proxy.apply(&b);
    http::get_until(&at_a, |answer| answer.status == 404).await;
    assert!(says(&http::get(&at_b).await, "two"));
    // Without any manifest there is nothing to serve, and nothing wrong.
    fs::remove_file(proxy.manifests().join("test.yaml")).unwrap();
    http::get_until(&at_b, |answer| answer.status == 404).await;
    assert_eq!(http::get(&format!("{}/readyz", proxy.url())).await.status, 200);
}

#[tokio::test]
async fn rs_132_a_mistake_is_named_and_costs_nothing_that_was_good() {
    let (one, two) = (upstream_with("f", "one").await, upstream_with("f", "two").await);
    let proxy = Proxy::start(generic("a", &one).document()).await;
    let told = check(&proxy).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert!(told.text.contains("1 sound, 0 problems"), "{}", told.text);

    let bad = generic("a", &one).set("mutableTTL", "soon").document();
    proxy.apply(&manifest::join(&[bad, generic("b", &two).document()]));
    logged(&proxy, "a manifest cannot be used as it stands").await;
    let line =
        proxy.logs().lines().find(|line| line.contains("cannot be used as it stands")).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
    assert_eq!(line["manifest.file"], "test.yaml:1", "{line}");
    assert_eq!(line["manifest.field"], "spec.mutableTTL", "{line}");
    assert!(line["manifest.rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{line}");
    http::get_until(&format!("{}f", proxy.remote("b")), |answer| says(answer, "two")).await;
    assert!(says(&http::get(&format!("{}f", proxy.remote("a"))).await, "one"), "its last good version stays");
    let told = check(&proxy).await;
    assert_eq!(told.code, Some(2), "{}", told.text);
    for word in ["test.yaml:1: Remote default/a: spec.mutableTTL: must be a duration", "1 sound, 1 problems"]
    {
        assert!(told.text.contains(word), "{word:?} in {}", told.text);
    }
    let metrics = http::get(&proxy.metrics_url()).await.text();
    assert!(metrics.lines().any(|line| line == "artifactapi_manifest_problems 1"), "{metrics}");

    // A file that is no YAML at all.
    fs::write(proxy.manifests().join("torn.yaml"), "kind: [\n").unwrap();
    logged(&proxy, "torn.yaml:").await;
    assert!(says(&http::get(&format!("{}f", proxy.remote("a"))).await, "one"));
    assert!(says(&http::get(&format!("{}f", proxy.remote("b"))).await, "two"));
}

#[tokio::test]
async fn check_config_says_when_there_is_no_directory() {
    let told = proxy::command(["check-config", "--manifests", "nowhere/at/all"]).await;
    assert_eq!(told.code, Some(2), "{}", told.text);
    assert!(told.text.contains("nowhere/at/all cannot be read"), "{}", told.text);
}

#[tokio::test]
async fn rs_24_another_base_url_never_serves_the_old_bytes() {
    let (old, new) = (upstream_with("f", "old").await, upstream_with("g", "new").await);
    let proxy = Proxy::start(generic("a", &old).document()).await;
    let url = |path: &str| format!("{}{path}", proxy.remote("a"));
    assert!(says(&http::get(&url("f")).await, "old"));
    proxy.apply(&generic("a", &new).document());
    http::get_until(&url("g"), |answer| says(answer, "new")).await;
    assert_eq!(http::get(&url("f")).await.status, 404, "the new upstream does not have it");
    new.off().await;
    let dark = http::get(&url("f")).await;
    assert!(dark.status != 200, "what the new upstream never had is not served stale: {dark:?}");
    // The same bytes may come back with the old upstream, but only from there.
    old.put("f", "newer");
    proxy.apply(&generic("a", &old).document());
    http::get_until(&url("f"), |answer| says(answer, "newer")).await;
}

#[tokio::test]
async fn rs_38_a_changed_secret_reaches_the_next_request_upstream() {
    let upstream = upstream_with("f", "f").await;
    upstream.put("g", "g");
    upstream.guard(Guard::FixedBearer("first".into()));
    let manifests = |token: &str| {
        let auth = json!({ "secretRef": { "name": "s" } });
        let anyone = json!({ "read": "anonymous" });
        let remote = generic("a", &upstream).set("auth", auth).set("access", anyone).set("negativeTTL", "0s");
        manifest::join(&[manifest::secret("s", &json!({ "token": token })), remote.document()])
    };
    let proxy = Proxy::start(manifests("first")).await;
    let url = |path: &str| format!("{}{path}", proxy.remote("a"));
    assert!(says(&http::get(&url("f")).await, "f"));
    upstream.guard(Guard::FixedBearer("second".into()));
    assert_ne!(http::get(&url("g")).await.status, 200, "the old token is refused");
    assert!(says(&http::get(&url("f")).await, "f"), "what is stored is served all the same");
    proxy.apply(&manifests("second"));
    http::get_until(&url("g"), |answer| says(answer, "g")).await;
    let last = upstream.requests().pop().expect("a request");
    assert_eq!(last.header("authorization"), Some("Bearer second"));
}

/// Trusts one authority only.
async fn trusts(authority: &Authority, proxy: &Proxy) -> bool {
    http::use_ring();
    let root = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(PATIENCE);
    let client = client.build().expect("a client");
    client.get(format!("{}/livez", proxy.url())).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn a_replaced_certificate_is_used_for_new_connections_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let proxy = Options::new("").tls(&old).start().await;
    let pid = proxy.pid();
    assert!(trusts(&old, &proxy).await && !trusts(&new, &proxy).await);
    let next = new.issue(&["127.0.0.1"]);
    let (certificate, key) = proxy.tls_files();
    // Between the two writes they do not fit together; the old pair goes on serving.
    fs::write(certificate, &next.chain_pem).unwrap();
    logged(&proxy, "the last good TLS certificate stays in use").await;
    assert!(trusts(&old, &proxy).await);
    fs::write(key, &next.key_pem).unwrap();
    wait::until("the new certificate", PATIENCE, async || trusts(&new, &proxy).await).await;
    assert!(!trusts(&old, &proxy).await, "the old certificate is gone");
    assert_eq!(proxy.pid(), pid);
}

/// A transfer that began before its repository was deleted ends whole (RS-131).
#[tokio::test(flavor = "multi_thread")]
async fn rs_131_a_deleted_repository_ends_its_transfers() {
    let upstream = Upstream::start().await;
    let body = artifactapi_tests::fixtures::noise(1, 2 << 20);
    let gate = artifactapi_tests::Gate::new();
    upstream
        .put("other", "other")
        .put("f", body.clone())
        .script("f", Behaviour::StallAt(1 << 20, gate.clone()));
    let proxy = Proxy::start(generic("a", &upstream).document()).await;
    let url = format!("{}f", proxy.remote("a"));
    let transfer = tokio::spawn(async move { http::get(&url).await });
    gate.reached_by(1).await;
    proxy.apply("# nothing\n");
    http::get_until(&format!("{}other", proxy.remote("a")), |answer| answer.status == 404).await;
    gate.open();
    let answer = transfer.await.expect("an answer");
    assert!(answer.is_ok() && answer.body == body, "{} {}", answer.status, answer.complete);
}
