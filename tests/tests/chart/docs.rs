//! What people read: the README's table of values, and the notes.

use std::{fmt::Write as _, fs};

use artifactapi_services::Access;

use crate::{
    Bench, Ending,
    helm::{CLUSTER, Helm, RELEASE, chart},
    rendered::{UPDATE, updates},
};

/// Between these the table stands.
const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- /values -->\n";
/// A namespace in which nothing is.
const PLACE: &str = "notes";

/// One value: its path, its default, and what it is for.
struct Row {
    path: String,
    default: String,
    text: String,
}

/// The table is made of the comments in `values.yaml` that begin with `# --`. The templates have a list of the values that
/// are not null, since Helm does not show them `values.yaml`.
pub(crate) fn values(_: &Bench) -> Ending {
    let values = fs::read_to_string(chart().join("values.yaml")).expect("values");
    let rows = rows(&values);
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    for Row { path, default, text } in &rows {
        assert!(!text.is_empty(), "values.yaml says nothing about {path}: a comment that begins with `# --`");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{path}` | {default} | {} |", text.replace('|', "\\|"));
    }
    assert!(rows.len() > 140, "only {} values have a comment", rows.len());
    let set = rows.iter().filter(|row| row.default != "`null`");
    let list: String = set.map(|row| format!("{}\n", row.path)).collect();
    let listed = chart().join("files/values.txt");
    if updates() {
        fs::write(&listed, &list).expect("space");
    }
    let kept = fs::read_to_string(&listed).unwrap_or_default();
    assert!(kept == list, "files/values.txt does not list the values of values.yaml: {UPDATE}");
    let path = chart().join("README.md");
    let readme = fs::read_to_string(&path).expect("a README");
    let (before, rest) = readme.split_once(BEGIN).expect("a place for the table");
    let (kept, after) = rest.split_once(END).expect("its end");
    if updates() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).expect("space");
        return Ok(());
    }
    assert!(kept == table, "the README's table is not that of values.yaml: {UPDATE}");
    Ok(())
}

/// Every value that has no others below it, or is documented as a whole.
fn rows(values: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut comment: Option<String> = None;
    // Where a value that is documented as a whole begins: what is deeper belongs to it.
    let mut whole: Option<usize> = None;
    for line in values.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if let Some(told) = text.strip_prefix('#') {
            comment = match (told.trim_start().strip_prefix("-- "), comment) {
                (Some(told), _) => Some(told.to_owned()),
                (None, Some(before)) => Some(format!("{before} {}", told.trim())),
                (None, None) => None,
            };
            continue;
        }
        let Some((key, default)) = text.split_once(':').filter(|(key, _)| !key.starts_with('-')) else {
            comment = None;
            continue;
        };
        if whole.is_some_and(|whole| depth > whole) {
            continue;
        }
        whole = None;
        above.retain(|(place, _)| *place < depth);
        above.push((depth, key));
        let path = above.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        let (default, text) = (default.trim(), comment.take());
        match (default, text) {
            ("", None) => {}
            ("", Some(text)) => {
                whole = Some(depth);
                rows.push(Row { path, default: "see `values.yaml`".into(), text });
            }
            (default, text) => {
                rows.push(Row { path, default: format!("`{default}`"), text: text.unwrap_or_default() });
            }
        }
    }
    rows
}

/// The notes of a release with these values; only a server tells Helm for which Kubernetes they are.
fn notes_with(kubernetes: &Access, values: &[&str]) -> String {
    let chart = chart();
    let install = ["install", RELEASE, &chart.to_string_lossy(), "--namespace", PLACE, "--dry-run=server"];
    // The definitions are there already.
    let helm = Helm::new(&install).with(&["--take-ownership"]).on(&kubernetes.kubeconfig(Access::ADMIN));
    let told = helm.set(&["crds.enabled=false"]).set(values).ok();
    told.split_once("NOTES:\n").expect("notes").1.to_owned()
}

pub(crate) fn notes(bench: &Bench) -> Ending {
    let kubernetes = bench.kubernetes()?;
    let plain = notes_with(kubernetes, &[]);
    let public = notes_with(
        kubernetes,
        &["publicURL=https://packages.test/", "watchNamespaces={team-a,team-b}", "nodePort.enabled=true"],
    );
    for (notes, url) in [(&plain, "http://artifactapi.notes.svc"), (&public, "https://packages.test")] {
        for line in [
            "curl -LO URL/api/v1/remote/github/",
            "docker pull HOST/dockerhub/library/alpine:3",
            "docker login HOST ",
            "helm repo add jetstack URL/api/v1/remote/jetstack",
            "--index-url URL/api/v1/remote/pytorch/",
            "npm config set registry URL/api/v1/remote/npm/",
            "baseurl=%s\\n' URL/api/v1/remote/epel/ > /etc/yum.repos.d/epel.repo",
            "echo URL/api/v1/remote/alpine/",
            "puppet config set module_repository URL/api/v1/remote/forge",
            "go env -w GOPROXY=URL/api/v1/remote/go",
        ] {
            let (_, host) = url.split_once("://").expect("a URL");
            let line = line.replace("URL", url).replace("HOST", host);
            assert!(notes.contains(&line), "{line} in {notes}");
        }
        assert!(!notes.contains("<no value>") && !notes.contains("%!"), "{notes}");
    }
    assert!(
        plain.contains("host \"registry.terraform.io\"") && plain.contains("insecure-registries"),
        "{plain}"
    );
    assert!(plain.contains("pip install --trusted-host artifactapi.notes.svc --index-url"), "{plain}");
    assert!(public.contains("pip install --index-url"), "{public}");
    assert!(plain.contains("namespace notes.") && plain.contains("port-forward"), "{plain}");
    assert!(
        public.contains("network_mirror { url = \"https://packages.test/api/v1/remote/terraform/\" }"),
        "{public}"
    );
    assert!(public.contains("namespaces team-a, team-b."), "{public}");
    assert!(public.contains("setup containerd --url http://127.0.0.1:30800"), "{public}");
    assert!(
        public.contains("believes whoever has port 30800") && public.contains("helm uninstall"),
        "{public}"
    );
    let secured = notes_with(kubernetes, &["tls.existingSecret=packages-tls", "nodePort.enabled=true"]);
    assert!(secured.contains("certificate in packages-tls has to carry 127.0.0.1"), "{secured}");
    assert!(secured.contains("--url https://127.0.0.1:30800") && !secured.contains("believes"), "{secured}");
    assert!(!public.contains("crds.keep") && !plain.contains("without TLS"), "{public}");
    let clustered =
        notes_with(kubernetes, &[&CLUSTER[..], &["crds.enabled=true", "crds.keep=false"]].concat());
    assert!(clustered.contains("database.tls: require"), "{clustered}");
    assert!(
        clustered.contains("Before you uninstall it, delete what has deletionPolicy: Purge"),
        "{clustered}"
    );
    assert!(!public.contains("port-forward") && !public.contains("insecure-registries"), "{public}");
    Ok(())
}
