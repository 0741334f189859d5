//! What replicas say of upstreams: one probe whoever could make it, the layer that fails, and few writes.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Cluster, Guard, RemoteManifest, Services, Upstream, http, manifest, replicas::Options,
    upstream::tls::Authority, wait,
};
use serde_json::{Value, json};

/// How soon what was asked has to be answered: probes are looked for at once, and told of every ten seconds.
const SOON: Duration = Duration::from_secs(30);
/// At most one write per Remote in this time.
const SPACING: f64 = 10.0;
/// How long there is load.
const LOAD: Duration = Duration::from_secs(25);

/// What is known of the upstream of the Remote called `name`.
fn observation(services: &Services, cluster: &Cluster, name: &str) -> Option<Value> {
    let query = format!(
        "SELECT observation FROM observations o JOIN repositories r ON r.id = o.repo WHERE r.name = '{name}'"
    );
    serde_json::from_str(&services.postgres.sql(cluster.database(), &query)).ok()
}

async fn seen(
    services: &Services,
    cluster: &Cluster,
    name: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let now = || observation(services, cluster, name).filter(&is_so);
    wait::until(what, SOON, async || now().is_some()).await;
    now().unwrap_or_else(|| panic!("{what}: no longer"))
}

/// As the operator asks, of every Remote.
async fn ask(services: &Services, cluster: &Cluster, token: &str) {
    let count =
        |table: &str| services.postgres.sql(cluster.database(), &format!("SELECT COUNT(*) FROM {table}"));
    wait::until("probes are scheduled", SOON, async || count("probes") == count("repositories")).await;
    let statement = format!(
        "UPDATE probes SET due_at = now(), token = '{token}'; NOTIFY artifactapi, '{{\"notice\":\"probe\"}}'"
    );
    services.postgres.sql(cluster.database(), &statement);
}

/// Three replicas, one look when somebody asks.
pub(crate) async fn probed_by_one(services: &Services) {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("r", PackageType::Generic, &upstream).document();
    let cluster = Options::new(manifest).start(services).await;
    for (number, token) in ["first", "second"].into_iter().enumerate() {
        let start = Instant::now();
        ask(services, &cluster, token).await;
        seen(services, &cluster, "r", "the probe is answered", |seen| seen["probe"]["token"] == token).await;
        assert_eq!(upstream.requests().len(), 1 + number, "one request for one probe");
        println!(
            "figure: a probe asked of 3 replicas: 1 upstream request, answered after {:?}",
            start.elapsed()
        );
    }
    upstream.script_all(Behaviour::Status(503, "down"));
    ask(services, &cluster, "third").await;
    let down =
        seen(services, &cluster, "r", "the probe is answered", |seen| seen["probe"]["token"] == "third")
            .await;
    assert_eq!(
        (&down["upstream"]["bad"]["layer"], &down["upstream"]["bad"]["status"]),
        (&json!("Http"), &json!(503))
    );
    assert_eq!(down["upstream"]["bad"]["confirmed"], true, "whatever was seen before");
}

/// What is wrong is named by the layer it is wrong on, and without secrets.
pub(crate) async fn named_by_layer(services: &Services) {
    const CANARY: &str = "c4n4ry-password-of-the-upstream";
    let guarded = Upstream::start().await;
    guarded.guard(Guard::Basic("user".into(), "right".into()));
    let encrypted = Upstream::start_tls(&Authority::new()).await;
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let at = |name: &str, url: &str| RemoteManifest::at(name, PackageType::Generic, url);
    let with = |name: &str, secret: &str| {
        at(name, &guarded.url()).set("auth", json!({ "secretRef": { "name": secret } })).document()
    };
    let documents = manifest::join(&[
        with("wrong", "wrong"),
        with("right", "right"),
        at("nobody", &guarded.url()).document(),
        at("refused", &format!("http://{free}/")).document(),
        at("nowhere", "http://nowhere.invalid/").document(),
        at("unknown-ca", &encrypted.url()).document(),
        at("forbidden", &guarded.url()).set("egress", json!({})).document(),
        manifest::secret("wrong", &json!({ "username": "user", "password": CANARY })),
        manifest::secret("right", &json!({ "username": "user", "password": "right" })),
    ]);
    let cluster = Options::new(documents).start(services).await;
    ask(services, &cluster, "t").await;
    for (name, track, layer) in [
        ("wrong", "credentials", "Authentication"),
        ("nobody", "upstream", "Authentication"),
        ("refused", "upstream", "Connect"),
        ("nowhere", "upstream", "Dns"),
        ("unknown-ca", "upstream", "Tls"),
        ("forbidden", "upstream", "Connect"),
    ] {
        let seen = seen(services, &cluster, name, name, |seen| seen[track]["bad"]["layer"] == layer).await;
        let reason = seen[track]["bad"]["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty() && !seen.to_string().contains(CANARY), "{seen}");
        assert_eq!(seen["upstream"]["good"].is_null(), track == "upstream", "{name}: {seen}");
        println!("figure: {name}: {reason}");
    }
    let right = seen(services, &cluster, "right", "credentials that are taken", |seen| {
        !seen["credentials"]["good"].is_null()
    });
    assert!(right.await["credentials"]["bad"].is_null());
}

/// However much goes on, and however much it changes, a Remote is written of at most once in ten seconds.
pub(crate) async fn few_writes(services: &Services) {
    let upstream = Upstream::start().await;
    let manifest = RemoteManifest::new("r", PackageType::Generic, &upstream)
        .set("mutablePatterns", json!([".*"]))
        .set_all(&json!({ "mutableTTL": "0s", "negativeTTL": "0s", "staleWhileRevalidate": "0s" }))
        .document();
    let cluster = Options::new(manifest).start(services).await;
    upstream.put("dir/a", "a");
    let started = Instant::now();
    let (mut written, mut requests) = (BTreeSet::new(), 0);
    while started.elapsed() < LOAD {
        // Good and bad by turns, so that there is always something new.
        let is_bad = started.elapsed().as_secs() % 2 == 1;
        upstream.script_all(if is_bad { Behaviour::Status(500, "no") } else { Behaviour::Serve });
        for replica in cluster.replicas() {
            let url = replica.remote("r") + "dir/a";
            drop(http::try_request(reqwest::Method::GET, &url, &[]).await);
            requests += 1;
        }
        let at = "SELECT extract(epoch FROM written_at) FROM observations";
        written.extend(services.postgres.sql(cluster.database(), at).parse::<f64>().map(f64::to_bits));
        // None before the first of the replicas writes what it saw.
        let rows = services.postgres.sql(cluster.database(), "SELECT COUNT(*) FROM observations");
        assert!(rows == "1" || (rows == "0" && written.is_empty()), "{rows} rows for one Remote");
    }
    assert_eq!(services.postgres.sql(cluster.database(), "SELECT COUNT(*) FROM observations"), "1");
    let times: Vec<f64> = written.into_iter().map(f64::from_bits).collect();
    assert!(times.len() >= 2, "it is written now and then: {times:?}");
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= SPACING, "{times:?}");
    }
    println!(
        "figure: {requests} requests through 3 replicas, {} of them upstream, in {LOAD:?}: {} writes of observations",
        upstream.requests().len(),
        times.len()
    );
}
