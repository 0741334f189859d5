//! The standalone pod: its two containers as processes, with the environment that the chart gives them, and with the
//! rights of its account. What is in memory is gone when the pod is made anew; what is on the volume is not.

use std::{fs, path::Path, time::Duration};

use artifactapi_services::Kubernetes;
use artifactapi_tests::{
    Proxy, Server, Upstream,
    http::{self, Fetched},
    kubernetes::{Api, Object},
    proxy::{Options, Told, binary, command, free_ports, operator_binary},
    upstream::Authority,
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    Bench, Ending,
    helm::{documents, of_kind, template},
};

/// Where this pod lives, away from what other trials do.
const PLACE: &str = "pod";
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads")
}

/// The pod's containers and what they share.
struct Pod {
    proxy: Server,
    operator: Server,
    volumes: TempDir,
    url: String,
}

impl Pod {
    async fn new(kubernetes: &Kubernetes) -> Self {
        let api = Api::admin(kubernetes);
        api.namespace(PLACE).await;
        // Upstreams of tests are on loopback. Of two namespaces the later one counts.
        let rendered = template()
            .with(&["--namespace", PLACE])
            .set(&["operator.ceilings.allowCIDRs={127.0.0.0/8}", "publicURL=http://packages.test"])
            .ok();
        let rendered = documents(&rendered);
        for kind in ["ServiceAccount", "Role", "RoleBinding"] {
            for object in of_kind(&rendered, kind) {
                api.apply(object).await;
            }
        }
        let deployment = of_kind(&rendered, "Deployment").next().expect("one pod");
        let spec = &deployment["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().expect("an account");
        let token = api.account_token(PLACE, account).await;
        let kubeconfig = kubernetes.kubeconfig_with(PLACE, &token);
        let volumes = TempDir::new().expect("a directory");
        for volume in ["data", "manifests"] {
            fs::create_dir(volumes.path().join(volume)).expect("space");
        }
        let [client, metrics, health] = free_ports().map(|port: u16| format!("127.0.0.1:{port}"));
        let containers = spec["containers"].as_array().expect("containers");
        let url = format!("http://{client}");
        let mut proxy = Server::new("proxy", binary().expect("built"), format!("{url}/readyz"));
        proxy.arguments(&["standalone"]).set_all(environment(&containers[0], volumes.path()));
        proxy.set("LISTEN_ADDR", client).set("ARTIFACTAPI_METRICS_ADDR", metrics);
        let ready = format!("http://{health}/readyz");
        let mut operator = Server::new("operator", operator_binary().expect("built"), ready);
        operator.set_all(environment(&containers[1], volumes.path()));
        operator.set("KUBECONFIG", kubeconfig.to_string_lossy()).set("ARTIFACTAPI_METRICS_ADDR", health);
        Pod { proxy, operator, volumes, url }
    }

    async fn readiness(&self) -> Option<Fetched> {
        http::try_request(Method::GET, &format!("{}/readyz", self.url), &[]).await.ok()
    }

    async fn until_ready(&self) {
        let is_ready = async || self.readiness().await.is_some_and(|told| told.status == 200);
        wait::until("the pod to be ready", PATIENCE, is_ready).await;
    }

    /// Ends both, and takes away what was in memory.
    async fn end(&mut self) {
        self.proxy.stop().await;
        self.operator.stop().await;
        let manifests = self.volumes.path().join("manifests");
        fs::remove_dir_all(&manifests).expect("it is ours");
        fs::create_dir(&manifests).expect("space");
    }

    /// Runs a subcommand on its data.
    async fn token(&self, arguments: &[&str]) -> String {
        let data = self.volumes.path().join("data").to_string_lossy().into_owned();
        let all = [arguments, &["--namespace", PLACE, "--data", &data]].concat();
        let Told { code, text } = command(all).await;
        assert_eq!(code, Some(0), "{text}");
        text
    }
}

/// What a container's manifest says of its environment, with volumes below `volumes`.
fn environment(container: &Value, volumes: &Path) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let place = |value: String| match value.as_str() {
        "/data" => volumes.join("data").to_string_lossy().into_owned(),
        "/run/artifactapi/manifests" => volumes.join("manifests").to_string_lossy().into_owned(),
        _ => value,
    };
    let variables = container["env"].as_array().expect("variables").iter();
    let pairs = variables.map(|one| {
        let namespace = one["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace";
        let value = text(&one["value"]).or(namespace.then(|| PLACE.to_owned()));
        (text(&one["name"]).expect("a name"), place(value.expect("a value or the namespace")))
    });
    pairs.collect()
}

pub(crate) fn standalone(bench: &Bench) -> Ending {
    let kubernetes = bench.kubernetes()?;
    runtime().block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("a.bin", vec![7; 100_000]);
        let mut pod = Pod::new(kubernetes).await;
        let api = Api::admin(kubernetes);
        let manifest = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "artifactapi.io/v1alpha1", "kind": kind,
                "metadata": { "name": name, "namespace": PLACE }, "spec": spec,
            })
        };
        let remote = manifest(
            "Remote",
            "files",
            json!({
                "type": "generic", "baseURL": upstream.url(), "egress": { "allowCIDRs": ["127.0.0.0/8"] },
                "access": { "read": "authenticated" },
            }),
        );
        let grants = json!({ "grants": [{ "repositories": ["files"], "actions": ["pull"] }] });
        let robot = manifest("Robot", "ci", grants);
        api.apply(&remote).await;
        api.apply(&robot).await;

        // Nothing is served, and nobody is told that it is not there, before the operator has written.
        pod.proxy.spawn();
        let reason = "[-]manifests are not all written by the operator yet";
        let waits = async || {
            let told = pod.readiness().await;
            told.is_some_and(|told| told.status == 503 && told.text().contains(reason))
        };
        wait::until("the proxy to say what it waits for, once its data is open", PATIENCE, waits).await;
        let file = format!("{}/api/v1/remote/files/a.bin", pod.url);
        assert_eq!(http::get(&file).await.status, 503, "and not 404");
        pod.operator.spawn();
        pod.until_ready().await;
        api.until_ready(&Object::of(&remote), PATIENCE).await;
        assert_eq!(http::get(&file).await.status, 401);
        let told = pod.token(&["token", "create", "ci"]).await;
        let token = told.lines().next().expect("a token").to_owned();
        let login = format!("Bearer {token}");
        let fetch = async || http::request(Method::GET, &file, &[("authorization", &login)]).await;
        wait::until("the token to count", PATIENCE, async || fetch().await.is_ok()).await;

        // The pod is made anew, and its upstream is gone.
        pod.end().await;
        upstream.off().await;
        let start = Instant::now();
        pod.proxy.spawn();
        let waits = async || pod.readiness().await.is_some_and(|told| told.status == 503);
        wait::until("the proxy to say that it waits", PATIENCE, waits).await;
        pod.operator.spawn();
        pod.until_ready().await;
        println!("figure: a standalone pod that is made anew is ready after {:.1?}", start.elapsed());
        let again = fetch().await;
        assert!(
            again.is_ok() && again.body.len() == 100_000,
            "what was stored, by the token of before: {again:?}"
        );
        pod.end().await;
    });
    Ok(())
}

