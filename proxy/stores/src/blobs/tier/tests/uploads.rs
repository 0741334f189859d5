//! Uploads on a real MinIO, seen by two replicas, and what goes wrong on the way (RS-87, RS-89, RS-110).

use artifactapi_model::ports::{Place, Stored, UploadId, UploadStore, UploadWriter};

use super::*;
use crate::blobs::{
    s3::UPLOAD_MEMORY,
    uploads_suite::{self, Places},
};

/// Two replicas on one bucket.
struct Replicas {
    _roots: [TempDir; 2],
    faulty: Faulty,
    blobs: [TieredBlobs; 2],
    places: Arc<Places>,
}

impl Replicas {
    async fn new(minio: &Minio) -> Self {
        let (roots, faulty) = ([scratch(), scratch()], Faulty::new());
        let (settings, places) = (settings(minio), Arc::<Places>::default());
        let mut blobs = Vec::new();
        for root in &roots {
            let s3 = faulty.blobs(settings.clone());
            s3.check().await.unwrap();
            s3.follow(places.clone());
            blobs.push(TieredBlobs::open(s3, root.path(), ROOMY).await.unwrap());
        }
        Replicas { _roots: roots, faulty, blobs: blobs.try_into().unwrap_or_else(|_| unreachable!()), places }
    }

    /// Requests sent to S3 by both, of the kind that `of` picks.
    fn sent(&self, of: fn(&crate::S3Counts) -> u64) -> u64 {
        self.blobs.iter().map(|blobs| of(&blobs.s3().tally().counts())).sum()
    }

    /// A push in requests of these lengths, each to the other replica, the last with the close.
    async fn push(&self, body: &Bytes, requests: &[usize]) -> Result<(Digest, Option<Place>), BlobError> {
        let id = UploadId::of(crate::random::random().unwrap());
        let (mut at, mut stored) = (0, Stored::default());
        for (n, length) in requests.iter().enumerate() {
            let mut writer = self.blobs[n % 2].uploads().resume(&id, &stored, at as u64, false).await?;
            send(&mut writer, &body.slice(at..at + length)).await?;
            at += length;
            if n + 1 < requests.len() {
                stored = writer.pause().await?;
                continue;
            }
            assert_eq!(at, body.len());
            let digest = Digest::of(body);
            let place = writer.finish(&digest).await?;
            if let Some(place) = &place {
                self.places.set(&digest, place.clone());
            }
            return Ok((digest, place));
        }
        unreachable!("no request, no push")
    }

    async fn has(&self, digest: &Digest, body: &Bytes, case: &str) {
        for blobs in &self.blobs {
            assert!(read_all(&*blobs.open(digest).await.unwrap(), MIB).await == *body, "{case}");
        }
    }

    fn bench(&self) -> uploads_suite::Bench {
        let uploads = self.blobs.each_ref().map(|blobs| Arc::new(blobs.uploads()) as Arc<dyn UploadStore>);
        uploads_suite::Bench { blobs: Arc::new(self.blobs[0].clone()), uploads, places: self.places.clone() }
    }
}

