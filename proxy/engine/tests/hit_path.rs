//! What a hit may ask of the stores: no row, no write, and of the blobs at most one open.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::sync::Arc;

use artifactapi_engine::{CacheOutcome, Content};
use artifactapi_formats::Method;
use artifactapi_model::{Digest, PackageType};
use artifactapi_stores::{BlobCounts, BlobTally, CountingBlobs, MemoryBlobs};
use futures_util::future::join_all;
use support::*;

const HITS: u64 = 1_000;

struct Counted {
    bench: Bench,
    tally: Arc<BlobTally>,
}

impl Counted {
    async fn new(package_type: PackageType) -> Self {
        let tally = Arc::new(BlobTally::default());
        let blobs = CountingBlobs::new(Arc::new(MemoryBlobs::default()), tally.clone());
        Counted { bench: Bench::with(spec(package_type), Arc::new(blobs)).await, tally }
    }

    /// Asks [`HITS`] times with the database lost, so that a hit that needed it would fail. What the blob
    /// store was asked meanwhile, and the last answer.
    async fn hits(&self, method: Method, path: &str) -> (BlobCounts, Content) {
        let (before, calls) = (self.tally.counts(), self.bench.metadata.calls());
        self.bench.metadata.set_down(true);
        let mut last = None;
        for _ in 0..HITS {
            let content = self.bench.request(method, path).await.unwrap();
            assert_eq!(content.outcome, CacheOutcome::Hit);
            if method == Method::Get {
                assert_eq!(self.bench.read(&content).await.unwrap().len() as u64, content.size.unwrap());
            }
            last = Some(content);
        }
        self.bench.metadata.set_down(false);
        assert_eq!(self.bench.metadata.calls(), calls, "{HITS} hits, no call of the database");
        let after = self.tally.counts();
        let asked = BlobCounts {
            stages: after.stages - before.stages,
            opens: after.opens - before.opens,
            sizes: after.sizes - before.sizes,
            lists: after.lists - before.lists,
            removals: after.removals - before.removals,
            ..BlobCounts::default()
        };
        (asked, last.unwrap())
    }
}

#[tokio::test]
async fn a_small_hit_asks_the_stores_nothing() {
    let counted = Counted::new(PackageType::Generic).await;
    counted.bench.upstream.put("small", body(pattern(2 << 10)));
    counted.bench.fetch("small").await.unwrap();
    for method in [Method::Get, Method::Head] {
        assert_eq!(counted.hits(method, "small").await.0, BlobCounts::default());
    }
    assert_eq!(counted.bench.upstream.gets(), 1);
}

#[tokio::test]
async fn a_large_hit_opens_its_blob_once_and_a_head_does_not() {
    let counted = Counted::new(PackageType::Generic).await;
    counted.bench.upstream.put("large", body(pattern(1 << 20)));
    counted.bench.fetch("large").await.unwrap();
    assert_eq!(
        counted.hits(Method::Get, "large").await.0,
        BlobCounts { opens: HITS, ..BlobCounts::default() },
        "no question whether it is there comes before the open"
    );
    assert_eq!(counted.hits(Method::Head, "large").await.0, BlobCounts::default());
}

#[tokio::test]
async fn a_rewritten_index_is_a_hit_like_any_other() {
    let counted = Counted::new(PackageType::Npm).await;
    let packument =
        r#"{"name":"a","versions":{"1.0.0":{"dist":{"tarball":"http://up.test/a/-/a-1.0.0.tgz"}}}}"#;
    counted.bench.upstream.put("a", body(packument));
    counted.bench.fetch("a").await.unwrap();
    let (asked, content) = counted.hits(Method::Get, "a").await;
    assert_eq!(asked, BlobCounts::default());
    let text = String::from_utf8(counted.bench.read(&content).await.unwrap()).unwrap();
    assert!(text.contains("http://proxy.test/api/v1/remote/r/a/-/a-1.0.0.tgz"), "{text}");
}

#[tokio::test]
async fn last_uses_are_written_together_and_only_when_told_to() {
    let counted = Counted::new(PackageType::Generic).await;
    for name in ["a", "b", "c"] {
        counted.bench.upstream.put(name, body(name));
        counted.bench.fetch(name).await.unwrap();
        counted.hits(Method::Get, name).await;
    }
    let calls = counted.bench.metadata.calls();
    counted.bench.engine.record_uses().await.unwrap();
    assert_eq!(counted.bench.metadata.calls(), calls + 1, "one call for all keys");
    counted.bench.engine.record_uses().await.unwrap();
    assert_eq!(counted.bench.metadata.calls(), calls + 1, "nothing new, nothing written");
}

#[tokio::test]
async fn a_large_index_is_read_once_for_all_that_it_names() {
    const CHARTS: usize = 30_000;
    const CHART: &[u8] = b"\x1f\x8b a chart";
    let counted = Counted::new(PackageType::Helm).await;
    let digest = Digest::of(CHART);
    let mut index = "apiVersion: v1\nentries:\n".to_owned();
    for chart in 0..CHARTS {
        index += &format!(
            "  c{chart}:\n  - name: c{chart}\n    version: 1.0.0\n    digest: {digest}\n    urls:\n    - c{chart}-1.0.0.tgz\n"
        );
    }
    counted.bench.upstream.put("index.yaml", body(index));
    let paths: Vec<_> = (0..20).map(|chart| format!("c{chart}-1.0.0.tgz")).collect();
    for path in &paths {
        counted.bench.upstream.put(path, body(CHART));
    }
    counted.bench.fetch("index.yaml").await.unwrap();
    let before = counted.tally.counts().opens;
    for fetched in join_all(paths.iter().map(|path| counted.bench.fetch(path))).await {
        assert_eq!(fetched.unwrap(), CHART);
    }
    assert_eq!(counted.tally.counts().opens - before, 1);
}
