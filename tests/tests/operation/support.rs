//! What several of these tests need: packuments, raw sockets, the numbers of a metrics page.

use std::time::Duration;

use artifactapi_tests::{http, upstream::gzip, wait};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How soon a changed manifest must be in service.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// Reproducible bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}

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

/// Sends `request` as it stands and returns what comes back until the peer closes or half a minute is over.
pub(crate) async fn raw(host: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).await.expect("a listening proxy");
    // A refused request may be answered before all of it has been read.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while let Ok(count) = stream.read(&mut piece).await {
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&piece[..count]);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(30), reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a raw answer.
pub(crate) fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// The value of the metric line that begins with `series`, 0 when there is none.
pub(crate) fn metric(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Waits until `url` answers with `status`, within the time a manifest may take.
pub(crate) async fn until_status(url: &str, status: u16) {
    wait::until(&format!("{status} from {url}"), SOON, async || http::get(url).await.status == status).await;
}
