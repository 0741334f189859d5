//! What replicas agree on: the time, an upstream's pauses, what upstream got wrong, who may have what, and secrets.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, RemoteManifest, Services, Upstream,
    fixtures::noise,
    http, manifest,
    replicas::{Cluster, Options},
    wait,
};
use serde_json::json;

/// Where Debian's `faketime` puts the library that changes what a process takes for the time.
pub(crate) const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// How soon a change of the configuration has to count everywhere (RS-50).
const SOON: Duration = Duration::from_secs(10);

fn generic(upstream: &Upstream) -> RemoteManifest {
    RemoteManifest::new("g", PackageType::Generic, upstream)
        .set("mutablePatterns", json!(["^dir/"]))
        .set("staleWhileRevalidate", "0s")
}

async fn of(cluster: &Cluster, replica: usize, path: &str) -> http::Fetched {
    http::get(&(cluster.replicas()[replica].remote("g") + path)).await
}

/// RS-95: a replica whose clock is ten minutes off neither asks upstream more often nor serves longer.
pub(crate) async fn on_the_time(services: &Services) {
    if !std::path::Path::new(FAKETIME).is_file() {
        println!("SKIPPED rs_95: faketime is not installed");
        return;
    }
    let upstream = Upstream::start().await;
    let manifest = generic(&upstream).set("mutableTTL", "5m").document();
    let mut cluster = Options::new(manifest).start(services).await;
    for (number, shift) in [(1, "+10m"), (2, "-10m")] {
        let replica = cluster.replica(number);
        replica.terminate();
        assert_eq!(replica.ended().await, Some(0), "an orderly end");
        replica.set_env("LD_PRELOAD", Some(FAKETIME));
        replica.set_env("FAKETIME", Some(shift));
        replica.start_again().await;
    }
    for writer in 0..3 {
        let path = format!("dir/{writer}");
        upstream.put(&path, noise(writer as u64, 5_000));
        for round in 0..2 {
            for reader in [writer, 0, 1, 2] {
                let answer = of(&cluster, reader, &path).await;
                assert!(answer.is_ok(), "{}", answer.status);
                let age: u64 = answer.header("age").parse().expect("an age");
                assert!(
                    age < 120,
                    "replica {reader} takes what replica {writer} has just got for {age} s old"
                );
                let fresh: u64 = answer
                    .header("cache-control")
                    .split(',')
                    .find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok())
                    .unwrap_or_default();
                assert!(fresh <= 330, "replica {reader}, round {round}: fresh for {fresh} s");
            }
        }
        assert_eq!(upstream.hits(&path), 1, "nobody asks again before its time: replica {writer}");
    }
    println!(
        "figure: replicas 10 minutes ahead and behind: 3 mutable bodies, 24 reads, 1 upstream request each"
    );
}

/// RS-91: one replica is told to wait; none asks before the time is over.
pub(crate) async fn on_pauses(services: &Services) {
    let upstream = Upstream::start().await;
    let cluster = Options::new(generic(&upstream).document()).start(services).await;
    upstream.put("dir/a", "a").put("dir/b", "b");
    upstream.script_all(Behaviour::RetryAfter(429, "3600"));
    let first = of(&cluster, 0, "dir/a").await;
    assert!(matches!(first.status, 429 | 503), "{}", first.status);
    for replica in 0..3 {
        for path in ["dir/a", "dir/b"] {
            let answer = of(&cluster, replica, path).await;
            assert!(matches!(answer.status, 429 | 503), "replica {replica}: {}", answer.status);
            let wait: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!(wait > 3_000, "replica {replica} says {wait} s");
        }
    }
    assert_eq!(upstream.requests().len(), 1, "one request before the pause ends");
    println!("figure: a 429 with Retry-After met by one of 3 replicas: 7 requests, 1 of them upstream");
}

