//! One release of the chart, in a namespace of its own whose pods must keep to the restricted profile.

use std::time::{Duration, Instant};

use artifactapi_tests::{
    http::{self, Fetched},
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, IMAGES, PATIENCE, TAG, chart};

/// The bound of the requirements for what the operator says about an object, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);
/// Longest wait of `helm`: an upgrade is a Job and starts of pods one after the other.
const HELM: Duration = Duration::from_secs(300);
/// Pods that serve clients, in either mode.
const SERVING: &str = "app.kubernetes.io/component in (proxy,standalone)";

/// A release and its namespace, which have the same name.
pub(crate) struct Release<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) name: &'static str,
}

impl<'a> Release<'a> {
    /// The release called `name`, whether it is installed or not.
    pub(crate) fn new(bench: &'a Bench, name: &'static str) -> Self {
        Release { bench, name }
    }

    /// What every release of these tests has: the images on the node.
    pub(crate) fn values(more: Value) -> Value {
        let image = |which: usize| json!({ "repository": IMAGES[which], "tag": TAG, "pullPolicy": "Never" });
        let mut values = json!({ "proxy": { "image": image(0) }, "operator": { "image": image(1) } });
        merge(&mut values, more);
        values
    }

    /// `helm VERB` with these values, to the end of its wait; how long that took.
    pub(crate) async fn put(&self, verb: &str, values: &Value) -> Duration {
        let values = self.bench.write(&format!("values-{}.json", self.name), values);
        let began = Instant::now();
        self.helm(&[verb, self.name, &chart(), "-f", &values, "--wait", "--wait-for-jobs"]).await;
        began.elapsed()
    }

    /// `helm` in this namespace.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> String {
        let limit = format!("{}s", HELM.as_secs());
        let timed = ["install", "upgrade", "rollback", "uninstall", "test"].contains(&arguments[0]);
        let bounded: &[&str] = if timed { &["--timeout", &limit] } else { &[] };
        let run = self.bench.client("helm", &[arguments, &["-n", self.name], bounded].concat());
        // It says itself what it has waited for in vain.
        let told = run.within(HELM + PATIENCE).ok().await;
        told.unwrap_or_else(|why| panic!("{why}")).out
    }

    /// `kubectl` in this namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.bench.kubectl(&[&["-n", self.name], arguments].concat()).await
    }

    /// `kubectl get … -o json` in this namespace.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Value {
        self.bench.get(&[&["-n", self.name], arguments].concat()).await
    }

    /// Applies manifests of ours, and waits until all of them are ready; how long that took. When it returns, every pod
    /// that serves clients knows them, too.
    pub(crate) async fn configure(&self, manifests: &[Value]) -> Duration {
        let mut manifests = manifests.to_vec();
        for manifest in &mut manifests {
            manifest["metadata"]["namespace"] = json!(self.name);
        }
        self.bench.apply(&manifests).await;
        let began = Instant::now();
        let limit = format!("--timeout={}s", SOON.as_secs());
        for manifest in &manifests {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_ascii_lowercase();
            let object = format!("{}/{}", word(&manifest["kind"]), word(&manifest["metadata"]["name"]));
            self.kubectl(&["wait", "--for=condition=Ready", &object, &limit]).await;
        }
        let took = began.elapsed();
        for manifest in manifests.iter().filter(|manifest| manifest["kind"] != "Robot") {
            let name = manifest["metadata"]["name"].as_str().expect("a name");
            // No Local is served there, so that each repository has a refusal of its own, and nobody asks upstream.
            let is_known =
                |told: &Fetched| told.status == 404 && !told.text().contains("there is no repository called");
            self.everywhere(&format!("/api/v1/local/{name}/"), is_known).await;
        }
        took
    }

    /// Waits until every pod that serves clients answers `path` so. Ready says what the database holds, and each of them
    /// follows that for itself.
    pub(crate) async fn everywhere(&self, path: &str, good: impl Fn(&Fetched) -> bool) {
        let look = async || {
            let pods = self.placed(SERVING).await;
            if pods.is_empty() {
                return Err("there is no such pod".to_owned());
            }
            for (pod, address) in pods {
                let url = format!("http://{address}:8000{path}");
                match http::try_request(Method::GET, &url, &[]).await {
                    Ok(told) if good(&told) => {}
                    told => return Err(format!("{pod}: {told:?}")),
                }
            }
            Ok(())
        };
        wait::until_good(&format!("{path} on every pod of {}", self.name), PATIENCE, look).await;
    }

    /// Root URL of the service, as the machine reaches it, without a slash at its end.
    pub(crate) async fn url(&self) -> String {
        format!("http://{}", self.host().await)
    }

    /// `address:port` of the service.
    pub(crate) async fn host(&self) -> String {
        let service = self.get(&["service", &format!("{}-artifactapi", self.name)]).await;
        format!("{}:80", service["spec"]["clusterIP"].as_str().expect("an address"))
    }

    /// Root URL of the service, as pods know it.
    pub(crate) fn inside(&self) -> String {
        format!("http://{0}-artifactapi.{0}.svc", self.name)
    }

    /// Names of the pods of a component that are not on their way out.
    pub(crate) async fn pods(&self, component: &str) -> Vec<String> {
        let pods = self.addresses(component).await;
        pods.into_iter().map(|(name, _)| name).collect()
    }

    /// Names and addresses of these pods. One that is not started yet has none.
    pub(crate) async fn addresses(&self, component: &str) -> Vec<(String, String)> {
        self.placed(&format!("app.kubernetes.io/component={component}")).await
    }

    async fn placed(&self, selector: &str) -> Vec<(String, String)> {
        let pods = self.get(&["pods", "-l", selector]).await;
        let all = pods["items"].as_array().cloned().unwrap_or_default();
        let staying = all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        staying.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect()
    }

    /// Everything in the namespace that the release has made, as `kind/name`, but for what every namespace has.
    pub(crate) async fn left(&self) -> Vec<String> {
        let kinds = "deployments,replicasets,pods,jobs,services,configmaps,secrets,serviceaccounts,roles,\
                     rolebindings,networkpolicies,poddisruptionbudgets,leases,persistentvolumeclaims";
        let told = self.kubectl(&["get", kinds, "-o", "name"]).await;
        let usual = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
        told.lines().filter(|line| !usual.contains(line)).map(str::to_owned).collect()
    }

    /// Waits until nothing of it is left but `kept`.
    pub(crate) async fn until_left(&self, kept: &[&str]) {
        let mut last = Vec::new();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            last = self.left().await;
            if last == kept {
                return;
            }
            wait::breathe().await;
        }
        panic!("left of {}: {last:?} instead of {kept:?}", self.name);
    }
}

/// A manifest of one of our kinds; [`Release::configure`] says in which namespace.
pub(crate) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "artifactapi.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A Remote in front of an upstream on the machine, with `more` in its spec.
pub(crate) fn remote(bench: &Bench, name: &str, package_type: &str, url: &str, more: Value) -> Value {
    let mut spec = json!({
        "type": package_type, "baseURL": url, "egress": { "allowCIDRs": [bench.node().network()] },
    });
    merge(&mut spec, more);
    manifest("Remote", name, spec)
}

/// Lays `more` over `value`, object by object. A null takes what was there away, as in values of Helm.
pub(crate) fn merge(value: &mut Value, more: Value) {
    match (value, more) {
        (Value::Object(value), Value::Object(more)) => {
            for (name, more) in more {
                merge(value.entry(name).or_insert(Value::Null), more);
            }
        }
        (value, more) => *value = more,
    }
}
