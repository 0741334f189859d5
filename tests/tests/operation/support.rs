//! Bodies and waits for these tests.

use artifactapi_tests::{Proxy, http::PATIENCE, upstream::gzip, wait};
use bytes::Bytes;
use serde_json::{Value, json};

/// A packument of `name` below `base` that is long enough to be compressed, and its only tarball.
pub(crate) fn packument(name: &str, base: &str) -> (String, Bytes) {
    let version = |n: usize| {
        let url = format!("{base}{name}/-/{name}-1.0.{n}.tgz");
        (
            format!("1.0.{n}"),
            json!({ "name": name, "version": format!("1.0.{n}"), "dist": { "tarball": url } }),
        )
    };
    let versions: serde_json::Map<String, Value> = (0..20).map(version).collect();
    let document = json!({ "name": name, "dist-tags": { "latest": "1.0.0" }, "versions": versions });
    (document.to_string(), gzip(name.as_bytes()))
}

/// Waits until the proxy has logged `words`.
pub(crate) async fn logged(proxy: &Proxy, words: &str) {
    wait::until(words, PATIENCE, async || proxy.logs().contains(words)).await;
}
