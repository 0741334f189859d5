//! Dashboard and alerts ask for what is there: names of metrics, and their labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Proxy, RemoteManifest, Server, Site, http,
    proxy::{free_ports, operator_binary},
    site::Grounds,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Bench, Ending, helm::chart};

const PATIENCE: Duration = Duration::from_secs(60);
/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["namespace", "pod"];

/// Samples by name; of each name the labels, and of each label the values.
type Samples = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What an OpenMetrics page shows.
fn read(page: &str, samples: &mut Samples) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let labels = samples.entry(name.to_owned()).or_default();
        let Some((inner, _)) = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')) else {
            continue;
        };
        for (label, value) in inner.split("\",").filter_map(|pair| pair.split_once("=\"")) {
            labels.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
}

/// A proxy and an operator to which everything has happened that they count.
async fn everything(bench: &Bench) -> Result<Samples, Missing> {
    let kubernetes = bench.kubernetes()?;
    let mut samples = Samples::new();
    let missing = |what: &str| Missing(format!("{what} is not installed"));
    let grounds = Grounds::start().await.map_err(|one| missing(one.0))?;
    let site = Site::new(&grounds, "dashboard").map_err(|one| missing(one.0))?;
    // A replica has what standalone has, and the stores.
    let mut proxy = site.proxy().await;
    proxy.stop().await;
    proxy.set("ARTIFACTAPI_GC_INTERVAL", "100ms").start().await;
    // An upstream that is away: its breaker opens.
    let [port] = free_ports::<1>();
    let away = RemoteManifest::at("away", PackageType::Generic, &format!("http://127.0.0.1:{port}/"));
    let manifests = TempDir::new().expect("a directory");
    fs::write(manifests.path().join("away.yaml"), away.document()).expect("space");
    let told = site.command(&["apply", "-f", &manifests.path().to_string_lossy()]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let mut number = 0;
    let happened = async || {
        number += 1;
        http::get(&format!("{}{number}", site.remote("away"))).await;
        let page = http::get(&site.metrics_url()).await.text();
        page.contains("\nartifactapi_circuit_state{") && page.contains("\nartifactapi_blob_bytes{")
    };
    wait::until("a breaker to open and a collection to end", PATIENCE, happened).await;
    read(&http::get(&site.metrics_url()).await.text(), &mut samples);

    // Only standalone has a volume, and looks at it by itself.
    let alone = Proxy::start("").await;
    let shown =
        async || http::get(&alone.metrics_url()).await.text().contains("\nartifactapi_volume_free_bytes");
    wait::until("the volume to be measured", PATIENCE, shown).await;
    read(&http::get(&alone.metrics_url()).await.text(), &mut samples);

    let directory = TempDir::new().expect("a directory");
    let [port] = free_ports::<1>();
    let page = format!("http://127.0.0.1:{port}/metrics");
    let mut operator = Server::new("operator", operator_binary().expect("built"), page.clone());
    let admin = kubernetes.kubeconfig(artifactapi_services::Access::ADMIN);
    operator
        .set("ARTIFACTAPI_SINK_DIR", directory.path().to_string_lossy())
        .set("ARTIFACTAPI_METRICS_ADDR", format!("127.0.0.1:{port}"))
        .set("KUBECONFIG", admin.to_string_lossy());
    operator.start().await;
    read(&http::get(&page).await.text(), &mut samples);
    assert!(samples.len() > 40, "too few to be all: {:?}", samples.keys());
    Ok(samples)
}

/// Texts below `value` that Prometheus is asked.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "expr" || name == "query") {
                    Some(text) => found.push(text.to_owned()),
                    None => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// What one query asks for that is not there.
fn unknown(query: &str, samples: &Samples) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<&str> = ADDED.into();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.match_indices("artifactapi_").map(|(at, _)| &query[at..]);
    for rest in starts {
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let Some(labels) = samples.get(name) else {
            wrong.push(name.to_owned());
            continue;
        };
        known.extend(labels.keys().map(String::as_str));
        let inner = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |it| it.0);
        for matcher in inner.split(',').map(str::trim).filter(|matcher| !matcher.is_empty()) {
            let label = &matcher[..matcher.find(|c| !is_name(c)).unwrap_or(matcher.len())];
            let value = matcher[label.len()..].trim_matches(['=', '~', '!', '"']);
            let values: BTreeSet<&str> =
                labels.get(label).into_iter().flatten().map(String::as_str).collect();
            let has = |value: &str| value.starts_with('$') || values.contains(value);
            // Codes of answers are not all seen.
            let is_there = !values.is_empty() && (label == "code" || value.split('|').all(has));
            if !ADDED.contains(&label) && !is_there {
                wrong.push(format!("{name}{{{matcher}}}, which has {labels:?}"));
            }
        }
    }
    for groups in ["by (", "on ("] {
        let lists = query.split(groups).skip(1).filter_map(|rest| rest.split_once(')'));
        let labels = lists.flat_map(|(list, _)| list.split(',')).map(str::trim);
        wrong.extend(labels.filter(|label| !known.contains(label)).map(|label| format!("{groups}{label})")));
    }
    wrong
}

pub(crate) fn names(bench: &Bench) -> Ending {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let samples = runtime.block_on(everything(bench))?;
    let text = |file: &str| fs::read_to_string(chart().join("files").join(file)).expect("a file");
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).expect("JSON");
    let alerts: Value = serde_yaml::from_str(&text("alerts.yaml")).expect("YAML");
    for (file, document, least) in [("dashboard.json", dashboard, 30), ("alerts.yaml", alerts, 10)] {
        let mut asked = Vec::new();
        queries(&document, &mut asked);
        assert!(asked.len() >= least, "{file} asks only {asked:?}");
        let wrong: Vec<String> = asked.iter().flat_map(|query| unknown(query, &samples)).collect();
        assert!(wrong.is_empty(), "{file} asks for what nobody says: {wrong:#?}");
    }
    // That it finds anything.
    let renamed =
        r#"sum by (host) (artifactapi_connection) + artifactapi_s3_calls_total{call="broken", kind="x"}"#;
    assert_eq!(unknown(renamed, &samples).len(), 4, "{:?}", unknown(renamed, &samples));
    Ok(())
}
