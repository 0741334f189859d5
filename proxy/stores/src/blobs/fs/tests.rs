//! What only a directory can get wrong. The rest is in the suite.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use artifactapi_services::scratch;
use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    blobs::{
        mount::Mount,
        suite::{self, pattern, put, read_all},
    },
    lock::opened,
};

async fn open(root: &Path) -> FsBlobs {
    opened(async || FsBlobs::open(root).await).await
}

fn place_of(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    root.join("blobs/sha256").join(&hex[..2]).join(hex)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until nothing is staged: dropping a staged body unlinks its file a moment later.
async fn nothing_staged(root: &Path) {
    let emptied = async {
        while !names_in(&root.join("staging")).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), emptied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let (directory, count) = (scratch(), AtomicU64::new(0));
    suite::suite(async || {
        let root = directory.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(open(&root).await) as Arc<dyn BlobStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_96_conforms_on_a_full_disk() {
    let mounts = std::sync::Mutex::new(Vec::new());
    if Mount::tmpfs(1 << 20).is_none() {
        eprintln!("SKIPPED rs_96_conforms_on_a_full_disk: mounting a tmpfs needs root");
        return;
    }
    suite::full(async |room| {
        // The directories take pages too.
        let mount = Mount::tmpfs(room + (64 << 10)).unwrap();
        let store = open(mount.path()).await;
        mounts.lock().unwrap().push(mount);
        Arc::new(store) as Arc<dyn BlobStore>
    })
    .await;
}

#[tokio::test]
async fn rs_97_what_a_dead_process_staged_is_discarded_on_start() {
    let root = TempDir::new().unwrap();
    drop(open(root.path()).await);
    fs::write(root.path().join("staging/99-1"), "half a body").unwrap();
    let digest = Digest::of(b"kept");
    fs::write(place_of(root.path(), &digest), "kept").unwrap();
    let store = open(root.path()).await;
    assert!(names_in(&root.path().join("staging")).is_empty());
    assert_eq!(store.size(&digest).await.unwrap(), Some(4));
}

#[tokio::test]
async fn dropping_and_committing_leave_nothing_staged() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let mut staged = store.stage(Some(1 << 20)).await.unwrap();
    staged.write(pattern(600 << 10)).await.unwrap();
    assert_eq!(names_in(&root.path().join("staging")).len(), 1);
    drop(staged);
    nothing_staged(root.path()).await;
    put(&store, b"one").await;
    put(&store, b"one").await;
    nothing_staged(root.path()).await;
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let root = TempDir::new().unwrap();
    let first = open(root.path()).await;
    let error = FsBlobs::open(root.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    assert!(error.to_string().contains("in use by another process"));
    drop(first);
    open(root.path()).await;
}

#[tokio::test]
async fn what_cannot_be_a_store_is_told() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(FsBlobs::open(&file).await, Err(OpenError::Io { .. })));
    let store = root.path().join("store");
    fs::create_dir(&store).unwrap();
    symlink(root.path(), store.join("blobs")).unwrap();
    assert!(matches!(FsBlobs::open(&store).await, Err(OpenError::Io { .. })), "no link is followed");
}

#[tokio::test]
async fn rs_15_a_link_or_a_pipe_in_a_blobs_place_is_never_read() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let secret = root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let (link, pipe, folder) = (Digest::of(b"link"), Digest::of(b"pipe"), Digest::of(b"folder"));
    symlink(&secret, place_of(root.path(), &link)).unwrap();
    fs::create_dir(place_of(root.path(), &folder)).unwrap();
    let made = Command::new("mkfifo").arg(place_of(root.path(), &pipe)).status();
    assert!(made.unwrap().success());
    for digest in [link, pipe, folder] {
        assert!(matches!(store.open(&digest).await, Err(BlobError::Damaged(..))));
        assert_eq!(store.size(&digest).await.unwrap(), None);
    }
    assert_eq!(store.list(None, 10).await.unwrap(), []);

    let shard = root.path().join("blobs/sha256/00");
    fs::remove_dir(&shard).unwrap();
    symlink(root.path(), &shard).unwrap();
    assert!(store.open(&Digest([0; 32])).await.is_err(), "nor through a linked directory");
}

#[tokio::test]
async fn a_wrong_body_in_the_place_gives_way_to_the_right_one() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let digest = Digest::of(b"whole body");
    fs::write(place_of(root.path(), &digest), "whole").unwrap();
    put(&store, b"whole body").await;
    assert_eq!(read_all(&*store.open(&digest).await.unwrap(), 100).await, b"whole body");
    assert_eq!(names_in(&root.path().join("quarantine")), [digest.to_hex()]);
}

#[tokio::test]
async fn a_file_cut_short_while_it_is_read_is_damaged() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let digest = put(&store, &pattern(100_000)).await;
    let reader = store.open(&digest).await.unwrap();
    fs::OpenOptions::new().write(true).open(place_of(root.path(), &digest)).unwrap().set_len(50_000).unwrap();
    assert!(matches!(reader.read_at(0, 100_000).await, Err(BlobError::Damaged(d, _)) if d == digest));
    assert_eq!(reader.read_at(0, 10).await.unwrap().len(), 10);
}

