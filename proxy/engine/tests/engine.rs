//! The engine on one replica: what a client of it would notice.

mod support;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::{Body, CacheOutcome, FetchError};
use artifactapi_formats::Method;
use artifactapi_model::{
    Digest, PackageType, Ttl,
    ports::{BlobError, BlobReader, BlobStore, StagedBlob, UpstreamMethod, upstream::Framing},
    repository::OnUpstreamGone,
};
use artifactapi_stores::MemoryBlobs;
use futures_util::future::join_all;
use support::*;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_miss_is_fetched_once_and_then_hit_without_upstream() {
    let bench = Bench::new(PackageType::Generic).await;
    bench.upstream.put("a/file.bin", body(pattern(MIB)));
    assert_eq!(bench.fetch("a/file.bin").await.unwrap(), pattern(MIB));
    let again = bench.get("a/file.bin").await.unwrap();
    assert_eq!(again.outcome, CacheOutcome::Hit);
    assert_eq!(again.digest, Some(Digest::of(&pattern(MIB))));
    assert_eq!(bench.read(&again).await.unwrap(), pattern(MIB));
    assert_eq!(bench.upstream.gets(), 1);
}

#[tokio::test]
async fn rs_80_many_readers_share_one_fetch_and_stream_while_it_runs() {
    let bench = Arc::new(Bench::new(PackageType::Generic).await);
    let bytes = pattern(MIB);
    let gate = bench.upstream.gate("big.bin", Some(MIB as u64));
    let (seen, mut first_bytes) = tokio::sync::mpsc::channel(200);
    let readers: Vec<_> = (0..200)
        .map(|_| {
            let (bench, seen) = (bench.clone(), seen.clone());
            tokio::spawn(async move {
                let content = bench.get("big.bin").await.unwrap();
                let Body::Growing(mut growing) = content.body else { panic!("it streams") };
                let mut body = growing.read(0, MIB).await.unwrap().to_vec();
                seen.send(()).await.unwrap();
                loop {
                    let block = growing.read(body.len() as u64, MIB).await.unwrap();
                    if block.is_empty() {
                        return body;
                    }
                    body.extend_from_slice(&block);
                }
            })
        })
        .collect();
    gate.send(Ok(bytes.slice(..MIB / 2))).await.unwrap();
    for _ in 0..200 {
        first_bytes.recv().await.unwrap();
    }
    gate.send(Ok(bytes.slice(MIB / 2..))).await.unwrap();
    drop(gate);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), bytes);
    }
    assert_eq!(bench.upstream.gets(), 1);
}

#[tokio::test]
async fn the_last_64_kib_wait_for_the_checks() {
    let bench = Bench::new(PackageType::Generic).await;
    let bytes = pattern(MIB);
    let gate = bench.upstream.gate("big.bin", Some(MIB as u64));
    gate.send(Ok(bytes.slice(..MIB - 1))).await.unwrap();
    let content = bench.get("big.bin").await.unwrap();
    let Body::Growing(mut growing) = content.body else { panic!("it streams") };
    let mut got = 0;
    while got < MIB - 1 - (64 << 10) {
        got += growing.read(got as u64, MIB).await.unwrap().len();
    }
    assert_eq!(got, MIB - 1 - (64 << 10), "no more is shown before the end");
    gate.send(Ok(bytes.slice(MIB - 1..))).await.unwrap();
    drop(gate);
    assert_eq!(growing.whole().await.unwrap(), MIB as u64);
}

#[tokio::test]
async fn rs_03_a_short_body_never_ends_cleanly_and_leaves_nothing() {
    for cut in [0, 1, MIB / 2, MIB - 1] {
        let bench = Bench::new(PackageType::Generic).await;
        let framing = Some(Framing::Length(MIB as u64));
        bench
            .upstream
            .put("f.bin", Script::Body { bytes: pattern(MIB).slice(..cut), headers: vec![], framing });
        assert!(bench.fetch("f.bin").await.is_err(), "cut at {cut}");
        bench.upstream.put("f.bin", body(pattern(MIB)));
        assert_eq!(bench.fetch("f.bin").await.unwrap(), pattern(MIB), "cut at {cut}");
        assert_eq!(bench.upstream.gets(), 2);
    }
}

