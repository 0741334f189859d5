//! The tier on a real MinIO.

mod disk;
mod faults;
mod outage;
mod uploads;

use std::{future::Future, sync::atomic::AtomicU64};

use artifactapi_services::{Minio, scratch};
use tempfile::TempDir;

use super::{flight::HELD, *};
use crate::blobs::{
    s3::{S3Settings, testing::*},
    suite::{self, pattern, put, read_all},
};

const MIB: usize = 1 << 20;
const ROOMY: u64 = 1 << 30;

/// A tier on a bucket of its own.
struct Bench {
    root: TempDir,
    faulty: Faulty,
    blobs: TieredBlobs,
}

impl Bench {
    async fn new(minio: &Minio, bound: u64) -> Self {
        let (root, faulty) = (scratch(), Faulty::new());
        let blobs = TieredBlobs::open(faulty.blobs(settings(minio)), root.path(), bound).await.unwrap();
        Bench { root, faulty, blobs }
    }

    /// GETs sent to S3 so far.
    fn gets(&self) -> u64 {
        self.blobs.s3().tally().counts().gets
    }

    /// Stores `body` in S3 and not in the tier.
    async fn put_cold(&self, body: &[u8]) -> Digest {
        let digest = put(&self.blobs, body).await;
        self.blobs.0.disk.remove(&digest).await.unwrap();
        digest
    }

