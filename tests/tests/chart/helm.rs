//! Helm as people run it, without this machine's configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use artifactapi_tests::{client, kubernetes::roles::checkout};
use serde_json::Value;
use tempfile::TempDir;

/// The Kubernetes that templates are made for: helm built from source takes an old one for the default. Who runs
/// `helm template` by hand says it by `--kube-version`.
const KUBERNETES: &str = "1.34.4";
/// Name of the release, and its namespace.
pub(crate) const RELEASE: &str = "artifactapi";
pub(crate) const NAMESPACE: &str = "apps";
/// What a cluster needs, and nothing more.
pub(crate) const CLUSTER: [&str; 6] = [
    "mode=cluster",
    "database.existingSecret=pg",
    "redis.existingSecret=redis",
    "s3.existingSecret=s3",
    "s3.endpoint=s3:9000",
    "encryption.existingSecret=key",
];

/// The chart's directory.
pub(crate) fn chart() -> PathBuf {
    checkout("charts/artifactapi")
}

/// The sets of values that are checked in: name and file.
pub(crate) fn sets() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(chart().join("ci")).expect("sets of values");
    let mut sets: Vec<(String, PathBuf)> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.trim_end_matches("-values.yaml").to_owned(), path)
        })
        .collect();
    sets.sort();
    assert!(sets.len() >= 4, "{sets:?}");
    sets
}

/// One run.
pub(crate) struct Helm {
    home: TempDir,
    command: Command,
}

impl Helm {
    /// `helm` with `arguments`.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let mut command = Command::new(client::find("helm").expect("looked for at the start"));
        command.env_clear().env("HOME", home.path()).args(arguments);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Helm { home, command }
    }

    /// On the API server of `kubeconfig`.
    pub(crate) fn on(mut self, kubeconfig: &Path) -> Self {
        self.command.env("KUBECONFIG", kubeconfig);
        self
    }

    /// With values from a file.
    pub(crate) fn values(mut self, file: &Path) -> Self {
        self.command.arg("--values").arg(file);
        self
    }

    /// With values as `a.b=c`.
    pub(crate) fn set(mut self, values: &[&str]) -> Self {
        for value in values {
            self.command.args(["--set", value]);
        }
        self
    }

    fn run(mut self) -> (bool, String, String) {
        let Output { status, stdout, stderr } = self.command.output().expect("an executable helm");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        drop(self.home);
        (status.success(), text(stdout), text(stderr))
    }

    /// What it printed, which must not be a refusal.
    pub(crate) fn ok(self) -> String {
        let shown = format!("{:?}", self.command);
        let (succeeded, out, err) = self.run();
        assert!(succeeded, "{shown}: {err}");
        out
    }

    /// What it said when it refused.
    pub(crate) fn refused(self) -> String {
        let shown = format!("{:?}", self.command);
        let (succeeded, out, err) = self.run();
        assert!(!succeeded, "{shown} should have been refused: {out}");
        err
    }
}

/// `helm template`, still without values.
pub(crate) fn template() -> Helm {
    template_of(RELEASE)
}

/// The same of a release that is called otherwise.
pub(crate) fn template_of(release: &str) -> Helm {
    let chart = chart();
    Helm::new(&["template", release, &chart.to_string_lossy(), "--namespace", NAMESPACE])
        .with(&["--kube-version", KUBERNETES])
}

impl Helm {
    /// With further arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }
}

/// The documents of rendered text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let read = documents.map(|one| <Value as serde::Deserialize>::deserialize(one).expect("YAML"));
    read.filter(|one| !one.is_null()).collect()
}

/// Those of a kind.
pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |one| one["kind"] == kind)
}

/// Templates of the pods in `documents`, and pods themselves: whose they are, and their spec.
pub(crate) fn pods(documents: &[Value]) -> Vec<(String, &Value)> {
    let spec = |one: &'_ Value| match one["kind"].as_str() {
        Some("Pod") => Some("/spec"),
        Some("Deployment" | "Job") => Some("/spec/template/spec"),
        _ => None,
    };
    let found = documents.iter().filter_map(|one| {
        let name = format!("{} {}", one["kind"].as_str()?, one["metadata"]["name"].as_str()?);
        Some((name, one.pointer(spec(one)?)?))
    });
    found.collect()
}