/// Authorities of `trustedCA` are trusted beside those of the image.
pub(crate) fn trust(_: &Bench) -> Ending {
    let rendered = documents(&template().set(&["trustedCA.configMap=ours"]).ok());
    let deployment = of_kind(&rendered, "Deployment").next().expect("one pod");
    let variables =
        deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables");
    let places = variables.iter().find(|one| one["name"] == "SSL_CERT_DIR").expect("where authorities are");
    runtime().block_on(async {
        let home = TempDir::new().expect("a directory");
        let mut places = places["value"].as_str().expect("directories").to_owned();
        let (mut upstreams, mut manifests) = (Vec::new(), String::new());
        for (name, place) in [("public", "/etc/ssl/certs"), ("private", "/etc/artifactapi/trusted-ca")] {
            let authority = Authority::new();
            let upstream = Upstream::start_tls(&authority).await;
            upstream.put("a.bin", vec![7; 1_000]);
            let directory = home.path().join(name);
            fs::create_dir(&directory).expect("space");
            fs::write(directory.join("ca.pem"), authority.ca_pem()).expect("space");
            assert!(places.contains(place), "{places}");
            places = places.replace(place, &directory.to_string_lossy());
            let spec = json!({
                "type": "generic", "baseURL": upstream.url(), "egress": { "allowCIDRs": ["127.0.0.0/8"] },
            });
            let remote = json!({
                "apiVersion": "artifactapi.io/v1alpha1", "kind": "Remote", "metadata": { "name": name }, "spec": spec,
            });
            manifests += &format!("---\n{remote}\n");
            upstreams.push((name, upstream));
        }
        let proxy = Options::new(manifests).env("SSL_CERT_DIR", places).start().await;
        for (name, _) in &upstreams {
            let told = http::get(&format!("{}/api/v1/remote/{name}/a.bin", proxy.url())).await;
            assert!(told.is_ok(), "{name}: {told:?}");
        }
    });
    Ok(())
}

/// What `helm test` runs.
pub(crate) fn probe(_: &Bench) -> Ending {
    runtime().block_on(async {
        let proxy = Proxy::start("").await;
        let ready = format!("{}/readyz", proxy.url());
        let told = command(["probe", &ready]).await;
        assert_eq!((told.code, told.text.as_str()), (Some(0), "ready\n"));
        let [port] = free_ports();
        let nobody = format!("http://127.0.0.1:{port}/readyz");
        let told = command(["probe", &nobody, "--within", "1"]).await;
        assert_eq!(told.code, Some(1), "{}", told.text);
        assert!(told.text.contains(&nobody) && told.text.contains("refused"), "{}", told.text);
        let told = command(["probe", &format!("{}/v2/nothing/", proxy.url()), "--within", "0"]).await;
        assert!(told.code == Some(1) && told.text.contains("404"), "{}", told.text);
    });
    Ok(())
}
