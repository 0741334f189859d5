//! Dashboard and alerts ask for what is there.

use std::{collections::BTreeSet, fs};

use artifactapi_tests::{
    Missing, Server, Site, http,
    proxy::{free_ports, operator_binary},
    site::Grounds,
};
use tempfile::TempDir;

use crate::{Bench, Ending, helm::chart};

/// Words of `text` that begin with `artifactapi_`.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("artifactapi_")).map(str::to_owned).collect()
}

/// Every name by which the families of an OpenMetrics page can be asked for.
fn offered(page: &str) -> BTreeSet<String> {
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = families.flat_map(|(name, kind)| {
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            _ => &[""],
        };
        ends.iter().map(move |end| format!("{name}{end}"))
    });
    names.collect()
}

pub(crate) fn names(bench: &Bench) -> Ending {
    let kubernetes = bench.kubernetes()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let missing = |what: &str| Missing(format!("{what} is not installed"));
        let grounds = Grounds::start().await.map_err(|one| missing(one.0))?;
        let site = Site::new(&grounds, "dashboard").map_err(|one| missing(one.0))?;
        // A replica has what standalone has, and the stores.
        let _proxy = site.proxy().await;
        let page = http::get(&site.metrics_url()).await.text();
        let mut offered_names = offered(&page);
        let directory = TempDir::new().expect("a directory");
        let [port] = free_ports();
        let page = format!("http://127.0.0.1:{port}/metrics");
        let mut operator = Server::new("operator", operator_binary().expect("built"), page.clone());
        let admin = kubernetes.kubeconfig(artifactapi_services::Access::ADMIN);
        operator
            .set("ARTIFACTAPI_SINK_DIR", directory.path().to_string_lossy())
            .set("ARTIFACTAPI_METRICS_ADDR", format!("127.0.0.1:{port}"))
            .set("KUBECONFIG", admin.to_string_lossy());
        operator.start().await;
        offered_names.extend(offered(&http::get(&page).await.text()));
        assert!(offered_names.len() > 30, "{offered_names:?}");
        // Families that show only what has happened are not there yet.
        let later = [
            "artifactapi_blob_bytes",
            "artifactapi_circuit_state",
            "artifactapi_upstream_requests_total",
            "artifactapi_upstream_duration_seconds_bucket",
        ];
        offered_names.extend(later.map(str::to_owned));
        for file in ["dashboard.json", "alerts.yaml"] {
            let text = fs::read_to_string(chart().join("files").join(file)).expect("a file");
            let asked = asked_for(&text);
            assert!(asked.len() > 8, "{file}: {asked:?}");
            let unknown: Vec<_> = asked.difference(&offered_names).collect();
            assert!(unknown.is_empty(), "{file} asks for {unknown:?}; there are {offered_names:?}");
        }
        let dashboard = fs::read_to_string(chart().join("files/dashboard.json")).expect("a file");
        serde_json::from_str::<serde_json::Value>(&dashboard).expect("JSON");
        Ok(())
    })
}
