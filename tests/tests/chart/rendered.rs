//! What is rendered for each set of values.

use std::{collections::BTreeSet, env, fs, path::Path};

use artifactapi_tests::kubernetes::roles::{checkout, published};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Bench, Ending,
    helm::{CLUSTER, Helm, chart, documents, of_kind, pods, sets, template, template_of},
};

/// Whether what is checked in is to be written anew.
pub(crate) fn updates() -> bool {
    env::var_os("ARTIFACTAPI_UPDATE_CHART").is_some()
}

/// What to do when it is not current.
pub(crate) const UPDATE: &str =
    "look at it, and run `ARTIFACTAPI_UPDATE_CHART=1 hack/test -- --package artifactapi-tests --test chart`";

pub(crate) fn lint(_: &Bench) -> Ending {
    for (name, file) in sets() {
        let told = Helm::new(&["lint", "--strict", &chart().to_string_lossy()]).values(&file).ok();
        assert!(!told.contains("[WARNING]") && !told.contains("[ERROR]"), "{name}: {told}");
    }
    Ok(())
}

pub(crate) fn snapshots(_: &Bench) -> Ending {
    for (name, file) in sets() {
        // The definitions are held against the generated files; the dashboard is a file as it is.
        let without = ["crds.enabled=false", "metrics.dashboard.enabled=false"];
        let rendered = template().values(&file).set(&without).ok();
        let path = checkout("tests/tests/chart/rendered").join(format!("{name}.yaml"));
        if updates() {
            fs::write(&path, &rendered).expect("space");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        if let Some((number, kept, rendered)) = first_difference(&kept, &rendered) {
            panic!(
                "{name}.yaml is rendered otherwise from line {number} on, {rendered:?} and not {kept:?}: {UPDATE}"
            );
        }
    }
    Ok(())
}

/// The first line that two texts do not share: its number, as editors count, and what each has there.
fn first_difference<'a>(kept: &'a str, rendered: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut kept, mut rendered) = (kept.lines(), rendered.lines());
    for number in 1.. {
        match (kept.next(), rendered.next()) {
            (None, None) => break,
            (one, other) if one == other => {}
            (one, other) => return Some((number, one.unwrap_or("nothing"), other.unwrap_or("nothing"))),
        }
    }
    None
}

/// A role in what is rendered, by the end of its name.
fn rules(rendered: &[Value], kind: &str, end: &str) -> Value {
    let is_it = |one: &&Value| one["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end));
    of_kind(rendered, kind).find(is_it).unwrap_or_else(|| panic!("{kind} …{end}"))["rules"].clone()
}

pub(crate) fn generated(_: &Bench) -> Ending {
    for (copies, originals) in [("crds", "crds/generated"), ("rbac", "operator/generated")] {
        let read = |directory: std::path::PathBuf| -> Vec<(String, String)> {
            let entries =
                fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path());
            let name =
                |path: &std::path::Path| path.file_name().expect("a name").to_string_lossy().into_owned();
            let mut all: Vec<_> =
                entries.map(|path| (name(&path), fs::read_to_string(&path).expect("text"))).collect();
            all.sort();
            all
        };
        let copies = read(chart().join("files").join(copies));
        assert!(
            copies == read(checkout(originals)),
            "files of the chart are not those of {originals}: run `cargo run -p xtask -- gen`"
        );
    }
    let narrow = documents(&template().set(&CLUSTER).set(&["watchNamespaces={apps,team}"]).ok());
    let wide = documents(&template().set(&CLUSTER).set(&["watchNamespaces={*}"]).ok());
    assert_eq!(rules(&narrow, "Role", "-operator"), published("role")["rules"]);
    assert_eq!(of_kind(&narrow, "Role").count(), 3, "one in each namespace, and the leader's");
    assert_eq!(rules(&wide, "ClusterRole", "-operator"), published("cluster-role")["rules"]);
    assert_eq!(of_kind(&wide, "Role").count(), 1, "the leader's");
    for rendered in [&narrow, &wide] {
        assert_eq!(rules(rendered, "Role", "-leader"), published("leader-role")["rules"]);
        for people in ["viewer", "editor"] {
            let (name, role) = (format!("-{people}"), published(&format!("{people}-role")));
            assert_eq!(rules(rendered, "ClusterRole", &name), role["rules"]);
        }
    }
    // Standalone makes no Secrets of Robots.
    for (namespaces, kind, role) in [("{apps}", "Role", "role"), ("{*}", "ClusterRole", "cluster-role")] {
        let alone = documents(&template().set(&[&format!("watchNamespaces={namespaces}")]).ok());
        let mut expected = published(role)["rules"].clone();
        let writing = json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update"] });
        let all = expected.as_array_mut().expect("rules");
        let before = all.len();
        all.retain(|rule| *rule != writing);
        assert_eq!(all.len(), before - 1, "{role} lets Secrets be written by a rule of its own");
        assert_eq!(rules(&alone, kind, "-operator"), expected, "{kind} of standalone");
    }
    definitions();
    Ok(())
}

