//! What a real API server says of everything that is rendered.

use std::{path::PathBuf, time::Instant};

use artifactapi_services::{Access, installed, provided};
use artifactapi_tests::{Missing, http::PATIENCE};
use serde_json::{Value, json};

use crate::{
    Bench, Ending,
    helm::{NAMESPACE, documents, pods, sets, template},
};

/// Definitions of other projects that the chart has objects of.
const FOREIGN: [&str; 2] = ["definitions-gateway-api", "definitions-prometheus"];
/// Namespaces that the sets name.
const NAMESPACES: [&str; 3] = [NAMESPACE, "team-a", "team-b"];

/// Makes the namespaces, in which nothing but the restricted profile is accepted.
fn prepare(kubernetes: &Access) {
    for name in NAMESPACES {
        let labels: Value = ["enforce", "warn"]
            .into_iter()
            .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), json!("restricted")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels },
        });
        apply(kubernetes, &namespace, &[]).expect("a namespace");
    }
    // What pods name and no controller makes here.
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": "gvisor" }, "handler": "runsc",
    });
    apply(kubernetes, &class, &[]).expect("a runtime class");
    for account in
        ["default", "artifactapi-operator", "artifactapi-proxy", "packages-operator", "shared", "watcher"]
    {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account, "namespace": NAMESPACE },
        });
        apply(kubernetes, &account, &[]).expect("an account");
    }
}

/// Applies one object on the server's side; what was said, warnings included.
fn apply(kubernetes: &Access, object: &Value, more: &[&str]) -> Result<String, String> {
    let mut command = kubernetes.kubectl();
    command.args(["apply", "--server-side", "--validate=strict", "--filename=-"]).args(more);
    let input = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(input.path(), object.to_string()).expect("space");
    command.stdin(std::fs::File::open(input.path()).expect("the file"));
    let output = command.output().expect("an executable kubectl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = text(&output.stdout) + &text(&output.stderr);
    if output.status.success() { Ok(told) } else { Err(told) }
}

pub(crate) fn objects(bench: &Bench) -> Ending {
    let kubernetes = bench.kubernetes()?;
    prepare(kubernetes);
    for thing in FOREIGN {
        let directory: Option<PathBuf> = provided(installed(thing), "everything that is rendered");
        let directory =
            directory.ok_or_else(|| Missing(format!("{thing} is not there: hack/test installs it")))?;
        let directory = directory.to_string_lossy();
        let run =
            |arguments: &[&str]| kubernetes.run(arguments, "").unwrap_or_else(|why| panic!("{thing}: {why}"));
        run(&["apply", "--server-side", "--filename", &directory]);
        // It refuses those that have no conditions at all yet.
        let established = ["wait", "--for=condition=Established", "--timeout=60s", "--filename", &directory];
        let end = Instant::now() + PATIENCE;
        while let Err(why) = kubernetes.run(&established, "") {
            assert!(Instant::now() < end, "{thing}: {why}");
        }
    }
    let mut accepted = 0;
    for (set, file) in sets() {
        for object in documents(&template().values(&file).ok()) {
            let kind = object["kind"].as_str().expect("a kind").to_owned();
            let told = apply(kubernetes, &object, &["--dry-run=server"]);
            let told =
                told.unwrap_or_else(|why| panic!("{set}: {kind} {}: {why}", object["metadata"]["name"]));
            assert!(!told.contains("Warning"), "{set}: {kind}: {told}");
            accepted += 1;
        }
    }
    println!("figure: the API server accepts all {accepted} objects of {} sets of values", sets().len());
    Ok(())
}

/// A pod, unlike the template of one, is refused when it does not satisfy the profile of its namespace.
pub(crate) fn pods_are_restricted(bench: &Bench) -> Ending {
    let kubernetes = bench.kubernetes()?;
    prepare(kubernetes);
    let dry = ["--dry-run=server"];
    for (set, file) in sets() {
        for (name, spec) in pods(&documents(&template().values(&file).ok())) {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "one", "namespace": NAMESPACE }, "spec": spec,
            });
            let told = apply(kubernetes, &pod, &dry).unwrap_or_else(|why| panic!("{set}: {name}: {why}"));
            assert!(!told.contains("Warning"), "{set}: {name}: {told}");
        }
    }
    // That this refuses anything at all.
    let rendered = documents(&template().set(&["securityContext.allowPrivilegeEscalation=true"]).ok());
    let pods = pods(&rendered);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "one", "namespace": NAMESPACE }, "spec": pods[0].1,
    });
    let told = apply(kubernetes, &pod, &dry).expect_err("it violates the profile");
    assert!(told.contains("violates PodSecurity \"restricted"), "{told}");
    Ok(())
}