#[tokio::test]
async fn rs_04_a_body_that_breaks_is_not_kept() {
    let bench = Bench::new(PackageType::Generic).await;
    let gate = bench.upstream.gate("f.bin", None);
    gate.send(Ok(pattern(MIB))).await.unwrap();
    let content = bench.get("f.bin").await.unwrap();
    gate.send(Err(broken())).await.unwrap();
    assert!(bench.read(&content).await.is_err());
    bench.upstream.put("f.bin", body("whole"));
    assert_eq!(bench.fetch("f.bin").await.unwrap(), b"whole");
}

#[tokio::test]
async fn rs_05_a_close_delimited_body_is_served_and_not_kept() {
    let bench = Bench::new(PackageType::Generic).await;
    let close = || Script::Body { bytes: pattern(MIB), headers: vec![], framing: Some(Framing::Close) };
    bench.upstream.put("f.bin", close());
    for round in 1..=2 {
        let content = bench.get("f.bin").await.unwrap();
        assert_eq!(bench.read(&content).await.unwrap(), pattern(MIB));
        assert_eq!(bench.upstream.gets(), round);
    }
}

#[tokio::test]
async fn rs_06_bytes_past_the_announced_end_are_dropped() {
    let bench = Bench::new(PackageType::Generic).await;
    bench.upstream.put(
        "f.bin",
        Script::Body { bytes: "wholeEXTRA".into(), headers: vec![], framing: Some(Framing::Length(5)) },
    );
    assert_eq!(bench.fetch("f.bin").await.unwrap(), b"whole");
}

#[tokio::test]
async fn rs_08_an_immutable_path_never_changes_silently() {
    let mut spec = spec(PackageType::Generic);
    spec.immutable_ttl = Ttl::For(Duration::from_secs(10));
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    bench.upstream.put("f.bin", body("first"));
    assert_eq!(bench.fetch("f.bin").await.unwrap(), b"first");
    bench.upstream.put("f.bin", body("other"));
    bench.clock.advance(Duration::from_secs(100_000));
    assert!(matches!(bench.get("f.bin").await, Err(FetchError::Mutated { .. })));
}

#[tokio::test]
async fn rs_83_an_expired_body_is_revalidated_once_and_meanwhile_served_stale() {
    let bench = Arc::new(Bench::new(PackageType::Generic).await);
    bench.upstream.put(
        "dir/",
        Script::Body { bytes: "listing".into(), headers: vec![("etag", "\"1\"".into())], framing: None },
    );
    bench.fetch("dir/").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    let gate = bench.upstream.gate("dir/", Some(3));
    for _ in 0..500 {
        let content = bench.get("dir/").await.unwrap();
        assert_eq!(content.outcome, CacheOutcome::Stale);
        assert_eq!(bench.read(&content).await.unwrap(), b"listing");
    }
    gate.send(Ok("new".into())).await.unwrap();
    drop(gate);
    while bench.fetch("dir/").await.unwrap() != b"new" {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.upstream.gets(), 2);
    assert_eq!(bench.upstream.last().if_none_match.as_deref(), Some("\"1\""));
}

#[tokio::test]
async fn a_304_renews_without_a_body() {
    let mut spec = spec(PackageType::Generic);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    bench.upstream.put(
        "dir/",
        Script::Body { bytes: "listing".into(), headers: vec![("etag", "\"1\"".into())], framing: None },
    );
    bench.fetch("dir/").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    let content = bench.get("dir/").await.unwrap();
    assert_eq!(content.outcome, CacheOutcome::Revalidated);
    assert_eq!(bench.get("dir/").await.unwrap().outcome, CacheOutcome::Hit);
}

