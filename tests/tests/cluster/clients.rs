//! Clients in pods: by the service's name, with nothing of the machine but the programs.

use std::path::Path;

use artifactapi_tests::{
    Missing, Run, Upstream, client,
    fixtures::{helm, pypi},
    wait,
};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{BUSYBOX, Bench, PATIENCE, is_there},
    release::{manifest, remote},
    site::site,
};

/// Where these pods are. They see directories of the node, which the restricted profile forbids.
const NAMESPACE: &str = "clients";

/// A pod pulls a chart from a Virtual, and another one installs a Python package, with what it depends on, from a
/// Remote.
pub(crate) async fn pulled(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let (chart, wheels) = (helm::chart().await?, pypi::wheels().await?);
    let upstream = Upstream::start_at(bench.node().machine()).await;
    chart.stock(&upstream, &upstream);
    pypi::stock(&upstream, &upstream, &wheels);
    release
        .configure(&[
            remote(bench, "charts-upstream", "helm", &upstream.url(), json!({})),
            manifest("Virtual", "charts", json!({ "type": "helm", "members": ["charts-upstream"] })),
            remote(bench, "python", "pypi", &upstream.url(), json!({})),
        ])
        .await;
    bench.namespace(NAMESPACE, "privileged").await;
    let inside = release.inside();
    let helm = client::find("helm")?;
    let script = format!(
        "{} pull {} --repo {inside}/api/v1/virtual/charts --version {} -d /tmp && sha256sum /tmp/*.tgz",
        helm.display(),
        helm::CHART,
        helm::VERSION
    );
    let told = run(bench, "helm", &script, &[helm.parent().expect("a directory")]).await;
    let digest = artifactapi_tests::fingerprint::of_bytes(&chart.archive);
    assert!(told.contains(&digest), "the chart that upstream has ({digest}): {told}");

    let (python, prefix) = python().await?;
    let script = format!(
        "{python} -m pip install --no-cache-dir --disable-pip-version-check --target /tmp/got --trusted-host {} --trusted-host {} \
         --index-url {inside}/api/v1/remote/python/simple/ {} && PYTHONPATH=/tmp/got {python} -c \
         'import dateutil, six; print(\"imported\", six.__version__)'",
        inside.trim_start_matches("http://"),
        bench.node().address(),
        pypi::PROJECT
    );
    let told = run(bench, "python", &script, &[Path::new(&prefix)]).await;
    assert!(told.contains("imported 1.17.0"), "{told}");
    bench.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await;
    Ok(())
}

/// The machine's Python and the directory that it lives in.
async fn python() -> Result<(String, String), Missing> {
    let ask = "import sys; print(sys.executable); print(sys.base_prefix)";
    let told = Run::new("python3", Path::new("/")).args(["-c", ask]).ok().await.map_err(Missing)?;
    let mut lines = told.out.lines().map(str::to_owned);
    lines.next().zip(lines.next()).ok_or_else(|| Missing("python3 does not say where it is".to_owned()))
}

/// Runs a script in a pod that sees the machine's programs and libraries and `more` directories, to its end; what it
/// printed.
async fn run(bench: &Bench, name: &str, script: &str, more: &[&Path]) -> String {
    let usual = ["/usr", "/lib", "/lib64", "/etc/ssl"].map(Path::new);
    let places = usual.iter().chain(more.iter().filter(|place| !place.starts_with("/usr")));
    let places: Vec<String> =
        places.map(|place| place.to_string_lossy().into_owned()).filter(|p| is_there(p)).collect();
    let volumes: Vec<Value> = places
        .iter()
        .enumerate()
        .map(|(number, path)| json!({ "name": format!("place-{number}"), "hostPath": { "path": path } }))
        .collect();
    let mounts: Vec<Value> = places
        .iter()
        .enumerate()
        .map(|(number, path)| json!({ "name": format!("place-{number}"), "mountPath": path, "readOnly": true }))
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "volumes": volumes,
            "containers": [{
                "name": "one", "image": BUSYBOX, "command": ["/bin/sh", "-c", script], "volumeMounts": mounts,
                "env": [{ "name": "HOME", "value": "/tmp" }],
                "securityContext": { "runAsUser": 0 },
            }],
        },
    });
    bench.apply(&[pod]).await;
    let mut phase = String::new();
    let mut ended = async || {
        let pod = bench.get(&["pod", name, "-n", NAMESPACE]).await;
        phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
        phase == "Succeeded" || phase == "Failed"
    };
    wait::until(&format!("the pod {name} to end"), PATIENCE, &mut ended).await;
    let told = bench.kubectl(&["logs", name, "-n", NAMESPACE]).await;
    assert_eq!(phase, "Succeeded", "{name}: {told}");
    told
}
