//! The chart in cluster mode: over PostgreSQL, Redis and S3 that run beside the cluster.

use artifactapi_services::{Minio, Postgres};
use artifactapi_tests::{Link, Missing, Upstream, fixtures::noise, http};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{Bench, Stores},
    release::{Release, merge, remote},
};

/// The release that later trials stand on.
pub(crate) const SITE: &str = "site";
/// Where runtimes of nodes reach it.
pub(crate) const NODE_PORT: u16 = 30_800;
/// Registry that the mirror answers for.
pub(crate) const MIRRORED: &str = "registry.test";

/// The name under which the node, its pods and the machine know the registry.
pub(crate) fn registry(bench: &Bench) -> String {
    format!("{}:{NODE_PORT}", bench.node().address())
}

/// The values of the release.
pub(crate) fn values(bench: &Bench, stores: &Stores) -> Value {
    let mut values = Release::values(json!({
        "mode": "cluster",
        "publicURL": format!("http://{}", registry(bench)),
        // They are the administrator's, and there already.
        "crds": { "enabled": false },
        "database": { "existingSecret": "database" },
        "redis": { "existingSecret": "redis" },
        "s3": {
            "existingSecret": "s3", "endpoint": stores.links[2].address(), "bucket": Minio::BUCKET,
            "secure": false,
        },
        "encryption": { "existingSecret": "encryption" },
        "nodePort": { "enabled": true, "port": NODE_PORT },
        // Of the machine's disk no more is asked than there may be.
        "proxy": { "cache": { "size": "1Gi", "request": "1Gi" } },
    }));
    let ceilings = json!({ "mirrorFor": [MIRRORED], "allowCIDRs": [bench.node().network()] });
    merge(&mut values, json!({ "operator": { "ceilings": ceilings } }));
    values
}

/// A Secret.
pub(crate) fn secret(namespace: &str, name: &str, data: Value) -> Value {
    let metadata = json!({ "namespace": namespace, "name": name });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data })
}

/// The Secrets of a release over a database of its own: that of the database first.
pub(crate) fn secrets(stores: &Stores, namespace: &str, database: &str) -> Vec<Value> {
    let secret = |name: &str, data: Value| secret(namespace, name, data);
    let (host, port) =
        stores.links[0].address().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).expect("both");
    vec![
        secret(
            "database",
            json!({
                "username": Postgres::USER, "password": Postgres::PASSWORD, "host": host, "port": port,
                "dbname": database,
            }),
        ),
        secret("redis", json!({ "url": format!("redis://{}", stores.links[1].address()) })),
        secret("s3", json!({ "accessKey": Minio::ACCESS_KEY, "secretKey": Minio::SECRET_KEY })),
        secret(
            "encryption",
            json!({ "key": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" }),
        ),
    ]
}

/// The release, once it is installed.
pub(crate) async fn site(bench: &Bench) -> Result<Release<'_>, Missing> {
    bench.stores().await?;
    let release = Release::new(bench, SITE);
    if bench.helm(&["list", "-n", SITE, "-q"]).await.trim() == SITE {
        return Ok(release);
    }
    bench.images().await;
    bench.namespace(SITE, "restricted").await;
    let stores = bench.stores().await?;
    bench.apply(&secrets(stores, SITE, Postgres::DATABASE)).await;
    let definitions = artifactapi_tests::kubernetes::roles::checkout("crds/generated");
    bench
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &definitions.to_string_lossy()])
        .await;
    let took = release.put("install", &values(bench, stores)).await;
    println!("\nfigure: a cluster of two replicas is installed and ready after {:.1} s", took.as_secs_f64());
    Ok(release)
}

/// A way to the node port that begins on loopback, which clients trust without TLS.
pub(crate) async fn doorway(bench: &Bench) -> Link {
    Link::to(registry(bench)).await
}

/// Installed; `helm test` is green; a Remote and a Virtual are ready after `kubectl apply` and serve.
pub(crate) async fn installed(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let told = release.helm(&["test", SITE]).await;
    assert!(told.contains("Succeeded"), "{told}");
    let upstream = Upstream::start_at(bench.node().machine()).await;
    upstream.put("a/file", noise(3, 70_000));
    let took = release
        .configure(&[
            remote(bench, "first", "generic", &upstream.url(), json!({})),
            crate::release::manifest("Virtual", "all", json!({ "type": "generic", "members": ["first"] })),
        ])
        .await;
    println!("\nfigure: a Remote and a Virtual are Ready {:.1} s after kubectl apply", took.as_secs_f64());
    let url = release.url().await;
    for path in ["remote/first/a/file", "virtual/all/a/file"] {
        let served = http::get_until(&format!("{url}/api/v1/{path}"), http::Fetched::is_ok).await;
        assert_eq!(served.body, noise(3, 70_000), "{path}");
    }
    assert_eq!(release.pods("proxy").await.len(), 2);
    Ok(())
}

/// Nobody was refused anything: the rights of the chart are enough. The proxies have none and no token. The namespace
/// takes no pod that does not keep to the restricted profile, so all do.
pub(crate) async fn rights(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let audit = bench.node().audit();
    let lines: Vec<Value> = audit.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |account: &str| {
        let user = format!("system:serviceaccount:{SITE}:{SITE}-artifactapi-{account}");
        lines.iter().filter(|event| event["user"]["username"] == user.as_str()).collect::<Vec<_>>()
    };
    let operator = of("operator");
    assert!(!operator.is_empty(), "the operator has an account of its own");
    let refused: Vec<_> = operator.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "the operator was refused: {:#}", json!(refused));
    assert!(of("proxy").is_empty(), "proxies speak to the API server: {:#}", json!(of("proxy").first()));
    for verb in ["get", "list", "create"] {
        let account = format!("--as=system:serviceaccount:{SITE}:{SITE}-artifactapi-operator");
        let asked = bench.client("kubectl", &["auth", "can-i", verb, "secrets", "-n", "default", &account]);
        let told = asked.fails().await.unwrap_or_else(|why| panic!("{verb} secrets of others: {why}"));
        assert_eq!(told.out.trim(), "no");
    }
    let pods = release.get(&["pods"]).await;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = &pod["metadata"]["name"];
        let component = &pod["metadata"]["labels"]["app.kubernetes.io/component"];
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        let with_token = pod["spec"]["volumes"].to_string().contains("serviceAccountToken");
        assert_eq!(with_token, component == "operator", "{name}: {component}");
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        }
    }
    let namespace = bench.get(&["namespace", SITE]).await;
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    println!("\nfigure: {} requests of the operator, none refused", operator.len());
    Ok(())
}

/// Taken away: the definitions stay with their objects, and nothing else that the release made.
pub(crate) async fn uninstalled(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let theirs = ["secret/database", "secret/encryption", "secret/redis", "secret/s3"];
    let before = release.kubectl(&["get", "remotes,virtuals,locals,robots", "-o", "name"]).await;
    release.helm(&["uninstall", SITE, "--wait"]).await;
    let robots = before.lines().filter_map(|line| line.strip_prefix("robot.artifactapi.io/"));
    let mut kept: Vec<String> = robots.map(|robot| format!("secret/{robot}")).collect();
    kept.extend(theirs.map(str::to_owned));
    kept.sort();
    release.until_left(&kept.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let after = release.kubectl(&["get", "remotes,virtuals,locals,robots", "-o", "name"]).await;
    assert_eq!(after, before, "objects of ours");
    bench.kubectl(&["delete", "namespace", SITE, "--wait=false"]).await;
    Ok(())
}
