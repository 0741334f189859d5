//! The life of a release, and what it leaves behind. No controller runs here, so that objects are looked at and no pods.

use artifactapi_services::{Access, Kubernetes, provided};
use artifactapi_tests::{Missing, kubernetes::roles::until_served};

use crate::{
    Bench, Ending,
    helm::{CLUSTER, Helm, NAMESPACE, RELEASE, chart},
};

/// Kinds that are looked for afterwards.
const NAMESPACED: &str = "deployments,jobs,pods,services,serviceaccounts,configmaps,secrets,persistentvolumeclaims,roles,\
                          rolebindings,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses,leases,\
                          remotes,robots";
const CLUSTERED: &str = "clusterroles,clusterrolebindings,customresourcedefinitions";

const REMOTE: &str = "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {name: kept, namespace: apps}\n\
                      spec: {type: npm, baseURL: \"https://registry.yarnpkg.com/\"}\n";
const LEASE: &str = "apiVersion: coordination.k8s.io/v1\nkind: Lease\n\
                     metadata: {name: artifactapi-operator, namespace: apps}\nspec: {holderIdentity: somebody}\n";

/// As an operator holds it.
const PURGED: &str = "apiVersion: artifactapi.io/v1alpha1\nkind: Local\n\
                      metadata: {name: purged, namespace: apps, finalizers: [artifactapi.io/purge]}\n\
                      spec: {type: docker, deletionPolicy: Purge}\n";

/// One release on an API server.
struct Release<'a>(&'a Access);

impl Release<'_> {
    fn helm(&self, verb: &str) -> Helm {
        let kubeconfig = self.0.kubeconfig(Access::ADMIN);
        Helm::new(&[verb, RELEASE, "--namespace", NAMESPACE]).on(&kubeconfig)
    }

    fn with_chart(&self, verb: &str) -> Helm {
        self.helm(verb).with(&[&chart().to_string_lossy()])
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let told = self.0.run(arguments, input);
        told.unwrap_or_else(|why| panic!("kubectl {}: {why}", arguments.join(" ")))
    }

    /// Everything of ours, as `kind/name`.
    fn objects(&self) -> Vec<String> {
        let names = |kinds: &str, more: &[&str]| {
            let told =
                self.kubectl(&[&["get", kinds, "--output=name", "--ignore-not-found"], more].concat(), "");
            told.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut all = names(NAMESPACED, &["--namespace", NAMESPACE]);
        let clustered = names(CLUSTERED, &[]);
        all.extend(clustered.into_iter().filter(|name| name.contains("artifactapi")));
        all
    }

    /// A field of the standalone Deployment.
    fn deployment(&self, path: &str) -> String {
        let path = format!("--output=jsonpath={{{path}}}");
        self.kubectl(&["get", "deployment", RELEASE, "--namespace", NAMESPACE, &path], "")
    }
}

pub(crate) fn release(_: &Bench) -> Ending {
    let Some(kubernetes) = provided(Kubernetes::start(&[]), "the life of a release") else {
        return Err(Missing("kube-apiserver, kubectl or etcd is not installed".to_owned()));
    };
    let release = Release(&kubernetes);
    release.kubectl(&["create", "namespace", NAMESPACE], "");
    release.with_chart("install").ok();
    // Before that nobody knows what a remote is.
    until_served(&kubernetes);
    let installed = release.objects();
    for name in
        ["deployment.apps/artifactapi", "persistentvolumeclaim/artifactapi-data", "service/artifactapi"]
    {
        assert!(installed.iter().any(|one| one == name), "{name}: {installed:?}");
    }
    release.kubectl(&["apply", "--filename=-"], REMOTE);
    // As an operator makes it.
    release.kubectl(&["apply", "--filename=-"], LEASE);

    release.with_chart("upgrade").set(&["operator.log=debug", "nodePort.enabled=true"]).ok();
    let log = ".spec.template.spec.containers[1].env[?(@.name==\"RUST_LOG\")].value";
    assert_eq!(release.deployment(log), "debug");
    assert!(release.objects().contains(&"service/artifactapi-nodes".to_owned()));
    let generation = release.deployment(".metadata.generation");
    release.with_chart("upgrade").set(&["operator.log=debug", "nodePort.enabled=true"]).ok();
    assert_eq!(
        release.deployment(".metadata.generation"),
        generation,
        "an upgrade without changes restarts nothing"
    );
    release.helm("rollback").with(&["1"]).ok();
    assert_eq!(release.deployment(log), "info");
    assert!(!release.objects().contains(&"service/artifactapi-nodes".to_owned()));
    clustered(&release);

    release.helm("uninstall").ok();
    let left = release.objects();
    let definitions = ["locals", "remotes", "robots", "virtuals"]
        .map(|kind| format!("customresourcedefinition.apiextensions.k8s.io/{kind}.artifactapi.io"));
    let mut expected =
        vec!["persistentvolumeclaim/artifactapi-data".to_owned(), "remote.artifactapi.io/kept".to_owned()];
    expected.extend(definitions);
    assert_eq!(left, expected, "the volume, the definitions and their objects, and nothing else");

    autoscaled(&release);
    // The same again takes them up, and takes them along when that is wanted.
    release.with_chart("install").set(&["crds.keep=false", "persistence.keep=false"]).ok();
    assert!(release.objects().contains(&"remote.artifactapi.io/kept".to_owned()), "it was adopted");
    refused_by_the_server(&release);
    release.helm("uninstall").ok();
    let claim =
        ["get", "pvc", "--namespace", NAMESPACE, "--output=jsonpath={.items[*].metadata.deletionTimestamp}"];
    assert_ne!(release.kubectl(&claim, ""), "", "it goes as soon as nobody uses it");
    let going = "--output=jsonpath={.items[*].metadata.deletionTimestamp}";
    let definitions = release.kubectl(&["get", "crd", "--output=name"], "");
    let is_gone = definitions.is_empty() || !release.kubectl(&["get", "crd", going], "").is_empty();
    assert!(is_gone, "{definitions}");
    Ok(())
}

