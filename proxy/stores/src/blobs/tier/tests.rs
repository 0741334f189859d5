//! The tier on a real MinIO.

use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::*;
use crate::blobs::{
    s3::testing::*,
    suite::{self, pattern, put, read_all},
};

const MIB: usize = 1 << 20;

/// A tier of `bound` bytes on a bucket of its own.
struct Bench {
    root: TempDir,
    faulty: Faulty,
    blobs: TieredBlobs,
}

impl Bench {
    async fn new(minio: &artifactapi_services::Minio, bound: u64) -> Self {
        let (root, faulty) = (TempDir::new().unwrap(), Faulty::new());
        let blobs = TieredBlobs::open(faulty.blobs(settings(minio)), root.path(), bound).await.unwrap();
        Bench { root, faulty, blobs }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(minio) = minio("conforms") else { return };
    let (directory, count) = (TempDir::new().unwrap(), AtomicU64::new(0));
    suite::suite(async || {
        let root = directory.path().join(count.fetch_add(1, Relaxed).to_string());
        let s3 = S3Blobs::new(settings(minio)).unwrap();
        Arc::new(TieredBlobs::open(s3, root, 1 << 30).await.unwrap()) as Arc<dyn BlobStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_asks_s3_nothing_and_a_miss_once() {
    let Some(minio) = minio("a_hit_asks_s3_nothing_and_a_miss_once") else { return };
    let bench = Bench::new(minio, 1 << 30).await;
    let body = pattern(3 * MIB);
    let digest = put(&bench.blobs, &body).await;
    let before = bench.blobs.s3().tally().counts();
    assert!(read_all(&*bench.blobs.open(&digest).await.unwrap(), MIB).await == body);
    assert_eq!(bench.blobs.s3().tally().counts(), before);
    bench.blobs.0.disk.remove(&digest).await.unwrap();
    assert!(read_all(&*bench.blobs.open(&digest).await.unwrap(), MIB).await == body);
    assert_eq!(bench.blobs.s3().tally().counts().all(), before.all() + 1);
    let counts = bench.blobs.counts();
    assert_eq!((counts.hits, counts.streams, counts.throughs), (1, 1, 0));
    assert!(bench.root.path().join("cache/sha256").exists());
    assert!(bench.faulty.ranges().iter().all(Option::is_none));
}