#[tokio::test]
async fn listing_passes_over_strangers() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let digest = put(&store, b"body").await;
    let shard = place_of(root.path(), &digest).parent().unwrap().to_owned();
    for name in ["README", &"g".repeat(64), &"A".repeat(64), &format!("sha256:{}", &digest.to_hex()[..57])] {
        fs::write(shard.join(name), "").unwrap();
    }
    let foreign = if digest.0[0] == 0 { "11" } else { "00" }.repeat(32);
    fs::write(shard.join(foreign), "").unwrap();
    assert_eq!(store.list(None, 10).await.unwrap(), [(digest, 4)]);
}

#[tokio::test]
async fn a_shorter_body_than_announced_keeps_no_room() {
    use std::os::unix::fs::MetadataExt as _;

    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    let mut staged = store.stage(Some(8 << 20)).await.unwrap();
    staged.write(Bytes::from_static(b"short")).await.unwrap();
    let digest = Digest::of(b"short");
    staged.commit(&digest).await.unwrap();
    let metadata = fs::metadata(place_of(root.path(), &digest)).unwrap();
    assert_eq!(metadata.len(), 5);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[tokio::test]
async fn an_impossible_length_is_refused_as_full() {
    let root = TempDir::new().unwrap();
    let store = open(root.path()).await;
    for length in [1 << 62, u64::MAX] {
        assert!(matches!(store.stage(Some(length)).await, Err(BlobError::Full(_))), "{length}");
    }
    nothing_staged(root.path()).await;
}

mod uploads {
    use artifactapi_model::ports::{Stored, UploadId, UploadStore};

    use super::*;
    use crate::blobs::uploads_suite::{self, Bench};

    async fn bench(root: &Path) -> Bench {
        let blobs = open(root).await;
        let uploads = [Arc::new(blobs.uploads()) as Arc<dyn UploadStore>, Arc::new(blobs.uploads())];
        Bench { blobs: Arc::new(blobs), uploads, places: Arc::default() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conform() {
        let (directory, count) = (scratch(), AtomicU64::new(0));
        let make =
            async || bench(&directory.path().join(count.fetch_add(1, Ordering::Relaxed).to_string())).await;
        uploads_suite::suite(make).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rs_110_random_schedules() {
        let directory = scratch();
        uploads_suite::schedules(async || bench(directory.path()).await, 0..60).await;
        assert_eq!(names_in(&directory.path().join("uploads")), <[String; 0]>::default());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rs_96_conform_on_a_full_disk() {
        let mounts = std::sync::Mutex::new(Vec::new());
        if Mount::tmpfs(1 << 20).is_none() {
            eprintln!("SKIPPED rs_96_conform_on_a_full_disk: mounting a tmpfs needs root");
            return;
        }
        uploads_suite::full(async |room| {
            let mount = Mount::tmpfs(room + (64 << 10)).unwrap();
            let bench = bench(mount.path()).await;
            mounts.lock().unwrap().push(mount);
            bench
        })
        .await;
    }

    #[tokio::test]
    async fn rs_97_they_outlive_the_process() {
        let root = TempDir::new().unwrap();
        let id = UploadId::of([7; 16]);
        let first = open(root.path()).await.uploads();
        let mut writer = first.resume(&id, &Stored::default(), 0, false).await.unwrap();
        writer.write(pattern(1000)).await.unwrap();
        let stored = writer.pause().await.unwrap();
        drop(first);
        let file = root.path().join("uploads").join(id.as_str());
        fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(5000).unwrap();
        let blobs = open(root.path()).await;
        let digest = Digest::of(&pattern(1000));
        let writer = blobs.uploads().resume(&id, &stored, 1000, true).await.unwrap();
        assert_eq!(writer.finish(&digest).await.unwrap(), None);
        assert_eq!(read_all(&*blobs.open(&digest).await.unwrap(), 100).await, pattern(1000));
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_file_that_has_lost_its_end_is_not_gone_on_with() {
        let root = TempDir::new().unwrap();
        let uploads = open(root.path()).await.uploads();
        let id = UploadId::of([7; 16]);
        let mut writer = uploads.resume(&id, &Stored::default(), 0, false).await.unwrap();
        writer.write(pattern(1000)).await.unwrap();
        let stored = writer.pause().await.unwrap();
        let file = root.path().join("uploads").join(id.as_str());
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(999).unwrap();
        assert!(uploads.resume(&id, &stored, 1000, false).await.is_err());
        assert!(uploads.read(&id, &stored, 1000).await.is_err());
        fs::remove_file(&file).unwrap();
        symlink(root.path().join("lock"), &file).unwrap();
        assert!(uploads.resume(&id, &stored, 0, false).await.is_err(), "no link is followed");
        uploads.discard(&id, &stored, false).await.unwrap();
        assert!(!file.is_symlink());
    }
}