/// The definitions are those that are generated, kept or not.
fn definitions() {
    for (keep, annotation) in [(true, json!("keep")), (false, Value::Null)] {
        let rendered = documents(&template().set(&[&format!("crds.keep={keep}")]).ok());
        let definitions: Vec<&Value> = of_kind(&rendered, "CustomResourceDefinition").collect();
        assert_eq!(definitions.len(), 4);
        for definition in definitions {
            let metadata = &definition["metadata"];
            assert_eq!(metadata["annotations"]["helm.sh/resource-policy"], annotation);
            let plural = definition["spec"]["names"]["plural"].as_str().expect("a plural").to_owned();
            let text =
                fs::read_to_string(checkout("crds/generated").join(format!("{plural}.yaml"))).expect("it");
            let original: Value = serde_yaml::from_str(&text).expect("YAML");
            assert_eq!(definition["spec"], original["spec"], "{plural}");
        }
    }
    let without = documents(&template().set(&["crds.enabled=false"]).ok());
    assert_eq!(of_kind(&without, "CustomResourceDefinition").count(), 0, "of crds.enabled=false");
}

/// Who may talk to the API server, and where secrets lie.
pub(crate) fn secrets(_: &Bench) -> Ending {
    for (set, file) in sets() {
        let rendered = documents(&template().values(&file).ok());
        assert_eq!(of_kind(&rendered, "Secret").count(), 0, "{set}: the chart makes no Secret");
        for (pod, spec) in pods(&rendered) {
            assert_eq!(spec["automountServiceAccountToken"], false, "{set}: {pod}");
            for container in spec["containers"].as_array().expect("containers") {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let mounts: BTreeSet<String> = container["volumeMounts"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|mount| text(&mount["mountPath"]))
                    .collect();
                let has_token = mounts.contains("/var/run/secrets/kubernetes.io/serviceaccount");
                assert_eq!(has_token, container["name"] == "operator", "{set}: {pod}: {mounts:?}");
                let variables = container["env"].as_array().into_iter().flatten();
                for variable in variables.filter(|one| one["valueFrom"]["secretKeyRef"].is_object()) {
                    let name = text(&variable["name"]);
                    assert!(
                        ["DBHOST", "DBPORT", "DBNAME", "DBUSER"].contains(&name.as_str()),
                        "{set}: {pod}: {name} belongs into a file"
                    );
                }
            }
            let volumes = spec["volumes"].as_array().into_iter().flatten();
            let meeting = volumes.filter(|one| one["name"] == "manifests");
            assert!(meeting.into_iter().all(|one| one["emptyDir"]["medium"] == "Memory"), "{set}: {pod}");
        }
    }
    Ok(())
}

/// Names of a container's variables, and the files of Secrets that its pod has.
fn told(spec: &Value) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let variables = spec["containers"][0]["env"].as_array().into_iter().flatten();
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    let files = sources.filter_map(|source| source["secret"]["items"][0]["path"].as_str());
    (variables.filter_map(|one| one["name"].as_str()).collect(), files.collect())
}

/// It has what it uses, and is another Job for each release. A secret that somebody gives in a variable takes the file's
/// place in every pod.
pub(crate) fn migration(_: &Bench) -> Ending {
    let rendered = documents(&template().set(&CLUSTER).ok());
    let all = pods(&rendered);
    let (_, job) = all.iter().find(|(name, _)| name.starts_with("Job ")).expect("a Job");
    let (variables, files) = told(job);
    let database = ["ARTIFACTAPI_DB_TLS", "DBHOST", "DBNAME", "DBPASS_FILE", "DBPORT", "DBUSER"];
    assert_eq!(variables, database.into(), "variables of the migration");
    assert_eq!(files, ["database-password"].into(), "secrets of the migration");
    let given = ["proxy.extraEnv[0].name=DBPASS", "proxy.extraEnv[0].value=x"];
    let rendered = documents(&template().set(&CLUSTER).set(&given).ok());
    for (pod, spec) in
        pods(&rendered).iter().filter(|(pod, _)| pod.contains("-proxy") || pod.contains("-migrate"))
    {
        let (variables, _) = told(spec);
        let both = (variables.contains("DBPASS"), variables.contains("DBPASS_FILE"));
        assert_eq!(both, (true, false), "{pod} is told the password once");
    }
    Ok(())
}

