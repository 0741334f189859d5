//! Bytes of a merged index that vanish from the store behind the proxy's back: the index is made anew, and whoever asks
//! gets it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    fingerprint,
    http::{self, Fetched},
};
use serde_json::json;

use crate::Stand;

/// Charts of each member: more than is kept in memory.
const CHARTS: usize = 1_500;

fn large(member: &str) -> String {
    let mut text = String::from("apiVersion: v1\nentries:\n");
    for number in 0..CHARTS {
        let name = format!("{member}-{number}");
        text += &format!(
            "  {name}:\n  - apiVersion: v2\n    name: {name}\n    version: 1.0.0\n    description: {}\n    urls:\n    - charts/{name}-1.0.0.tgz\n",
            (0..8).map(|part| fingerprint::of_bytes(format!("{name} {part}").as_bytes())).collect::<String>()
        );
    }
    text + "generated: \"2024-01-01T00:00:00Z\"\n"
}

impl Stand {
    async fn index(&self, encoding: &str) -> Fetched {
        let url = self.url("index.yaml");
        let answer = http::request(reqwest::Method::GET, &url, &[("accept-encoding", encoding)]).await;
        assert!(answer.is_ok(), "{encoding}: {} {}\n{}", answer.status, answer.text(), self.proxy.logs());
        assert_eq!(answer.header("content-encoding"), if encoding == "gzip" { "gzip" } else { "" });
        answer
    }

    fn blobs(&self) -> PathBuf {
        self.proxy.data().join("blobs/sha256")
    }

    /// Where the store keeps these bytes.
    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let hex = fingerprint::of_bytes(bytes);
        self.blobs().join(&hex[..2]).join(hex)
    }
}

/// All files below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The documents that say what a generation has.
fn documents(stand: &Stand) -> Vec<PathBuf> {
    let is_one =
        |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"artifactapi generation "));
    files(&stand.blobs()).into_iter().filter(is_one).collect()
}

#[tokio::test]
async fn rs_97_a_merged_index_whose_bytes_are_lost_is_made_anew() {
    let mut stand = Stand::start(PackageType::Helm, &json!({ "mutableTTL": "1h" }), &json!({})).await;
    stand.first.put("index.yaml", large("one"));
    stand.second.put("index.yaml", large("two"));
    let (plain, gzip) = (stand.index("identity").await.body, stand.index("gzip").await.body);
    assert!(plain.len() > 512 << 10 && gzip.len() > 256 << 10, "{} {}", plain.len(), gzip.len());
    let document = documents(&stand);
    assert_eq!(document.len(), 1);
    let (plain_at, gzip_at, document_at) = (stand.blob(&plain), stand.blob(&gzip), document[0].clone());
    let cases = [
        vec![&plain_at],
        vec![&gzip_at],
        vec![&plain_at, &gzip_at],
        vec![&document_at],
        vec![&plain_at, &gzip_at, &document_at],
    ];
    for (number, lost) in cases.iter().enumerate() {
        for is_restarted in [false, true] {
            for path in lost {
                fs::remove_file(path).expect("it was kept");
            }
            if is_restarted {
                stand.proxy.restart().await;
            }
            let case = format!("case {number}, restarted: {is_restarted}");
            for _ in 0..2 {
                assert!(stand.index("gzip").await.body == gzip, "{case}");
                assert!(stand.index("identity").await.body == plain, "{case}");
            }
            let is_back = |path: &&PathBuf| path.exists();
            let needed =
                if is_restarted { lost.len() } else { lost.iter().filter(|it| **it != &document_at).count() };
            assert!(lost.iter().copied().filter(is_back).count() >= needed, "{case}: it is stored again");
            if !document_at.exists() {
                // A process that has it in memory does not miss it; the next one does.
                stand.proxy.restart().await;
                assert!(stand.index("identity").await.body == plain, "{case}");
            }
        }
    }
    // What the members gave is gone as well: it is fetched again.
    for is_restarted in [false, true] {
        for path in files(&stand.blobs()) {
            fs::remove_file(path).expect("it was kept");
        }
        if is_restarted {
            stand.proxy.restart().await;
        }
        for _ in 0..2 {
            assert!(stand.index("identity").await.body == plain, "everything, restarted: {is_restarted}");
            assert!(stand.index("gzip").await.body == gzip, "everything, restarted: {is_restarted}");
        }
    }
}