/// The other mode needs no other release. Each upgrade has a migration of its own, and turning on the autoscaler leaves
/// as many replicas as there are.
fn clustered(release: &Release<'_>) {
    release.with_chart("upgrade").set(&CLUSTER).ok();
    let clustered = release.objects();
    for name in [
        "deployment.apps/artifactapi-proxy",
        "deployment.apps/artifactapi-operator",
        "persistentvolumeclaim/artifactapi-data",
    ] {
        assert!(clustered.iter().any(|one| one == name), "{name}: {clustered:?}");
    }
    assert!(!clustered.contains(&"deployment.apps/artifactapi".to_owned()), "{clustered:?}");
    let migrations = || {
        let jobs = release.kubectl(&["get", "jobs", "--namespace", NAMESPACE, "--output=name"], "");
        jobs.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = migrations();
    let replicas = || {
        let path = "--output=jsonpath={.spec.replicas}";
        release.kubectl(&["get", "deployment", "artifactapi-proxy", "--namespace", NAMESPACE, path], "")
    };
    assert_eq!(replicas(), "2", "as many as nobody said");
    release.kubectl(&["scale", "deployment/artifactapi-proxy", "--namespace", NAMESPACE, "--replicas=5"], "");
    for _ in 0..2 {
        release.with_chart("upgrade").set(&CLUSTER).set(&["autoscaling.enabled=true"]).ok();
        assert_eq!(replicas(), "5", "the autoscaler begins where it finds them");
    }
    let later = migrations();
    assert_eq!((first.len(), later.len()), (1, 1), "{first:?} {later:?}");
    assert_ne!(first, later, "one that had failed would be made again");
}

/// With the autoscaler from the start, a rollback to that puts back what its revision said, and not the 1 of a field that
/// nobody sets.
fn autoscaled(release: &Release<'_>) {
    let path = "--output=jsonpath={.spec.replicas}";
    let replicas =
        || release.kubectl(&["get", "deployment", "artifactapi-proxy", "--namespace", NAMESPACE, path], "");
    let values = ["autoscaling.enabled=true", "autoscaling.minReplicas=3"];
    release.with_chart("install").set(&CLUSTER).set(&values).ok();
    assert_eq!(replicas(), "3", "the fewest, when there are none");
    release.kubectl(&["scale", "deployment/artifactapi-proxy", "--namespace", NAMESPACE, "--replicas=5"], "");
    release.with_chart("upgrade").set(&CLUSTER).set(&values).set(&["operator.log=debug"]).ok();
    assert_eq!(replicas(), "5", "the autoscaler's");
    release.helm("rollback").with(&["1"]).ok();
    assert_eq!(replicas(), "3", "those of the first revision");
    release.helm("uninstall").ok();
}

/// What only a look at what is there shows to be wrong.
fn refused_by_the_server(release: &Release<'_>) {
    // Helm leaves it on a claim that was there before; one that this release had made would not have it.
    let kept = "helm.sh/resource-policy-";
    release.kubectl(&["annotate", "pvc", "artifactapi-data", "--namespace", NAMESPACE, kept], "");
    let others: [(&[&str], &str); 4] = [
        (&CLUSTER, "mode: cluster takes"),
        (&["persistence.enabled=false"], "persistence.enabled: false takes"),
        // The very same claim, which the chart would no longer name.
        (&["persistence.existingClaim=artifactapi-data"], "persistence.existingClaim takes"),
        (&["fullnameOverride=packages"], "another name (fullnameOverride, nameOverride) takes"),
    ];
    for (values, why) in others {
        let told = release.with_chart("upgrade").set(values).set(&["crds.keep=false"]).refused();
        for words in
            [&format!("{why} the claim artifactapi-data away"), "persistence.keep: true, and otherwise"]
        {
            assert!(told.contains(words), "{words:?} in: {told}");
        }
    }
    let given = ["persistence.keep=false", "crds.enabled=false"];
    let told = release.with_chart("upgrade").set(&given).refused();
    assert!(
        told.contains("crds.enabled: false takes the definitions away")
            && told.contains("crds.keep: true before"),
        "{told}"
    );
    // One that takes nothing away is none of them.
    release.with_chart("upgrade").set(&["crds.keep=false", "persistence.keep=false"]).ok();
    release.kubectl(&["apply", "--filename=-"], PURGED);
    let told = release.with_chart("upgrade").set(&["crds.keep=false", "persistence.keep=false"]).refused();
    assert!(told.contains("set crds.keep: true, or delete these before: Local apps/purged"), "{told}");
    // As the README says: without an operator, somebody else lets go of it.
    let finalizers = r#"{"metadata": {"finalizers": null}}"#;
    let patch = ["patch", "local", "purged", "--namespace", NAMESPACE, "--type=merge", "--patch", finalizers];
    release.kubectl(&["delete", "local", "purged", "--namespace", NAMESPACE, "--wait=false"], "");
    release.kubectl(&patch, "");
    let left = ["get", "locals", "--namespace", NAMESPACE, "--output=name"];
    assert_eq!(release.kubectl(&left, ""), "", "it is gone");
}