/// Every pod is chosen by a policy, which says who may come, and whom it may reach where that is closed.
pub(crate) fn policies(_: &Bench) -> Ending {
    for (set, file) in sets() {
        let rendered = documents(&template().values(&file).ok());
        let labels = |one: &Value| match one["kind"].as_str() {
            Some("Pod") => Some(one["metadata"]["labels"].clone()),
            Some("Deployment" | "Job") => Some(one["spec"]["template"]["metadata"]["labels"].clone()),
            _ => None,
        };
        let mut seen = 0;
        for labels in rendered.iter().filter_map(labels) {
            let component = labels["app.kubernetes.io/component"].clone();
            let chosen = of_kind(&rendered, "NetworkPolicy").filter(|policy| {
                let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
                wanted.iter().all(|(label, value)| labels[label] == *value)
            });
            let chosen: Vec<&Value> = chosen.collect();
            assert_eq!(chosen.len(), 1, "{set}: policies for {component}");
            let types =
                if set.ends_with("-full") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            assert_eq!(chosen[0]["spec"]["policyTypes"], types, "{set}: {component}");
            seen += 1;
        }
        assert!(seen >= 2, "{set} has pods");
    }
    Ok(())
}

/// A name that YAML would take for a number stays one; what is too long for a name is cut so that it stays apart from
/// others; and all that has to do with the operators' Lease calls it by the name of the release.
pub(crate) fn names(_: &Bench) -> Ending {
    let rendered = template_of("1234")
        .with(&["--namespace", "1e3", "--set-string", "watchNamespaces={1234}"])
        .set(&["fullnameOverride=on"])
        .ok();
    for object in documents(&rendered) {
        let metadata = &object["metadata"];
        assert!(metadata["name"].is_string(), "{metadata}");
        if object["kind"] != "CustomResourceDefinition"
            && !object["kind"].as_str().unwrap_or_default().starts_with("Cluster")
        {
            assert!(metadata["namespace"] == "1e3" || metadata["namespace"] == "1234", "{metadata}");
        }
        assert!(!metadata["labels"]["app.kubernetes.io/instance"].is_number(), "{metadata}");
    }
    let long = "a-release-whose-name-is-as-long-as-helm-lets-it-be-";
    let service = |end: &str| {
        let rendered = documents(&template_of(&format!("{long}{end}")).ok());
        let name = of_kind(&rendered, "Service").next().expect("a Service")["metadata"]["name"].clone();
        name.as_str().expect("a name").to_owned()
    };
    let (one, other) = (service("1"), service("2"));
    assert_ne!(one, other, "two releases in one namespace");
    assert!(one.len() <= 45 && one.starts_with("a-release-whose-name-is"), "{one}");

    let rendered = documents(&template().set(&["fullnameOverride=packages"]).ok());
    let leases: Vec<&Value> = of_kind(&rendered, "Lease").map(|lease| &lease["metadata"]["name"]).collect();
    assert_eq!(leases, [&json!("packages-operator")], "what an uninstall takes away");
    let leader = rules(&rendered, "Role", "-leader");
    assert_eq!(leader[1]["resourceNames"], json!(["packages-operator"]), "what the operator may");
    let all = pods(&rendered);
    let (_, spec) = all.iter().find(|(name, _)| name.starts_with("Deployment ")).expect("a Deployment");
    let variable = json!({ "name": "ARTIFACTAPI_LEASE", "value": "packages-operator" });
    let variables = spec["containers"][1]["env"].as_array().expect("variables");
    assert!(variables.contains(&variable), "what the operator is told: {variables:?}");
    Ok(())
}

/// A field of the pods of the Deployment that serves clients.
fn serving(values: &[&str], path: &str) -> Value {
    let rendered = documents(&template().set(values).ok());
    let all = pods(&rendered);
    let serves = |name: &str| name.starts_with("Deployment ") && !name.ends_with("-operator");
    let (_, spec) = all.iter().find(|(name, _)| serves(name)).expect("it is there");
    spec.pointer(path).cloned().unwrap_or(Value::Null)
}

