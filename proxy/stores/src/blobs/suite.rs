//! What every blob store must do. An adapter's test calls [`suite`] with a function that makes an empty
//! store, and [`full`] where it can make one with little room.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

use std::sync::Arc;

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, BlobStore, blobs::MAX_READ},
};
use bytes::Bytes;

const KIB: usize = 1 << 10;

/// Runs everything but [`full`]; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Arc<dyn BlobStore>) {
    missing_is_told(&*make().await).await;
    bodies_round_trip(&*make().await).await;
    random_reads_agree_with_a_slice(&*make().await).await;
    a_growing_body_can_be_read_at_once(&*make().await).await;
    staged_is_invisible_until_commit(&*make().await).await;
    readers_outlive_their_blob(&*make().await).await;
    a_second_commit_changes_nothing(&*make().await).await;
    concurrent_commits_agree(make().await).await;
    rs_11_quarantined_is_gone_and_can_come_back(&*make().await).await;
    listing_pages_in_digest_order(&*make().await).await;
}

/// Repeatable bytes without a period that a block size could hide.
pub fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect::<Vec<u8>>().into()
}

/// Stores `body` and returns its digest.
pub async fn put(store: &dyn BlobStore, body: &[u8]) -> Digest {
    let digest = Digest::of(body);
    let mut staged = store.stage(Some(body.len() as u64)).await.unwrap();
    for chunk in body.chunks(100 * KIB) {
        staged.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    staged.commit(&digest).await.unwrap();
    digest
}

/// Reads a body to its end, `block` bytes at a time.
pub async fn read_all(reader: &dyn BlobReader, block: usize) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let bytes = reader.read_at(body.len() as u64, block).await.unwrap();
        if bytes.is_empty() {
            return body;
        }
        body.extend_from_slice(&bytes);
    }
}

async fn missing_is_told(store: &dyn BlobStore) {
    let digest = Digest::of(b"never stored");
    assert!(matches!(store.open(&digest).await, Err(BlobError::NotFound(d)) if d == digest));
    assert_eq!(store.size(&digest).await.unwrap(), None);
    store.remove(&digest).await.unwrap();
    store.quarantine(&digest).await.unwrap();
    assert_eq!(store.list(None, 10).await.unwrap(), []);
}

async fn bodies_round_trip(store: &dyn BlobStore) {
    let lengths =
        [0, 1, 4 * KIB, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MAX_READ, MAX_READ + 1, 3 * MAX_READ];
    for length in lengths {
        let body = pattern(length);
        let digest = put(store, &body).await;
        assert_eq!(store.size(&digest).await.unwrap(), Some(length as u64), "{length}");
        let reader = store.open(&digest).await.unwrap();
        assert_eq!(read_all(&*reader, MAX_READ).await, body, "{length}");
        assert_eq!(read_all(&*reader, 100 * KIB + 7).await, body, "{length}");
    }
}

async fn random_reads_agree_with_a_slice(store: &dyn BlobStore) {
    let body = pattern(MAX_READ + 300 * KIB);
    let digest = put(store, &body).await;
    let reader = store.open(&digest).await.unwrap();
    for pair in pattern(4 * 200).chunks(4) {
        let offset = usize::from(pair[0]) * 5_701 + usize::from(pair[1]);
        let length = (usize::from(pair[2]) * 8_209 + usize::from(pair[3])).min(2 * MAX_READ);
        let got = reader.read_at(offset as u64, length).await.unwrap();
        let start = offset.min(body.len());
        let end = (start + length.min(MAX_READ)).min(body.len());
        assert_eq!(got, body[start..end], "{offset}+{length}");
    }
    for offset in [body.len() as u64, u64::MAX - 1, u64::MAX] {
        assert!(reader.read_at(offset, 10).await.unwrap().is_empty(), "{offset}");
    }
    assert!(reader.read_at(0, 0).await.unwrap().is_empty());
    assert_eq!(reader.read_at(0, usize::MAX).await.unwrap().len(), MAX_READ);
}

async fn a_growing_body_can_be_read_at_once(store: &dyn BlobStore) {
    let body = pattern(2 * MAX_READ);
    let mut staged = store.stage(None).await.unwrap();
    let reader = staged.reader();
    let mut written = 0;
    for length in [1, 10, 16 * KIB, 0, 300 * KIB, 255 * KIB, 7, 600 * KIB] {
        staged.write(body.slice(written..written + length)).await.unwrap();
        written += length;
        assert_eq!(read_all(&*reader, MAX_READ).await, body[..written], "after {written}");
        let early = staged.reader().read_at(0, 5).await.unwrap();
        assert_eq!(early, body[..written.min(5)]);
        let around = written.saturating_sub(length + 3);
        let got = reader.read_at(around as u64, length + 10).await.unwrap();
        assert_eq!(got, body[around..written], "across the last write");
    }
    let digest = Digest::of(&body[..written]);
    staged.commit(&digest).await.unwrap();
    assert_eq!(read_all(&*reader, MAX_READ).await, body[..written], "after commit");
    let opened = store.open(&digest).await.unwrap();
    assert_eq!(read_all(&*opened, MAX_READ).await, body[..written]);
}

