//! What every store of uploads must do. An adapter's test calls [`suite`] with a function that makes an empty store,
//! seen by two processes, [`schedules`] for as many random ones as it has time for, and [`full`] where it can make
//! one with little room.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

mod random;
mod session;

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobStore, UploadId, UploadStore},
};
use bytes::Bytes;

use self::session::Session;
pub use self::{random::schedules, session::Places};
use super::suite::{pattern, put, read_all};

const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// One store of bodies and of uploads.
pub struct Bench {
    /// The bodies; follows `places`.
    pub blobs: Arc<dyn BlobStore>,
    /// Uploads beside them, as two processes see them (or one, where only one can).
    pub uploads: [Arc<dyn UploadStore>; 2],
    /// Which bodies are not in their own place.
    pub places: Arc<Places>,
}

/// Runs everything but [`schedules`] and [`full`]; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Bench) {
    bodies_come_in_chunks_of_any_size(&make().await).await;
    rs_110_a_broken_request_is_gone_on_with(&make().await).await;
    what_was_kept_is_there(&make().await).await;
    a_fenced_writer_does_no_harm(&make().await).await;
    a_late_finish_gives_no_wrong_body(&make().await).await;
    rs_89_finishing_can_be_repeated(&make().await).await;
    a_body_that_is_there_stays(&make().await).await;
    rs_12_discarded_bytes_are_gone(&make().await).await;
    what_was_written_can_be_read(&make().await).await;
    listing_pages_in_order(&make().await).await;
    a_placed_body_settles(&make().await).await;
}

/// The body `digest` has exactly these bytes.
async fn has(bench: &Bench, digest: &Digest, body: &[u8], case: &str) {
    assert_eq!(bench.blobs.size(digest).await.unwrap(), Some(body.len() as u64), "{case}");
    let reader = bench.blobs.open(digest).await.unwrap();
    assert!(read_all(&*reader, MIB).await == body, "{case}: other bytes");
}

async fn bodies_come_in_chunks_of_any_size(bench: &Bench) {
    let cases: [&[usize]; 9] = [
        &[],
        &[0, 0],
        &[1],
        &[1, 0, 1, 700_000],
        &[5 * MIB],
        &[3 * MIB, 3 * MIB, 3 * MIB, 1],
        &[5 * MIB, 5 * MIB, 5 * MIB - 1, 1],
        &[21 * MIB + 5],
        &[2 * MIB, 17 * MIB, 100, 5 * MIB],
    ];
    let whole = pattern(25 * MIB);
    for (n, chunks) in cases.into_iter().enumerate() {
        for last_with_close in [false, true] {
            let case = format!("{chunks:?}, closed with the last: {last_with_close}");
            // Each body is another one.
            let start = 2 * n + usize::from(last_with_close);
            let body = whole.slice(start..start + chunks.iter().sum::<usize>());
            let mut session = Session::new(bench);
            let (with_close, before) = match chunks.split_last() {
                Some((last, before)) if last_with_close => (*last, before),
                _ => (0, chunks),
            };
            let mut at = 0;
            for chunk in before {
                session.append(&body.slice(at..at + chunk)).await;
                at += chunk;
                assert_eq!(session.offset, at as u64, "{case}");
            }
            let digest = Digest::of(&body);
            session.close(&body.slice(at..at + with_close), &digest).await.unwrap();
            has(bench, &digest, &body, &case).await;
            session.end().await;
            has(bench, &digest, &body, &case).await;
        }
    }
}

async fn rs_110_a_broken_request_is_gone_on_with(bench: &Bench) {
    let body = pattern(19 * MIB);
    let mut session = Session::new(bench);
    for (sent, kept) in [(0, 300), (2 * MIB, 100), (10 * MIB, 7 * MIB), (MIB, 7 * MIB)] {
        let at = usize::try_from(session.offset).unwrap();
        let mut broken = session.open(true).await;
        session.send(&mut broken, &body.slice(at..at + sent)).await.unwrap();
        drop(broken);
        session.append(&body.slice(at..at + kept)).await;
    }
    let at = usize::try_from(session.offset).unwrap();
    let digest = Digest::of(&body);
    session.close(&body.slice(at..), &digest).await.unwrap();
    has(bench, &digest, &body, "after broken requests").await;
}

async fn what_was_kept_is_there(bench: &Bench) {
    let body = pattern(40 * MIB);
    let mut session = Session::new(bench);
    let mut far = 0;
    let mut writer = session.open(false).await;
    let mut at = 0;
    while far < 8 * MIB as u64 && at < body.len() {
        let end = (at + MIB).min(body.len());
        session.send(&mut writer, &body.slice(at..end)).await.unwrap();
        at = end;
        let (offset, stored) = writer.keep().await.unwrap();
        assert!((far..=at as u64).contains(&offset), "{offset} after {at}");
        let into = usize::try_from(offset).unwrap() % MIB;
        assert!(into.is_multiple_of(session::PIECE), "the caller knows the hash after each write only");
        far = offset;
        session.record(offset, stored);
        tokio::task::yield_now().await;
    }
    drop(writer);
    assert!(far > 0, "something is kept while a body comes in");
    let at = usize::try_from(far).unwrap();
    let mut writer = session.open(true).await;
    let (again, stored) = writer.keep().await.unwrap();
    assert_eq!(again, far, "nothing is lost by going on");
    session.record(again, stored);
    drop(writer);
    let digest = Digest::of(&body);
    session.close(&body.slice(at..), &digest).await.unwrap();
    has(bench, &digest, &body, "from what was kept").await;
}

