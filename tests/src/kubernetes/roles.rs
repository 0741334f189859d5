//! The operator's definitions and published roles on an API server: what a cluster's administrator applies, and nothing
//! else.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use artifactapi_services::Access;
use serde_json::{Value, json};

use super::Api;
use crate::http::PATIENCE;

/// The service account of the operator.
pub const ACCOUNT: &str = "artifactapi-operator";

/// A path in the checkout.
pub fn checkout(path: &str) -> PathBuf {
    // Asked when it runs: the program may have been compiled for another checkout.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    Path::new(&here).join("..").join(path)
}

/// Installs the definitions and waits until objects of all kinds can be made.
///
/// # Panics
/// When `kubectl` refuses.
pub fn install_definitions(kubernetes: &Access) {
    let generated = checkout("crds/generated").to_string_lossy().into_owned();
    must(kubernetes, &["apply", "--server-side", "-f", &generated]);
    until_served(kubernetes);
}

/// Waits until the definitions, which somebody has applied, are established and `kubectl` finds their kinds by name.
///
/// # Panics
/// When that does not come.
pub fn until_served(kubernetes: &Access) {
    let definitions =
        ["locals", "remotes", "robots", "virtuals"].map(|kind| format!("{kind}.artifactapi.io"));
    let limit = format!("--timeout={}s", PATIENCE.as_secs());
    let wait = ["wait", "--for=condition=Established", &limit, "crd"];
    let names = definitions.iter().map(String::as_str);
    must(kubernetes, &wait.into_iter().chain(names).collect::<Vec<_>>());
    // The list of a group's kinds follows a moment later.
    let end = Instant::now() + PATIENCE;
    loop {
        let told = kubernetes.run(&["api-resources", "--api-group=artifactapi.io", "--output=name"], "");
        let is_listed = |told: &str| definitions.iter().all(|name| told.lines().any(|line| line == name));
        if told.as_deref().is_ok_and(is_listed) {
            return;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for all of {definitions:?}: {told:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn must(kubernetes: &Access, arguments: &[&str]) {
    let told = kubernetes.run(arguments, "");
    told.unwrap_or_else(|why| panic!("kubectl {}: {why}", arguments.join(" ")));
}

/// A published role: `role`, `leader-role`, `cluster-role`, `viewer-role` or `editor-role`.
///
/// # Panics
/// When there is none.
pub fn published(name: &str) -> Value {
    let path = checkout("operator/generated").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Makes the operator's account in namespace `home` and gives it the published roles in `watched`, or in the whole
/// cluster.
///
/// # Panics
/// When the API server refuses.
pub async fn grant(api: &Api, home: &str, watched: Option<&[String]>) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT, "namespace": home },
    });
    api.apply(&account).await;
    let subject = json!({ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": home });
    bind(api, published("leader-role"), Some(home), &subject).await;
    match watched {
        Some(namespaces) => {
            for namespace in namespaces {
                bind(api, published("role"), Some(namespace), &subject).await;
            }
        }
        None => bind(api, published("cluster-role"), None, &subject).await,
    }
}

/// Applies `role` in a namespace, or in the cluster, and gives it to `subject` there.
///
/// # Panics
/// When the API server refuses.
pub async fn bind(api: &Api, mut role: Value, namespace: Option<&str>, subject: &Value) {
    let is_cluster_role = role["kind"] == "ClusterRole";
    if let Some(namespace) = namespace.filter(|_| !is_cluster_role) {
        role["metadata"]["namespace"] = json!(namespace);
    }
    api.apply(&role).await;
    let name = &role["metadata"]["name"];
    let mut binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": name },
        "subjects": [subject],
    });
    if let Some(namespace) = namespace {
        binding["metadata"]["namespace"] = json!(namespace);
    }
    api.apply(&binding).await;
}

/// Rights of the published roles of one namespace that no request in `audited` made use of: verb, group and resource.
pub fn unused(audited: &[Value]) -> Vec<String> {
    let strings = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut given = BTreeSet::new();
    for role in [published("role"), published("leader-role")] {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    let rights = strings(&rule["verbs"]);
                    given.extend(rights.iter().map(|verb| format!("{verb} {group}/{resource}")));
                }
            }
        }
    }
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<String> = audited
        .iter()
        .map(|event| {
            let object = &event["objectRef"];
            let [group, resource, part] =
                ["apiGroup", "resource", "subresource"].map(|field| word(&object[field]));
            let part = if part.is_empty() { part } else { format!("/{part}") };
            format!("{} {group}/{resource}{part}", word(&event["verb"]))
        })
        .collect();
    given.difference(&used).cloned().collect()
}