/// Writes as a caller does that keeps only when it has to.
async fn send(writer: &mut Box<dyn UploadWriter>, bytes: &Bytes) -> Result<(), BlobError> {
    for start in (0..bytes.len()).step_by(MIB) {
        if writer.must_keep() {
            writer.keep().await?;
        }
        writer.write(bytes.slice(start..bytes.len().min(start + MIB))).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conform() {
    let Some(minio) = minio("uploads::conform") else { return };
    let kept = std::sync::Mutex::new(Vec::new());
    uploads_suite::suite(async || {
        let replicas = Replicas::new(&minio).await;
        let bench = replicas.bench();
        kept.lock().unwrap().push(replicas);
        bench
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_110_random_schedules() {
    let Some(minio) = minio("uploads::rs_110_random_schedules") else { return };
    let replicas = Replicas::new(&minio).await;
    uploads_suite::schedules(async || replicas.bench(), 0..24).await;
    let s3 = replicas.blobs[0].s3();
    let (left, _) = s3.page_of_objects("uploads/", None).await.unwrap();
    assert!(left.iter().all(|object| !object.location.as_ref().contains('.')), "no tails are left: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_short_tail_is_read_back() {
    let Some(minio) = minio("uploads::nothing_but_a_short_tail_is_read_back") else { return };
    let replicas = Replicas::new(&minio).await;
    let body = pattern(61 * MIB);
    for (requests, tails, placed) in [
        (&[61 * MIB][..], 0, true),
        (&[30 * MIB, 31 * MIB, 0], 0, true),
        (&[5 * MIB, 5 * MIB + 1, 20 * MIB, 31 * MIB - 1], 0, true),
        (&[58 * MIB, MIB, MIB, MIB], 2, true),
        (&[3 * MIB, 0], 1, false),
        (&[12 * MIB], 0, false),
    ] {
        let case = format!("{requests:?}");
        let body = body.slice(..requests.iter().sum::<usize>());
        let (gets, heads) = (replicas.sent(|counts| counts.gets), replicas.sent(|counts| counts.heads));
        let (digest, place) = replicas.push(&body, requests).await.unwrap();
        assert_eq!(replicas.sent(|counts| counts.gets) - gets, tails, "{case}");
        assert!(replicas.sent(|counts| counts.heads) - heads <= 2, "{case}");
        assert_eq!(place.is_some(), placed, "{case}");
        replicas.has(&digest, &body, &case).await;
        for blobs in &replicas.blobs {
            until(|| std::future::ready(blobs.0.flights().under_way.is_empty())).await;
            blobs.remove(&digest).await.unwrap();
        }
        replicas.places.forget(&digest);
    }
    for blobs in &replicas.blobs {
        assert!(blobs.s3().upload_memory_peak() <= UPLOAD_MEMORY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_push_is_one_put_and_a_copy_here() {
    let Some(minio) = minio("uploads::a_short_push_is_one_put_and_a_copy_here") else { return };
    let replicas = Replicas::new(&minio).await;
    let body = pattern(700_000);
    let (digest, place) = replicas.push(&body, &[700_000]).await.unwrap();
    assert_eq!(place, None);
    assert_eq!(replicas.sent(|counts| counts.multiparts), 0);
    let gets = replicas.sent(|counts| counts.gets);
    assert!(read_all(&*replicas.blobs[0].open(&digest).await.unwrap(), MIB).await == body);
    assert_eq!(replicas.sent(|counts| counts.gets), gets, "it is in the tier of who took it");
    replicas.has(&digest, &body, "and in S3").await;
    assert_eq!(replicas.places.asked(), 0, "nobody is asked for what is in its own place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_rs_89_faults_on_the_way_are_not_noticed() {
    let Some(minio) = minio("uploads::rs_87_rs_89_faults_on_the_way_are_not_noticed") else { return };
    let slow_down = || Fault::Status(503, "SlowDown");
    let cases: [(&str, Which, Vec<Fault>); 7] = [
        ("a part is refused once", is_part, vec![Fault::None, slow_down()]),
        ("acks of parts are lost", is_part, vec![Fault::AckLost; 3]),
        ("all acks of the completion are lost", is_complete, vec![Fault::AckLost; 20]),
        ("the completion answers 500 after success", is_complete, vec![Fault::AckWrong(500)]),
        ("the completion is refused once", is_complete, vec![Fault::Status(500, "InternalError")]),
        (
            "the completion is answered by 200 and an error",
            is_complete,
            vec![Fault::Status(200, "InternalError")],
        ),
        ("the ack of a tail is lost", is_tail, vec![Fault::AckLost]),
    ];
    let whole = pattern(24 * MIB);
    for (n, (case, which, faults)) in cases.into_iter().enumerate() {
        let replicas = Replicas::new(&minio).await;
        replicas.faulty.script(which, faults);
        let body = whole.slice(n..);
        let (digest, _) = replicas
            .push(&body, &[20 * MIB, MIB, 3 * MIB - n])
            .await
            .unwrap_or_else(|error| panic!("{case}: {error:?}"));
        replicas.has(&digest, &body, case).await;
    }
    let replicas = Replicas::new(&minio).await;
    replicas.faulty.refuse_every(5);
    for n in 1..4 {
        let body = whole.slice(n..);
        let (digest, _) = replicas.push(&body, &[9 * MIB, 2 * MIB, 13 * MIB - n]).await.unwrap();
        replicas.has(&digest, &body, "a fifth of all requests refused").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_96_a_full_store_says_so_and_the_upload_goes_on_later() {
    let Some(minio) = minio("uploads::rs_96_a_full_store_says_so_and_the_upload_goes_on_later") else {
        return;
    };
    let replicas = Replicas::new(&minio).await;
    let (body, id) = (pattern(30 * MIB), UploadId::of([7; 16]));
    let [first, second] = replicas.blobs.each_ref().map(TieredBlobs::uploads);
    let mut writer = first.resume(&id, &Stored::default(), 0, false).await.unwrap();
    send(&mut writer, &body.slice(..9 * MIB)).await.unwrap();
    let stored = writer.pause().await.unwrap();
    let full = || Fault::Status(507, "XMinioStorageFull");
    replicas.faulty.script(is_part, vec![full(); 3]);
    let mut writer = second.resume(&id, &stored, 9 << 20, false).await.unwrap();
    let sent = send(&mut writer, &body.slice(9 * MIB..)).await;
    let error = match sent {
        Ok(()) => writer.pause().await.err(),
        Err(error) => Some(error),
    };
    assert!(matches!(error, Some(BlobError::Full(_))), "{error:?}");
    let digest = Digest::of(&body);
    // What is left of the script may refuse it once or twice more.
    for _ in 0..4 {
        let mut writer = first.resume(&id, &stored, 9 << 20, true).await.unwrap();
        if send(&mut writer, &body.slice(9 * MIB..)).await.is_ok()
            && let Ok(place) = writer.finish(&digest).await
        {
            replicas.places.set(&digest, place.unwrap());
            break;
        }
    }
    replicas.has(&digest, &body, "once there is room").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_goes_far_beyond_what_is_recorded() {
    let Some(minio) = minio("uploads::nobody_goes_far_beyond_what_is_recorded") else { return };
    let replicas = Replicas::new(&minio).await;
    let uploads = replicas.blobs[0].uploads();
    let (id, piece) = (UploadId::of([7; 16]), pattern(MIB));
    let mut writer = uploads.resume(&id, &Stored::default(), 0, false).await.unwrap();
    let mut sent = 0;
    while !writer.must_keep() {
        assert!(sent < 200, "it has to ask some time");
        writer.write(piece.clone()).await.unwrap();
        sent += 1;
    }
    assert!(sent > 100, "and not for every part: {sent} MiB");
    assert!(writer.write(piece.clone()).await.is_err(), "a caller that does not listen goes no further");
    let mut late = uploads.resume(&id, &Stored::default(), 0, true).await.unwrap();
    assert!(late.must_keep(), "who takes over writes nothing before it is known");
    late.keep().await.unwrap();
    assert!(!late.must_keep());
    late.write(piece).await.unwrap();
    uploads.discard(&id, &Stored::default(), false).await.unwrap();
    let key = object_store::path::Path::from(format!("uploads/{id}"));
    let left = replicas.blobs[0].s3().begun_parts(&key).await.unwrap();
    assert!(left.is_empty(), "also what nobody has recorded is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_found_where_it_was_left() {
    let Some(minio) = minio("uploads::a_blob_is_found_where_it_was_left") else { return };
    let replicas = Replicas::new(&minio).await;
    let body = pattern(20 * MIB);
    let (digest, place) = replicas.push(&body, &[20 * MIB]).await.unwrap();
    let (place, size) = (place.unwrap(), body.len() as u64);
    let [blobs, twin] = &replicas.blobs;
    let s3 = blobs.s3();

    // It moves while it is read, and the reader does not notice.
    let mut stream = s3.stream(&digest, 0).await.unwrap().unwrap();
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    assert!(twin.uploads().settle(&place, &digest, size).await.unwrap());
    // MinIO removes nothing that is being read.
    stream.interrupt();
    twin.uploads().remove_place(&place).await.unwrap();
    while let Some(bytes) = stream.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == body);
    let ranges = replicas.faulty.ranges();
    assert_eq!(ranges.len(), 4, "own place, where it was left, there again, own place: {ranges:?}");
    assert!(ranges[3].is_some(), "it has gone on by range: {ranges:?}");

    // Rows that cannot be asked say nothing about a blob that is in its own place, and hide none that is not.
    replicas.places.set_broken(true);
    assert_eq!(blobs.size(&digest).await.unwrap(), Some(size));
    let nothing = Digest::of(b"never there");
    assert!(matches!(blobs.size(&nothing).await, Err(BlobError::Io { .. })));
    assert!(matches!(twin.open(&nothing).await, Err(BlobError::Io { .. })));
    replicas.places.set_broken(false);
    assert_eq!(blobs.size(&nothing).await.unwrap(), None);

    let asked = replicas.places.asked();
    let before = replicas.sent(crate::S3Counts::all);
    assert!(read_all(&*twin.open(&digest).await.unwrap(), MIB).await == body);
    assert_eq!(replicas.sent(crate::S3Counts::all), before + 1);
    assert_eq!(replicas.places.asked(), asked, "what is in its own place costs nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_or_put_aside_goes_from_its_place() {
    let Some(minio) = minio("uploads::what_is_removed_or_put_aside_goes_from_its_place") else { return };
    for aside in [false, true] {
        let replicas = Replicas::new(&minio).await;
        let body = pattern(14 * MIB);
        let (digest, place) = replicas.push(&body, &[14 * MIB]).await.unwrap();
        assert!(place.is_some());
        let blobs = &replicas.blobs[1];
        assert_eq!(blobs.size(&digest).await.unwrap(), Some(body.len() as u64));
        if aside {
            blobs.quarantine(&digest).await.unwrap();
        } else {
            blobs.remove(&digest).await.unwrap();
        }
        assert_eq!(blobs.size(&digest).await.unwrap(), None);
        assert_eq!(blobs.uploads().list(None, Duration::ZERO, 10).await.unwrap(), []);
        let (kept, _) = blobs.s3().page_of_objects("quarantine/", None).await.unwrap();
        assert_eq!(kept.len(), usize::from(aside));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_11_a_body_written_anew_while_the_damaged_one_is_put_aside_stays() {
    let Some(minio) = minio("uploads::rs_11_a_body_written_anew_while") else { return };
    let bench = Bench::new(&minio, ROOMY).await;
    let body = pattern(MIB);
    let digest = bench.put_cold(&body).await;
    let s3 = bench.blobs.s3();
    let mut wrong = body.to_vec();
    wrong[5] ^= 1;
    s3.overwrite(&digest, wrong.into()).await;
    bench.faulty.script(is_putting_aside, [Fault::Hold(0)]);
    let aside = tokio::spawn({
        let s3 = s3.clone();
        async move { s3.quarantine(&digest).await }
    });
    until(|| async { !s3.page_of_objects("quarantine/", None).await.unwrap().0.is_empty() }).await;
    // Another replica gets the right bytes again.
    s3.overwrite(&digest, body.clone()).await;
    bench.faulty.release();
    aside.await.unwrap().unwrap();
    assert!(read_all(&*bench.blobs.open(&digest).await.unwrap(), MIB).await == body);
}
