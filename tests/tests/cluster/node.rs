//! The node itself: what every other trial takes for granted.

use artifactapi_tests::{http, wait};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{BUSYBOX, Bench, PATIENCE, deployment},
};

const NAMESPACE: &str = "plain";
/// Of those who claim volumes: the other one may still be about to go.
const CLAIMANTS: &str = "claimants";

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
    // The service's rules follow the pod, and its server its start.
    wait::until("the service to answer by its name, from a pod", PATIENCE, async || {
        bench.client("kubectl", &fetch).ok().await.is_ok_and(|told| told.out == "hello\n")
    })
    .await;
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

/// As many as the node has.
const VOLUMES: usize = 16;

/// A pod that claims all volumes for as long as it lives, finds them empty and leaves something in each.
fn claimant(name: &str) -> Value {
    let claim = json!({ "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    let volume =
        |number| json!({ "name": format!("v{number}"), "ephemeral": { "volumeClaimTemplate": claim } });
    let mount = |number| json!({ "name": format!("v{number}"), "mountPath": format!("/volumes/{number}") });
    let look = format!(
        "test $(find /volumes -type f | wc -l) = 0 && for n in $(seq {VOLUMES}); do echo {name} > /volumes/$n/left; done"
    );
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": CLAIMANTS, "name": name },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534, "fsGroup": 65534, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "main", "image": BUSYBOX, "command": ["/bin/sh", "-c", look],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": (1..=VOLUMES).map(mount).collect::<Vec<_>>(),
            }],
            "volumes": (1..=VOLUMES).map(volume).collect::<Vec<_>>(),
        },
    })
}

/// Who lets go of a volume leaves it to the next one, who finds nothing in it.
pub(crate) async fn volumes(bench: &Bench) -> Ending {
    bench.namespace(CLAIMANTS, "restricted").await;
    let limit = format!("{}s", PATIENCE.as_secs());
    for name in ["first", "second"] {
        bench.apply(&[claimant(name)]).await;
        let pod = format!("pod/{name}");
        let wait =
            ["wait", "-n", CLAIMANTS, "--for=jsonpath={.status.phase}=Succeeded", &pod, "--timeout", &limit];
        bench.kubectl(&wait).await;
        bench.kubectl(&["delete", "-n", CLAIMANTS, &pod]).await;
    }
    wait::until("all volumes to be offered", PATIENCE, async || {
        let volumes = bench.get(&["persistentvolumes"]).await;
        let volumes = volumes["items"].as_array().expect("a list");
        volumes.len() == VOLUMES && volumes.iter().all(|volume| volume["status"]["phase"] == "Available")
    })
    .await;
    bench.kubectl(&["delete", "namespace", CLAIMANTS, "--wait=false"]).await;
    Ok(())
}