/// It may have looked at a date that has stayed, and the body is not ours: its name must not come to stand for ours.
#[tokio::test]
async fn a_304_about_another_body_is_no_confirmation() {
    let mut spec = spec(PackageType::Generic);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    let headers = vec![("etag", "\"1\"".into())];
    bench.upstream.put("dir/", Script::Body { bytes: "old".into(), headers, framing: None });
    bench.fetch("dir/").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    bench.upstream.put("dir/", Script::Confused { bytes: "new".into(), etag: "\"2\"" });
    assert_eq!(bench.fetch("dir/").await.unwrap(), b"new");
    assert_eq!(bench.upstream.last().if_none_match, None);
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.get("dir/").await.unwrap().outcome, CacheOutcome::Revalidated);
    assert_eq!(bench.upstream.last().if_none_match.as_deref(), Some("\"2\""));
}

#[tokio::test]
async fn rs_90_a_failing_upstream_is_bridged_by_what_is_stored() {
    let mut spec = spec(PackageType::Generic);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    bench.upstream.put("dir/", body("listing"));
    bench.fetch("dir/").await.unwrap();
    for failure in [Script::Down, Script::Status(500), Script::Status(429), Script::Status(401)] {
        bench.clock.advance(Duration::from_secs(100));
        bench.upstream.put("dir/", failure);
        let content = bench.get("dir/").await.unwrap();
        assert_eq!(content.outcome, CacheOutcome::Stale);
        assert_eq!(bench.read(&content).await.unwrap(), b"listing");
    }
    bench.clock.advance(Duration::from_secs(10_000));
    assert!(matches!(bench.get("dir/").await, Err(FetchError::Denied(401))), "not beyond staleIfError");
}

#[tokio::test(start_paused = true)]
async fn rs_93_an_absence_is_remembered_and_never_replaces_what_is_stored() {
    let mut spec = spec(PackageType::Generic);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    for _ in 0..5 {
        assert!(matches!(bench.get("none").await, Err(FetchError::NotFound { gone: false })));
    }
    assert_eq!(bench.upstream.gets(), 1);
    bench.pass(Duration::from_secs(61)).await;
    assert!(bench.get("none").await.is_err());
    assert_eq!(bench.upstream.gets(), 2);

    bench.upstream.put("dir/", body("listing"));
    bench.fetch("dir/").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    bench.upstream.put("dir/", Script::Status(404));
    assert_eq!(bench.fetch("dir/").await.unwrap(), b"listing");
}

#[tokio::test]
async fn on_upstream_gone_evict_answers_what_upstream_answers() {
    let mut spec = spec(PackageType::Generic);
    spec.stale_while_revalidate = Duration::ZERO;
    spec.on_upstream_gone = OnUpstreamGone::Evict;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    bench.upstream.put("dir/", body("listing"));
    bench.fetch("dir/").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    bench.upstream.put("dir/", Script::Status(410));
    assert!(matches!(bench.get("dir/").await, Err(FetchError::NotFound { gone: true })));
    bench.upstream.put("dir/", Script::Down);
    assert!(bench.get("dir/").await.is_err(), "the stored copy is gone too");
}

#[tokio::test]
async fn a_head_asks_upstream_by_head_and_fetches_nothing() {
    let bench = Bench::new(PackageType::Generic).await;
    bench.upstream.put("f.bin", body(pattern(MIB)));
    let content = bench.request(Method::Head, "f.bin").await.unwrap();
    assert_eq!(content.size, Some(MIB as u64));
    assert_eq!((bench.upstream.gets(), bench.upstream.requests(UpstreamMethod::Head)), (0, 1));
}

#[tokio::test]
async fn rs_80_many_heads_at_once_ask_once_whatever_the_answer() {
    for (answer, is_good) in [(body(pattern(MIB)), true), (Script::Status(500), false), (Script::Down, false)]
    {
        let bench = Bench::new(PackageType::Generic).await;
        let leave = bench.upstream.hold("f.bin");
        bench.upstream.put("f.bin", answer);
        let heads = join_all((0..50).map(|_| bench.request(Method::Head, "f.bin")));
        let give = async {
            while bench.upstream.all().is_empty() {
                tokio::task::yield_now().await;
            }
            leave.add_permits(100);
        };
        let (heads, ()) = tokio::join!(heads, give);
        assert!(heads.iter().all(|head| head.is_ok() == is_good));
        assert_eq!(bench.upstream.all().len(), 1);
        // Whoever comes later is not told what others were.
        assert_eq!(bench.request(Method::Head, "f.bin").await.is_ok(), is_good);
        assert_eq!(bench.upstream.all().len(), 2);
    }
}

