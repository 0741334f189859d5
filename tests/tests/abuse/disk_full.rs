//! RS-96: a disk without room costs storing, never serving. Bodies stream through, stored ones are served as
//! ever, nothing partial becomes visible, and storing goes on by itself once there is room.

use std::{fs, path::PathBuf, time::Duration};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Act, Answer, Behaviour, Disk, Framing, Gate, Proxy, RemoteManifest, Upstream,
    http::{self, Fetched},
    proxy::Options,
    wait,
};
use bytes::Bytes;
use futures_util::future::join_all;

use artifactapi_tests::fixtures::noise;

const MIB: usize = 1 << 20;
/// Size of the disk.
const DISK: usize = 16 * MIB;
/// More than a nearly full disk takes, and more than passes through memory at a time.
const LARGE: usize = 6 * MIB;

/// A proxy whose data is on a disk of its own. Dropped in this order, so that the disk goes last.
struct Shop {
    proxy: Proxy,
    upstream: Upstream,
    disk: Disk,
}

impl Shop {
    /// `None`, after saying why, where no file system can be mounted.
    async fn open() -> Option<Shop> {
        let disk = match Disk::mount(DISK) {
            Ok(disk) => disk,
            Err(why) => {
                eprintln!("SKIPPED rs_96: {why}");
                return None;
            }
        };
        let upstream = Upstream::start().await;
        let manifests = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
        let data = disk.path().join("data");
        // What is stored stays, so that the disk is as full as it is made.
        let proxy = Options::new(manifests).data(&data).env("ARTIFACTAPI_MIN_FREE", "0").start().await;
        Some(Shop { proxy, upstream, disk })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.proxy.remote("g"))
    }

    async fn get(&self, path: &str) -> Fetched {
        http::get(&self.url(path)).await
    }

    /// A new body at the upstream that comes as `behaviour` says.
    fn offer(&self, path: &str, length: usize, behaviour: Behaviour) -> Bytes {
        let bytes = noise(path.len() as u64 * 31 + u64::from(path.as_bytes()[0]), length);
        self.upstream.put(path, bytes.clone()).script(path, behaviour);
        bytes
    }

    /// Files below `directory` of the data.
    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.proxy.data().join(directory)];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).expect("a directory of the store") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found
    }

    async fn nothing_is_staged(&self) {
        let empty = async || self.files("staging").is_empty();
        wait::until("an empty staging directory", Duration::from_secs(20), empty).await;
    }

    /// Stops, checks the store, starts again.
    async fn is_sound(&mut self) {
        self.proxy.stop().await;
        let told = self.proxy.fsck(false).await;
        assert_eq!(told.code, Some(0), "{}", told.text);
        let verdict = "0 damaged blobs, 0 rows without bytes, 0 blobs without rows";
        assert!(told.text.contains(verdict), "{}", told.text);
        self.proxy.respawn().await;
    }
}

fn is_whole(answer: &Fetched, bytes: &Bytes, case: &str) {
    let Fetched { status, body, complete, .. } = answer;
    assert!(*complete && *status == 200, "{case}: {status}, {} of {} bytes", body.len(), bytes.len());
    assert!(body == bytes, "{case}: other bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_96_a_full_disk_costs_storing_and_never_serving() {
    let Some(mut shop) = Shop::open().await else { return };
    let stored = shop.offer("stored.bin", MIB, Behaviour::Serve);
    is_whole(&shop.get("stored.bin").await, &stored, "while there is room");
    let blobs = shop.files("blobs");
    assert_eq!(blobs.len(), 1);

    for (room, framing, behaviour) in [
        (MIB, "announced", Behaviour::Serve),
        (MIB, "chunked", Behaviour::Chunked),
        (MIB, "closed", Behaviour::CloseDelimited),
        (0, "none-announced", Behaviour::Serve),
        (0, "none-chunked", Behaviour::Chunked),
    ] {
        shop.disk.fill(room);
        assert!(shop.disk.free() <= room as u64, "{} bytes are free", shop.disk.free());
        let path = format!("{framing}.bin");
        let bytes = shop.offer(&path, LARGE, behaviour.clone());
        for turn in ["first", "second"] {
            let case = format!("{framing}, {turn} time");
            let before = shop.upstream.hits(&path);
            let answer = shop.get(&path).await;
            is_whole(&answer, &bytes, &case);
            assert!(shop.upstream.hits(&path) > before, "{case}: there was no room to store it");
        }
        let small = shop.offer(&format!("small-{framing}.bin"), 3000, behaviour);
        is_whole(&shop.get(&format!("small-{framing}.bin")).await, &small, framing);
        let before = shop.upstream.requests().len();
        is_whole(&shop.get("stored.bin").await, &stored, framing);
        assert_eq!(shop.upstream.requests().len(), before, "{framing}: a stored body is served as ever");
        let ready = http::get(&format!("{}/livez", shop.proxy.url())).await;
        assert!(ready.is_ok(), "{ready:?}");
        shop.nothing_is_staged().await;
        let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 3000);
        let large: Vec<_> = shop.files("blobs").into_iter().filter(large).collect();
        assert_eq!(large, blobs, "{framing}: nothing partial is visible");
        shop.disk.empty();
    }

    // There is room again: no restart, no reconfiguration.
    let bytes = shop.offer("later.bin", LARGE, Behaviour::Chunked);
    is_whole(&shop.get("later.bin").await, &bytes, "once there is room");
    is_whole(&shop.get("later.bin").await, &bytes, "once it is stored");
    assert_eq!(shop.upstream.hits("later.bin"), 1, "it is stored");
    shop.is_sound().await;
    is_whole(&shop.get("later.bin").await, &bytes, "after a restart");
    is_whole(&shop.get("stored.bin").await, &stored, "after a restart");
    assert_eq!((shop.upstream.hits("later.bin"), shop.upstream.hits("stored.bin")), (1, 1));
}

