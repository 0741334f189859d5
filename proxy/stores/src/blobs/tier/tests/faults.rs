//! S3 that lies, stammers and forgets (RS-01, RS-87, RS-88).

use object_store::path::Path;

use super::*;

/// Where a body goes: into the tier whole, into it while it is read, or past it.
const WAYS: [(usize, u64); 3] = [(1000, ROOMY), (3 * MIB, ROOMY), (3 * MIB, 1000)];

async fn quarantined(bench: &Bench) -> usize {
    use futures_util::StreamExt;
    let listed = bench.blobs.s3().objects(&Path::from("quarantine")).collect::<Vec<_>>().await;
    listed.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_readers_see_one_unbroken_body() {
    let Some(minio) = minio("rs_87_readers_see_one_unbroken_body") else { return };
    let minio = &*minio;
    for (length, bound) in WAYS {
        let bench = Bench::new(minio, bound).await;
        let body = pattern(length);
        let digest = bench.put_cold(&body).await;
        let slow_down = Fault::Status(503, "SlowDown");
        bench
            .faulty
            .script(is_get, [slow_down.clone(), Fault::Cut(length as u64 / 2), slow_down, Fault::None]);
        let (read, error) = bench.read(&digest).await;
        assert!(read == body && error.is_none(), "{length} {bound}: {error:?}");
        assert_eq!(bench.gets(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_an_s3_that_stays_broken_is_an_error_and_no_damage() {
    let Some(minio) = minio("rs_87_an_s3_that_stays_broken_is_an_error_and_no_damage") else { return };
    let minio = &*minio;
    for (length, bound) in WAYS {
        let bench = Bench::new(minio, bound).await;
        let body = pattern(length);
        let digest = bench.put_cold(&body).await;
        bench.faulty.script(is_get, vec![Fault::Cut(length as u64 / 20); 4]);
        let (read, error) = bench.read(&digest).await;
        assert!(matches!(error, Some(BlobError::Io { .. })), "{length} {bound}: {error:?}");
        assert!(body.starts_with(&read) && read.len() < length);
        bench.settled().await;
        assert!(bench.read(&digest).await.0 == body, "the next one has it");
        assert_eq!((bench.blobs.counts().damaged, quarantined(&bench).await), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_01_wrong_bytes_never_end_well_and_are_put_aside() {
    let Some(minio) = minio("rs_01_wrong_bytes_never_end_well_and_are_put_aside") else { return };
    let minio = &*minio;
    for (length, bound) in WAYS {
        let bench = Bench::new(minio, bound).await;
        let body = pattern(length);
        let digest = bench.put_cold(&body).await;
        let mut wrong = body.to_vec();
        wrong[length / 3] ^= 1;
        bench.blobs.s3().overwrite(&digest, wrong.into()).await;
        let (read, error) = bench.read(&digest).await;
        assert!(matches!(error, Some(BlobError::Damaged(..))), "{length} {bound}: {error:?}");
        assert!(read.len() as u64 <= (length as u64).saturating_sub(HELD), "{length} {bound}");

        // At once: a commit does not take the damaged object for a good one.
        put(&bench.blobs, &body).await;
        assert_eq!(quarantined(&bench).await, 1);
        assert_eq!(bench.blobs.size(&digest).await.unwrap(), Some(length as u64));
        bench.settled().await;
        bench.blobs.0.disk.remove(&digest).await.unwrap();
        assert!(bench.read(&digest).await.0 == body, "{length} {bound}");
        assert!(bench.blobs.counts().damaged > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_88_bytes_spoiled_on_the_way_do_not_condemn_the_object() {
    let Some(minio) = minio("rs_88_bytes_spoiled_on_the_way_do_not_condemn_the_object") else { return };
    let minio = &*minio;
    for fault in [Fault::Flip(500), Fault::Short(900)] {
        for (length, bound) in WAYS {
            let bench = Bench::new(minio, bound).await;
            let body = pattern(length);
            let digest = bench.put_cold(&body).await;
            bench.faulty.script(is_get, [fault.clone()]);
            let (read, error) = bench.read(&digest).await;
            let unseen = length as u64 <= HELD || matches!(fault, Fault::Short(_));
            if unseen {
                assert!(read == body && error.is_none(), "nobody has seen it: {error:?}");
            } else {
                assert!(matches!(error, Some(BlobError::Damaged(..))), "{fault:?} {length}: {error:?}");
                assert!(read.len() as u64 <= length as u64 - HELD);
            }
            bench.settled().await;
            assert!(bench.read(&digest).await.0 == body, "{fault:?} {length}");
            assert_eq!(quarantined(&bench).await, 0);
            assert!(bench.blobs.counts().damaged > 0);
        }
    }
    let bench = Bench::new(minio, ROOMY).await;
    let body = pattern(3 * MIB);
    let digest = bench.put_cold(&body).await;
    bench.faulty.script(is_get, [Fault::Short(MIB as u64)]);
    let (read, error) = bench.read(&digest).await;
    assert!(matches!(error, Some(BlobError::Damaged(..))), "{error:?}");
    assert!(read.len() as u64 <= MIB as u64 - HELD, "not even the short body ends well");
    bench.settled().await;
    assert_eq!(bench.blobs.size(&digest).await.unwrap(), Some(3 * MIB as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_88_one_404_is_not_believed() {
    let Some(minio) = minio("rs_88_one_404_is_not_believed") else { return };
    let minio = &*minio;
    let no_such_key = || Fault::Status(404, "NoSuchKey");
    for (length, bound) in WAYS {
        let bench = Bench::new(minio, bound).await;
        let body = pattern(length);
        let digest = bench.put_cold(&body).await;
        bench.faulty.script(is_get, [no_such_key()]);
        let (read, error) = bench.read(&digest).await;
        assert!(read == body && error.is_none(), "{length} {bound}: {error:?}");

        bench.settled().await;
        bench.blobs.0.disk.remove(&digest).await.unwrap();
        bench.faulty.script(is_get, [no_such_key(), no_such_key()]);
        let (_, error) = bench.read(&digest).await;
        assert!(matches!(error, Some(BlobError::Io { .. })), "the HEAD sees it: {error:?}");

        bench.settled().await;
        bench.faulty.script(is_get, [no_such_key()]);
        bench.faulty.script(is_head, [no_such_key()]);
        let (_, error) = bench.read(&digest).await;
        assert!(matches!(error, Some(BlobError::NotFound(_))), "two agree: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_89_a_commit_answers_when_the_object_is_there_and_not_before() {
    let Some(minio) = minio("rs_89_a_commit_answers_when_the_object_is_there_and_not_before") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let commit = async |length: usize| {
        let body = pattern(length);
        let digest = Digest::of(&body);
        let mut staged = bench.blobs.stage(Some(length as u64)).await.unwrap();
        staged.write(body).await.unwrap();
        staged.commit(&digest).await.map(|()| digest)
    };
    bench.faulty.script(is_put, [Fault::Status(507, "XMinioStorageFull")]);
    assert!(matches!(commit(1000).await, Err(BlobError::Full(_))));
    bench.faulty.script(is_put, vec![Fault::Status(403, "AccessDenied")]);
    assert!(matches!(commit(1000).await, Err(BlobError::Io { .. })));
    assert_eq!(bench.blobs.counts().bytes, 0, "what is not in S3 is not in the tier");
    assert_eq!(bench.blobs.list(None, 10).await.unwrap(), []);
    bench.faulty.script(is_complete, [Fault::AckLost, Fault::AckLost, Fault::AckLost, Fault::AckLost]);
    let digest = commit(9 * MIB).await.unwrap();
    assert_eq!(bench.blobs.size(&digest).await.unwrap(), Some(9 * MIB as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_a_fifth_of_all_requests_refused_fails_no_read() {
    let Some(minio) = minio("rs_87_a_fifth_of_all_requests_refused_fails_no_read") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, 4 * MIB as u64).await;
    let bodies: Vec<_> = (0..24_usize).map(|n| pattern(MIB / 2 + n)).collect();
    let mut digests = Vec::new();
    bench.faulty.refuse_every(5);
    for body in &bodies {
        digests.push(put(&bench.blobs, body).await);
    }
    let reads = (0..4).map(|_| {
        let (blobs, bodies, digests) = (bench.blobs.clone(), bodies.clone(), digests.clone());
        tokio::spawn(async move {
            for (digest, body) in digests.iter().zip(&bodies) {
                let reader = blobs.open(digest).await.unwrap();
                assert!(read_all(&*reader, 200 << 10).await == *body);
            }
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    assert!(bench.blobs.s3().tally().counts().failures > 10);
    assert!(bench.blobs.counts().bytes <= 4 * MIB as u64);
}