#[tokio::test]
async fn rs_80_a_head_goes_on_for_others_when_its_client_leaves() {
    let bench = Arc::new(Bench::new(PackageType::Generic).await);
    let leave = bench.upstream.hold("f.bin");
    bench.upstream.put("f.bin", body(pattern(MIB)));
    let ask = || {
        let bench = bench.clone();
        tokio::spawn(async move { bench.request(Method::Head, "f.bin").await })
    };
    let first = ask();
    while bench.upstream.all().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = ask();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.is_err());
    leave.add_permits(10);
    assert_eq!(second.await.unwrap().unwrap().size, Some(MIB as u64));
    assert_eq!(bench.upstream.all().len(), 1);
}

#[tokio::test]
async fn a_deserted_fetch_is_given_up_unless_half_done() {
    for (sent, finishes) in [(MIB / 4, false), (3 * MIB / 4, true)] {
        let bench = Bench::new(PackageType::Generic).await;
        let gate = bench.upstream.gate("f.bin", Some(MIB as u64));
        gate.send(Ok(pattern(MIB).slice(..sent))).await.unwrap();
        drop(bench.get("f.bin").await.unwrap());
        if finishes {
            gate.send(Ok(pattern(MIB).slice(sent..))).await.unwrap();
            drop(gate);
            while bench.get("f.bin").await.unwrap().outcome != CacheOutcome::Hit {
                tokio::task::yield_now().await;
            }
            assert_eq!(bench.upstream.gets(), 1);
        } else {
            gate.closed().await;
        }
    }
}

#[tokio::test]
async fn a_suspended_repository_serves_what_it_has() {
    let bench = Bench::new(PackageType::Generic).await;
    bench.upstream.put("dir/", body("listing"));
    bench.fetch("dir/").await.unwrap();
    let mut suspended = (*bench.remote.spec).clone();
    suspended.suspend = true;
    let bench = Bench {
        remote: artifactapi_model::Remote { spec: Arc::new(suspended), ..bench.remote.clone() },
        ..bench
    };
    bench.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(bench.fetch("dir/").await.unwrap(), b"listing");
    assert!(matches!(bench.get("other").await, Err(FetchError::Suspended)));
    assert_eq!(bench.upstream.gets(), 1);
}

/// A store without room.
struct FullBlobs;

#[async_trait::async_trait]
impl BlobStore for FullBlobs {
    async fn stage(&self, _: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        Err(BlobError::Full(std::io::Error::from(std::io::ErrorKind::StorageFull)))
    }
    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        Err(BlobError::NotFound(*digest))
    }
    async fn size(&self, _: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(None)
    }
    async fn remove(&self, _: &Digest) -> Result<(), BlobError> {
        Ok(())
    }
    async fn quarantine(&self, _: &Digest) -> Result<(), BlobError> {
        Ok(())
    }
    async fn list(&self, _: Option<Digest>, _: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn rs_96_a_full_store_streams_through() {
    let bench = Bench::with(spec(PackageType::Generic), Arc::new(FullBlobs)).await;
    for size in [0, 10, 5 * MIB] {
        bench.upstream.put("f.bin", body(pattern(size)));
        let content = bench.get("f.bin").await.unwrap();
        assert_eq!(content.outcome, CacheOutcome::Bypass);
        assert_eq!(bench.read(&content).await.unwrap(), pattern(size));
    }
    let framing = Some(Framing::Length(5 * MIB as u64));
    bench.upstream.put("f.bin", Script::Body { bytes: pattern(MIB), headers: vec![], framing });
    assert!(bench.fetch("f.bin").await.is_err(), "a cut is a cut without a store too");
}