/// What a replica asks of its node for its cache, and how much more than its size it may take until it is evicted.
pub(crate) fn cache(_: &Bench) -> Ending {
    let given = |values: &[&str]| {
        let values = [&CLUSTER[..], values].concat();
        let asked = serving(&values, "/containers/0/resources/requests/ephemeral-storage");
        (asked, serving(&values, "/volumes/0/emptyDir/sizeLimit"))
    };
    for (values, expected) in [
        (vec![], (json!("12288Mi"), json!("20480Mi"))),
        (vec!["proxy.cache.size=1Gi"], (json!("3072Mi"), json!("11264Mi"))),
        (vec!["proxy.cache.size=100Gi"], (json!("122880Mi"), json!("204800Mi"))),
        (vec!["proxy.cache.request=11Gi", "proxy.cache.limit=15Gi"], (json!("11Gi"), json!("15Gi"))),
        (vec!["proxy.cache.limit=0"], (json!("12288Mi"), Value::Null)),
        (vec!["proxy.resources.requests.ephemeral-storage=5Gi"], (json!("5Gi"), json!("20480Mi"))),
        // A request above somebody's limit would be refused.
        (vec!["proxy.resources.limits.ephemeral-storage=11Gi"], (Value::Null, json!("20480Mi"))),
        (vec!["proxy.cache.ephemeralVolume.enabled=true"], (Value::Null, Value::Null)),
    ] {
        assert_eq!(given(&values), expected, "{values:?}");
    }
    let kept = serving(&CLUSTER, "/containers/0/resources/requests/memory");
    assert_eq!(kept, "256Mi", "what was asked besides");
    Ok(())
}

/// The one pod of standalone keeps its successor waiting for a short time only, unless somebody says otherwise.
pub(crate) fn endings(_: &Bench) -> Ending {
    let cases: [(&[&str], i64, &str); 4] = [
        (&[], 15, "10s"),
        (&["proxy.terminationGracePeriodSeconds=60"], 60, "55s"),
        (&CLUSTER, 120, "110s"),
        (&["mode=cluster", "proxy.terminationGracePeriodSeconds=60"], 60, "50s"),
    ];
    for (values, grace, drain) in cases {
        let is_cluster = values.first() == Some(&"mode=cluster");
        let all = [if is_cluster { &CLUSTER[..] } else { &[] }, values].concat();
        assert_eq!(serving(&all, "/terminationGracePeriodSeconds"), grace, "{values:?}");
        let variables = serving(&all, "/containers/0/env");
        let variable = json!({ "name": "ARTIFACTAPI_DRAIN", "value": drain });
        assert!(variables.as_array().is_some_and(|all| all.contains(&variable)), "{values:?}: {variables}");
    }
    Ok(())
}

/// With TLS of its own, whoever forwards to a Service is told of it.
pub(crate) fn protocols(_: &Bench) -> Ending {
    for (tls, protocol) in [("", Value::Null), ("packages-tls", json!("https"))] {
        let values = [&format!("tls.existingSecret={tls}"), "nodePort.enabled=true"];
        let rendered = documents(&template().set(&values).ok());
        for name in ["artifactapi", "artifactapi-nodes"] {
            let service = of_kind(&rendered, "Service").find(|one| one["metadata"]["name"] == name);
            let port = &service.expect("a Service")["spec"]["ports"][0];
            assert_eq!(port["appProtocol"], protocol, "{name} with tls.existingSecret={tls:?}: {port}");
        }
    }
    Ok(())
}

/// A parent chart passes its condition down.
pub(crate) fn subchart(_: &Bench) -> Ending {
    let home = TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| fs::write(home.path().join(name), text).expect("space");
    let told = "apiVersion: v2\nname: parent\nversion: 0.1.0\ndependencies:\n  - name: artifactapi\n    version: '*'\n    \
                condition: artifactapi.enabled\n";
    write("Chart.yaml", told);
    write("values.yaml", "artifactapi: {enabled: true}\n");
    let charts = home.path().join("charts");
    fs::create_dir(&charts).expect("space");
    copy(&chart(), &charts.join("artifactapi"));
    let place = home.path().to_string_lossy().into_owned();
    let rendered = |enabled: &str| {
        let helm = Helm::new(&["template", "site", &place, "--kube-version", "1.34.4"]);
        documents(&helm.set(&[&format!("artifactapi.enabled={enabled}")]).ok())
    };
    assert_eq!(of_kind(&rendered("true"), "Deployment").count(), 1, "as if it were alone");
    assert!(rendered("false").is_empty(), "the parent has it left out");
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("space");
    for entry in fs::read_dir(from).expect("a directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("space");
        }
    }
}