async fn a_fenced_writer_does_no_harm(bench: &Bench) {
    let (body, wrong) = (pattern(30 * MIB), Bytes::from(vec![b'x'; 30 * MIB]));
    for (n, (before, old, new)) in
        [(0, 1000, 2000), (300, 14 * MIB, 14 * MIB), (9 * MIB, 100, 100), (7 * MIB, 14 * MIB, 15 * MIB)]
            .into_iter()
            .enumerate()
    {
        let case = format!("{before} before, {old} wrong, {new} right");
        let body = body.slice(n..);
        let mut session = Session::new(bench);
        session.append(&body.slice(..before)).await;
        let mut fenced = session.open(false).await;
        session.send_unheard(&mut fenced, &wrong.slice(..old / 2)).await;
        let mut writer = session.open(true).await;
        session.send_unheard(&mut fenced, &wrong.slice(..old / 2)).await;
        session.send(&mut writer, &body.slice(before..before + new)).await.unwrap();
        let _ = fenced.pause().await;
        session.give_back(writer, (before + new) as u64).await;
        let digest = Digest::of(&body);
        session.close(&body.slice(before + new..), &digest).await.unwrap();
        has(bench, &digest, &body, &case).await;
    }
}

async fn a_late_finish_gives_no_wrong_body(bench: &Bench) {
    let (body, other) = (pattern(16 * MIB), Bytes::from(vec![b'y'; 16 * MIB]));
    for (n, (before, late)) in
        [(0, true), (0, false), (7 * MIB, true), (7 * MIB, false)].into_iter().enumerate()
    {
        let case = format!("{before} before, late: {late}");
        let body = body.slice(n..);
        let mut session = Session::new(bench);
        session.append(&body.slice(..before)).await;
        let mut fenced = session.open(false).await;
        let others = [&body[..before], &other[n + before..]].concat();
        session.send_unheard(&mut fenced, &other.slice(n + before..)).await;
        let mut writer = session.open(true).await;
        session.send(&mut writer, &body.slice(before..)).await.unwrap();
        let (digest, others_digest) = (Digest::of(&body), Digest::of(&others));
        let (done, others_done) = if late {
            (writer.finish(&digest).await, fenced.finish(&others_digest).await)
        } else {
            let fenced = fenced.finish(&others_digest).await;
            (writer.finish(&digest).await, fenced)
        };
        assert!(!late || done.is_ok(), "{case}: {done:?}");
        // Of the fenced one nobody hears: it does not have the session.
        drop(others_done);
        if let Ok(place) = done {
            session.placed(&digest, place);
            has(bench, &digest, &body, &case).await;
        }
    }
}

async fn rs_89_finishing_can_be_repeated(bench: &Bench) {
    for (n, (before, with)) in
        [(0, 0), (1000, 0), (0, 1000), (9 * MIB, 0), (9 * MIB, 9 * MIB)].into_iter().enumerate()
    {
        let case = format!("{before} before, {with} with the close");
        let body = pattern(before + with + n);
        let (first, rest) = (body.slice(..before), body.slice(before..));
        let digest = Digest::of(&body);
        let mut session = Session::new(bench);
        session.append(&first).await;
        for _ in 0..3 {
            session.close(&rest, &digest).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            has(bench, &digest, &body, &case).await;
        }
        session.end().await;
        has(bench, &digest, &body, &case).await;
        let wrong = Digest::of(b"another body");
        let mut late = session.open(true).await;
        session.send_unheard(&mut late, &rest).await;
        if !body.is_empty() {
            assert!(
                late.finish(&wrong).await.is_err() || before == 0,
                "{case}: what is gone is not finished"
            );
        }
    }
}

async fn a_body_that_is_there_stays(bench: &Bench) {
    for length in [1000, 15 * MIB] {
        let body = pattern(length);
        let digest = put(&*bench.blobs, &body).await;
        let mut session = Session::new(bench);
        session.append(&body).await;
        assert_eq!(session.close(&Bytes::new(), &digest).await.unwrap(), None, "it has its own place");
        session.end().await;
        has(bench, &digest, &body, "pushed again").await;
        assert_eq!(bench.uploads[0].list(None, Duration::ZERO, 10).await.unwrap(), []);
    }
}

