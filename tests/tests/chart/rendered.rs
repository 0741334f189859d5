//! What is rendered for each set of values.

use std::{collections::BTreeSet, env, fs};

use artifactapi_tests::kubernetes::roles::{checkout, published};
use serde_json::{Value, json};

use crate::{
    Bench, Ending,
    helm::{Helm, chart, documents, of_kind, pods, sets, template},
};

/// Whether what is checked in is to be written anew.
pub(crate) fn updates() -> bool {
    env::var_os("ARTIFACTAPI_UPDATE_CHART").is_some()
}

/// What to do when it is not current.
pub(crate) const UPDATE: &str =
    "look at it, and run `ARTIFACTAPI_UPDATE_CHART=1 cargo test -p artifactapi-tests --test chart`";

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
        let differs = kept.lines().zip(rendered.lines()).position(|(kept, rendered)| kept != rendered);
        assert!(kept == rendered, "{name} is rendered otherwise from line {differs:?} on: {UPDATE}");
    }
    Ok(())
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
    let narrow = documents(&template().set(&["watchNamespaces={apps,team}"]).ok());
    let wide = documents(&template().set(&["watchNamespaces={*}"]).ok());
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
    assert_eq!(of_kind(&without, "CustomResourceDefinition").count(), 0);
    Ok(())
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
