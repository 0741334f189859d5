//! Prints what a Virtual over 50 helm repositories costs the proxy that `ARTIFACTAPI_BIN` names: one member's index has
//! 40 MB, the others' 0.5 MB each. First all is made, then one small member changes. Figures, never a verdict.

use std::{fmt::Write as _, fs, time::Instant};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream,
    http::{self, PATIENCE},
    manifest, wait,
};
use serde_json::{Value, json};

const MEMBERS: usize = 50;
const HITS: usize = 100;

/// An index of about `bytes`, as Go's YAML writer lays it out.
fn index(member: usize, bytes: usize) -> String {
    let mut text = "apiVersion: v1\nentries:\n".to_owned();
    let mut chart = 0;
    while text.len() < bytes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  m{member}-chart{chart}:");
        for version in 0..20 {
            let _ = write!(
                text,
                "  - apiVersion: v2\n    created: \"2024-01-01T00:00:00Z\"\n    description: {}\n    digest: {:064x}\n    \
                 name: m{member}-chart{chart}\n    urls:\n    - charts/m{member}-chart{chart}-1.{version}.0.tgz\n    \
                 version: 1.{version}.0\n",
                "a chart that does what charts do ".repeat(10).trim_end(),
                chart * 100 + version
            );
        }
        chart += 1;
    }
    text + "generated: \"2024-01-01T00:00:00Z\"\n"
}

/// A line of `/proc/PID/status`, in MiB.
fn memory(proxy: &Proxy, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next());
    value.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// What the proxy says of the merges it has made: milliseconds and bytes.
fn merges(proxy: &Proxy) -> Vec<(f64, f64)> {
    let lines = proxy.logs();
    let made = lines.lines().filter(|line| line.contains("a merged index was made"));
    let read = |line: &str| serde_json::from_str::<Value>(line).ok();
    let figures = |line: Value| Some((line["duration_ms"].as_f64()?, line["size_bytes"].as_f64()?));
    made.filter_map(read).filter_map(figures).collect()
}

#[tokio::main]
async fn main() {
    let upstream = Upstream::start().await;
    let mut documents = Vec::new();
    let names: Vec<String> = (0..MEMBERS).map(|member| format!("m{member}")).collect();
    for (member, name) in names.iter().enumerate() {
        upstream.put(
            &format!("{name}/index.yaml"),
            index(member, if member == 0 { 40_000_000 } else { 500_000 }),
        );
        let remote = RemoteManifest::at(name, PackageType::Helm, &format!("{}{name}/", upstream.url()));
        documents.push(remote.set("mutableTTL", "5s").document());
    }
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    documents.push(manifest::united("v", PackageType::Helm, &members, &json!({})));
    let proxy = Proxy::start(manifest::join(&documents)).await;
    let url = format!("{}/api/v1/virtual/v/index.yaml", proxy.url());
    let idle = memory(&proxy, "VmRSS:");
    let began = Instant::now();
    let first = http::get(&url).await;
    assert!(first.is_ok(), "{first:?}");
    let made = merges(&proxy);
    let (merge, bytes) = made[0];
    println!(
        "cold: {:.0} ms until {:.1} MiB were there, fetching and rewriting {MEMBERS} members and merging them; the merge \
         with its gzip form took {merge:.0} ms",
        began.elapsed().as_secs_f64() * 1e3,
        bytes / f64::from(1 << 20)
    );
    println!("memory: {idle:.0} MiB idle, {:.0} MiB at most", memory(&proxy, "VmHWM:"));
    let mut hits: Vec<f64> = Vec::new();
    for _ in 0..HITS {
        let began = Instant::now();
        assert_eq!(http::head(&url).await.status, 200);
        hits.push(began.elapsed().as_secs_f64() * 1e3);
    }
    hits.sort_by(f64::total_cmp);
    println!("hit by HEAD: p50 {:.2} ms, p99 {:.2} ms", hits[HITS / 2], hits[HITS * 99 / 100]);
    upstream.put("m49/index.yaml", index(490, 500_000));
    let changed = Instant::now();
    let mut slowest = 0.0_f64;
    wait::until("the changed member", PATIENCE, async || {
        let began = Instant::now();
        let answer = http::head(&url).await;
        slowest = slowest.max(began.elapsed().as_secs_f64() * 1e3);
        answer.header("etag") != first.header("etag")
    })
    .await;
    let made = merges(&proxy);
    println!(
        "one small member changed: seen after {:.1} s with a TTL of 5 s; the merge with its gzip form took {:.0} ms, the \
         slowest answer meanwhile {slowest:.1} ms; {} merges in all",
        changed.elapsed().as_secs_f64(),
        made.last().map_or(0.0, |(took, _)| *took),
        made.len()
    );
}
