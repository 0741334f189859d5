//! The chart's network policies, enforced.

use artifactapi_tests::{Missing, Upstream, fixtures::noise, http, wait};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{BUSYBOX, Bench, IDLE, PATIENCE, Stores, deployment},
    release::{Release, merge, remote},
    site::{SITE, registry, site, values},
};

/// Pods that the policies name, and pods that they do not.
const FRIENDS: &str = "friends";
const STRANGERS: &str = "strangers";
/// How long nobody answers somebody whose packets are dropped, in seconds.
const SILENCE: &str = "3";

/// As the chart comes, nobody but a proxy reaches a proxy by the port of peers. Locked down, those who are named reach the
/// service and the metrics, others do not, the pods reach their stores, the API server, names and the upstreams that are
/// named, and nothing else; everything goes on working.
pub(crate) async fn kept(bench: &Bench) -> Ending {
    if let Some(why) = bench.node().unenforced() {
        return Err(Missing(format!("network policies are not enforced on the node: {}", why.trim())));
    }
    let release = site(bench).await?;
    let stores = bench.stores().await?;
    for namespace in [FRIENDS, STRANGERS] {
        bench.namespace(namespace, "restricted").await;
        bench.apply(&[deployment(namespace, "one", BUSYBOX, &IDLE, json!({}))]).await;
        bench.rolled_out(namespace, "one").await;
    }
    let proxies = release.addresses("proxy").await;
    let [(first, _), (_, other)] = &proxies[..] else { panic!("two proxies: {proxies:?}") };
    let (_, operator) = release.addresses("operator").await.remove(0);
    let open = [format!("http://{other}:8000/readyz"), format!("http://{other}:9090/metrics")];
    let metrics = [open[1].clone(), format!("http://{operator}:9091/metrics")];
    let peers = format!("http://{other}:8001/");
    for url in open.iter().chain(&metrics) {
        reached(bench, STRANGERS, url).await;
    }
    dropped(bench, STRANGERS, &peers).await;
    twins_meet(&release, first, &peers).await;

    let upstreams =
        [Upstream::start_at(bench.node().machine()).await, Upstream::start_at(bench.node().machine()).await];
    let before = release.pods("proxy").await;
    release.put("upgrade", &locked_down(bench, stores, &upstreams[0])).await;
    assert_eq!(release.pods("proxy").await, before, "no pod is replaced for a policy");
    // Nobody answers: that takes its time, each time.
    let closed = open.iter().chain(&metrics).map(|url| dropped(bench, STRANGERS, url));
    join_all(closed.chain([dropped(bench, FRIENDS, &peers)])).await;
    for url in open.iter().chain(&metrics) {
        reached(bench, FRIENDS, url).await;
    }
    twins_meet(&release, first, &peers).await;
    let told = release.helm(&["test", SITE]).await;
    assert!(told.contains("Succeeded"), "{told}");
    works(bench, &release, &upstreams).await;
    // New pods find everything that they need at their start.
    for deployment in ["proxy", "operator"] {
        let deployment = format!("{SITE}-artifactapi-{deployment}");
        release.kubectl(&["rollout", "restart", &format!("deployment/{deployment}")]).await;
        bench.rolled_out(SITE, &deployment).await;
    }
    release.put("upgrade", &values(bench, stores)).await;
    release.kubectl(&["delete", "remotes", "policed-0", "policed-1"]).await;
    bench.kubectl(&["delete", "namespace", FRIENDS, STRANGERS, "--wait=false"]).await;
    Ok(())
}

fn locked_down(bench: &Bench, stores: &Stores, upstream: &Upstream) -> Value {
    let one = |address: std::net::Ipv4Addr| json!([{ "ipBlock": { "cidr": format!("{address}/32") } }]);
    let (machine, node) = (one(bench.node().machine()), one(bench.node().address()));
    let friends =
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": FRIENDS } } });
    let port = |port: u16| json!({ "port": port, "protocol": "TCP" });
    let of = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let stored: Vec<Value> = stores.links.iter().map(|link| port(of(&link.address()))).collect();
    let mut values = values(bench, stores);
    merge(
        &mut values,
        json!({ "networkPolicy": {
            "ingress": { "clients": [friends, machine[0]], "metrics": [friends] },
            "egress": {
                "enabled": true,
                // On this node they are no pods.
                "dns": node,
                "kubernetesAPI": [{ "to": node, "ports": [port(6443)] }],
                "stores": [{ "to": machine, "ports": stored }],
                "upstreams": [{ "to": machine, "ports": [port(of(upstream.url().trim_end_matches('/')))] }],
            },
        } }),
    );
    values
}

/// What a pod of a namespace gets from a URL, or why it does not.
async fn asked(bench: &Bench, namespace: &str, url: &str) -> String {
    let ask =
        ["exec", "-n", namespace, "deployment/one", "--", "timeout", SILENCE, "wget", "-q", "-O", "-", url];
    match bench.client("kubectl", &ask).ok().await {
        Ok(told) => told.out,
        Err(why) => why,
    }
}

/// Policies are enforced a moment after they are stored, those that let somebody through too.
async fn reached(bench: &Bench, namespace: &str, url: &str) {
    let look = async || {
        let told = asked(bench, namespace, url).await;
        if told == "ready\n" || told.contains("# HELP") { Ok(()) } else { Err(told) }
    };
    wait::until_good(&format!("{namespace} to reach {url}"), PATIENCE, look).await;
}

async fn dropped(bench: &Bench, namespace: &str, url: &str) {
    let mut told = String::new();
    let silent = async || {
        told = asked(bench, namespace, url).await;
        told.contains("exit code 143")
    };
    wait::until(&format!("{namespace} not to reach {url}"), PATIENCE, silent).await;
}

/// A proxy reaches another one by the port of peers: it is answered, if only that it has not said who it is.
async fn twins_meet(release: &Release<'_>, proxy: &str, peers: &str) {
    let ask = ["exec", "-n", release.name, proxy, "--", "artifactapi", "probe", "--within", "0", peers];
    let look = async || {
        let told = release.bench.client("kubectl", &ask).fails().await.unwrap_or_else(|why| panic!("{why}"));
        let is_answer =
            ["401", "403", "404"].iter().any(|status| told.err.contains(&format!("{peers}: {status}")));
        if is_answer { Ok(()) } else { Err(told.err) }
    };
    wait::until_good(&format!("an answer of {peers}"), PATIENCE, look).await;
}

/// Objects are reconciled, and what has not been asked for before comes from the upstream that is named, by the service
/// and by the node's port, and does not come from another.
async fn works(bench: &Bench, release: &Release<'_>, upstreams: &[Upstream; 2]) {
    let mut remotes = Vec::new();
    for (number, upstream) in upstreams.iter().enumerate() {
        upstream.put("a/file", noise(7, 70_000));
        // By name, so that it has to be resolved.
        let url = upstream.url().replace(&bench.node().machine().to_string(), "machine.internal");
        remotes.push(remote(bench, &format!("policed-{number}"), "generic", &url, json!({})));
    }
    release.configure(&remotes).await;
    for host in [release.host().await, registry(bench)] {
        let url = format!("http://{host}/api/v1/remote/policed-0/a/file");
        let told = http::get_until(&url, http::Fetched::is_ok).await;
        assert_eq!(told.body, noise(7, 70_000), "{host}");
        let told = http::get(&format!("http://{host}/api/v1/remote/policed-1/a/file")).await;
        assert!(matches!(told.status, 502..=504), "{host} got through: {}", told.status);
    }
}
