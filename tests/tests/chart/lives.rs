//! The life of a release, and what it leaves behind. No controller runs here, so that objects are looked at and no pods.

use artifactapi_services::{Access, Kubernetes, provided};
use artifactapi_tests::Missing;

use crate::{
    Bench, Ending,
    helm::{Helm, NAMESPACE, RELEASE, chart},
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
    let installed = release.objects();
    for name in
        ["deployment.apps/artifactapi", "persistentvolumeclaim/artifactapi-data", "service/artifactapi"]
    {
        assert!(installed.iter().any(|one| one == name), "{name}: {installed:?}");
    }
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd/remotes.artifactapi.io"];
    release.kubectl(&established, "");
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
    // The other mode needs no other release.
    let cluster = [
        "mode=cluster",
        "database.existingSecret=pg",
        "redis.existingSecret=redis",
        "s3.existingSecret=s3",
        "s3.endpoint=s3:9000",
        "encryption.existingSecret=key",
    ];
    release.with_chart("upgrade").set(&cluster).ok();
    let clustered = release.objects();
    for name in [
        "deployment.apps/artifactapi-proxy",
        "deployment.apps/artifactapi-operator",
        "persistentvolumeclaim/artifactapi-data",
    ] {
        assert!(clustered.iter().any(|one| one == name), "{name}: {clustered:?}");
    }
    assert!(!clustered.contains(&"deployment.apps/artifactapi".to_owned()), "{clustered:?}");

    release.helm("uninstall").ok();
    let left = release.objects();
    let definitions = ["locals", "remotes", "robots", "virtuals"]
        .map(|kind| format!("customresourcedefinition.apiextensions.k8s.io/{kind}.artifactapi.io"));
    let mut expected =
        vec!["persistentvolumeclaim/artifactapi-data".to_owned(), "remote.artifactapi.io/kept".to_owned()];
    expected.extend(definitions);
    assert_eq!(left, expected, "the volume, the definitions and their objects, and nothing else");

    // The same again takes them up, and takes them along when that is wanted.
    release.with_chart("install").set(&["crds.keep=false", "persistence.keep=false"]).ok();
    assert!(release.objects().contains(&"remote.artifactapi.io/kept".to_owned()));
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