/// RS-03 and RS-02: a body that breaks off, or is another than the ledger's, is nobody's.
pub(crate) async fn on_what_is_wrong(services: &Services) {
    let upstream = Upstream::start().await;
    let cluster = Options::new(generic(&upstream).document()).start(services).await;
    let bytes = noise(7, 900_000);
    upstream.put("file.bin", bytes.clone());
    upstream.script("file.bin", Behaviour::CutAt(500_000));
    for replica in 0..3 {
        let url = cluster.replicas()[replica].remote("g") + "file.bin";
        let broken = http::try_request(reqwest::Method::GET, &url, &[]).await;
        assert!(!broken.is_ok_and(|answer| answer.is_ok()), "replica {replica} ended half a body in order");
    }
    let rows = services.postgres.sql(cluster.database(), "SELECT COUNT(*) FROM artifacts");
    assert_eq!(rows, "0", "nothing is on record");
    upstream.behave();
    for replica in 0..3 {
        assert!(of(&cluster, replica, "file.bin").await.body == bytes);
    }
    // The ledger holds on every replica, also after eviction (RS-08).
    let told = cluster.command(&["evict", "g", "file.bin"]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    upstream.put("file.bin", noise(8, 900_000));
    for replica in 0..3 {
        let refuses = async || {
            let url = cluster.replicas()[replica].remote("g") + "file.bin";
            let answer = http::try_request(reqwest::Method::GET, &url, &[]).await;
            !answer.is_ok_and(|answer| answer.is_ok())
        };
        wait::until("the eviction is known", SOON, refuses).await;
    }
    let told = cluster.command(&["unpin", "g", "file.bin"]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    for replica in 0..3 {
        assert!(of(&cluster, replica, "file.bin").await.body == noise(8, 900_000));
    }
    let told = cluster.command(&["fsck"]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
}

/// RS-50: what the blocklist names is refused by all replicas, although it is stored.
pub(crate) async fn on_the_blocklist(services: &Services) {
    let upstream = Upstream::start().await;
    let cluster = Options::new(generic(&upstream).document()).start(services).await;
    upstream.put("bad/file.bin", "bad").put("good/file.bin", "good");
    for replica in 0..3 {
        assert!(of(&cluster, replica, "bad/file.bin").await.is_ok());
    }
    let told = cluster.apply(&generic(&upstream).set("blocklist", json!(["^bad/"])).document()).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    for replica in 0..3 {
        for path in ["bad/file.bin", "bad%2Ffile.bin", "b%61d/file.bin"] {
            let refused = async || matches!(of(&cluster, replica, path).await.status, 400 | 403);
            wait::until(&format!("replica {replica} refuses {path}"), SOON, refused).await;
        }
        let head = http::head(&(cluster.replicas()[replica].remote("g") + "bad/file.bin")).await;
        assert_eq!(head.status, 403);
        assert!(of(&cluster, replica, "good/file.bin").await.is_ok());
    }
}

/// RS-37 and the key at rest: a credential reaches the upstream, and neither the database nor Redis holds it; a
/// replica with another key serves nothing with half of them and says why.
pub(crate) async fn on_secrets(services: &Services) {
    const CANARY: &str = "c4n4ry-password-of-the-upstream";
    let upstream = Upstream::start().await;
    let documents = manifest::join(&[
        generic(&upstream)
            .set("auth", json!({ "secretRef": { "name": "s" } }))
            .set("access", json!({ "read": "anonymous" }))
            .document(),
        manifest::secret("s", &json!({ "username": "user", "password": CANARY })),
    ]);
    let mut cluster = Options::new(documents).start(services).await;
    upstream.put("file.bin", "bytes");
    for replica in 0..3 {
        let answer = of(&cluster, replica, "file.bin").await;
        assert!(answer.is_ok(), "{} {}", answer.status, answer.text());
    }
    let sent = upstream.requests();
    assert!(sent.iter().all(|request| request.header("authorization").is_some()), "it is used");
    let dump = services.postgres.sql(cluster.database(), "SELECT string_agg(document, ' ') FROM objects");
    assert!(dump.contains("sealed:v1:"), "{dump}");
    for form in [CANARY.to_owned(), base64(CANARY)] {
        assert!(!dump.contains(&form), "the database holds the password");
        assert!(!cluster.logs().contains(&form), "a log holds the password");
    }
    let replica = cluster.replica(2);
    replica.terminate();
    replica.ended().await;
    replica.set_env("ARTIFACTAPI_ENCRYPTION_KEY", Some("another key, as long as a key has to be"));
    replica.spawn();
    let url = format!("{}/readyz", replica.url());
    let says = async || {
        let page = http::try_request(reqwest::Method::GET, &url, &[]).await;
        page.is_ok_and(|page| {
            page.status == 503 && page.text().contains("ARTIFACTAPI_ENCRYPTION_KEY: Secret default/s")
        })
    };
    wait::until("the reason is on the readiness page", Duration::from_secs(30), says).await;
    assert!(!replica.has_ended(), "it waits for the right key and does not crash");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
