//! S3 stopped, and S3 that stands still with its connections open.

use std::time::Instant;

use artifactapi_services::provided;

use super::*;

/// Longest time to an answer in these tests.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_without_s3_hits_go_on_and_the_rest_ends_in_time() {
    let name = "rs_87_without_s3_hits_go_on_and_the_rest_ends_in_time";
    let Some(mut minio) = provided(Minio::start(), name) else { return };
    let root = TempDir::new().unwrap();
    let settings = S3Settings { patience: PATIENCE, ..settings(&minio) };
    let blobs = TieredBlobs::open(S3Blobs::new(settings).unwrap(), root.path(), ROOMY).await.unwrap();
    let (warm, cold) = (pattern(3 * MIB), pattern(2 * MIB));
    let (warm_digest, cold_digest) = (put(&blobs, &warm).await, put(&blobs, &cold).await);
    blobs.0.disk.remove(&cold_digest).await.unwrap();

    for paused in [false, true] {
        if paused {
            minio.0.pause();
        } else {
            minio.0.stop();
        }
        let begin = Instant::now();
        for _ in 0..3 {
            assert!(
                read_all(&*blobs.open(&warm_digest).await.unwrap(), MIB).await == warm,
                "paused: {paused}"
            );
        }
        let mut staged = blobs.stage(Some(4)).await.unwrap();
        staged.write(Bytes::from_static(b"body")).await.unwrap();
        let body = Digest::of(b"body");
        let (opened, size, listed, removed, committed) = tokio::join!(
            blobs.open(&cold_digest),
            blobs.size(&cold_digest),
            blobs.list(None, 10),
            blobs.remove(&cold_digest),
            staged.commit(&body),
        );
        let failures = [opened.err(), size.err(), listed.err(), removed.err(), committed.err()];
        for (n, error) in failures.into_iter().enumerate() {
            assert!(matches!(error, Some(BlobError::Io { .. })), "paused: {paused}, call {n}: {error:?}");
        }
        // A PUT may take six times as long, and no wait is repeated more than once.
        assert!(begin.elapsed() < 20 * PATIENCE, "paused: {paused}: {:?}", begin.elapsed());
        let asked = blobs.s3().tally().counts().all();
        for _ in 0..50 {
            assert!(blobs.open(&cold_digest).await.is_err());
            assert!(read_all(&*blobs.open(&warm_digest).await.unwrap(), MIB).await == warm);
        }
        let asked = blobs.s3().tally().counts().all() - asked;
        assert!(asked < 50, "an S3 that does not answer is not asked by everyone: {asked}");
        if paused {
            minio.0.resume();
        } else {
            minio.0.start_again();
        }
        // Within a second or so.
        until(|| async { blobs.s3().ping().await.is_ok() }).await;
        blobs.0.disk.remove(&cold_digest).await.unwrap();
        put(&blobs, &cold).await;
        blobs.0.disk.remove(&cold_digest).await.unwrap();
        assert!(read_all(&*blobs.open(&cold_digest).await.unwrap(), MIB).await == cold, "it is back");
        until(|| std::future::ready(blobs.0.flights().under_way.is_empty())).await;
        blobs.0.disk.remove(&cold_digest).await.unwrap();
    }
}