async fn staged_is_invisible_until_commit(store: &dyn BlobStore) {
    let digest = Digest::of(b"body");
    let mut staged = store.stage(Some(4)).await.unwrap();
    staged.write(Bytes::from_static(b"body")).await.unwrap();
    let reader = staged.reader();
    assert_eq!(store.size(&digest).await.unwrap(), None);
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    drop(staged);
    assert_eq!(store.size(&digest).await.unwrap(), None);
    assert_eq!(read_all(&*reader, 10).await, b"body", "readable after drop");
}

async fn readers_outlive_their_blob(store: &dyn BlobStore) {
    let body = pattern(300 * KIB);
    let digest = put(store, &body).await;
    let first = store.open(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert_eq!(store.size(&digest).await.unwrap(), None);
    assert_eq!(read_all(&*first, MAX_READ).await, body);
    put(store, &body).await;
    let second = store.open(&digest).await.unwrap();
    store.quarantine(&digest).await.unwrap();
    assert_eq!(read_all(&*second, MAX_READ).await, body);
}

async fn a_second_commit_changes_nothing(store: &dyn BlobStore) {
    let digest = put(store, b"same").await;
    assert_eq!(put(store, b"same").await, digest);
    assert_eq!(store.list(None, 10).await.unwrap(), [(digest, 4)]);
    assert_eq!(read_all(&*store.open(&digest).await.unwrap(), 10).await, b"same");
}

async fn concurrent_commits_agree(store: Arc<dyn BlobStore>) {
    let body = pattern(300 * KIB);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move { put(&*store, &body).await })
        })
        .collect();
    for task in tasks {
        let digest = task.await.unwrap();
        assert_eq!(read_all(&*store.open(&digest).await.unwrap(), MAX_READ).await, body);
    }
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1);
}

async fn rs_11_quarantined_is_gone_and_can_come_back(store: &dyn BlobStore) {
    let digest = put(store, b"body").await;
    store.quarantine(&digest).await.unwrap();
    assert!(matches!(store.open(&digest).await, Err(BlobError::NotFound(_))));
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    put(store, b"body").await;
    store.quarantine(&digest).await.unwrap();
    put(store, b"body").await;
    assert_eq!(read_all(&*store.open(&digest).await.unwrap(), 10).await, b"body");
}

async fn listing_pages_in_digest_order(store: &dyn BlobStore) {
    let mut all = Vec::new();
    for n in 0..60_usize {
        let body = pattern(n);
        all.push((put(store, &body).await, n as u64));
    }
    all.sort_unstable();
    for limit in [1, 7, 60, 1000] {
        let mut seen = Vec::new();
        loop {
            let page = store.list(seen.last().map(|(digest, _)| *digest), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    assert_eq!(store.list(None, 0).await.unwrap(), []);
    let between = Digest(all[30].0.0.map(|byte| byte.saturating_sub(1)));
    let want = all.iter().find(|(digest, _)| *digest > between).copied();
    assert_eq!(store.list(Some(between), 1).await.unwrap().first().copied(), want);
    assert_eq!(store.list(Some(Digest([0xff; 32])), 10).await.unwrap(), []);
}

/// What a store does when it has no room (RS-96); `make` returns an empty store with about that many bytes
/// of room, and the suite asks for 4 MiB.
pub async fn full(make: impl AsyncFn(u64) -> Arc<dyn BlobStore>) {
    let store = make(4 << 20).await;
    let kept = put(&*store, b"kept").await;
    assert!(matches!(store.stage(Some(1 << 30)).await, Err(BlobError::Full(_))), "told before anyone reads");

    let body = pattern(64 * KIB);
    let mut staged = store.stage(None).await.unwrap();
    let reader = staged.reader();
    let mut written = 0;
    let error = loop {
        assert!(written < 8 << 20, "a full store must say so");
        match staged.write(body.clone()).await {
            Ok(()) => written += body.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BlobError::Full(_)), "{error:?}");
    for offset in (0..written).step_by(body.len()) {
        assert_eq!(reader.read_at(offset, body.len()).await.unwrap(), body, "accepted bytes stay readable");
    }
    assert_eq!(read_all(&*store.open(&kept).await.unwrap(), 10).await, b"kept", "reads are unaffected");
    assert_eq!(store.list(None, 10).await.unwrap(), [(kept, 4)], "nothing partial is visible");
    drop((staged, reader));
    let big = pattern(2 << 20);
    let mut tries = 0;
    let mut staged = loop {
        match store.stage(Some(big.len() as u64)).await {
            Ok(staged) => break staged,
            // Room may come back a moment after the drop.
            Err(BlobError::Full(_)) if tries < 10_000 => tries += 1,
            Err(error) => panic!("room does not come back: {error:?}"),
        }
        tokio::task::yield_now().await;
    };
    staged.write(big.clone()).await.unwrap();
    staged.commit(&Digest::of(&big)).await.unwrap();
}