async fn rs_12_discarded_bytes_are_gone(bench: &Bench) {
    for length in [0, 1000, 9 * MIB, 14 * MIB] {
        let mut session = Session::new(bench);
        session.append(&pattern(length)).await;
        let mut writer = session.open(false).await;
        session.end().await;
        session.end().await;
        session.send_unheard(&mut writer, &pattern(MIB)).await;
        drop(writer);
        session.end().await;
        for uploads in &bench.uploads {
            assert_eq!(uploads.list(None, Duration::ZERO, 10).await.unwrap(), [], "{length}");
        }
        let body = pattern(length + 1);
        if length > 0 {
            let done = session.close(&body.slice(length..), &Digest::of(&body)).await;
            assert!(done.is_err(), "{length}: what is gone cannot be finished: {done:?}");
        }
        assert_eq!(bench.blobs.list(None, 10).await.unwrap(), []);
    }
}

async fn what_was_written_can_be_read(bench: &Bench) {
    for length in [0, 1000, 6 * MIB, 14 * MIB + 7] {
        let body = pattern(length);
        let mut session = Session::new(bench);
        session.append(&body).await;
        for uploads in &bench.uploads {
            let reader = uploads.read(&session.id, &session.stored, session.offset).await.unwrap();
            assert!(read_all(&*reader, MIB).await == body, "{length}");
            assert!(reader.read_at(u64::MAX, 10).await.unwrap().is_empty());
        }
        let digest = Digest::of(&body);
        session.close(&Bytes::new(), &digest).await.unwrap();
        has(bench, &digest, &body, "after it was read").await;
    }
    let id = session::random_id();
    let read = bench.uploads[0].read(&id, &Default::default(), 1).await;
    assert!(read.is_err(), "what was never written is not read");
}

async fn listing_pages_in_order(bench: &Bench) {
    let mut ids = Vec::new();
    for n in 0..5_usize {
        let mut session = Session::new(bench);
        session.append(&pattern(10 * n)).await;
        session.append(&pattern(n)).await;
        if n > 0 {
            ids.push(session.id.clone());
        }
    }
    ids.sort_unstable();
    let uploads = &*bench.uploads[1];
    for limit in [1, 3, 10] {
        let mut seen: Vec<UploadId> = Vec::new();
        loop {
            let page = uploads.list(seen.last(), Duration::ZERO, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, ids, "pages of {limit}");
    }
    assert_eq!(uploads.list(None, HOUR, 10).await.unwrap(), [], "these are new");
    assert_eq!(uploads.list(None, Duration::ZERO, 0).await.unwrap(), []);
    for id in ids {
        uploads.discard(&id, &Default::default(), false).await.unwrap();
    }
    assert_eq!(uploads.list(None, Duration::ZERO, 10).await.unwrap(), []);
}

async fn a_placed_body_settles(bench: &Bench) {
    let body = pattern(17 * MIB);
    let digest = Digest::of(&body);
    let mut session = Session::new(bench);
    session.append(&body).await;
    let Some(place) = session.close(&Bytes::new(), &digest).await.unwrap() else { return };
    session.end().await;
    has(bench, &digest, &body, "in its first place").await;
    let size = body.len() as u64;
    for uploads in &bench.uploads {
        assert!(uploads.settle(&place, &digest, size).await.unwrap());
    }
    has(bench, &digest, &body, "in both places").await;
    bench.places.forget(&digest);
    for uploads in &bench.uploads {
        uploads.remove_place(&place).await.unwrap();
        assert!(uploads.settle(&place, &digest, size).await.unwrap(), "it is there already");
    }
    has(bench, &digest, &body, "in its own place").await;
    assert_eq!(bench.uploads[0].list(None, Duration::ZERO, 10).await.unwrap(), []);
    let other = Digest::of(b"never there");
    assert!(bench.uploads[0].settle(&place, &other, size).await.is_err(), "there is nothing to copy");
}

/// What a store does when it has no room (RS-96); `make` returns an empty store with about that many bytes of room,
/// and the suite asks for 4 MiB.
pub async fn full(make: impl AsyncFn(u64) -> Bench) {
    let bench = make(4 << 20).await;
    let kept = put(&*bench.blobs, b"kept").await;
    let body = pattern(2 * MIB);
    let mut session = Session::new(&bench);
    session.append(&body.slice(..MIB)).await;
    let mut writer = session.open(false).await;
    let mut error = None;
    for _ in 0..8 {
        if let Err(failure) = session.send(&mut writer, &body.slice(..MIB)).await {
            error = Some(failure);
            break;
        }
    }
    assert!(matches!(error, Some(BlobError::Full(_))), "a full store says so: {error:?}");
    drop(writer);
    assert_eq!(bench.blobs.list(None, 10).await.unwrap(), [(kept, 4)], "nothing partial is visible");
    has(&bench, &kept, b"kept", "reads are unaffected").await;
    let digest = Digest::of(&body);
    session.close(&body.slice(MIB..), &digest).await.unwrap();
    has(&bench, &digest, &body, "gone on with, as soon as it fits").await;
}
