//! The local side: room, restarts, damaged copies.

use std::{fs, path::Path, process::Command};

use super::*;
use crate::{OpenError, blobs::mount::Mount, lock::opened};

fn copy_of(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    root.join("cache/sha256").join(&hex[..2]).join(hex)
}

fn body(n: u8, length: usize) -> Vec<u8> {
    let mut body = pattern(length).to_vec();
    body[0] = n;
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_takes_the_longest_unused_and_leaves_readers_alone() {
    let Some(minio) = minio("eviction_takes_the_longest_unused_and_leaves_readers_alone") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, 5 * MIB as u64).await;
    let bodies = [1, 2, 3].map(|n| body(n, 2 * MIB));
    let first = put(&bench.blobs, &bodies[0]).await;
    let second = put(&bench.blobs, &bodies[1]).await;
    let reader = bench.blobs.open(&second).await.unwrap();
    drop(bench.blobs.open(&first).await.unwrap());
    let third = put(&bench.blobs, &bodies[2]).await;
    assert!(!copy_of(bench.root.path(), &second).exists(), "the longest unused");
    for kept in [&first, &third] {
        assert!(copy_of(bench.root.path(), kept).exists());
    }
    let counts = bench.blobs.counts();
    assert_eq!((counts.evictions, counts.bytes), (1, 4 * MIB as u64));
    assert!(read_all(&*reader, MIB).await == bodies[1], "an open reader goes on");
    assert_eq!(bench.gets(), 0);
    assert!(bench.read(&second).await.0 == bodies[1], "and it can be had again");
    bench.settled().await;
    let counts = bench.blobs.counts();
    assert_eq!((bench.gets(), counts.evictions, counts.bytes), (1, 2, 4 * MIB as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_97_a_restart_keeps_copies_and_sweeps_what_was_staged() {
    let Some(minio) = minio("rs_97_a_restart_keeps_copies_and_sweeps_what_was_staged") else { return };
    let minio = &*minio;
    let (root, settings) = (scratch(), settings(minio));
    let open =
        async |bound| TieredBlobs::open(S3Blobs::new(settings.clone()).unwrap(), root.path(), bound).await;
    let blobs = open(ROOMY).await.unwrap();
    assert!(matches!(open(ROOMY).await, Err(OpenError::InUse(_))));
    let bodies = [1, 2, 3].map(|n| body(n, MIB));
    let mut digests = Vec::new();
    for body in &bodies {
        digests.push(put(&blobs, body).await);
    }
    // The times of the files order them; the first was used last.
    for (digest, minutes) in digests.iter().zip([1, 3, 2]) {
        let ago = format!("{minutes} minutes ago");
        let touched = Command::new("touch").args(["-d", &ago]).arg(copy_of(root.path(), digest)).status();
        assert!(touched.unwrap().success());
    }
    drop(blobs);
    fs::write(root.path().join("staging/99-1"), "half a body").unwrap();
    let blobs = opened(async || open(ROOMY).await).await;
    assert_eq!(fs::read_dir(root.path().join("staging")).unwrap().count(), 0);
    until(|| std::future::ready(blobs.counts().bytes == 3 * MIB as u64)).await;
    for (digest, body) in digests.iter().zip(&bodies) {
        assert!(read_all(&*blobs.open(digest).await.unwrap(), MIB).await == *body);
    }
    assert_eq!(blobs.s3().tally().counts().all(), 0, "copies of an earlier process are used");
    drop(blobs);
    for (digest, minutes) in digests.iter().zip([1, 3, 2]) {
        let ago = format!("{minutes} minutes ago");
        let touched = Command::new("touch").args(["-d", &ago]).arg(copy_of(root.path(), digest)).status();
        assert!(touched.unwrap().success());
    }
    let blobs = opened(async || open(2 * MIB as u64).await).await;
    until(|| std::future::ready(blobs.counts().evictions == 1)).await;
    assert!(!copy_of(root.path(), &digests[1]).exists(), "a smaller bound: the longest unused goes");
    assert_eq!(blobs.counts().bytes, 2 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_01_copies_of_another_boot_are_hashed_before_they_are_used() {
    let Some(minio) = minio("rs_01_copies_of_another_boot_are_hashed_before_they_are_used") else { return };
    let minio = &*minio;
    let (root, settings) = (scratch(), settings(minio));
    let open = async || TieredBlobs::open(S3Blobs::new(settings.clone()).unwrap(), root.path(), ROOMY).await;
    let blobs = open().await.unwrap();
    let (good, bad) = (body(1, MIB), body(2, MIB));
    let (good_digest, bad_digest) = (put(&blobs, &good).await, put(&blobs, &bad).await);
    drop(blobs);
    // A power cut: the name is there, the bytes are not.
    fs::write(copy_of(root.path(), &bad_digest), vec![0; MIB]).unwrap();
    fs::write(root.path().join("boot"), "another boot\n").unwrap();
    let blobs = opened(open).await;
    assert!(read_all(&*blobs.open(&bad_digest).await.unwrap(), MIB).await == bad);
    assert_eq!(blobs.counts().damaged, 1);
    assert_eq!(blobs.s3().tally().counts().gets, 1);
    assert!(read_all(&*blobs.open(&good_digest).await.unwrap(), MIB).await == good);
    assert_eq!(blobs.s3().tally().counts().gets, 1, "a good copy is a hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_11_a_scrub_of_the_copies_leaves_s3_and_their_order_alone() {
    let Some(minio) = minio("rs_11_a_scrub_of_the_copies_leaves_s3_and_their_order_alone") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, 5 * MIB as u64 / 2).await;
    let bodies = [1, 2].map(|n| body(n, MIB));
    let (good, bad) = (put(&bench.blobs, &bodies[0]).await, put(&bench.blobs, &bodies[1]).await);
    fs::write(copy_of(bench.root.path(), &bad), vec![0; MIB]).unwrap();
    let (copies, before) = (bench.blobs.copies(), bench.blobs.s3().tally().counts());
    let mut listed = vec![(good, MIB as u64), (bad, MIB as u64)];
    listed.sort_unstable();
    assert_eq!(copies.list(None, 10).await.unwrap(), listed);
    assert!(read_all(&*copies.open(&good).await.unwrap(), MIB).await == bodies[0]);
    assert!(read_all(&*copies.open(&bad).await.unwrap(), MIB).await == vec![0; MIB], "as it is");
    copies.quarantine(&bad).await.unwrap();
    assert!(matches!(copies.open(&bad).await, Err(BlobError::NotFound(_))));
    assert!(copies.stage(None).await.is_err());
    assert_eq!(bench.blobs.s3().tally().counts(), before);
    assert!(bench.read(&bad).await.0 == bodies[1], "S3 has it still");
    bench.settled().await;
    assert_eq!((bench.gets(), bench.blobs.counts().damaged), (1, 1));

    read_all(&*copies.open(&good).await.unwrap(), MIB).await;
    put(&bench.blobs, &body(3, MIB)).await;
    assert_eq!(copies.size(&good).await.unwrap(), None, "being scrubbed is no use");
    assert_eq!(copies.size(&bad).await.unwrap(), Some(MIB as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_15_a_link_in_a_copys_place_is_not_read() {
    let Some(minio) = minio("rs_15_a_link_in_a_copys_place_is_not_read") else { return };
    let minio = &*minio;
    let bench = Bench::new(minio, ROOMY).await;
    let digest = bench.put_cold(b"body").await;
    let secret = bench.root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, copy_of(bench.root.path(), &digest)).unwrap();
    assert_eq!(bench.read(&digest).await.0, b"body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_96_conforms_on_a_full_disk() {
    let Some(minio) = minio("rs_96_conforms_on_a_full_disk") else { return };
    let minio = &*minio;
    if Mount::tmpfs(1 << 20).is_none() {
        eprintln!("SKIPPED rs_96_conforms_on_a_full_disk: mounting a tmpfs needs root");
        return;
    }
    let mounts = Mutex::new(Vec::new());
    suite::full(async |room| {
        let mount = Mount::tmpfs(room + (64 << 10)).unwrap();
        let s3 = S3Blobs::new(settings(minio)).unwrap();
        let blobs = TieredBlobs::open(s3, mount.path(), ROOMY).await.unwrap();
        mounts.lock().unwrap().push(mount);
        Arc::new(blobs) as Arc<dyn BlobStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_96_a_full_disk_gives_copies_up_and_never_stops_reads() {
    let Some(minio) = minio("rs_96_a_full_disk_gives_copies_up_and_never_stops_reads") else { return };
    let minio = &*minio;
    let Some(mount) = Mount::tmpfs(4 << 20) else {
        eprintln!("SKIPPED rs_96_a_full_disk_gives_copies_up: mounting a tmpfs needs root");
        return;
    };
    let s3 = S3Blobs::new(settings(minio)).unwrap();
    let blobs = TieredBlobs::open(s3, mount.path(), ROOMY).await.unwrap();
    let bodies = [1, 2, 3].map(|n| body(n, 2 * MIB - (64 << 10)));
    let mut digests = Vec::new();
    for body in &bodies {
        digests.push(put(&blobs, body).await);
    }
    assert_eq!(blobs.counts().evictions, 1, "room for the third");
    // Somebody else takes what is left and holds it.
    let mut held = Vec::new();
    while let Ok(staged) = blobs.stage(Some(256 << 10)).await {
        held.push(staged);
    }
    for (digest, body) in digests.iter().zip(&bodies) {
        assert!(read_all(&*blobs.open(digest).await.unwrap(), MIB).await == *body, "streamed through");
    }
    assert!(blobs.counts().throughs > 0);
}