    async fn read(&self, digest: &Digest) -> (Vec<u8>, Option<BlobError>) {
        match self.blobs.open(digest).await {
            Ok(reader) => read_to_error(&*reader).await,
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    /// Waits until nothing is under way.
    async fn settled(&self) {
        until(|| std::future::ready(self.blobs.0.flights().under_way.is_empty())).await;
    }
}

/// Waits until `condition` holds.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), holds).await.unwrap();
}

/// Reads until the end or the first error.
async fn read_to_error(reader: &dyn BlobReader) -> (Vec<u8>, Option<BlobError>) {
    let mut body = Vec::new();
    loop {
        match reader.read_at(body.len() as u64, 100 << 10).await {
            Ok(bytes) if bytes.is_empty() => return (body, None),
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(error) => return (body, Some(error)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(minio) = minio("conforms") else { return };
    let minio = &*minio;
    let (directory, count) = (scratch(), AtomicU64::new(0));
    suite::suite(async || {
        let root = directory.path().join(count.fetch_add(1, Relaxed).to_string());
        let s3 = S3Blobs::new(settings(minio)).unwrap();
        Arc::new(TieredBlobs::open(s3, root, ROOMY).await.unwrap()) as Arc<dyn BlobStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_asks_s3_nothing_and_a_miss_once() {
    let Some(minio) = minio("a_hit_asks_s3_nothing_and_a_miss_once") else { return };
    let minio = &*minio;
    for (length, bound, streams) in [(3 * MIB, ROOMY, 1), (1000, ROOMY, 1), (3 * MIB, 1000, 0), (1000, 10, 1)]
    {
        let bench = Bench::new(minio, bound).await;
        let body = pattern(length);
        let digest = put(&bench.blobs, &body).await;
        let before = bench.blobs.s3().tally().counts();
        let fits = length as u64 <= bound;
        if fits {
            assert!(read_all(&*bench.blobs.open(&digest).await.unwrap(), MIB).await == body);
            assert_eq!(bench.blobs.s3().tally().counts(), before, "a hit asks nothing");
        }
        bench.blobs.0.disk.remove(&digest).await.unwrap();
        assert!(read_all(&*bench.blobs.open(&digest).await.unwrap(), MIB).await == body);
        assert_eq!(bench.blobs.s3().tally().counts().all(), before.all() + 1, "a miss asks once");
        bench.settled().await;
        let counts = bench.blobs.counts();
        assert_eq!((counts.hits, counts.streams, counts.throughs), (u64::from(fits), streams, 1 - streams));
        assert_eq!(counts.bytes, if fits { length as u64 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adopted_body_is_a_copy_and_costs_s3_nothing() {
    let Some(minio) = minio("an_adopted_body_is_a_copy_and_costs_s3_nothing") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(MIB);
    let digest = bench.put_cold(&body).await;
    let before = bench.blobs.s3().tally().counts();
    let mut staged = bench.blobs.stage(Some(body.len() as u64)).await.unwrap();
    staged.write(body.clone()).await.unwrap();
    staged.adopt(&digest).await.unwrap();
    assert!(bench.read(&digest).await.0 == body);
    assert_eq!(bench.blobs.s3().tally().counts(), before);
    assert_eq!(bench.blobs.counts().bytes, body.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_80_one_get_for_all_who_want_it() {
    let Some(minio) = minio("rs_80_one_get_for_all_who_want_it") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(5 * MIB);
    let digest = bench.put_cold(&body).await;
    // The body stands still until everyone is reading it.
    bench.faulty.script(is_get, [Fault::Hold(MIB as u64)]);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (blobs, body) = (bench.blobs.clone(), body.clone());
            let (first, started) = tokio::sync::oneshot::channel();
            let reader = tokio::spawn(async move {
                let reader = blobs.open(&digest).await.unwrap();
                assert_eq!(reader.read_at(0, 1000).await.unwrap(), body[..1000]);
                first.send(()).unwrap();
                assert!(read_all(&*reader, 300 << 10).await == body);
            });
            (reader, started)
        })
        .collect();
    let mut running = Vec::new();
    for (reader, started) in readers {
        started.await.unwrap();
        running.push(reader);
    }
    bench.faulty.release();
    for reader in running {
        reader.await.unwrap();
    }
    assert_eq!(bench.gets(), 1);
    assert_eq!(bench.blobs.counts().streams, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_far_ahead_does_not_wait() {
    let Some(minio) = minio("who_reads_far_ahead_does_not_wait") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(12 * MIB);
    let digest = bench.put_cold(&body).await;
    bench.faulty.script(is_get, [Fault::Hold(MIB as u64)]);
    let reader = bench.blobs.open(&digest).await.unwrap();
    for offset in [11 * MIB, 11 * MIB + 1000, 10 * MIB] {
        assert_eq!(reader.read_at(offset as u64, 1000).await.unwrap(), body[offset..offset + 1000]);
    }
    assert_eq!(bench.gets(), 3, "the stream, one range read on, and one jump");
    assert_eq!(bench.blobs.counts().throughs, 2);
    let tail = body.len() as u64 - HELD;
    let mut waiting = std::pin::pin!(reader.read_at(tail, 100));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "the last bytes wait for the digest");
    bench.faulty.release();
    let tail = usize::try_from(tail).unwrap();
    assert_eq!(waiting.await.unwrap(), body[tail..tail + 100]);
    assert!(read_all(&*reader, MIB).await == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_wants_any_more_is_not_brought() {
    let Some(minio) = minio("what_nobody_wants_any_more_is_not_brought") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(4 * MIB);
    let digest = bench.put_cold(&body).await;
    bench.faulty.script(is_get, [Fault::Hold(MIB as u64)]);
    let reader = bench.blobs.open(&digest).await.unwrap();
    reader.read_at(0, 1000).await.unwrap();
    drop(reader);
    bench.faulty.release();
    bench.settled().await;
    assert_eq!(bench.blobs.counts().bytes, 0);
    assert!(bench.read(&digest).await.0 == body);
    assert_eq!(bench.gets(), 2);

    // More than half of it is there: it is kept.
    let body = pattern(4 * MIB + 1);
    let digest = bench.put_cold(&body).await;
    let reader = bench.blobs.open(&digest).await.unwrap();
    reader.read_at(3 * MIB as u64, 10).await.unwrap();
    drop(reader);
    bench.settled().await;
    assert_eq!(bench.blobs.counts().bytes, 2 * body.len() as u64 - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_removed_on_its_way_does_not_stay() {
    let Some(minio) = minio("a_body_removed_on_its_way_does_not_stay") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(4 * MIB);
    let digest = bench.put_cold(&body).await;
    bench.faulty.script(is_get, [Fault::Hold(MIB as u64)]);
    let reader = bench.blobs.open(&digest).await.unwrap();
    bench.blobs.remove(&digest).await.unwrap();
    bench.faulty.release();
    assert!(read_all(&*reader, MIB).await == body, "who reads it goes on");
    bench.settled().await;
    assert_eq!(bench.blobs.counts().bytes, 0);
    assert!(matches!(bench.blobs.open(&digest).await, Err(BlobError::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_on_the_way_out_and_in() {
    let Some(minio) = minio("memory_is_bounded_on_the_way_out_and_in") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, 1000).await;
    let piece = pattern(MIB - 7);
    let mut hasher = Hasher::for_checksums(&[]);
    let mut staged = bench.blobs.stage(None).await.unwrap();
    let count = 256;
    for _ in 0..count {
        hasher.update(&piece);
        staged.write(piece.clone()).await.unwrap();
    }
    let digest = hasher.finish().digest;
    staged.commit(&digest).await.unwrap();
    let peak = bench.blobs.s3().upload_memory_peak();
    assert!((8 << 20..=24 << 20).contains(&peak), "three parts at most: {peak}");

    let stream = bench.blobs.s3().ask(&digest, 0).await.unwrap();
    let reader = through::Through::open(bench.blobs.0.clone(), digest, Some(stream)).await.unwrap();
    let (mut offset, mut peak) = (0, 0);
    while let Ok(bytes) = reader.read_at(offset, MIB).await
        && !bytes.is_empty()
    {
        let start = usize::try_from(offset).unwrap() % piece.len();
        let length = bytes.len().min(piece.len() - start);
        assert!(bytes[..length] == piece[start..start + length], "{offset}");
        offset += bytes.len() as u64;
        peak = peak.max(reader.ready_bytes().await);
    }
    assert_eq!(offset, (count * piece.len()) as u64);
    // What is kept back, and one piece of the connection.
    assert!(peak <= MIB as u64, "beyond the block that was asked for: {peak}");
    assert_eq!(bench.gets(), 1);
}
