//! The node itself: what every other trial takes for granted.

use artifactapi_tests::http;
use serde_json::json;

use crate::{
    Ending,
    bench::{BUSYBOX, Bench, deployment},
};

const NAMESPACE: &str = "plain";

/// A Deployment under the restricted profile answers under its service's name, for pods and for the machine; a node
/// that runs is left as it is by another `up`.
pub(crate) async fn works(bench: &Bench) -> Ending {
    bench.namespace(NAMESPACE, "restricted").await;
    let serve = ["/bin/sh", "-c", "echo hello > /tmp/index.html && exec httpd -f -p 8080 -h /tmp"];
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": NAMESPACE, "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    bench.apply(&[deployment(NAMESPACE, "web", BUSYBOX, &serve, json!({})), service]).await;
    bench.rolled_out(NAMESPACE, "web").await;
    let exec = ["exec", "-n", NAMESPACE, "deployment/web", "--"];
    let fetch = [&exec[..], &["wget", "-q", "-O", "-", "http://web.plain.svc/"]].concat();
    assert_eq!(bench.kubectl(&fetch).await, "hello\n", "by the service's name, from a pod");
    let found = bench.kubectl(&[&exec[..], &["nslookup", "machine.internal"]].concat()).await;
    assert!(found.contains(&bench.node().machine().to_string()), "the machine has a name in pods: {found}");
    let service = bench.get(&["service", "web", "-n", NAMESPACE]).await;
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    assert_eq!(http::get(&format!("http://{address}/")).await.text(), "hello\n", "from the machine");
    let before = bench.on_node(&["exec", "cat", "/proc/1/stat"]);
    let told = bench.on_node(&["up"]);
    assert_eq!(bench.on_node(&["exec", "cat", "/proc/1/stat"]).split(' ').nth(21), before.split(' ').nth(21));
    assert!(told.contains("kubelet: runs"), "{told}");
    bench.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await;
    Ok(())
}