/// A body without announced length, cut in two by `gate` after `first` bytes.
fn in_two(bytes: &Bytes, first: usize, gate: &Gate) -> Behaviour {
    let (bytes, gate) = (bytes.clone(), gate.clone());
    Behaviour::handler(move |_| Answer {
        framing: Framing::Chunked,
        acts: vec![Act::Send(bytes.slice(..first)), Act::Wait(gate.clone()), Act::Send(bytes.slice(first..))],
        ..Answer::new(200, "")
    })
}

/// The disk fills up while several clients are in the middle of one body of unknown length.
#[tokio::test(flavor = "multi_thread")]
async fn rs_96_a_disk_that_fills_up_in_mid_body_cuts_nobody() {
    let Some(mut shop) = Shop::open().await else { return };
    let gate = Gate::new();
    let bytes = shop.offer("middle.bin", LARGE, Behaviour::Serve);
    shop.upstream.script("middle.bin", in_two(&bytes, MIB, &gate));
    let url = shop.url("middle.bin");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let mut answer = reqwest::get(&url).await.expect("an answer");
                let first = answer.chunk().await.expect("bytes").expect("a first piece");
                (answer, first)
            })
        })
        .collect();
    let mut reading = Vec::new();
    for client in clients {
        reading.push(client.await.expect("a client"));
    }
    gate.reached_by(1).await;
    assert_eq!(shop.upstream.hits("middle.bin"), 1, "they share one fetch");
    shop.disk.fill(0);
    gate.open();
    let bodies = join_all(reading.into_iter().map(|(mut answer, first)| async move {
        let mut body = first.to_vec();
        while let Some(piece) = answer.chunk().await.expect("it is not cut") {
            body.extend_from_slice(&piece);
        }
        body
    }));
    for body in bodies.await {
        assert!(body == bytes, "{} bytes of {}", body.len(), bytes.len());
    }
    assert_eq!(shop.upstream.hits("middle.bin"), 1, "nobody had to begin again");
    shop.nothing_is_staged().await;
    assert_eq!(shop.files("blobs"), Vec::<PathBuf>::new(), "nothing partial is visible");
    shop.disk.empty();
    is_whole(&shop.get("middle.bin").await, &bytes, "once there is room");
    is_whole(&shop.get("middle.bin").await, &bytes, "once it is stored");
    assert_eq!(shop.upstream.hits("middle.bin"), 2);
    shop.is_sound().await;
}

/// What is held back is held back here too: a body that turns out wrong is never seen whole.
#[tokio::test(flavor = "multi_thread")]
async fn rs_96_a_body_that_breaks_off_on_a_full_disk_is_not_whole() {
    let Some(shop) = Shop::open().await else { return };
    shop.disk.fill(MIB);
    let bytes = shop.offer("broken.bin", LARGE, Behaviour::ChunkedNoEnd);
    let answer = shop.get("broken.bin").await;
    assert!(!answer.is_ok(), "a clean end: {} of {} bytes", answer.body.len(), bytes.len());
    assert!(answer.body.len() < bytes.len(), "the last bytes are held back until the end is known");
    shop.nothing_is_staged().await;
}
