//! A disk that fills up: what was not asked for longest makes room by itself, every request is answered, and what was
//! pushed stays.

use std::{fs, time::Duration};

use artifactapi_model::{Digest, PackageType};
use artifactapi_tests::{
    Disk, Proxy, Registry, RemoteManifest, Upstream,
    fixtures::noise,
    http, manifest, metrics,
    proxy::Options,
    registry::{Form, Image, Route, image_of},
    wait,
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;

const MIB: usize = 1 << 20;
/// Size of the disk.
const DISK: usize = 48 * MIB;
/// What stays free of it.
const FLOOR: usize = 12 * MIB;
/// One body.
const BODY: usize = 3 * MIB;
/// More of them than fit.
const BODIES: usize = 24;
/// Longest wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy whose data is on a disk of its own. Dropped in this order, so that the disk goes last.
struct Shop {
    proxy: Proxy,
    upstream: Upstream,
    disk: Disk,
}

impl Shop {
    /// One that keeps `floor` free; `None`, after saying why, where no file system can be mounted.
    async fn open(case: &str, floor: &str) -> Option<Shop> {
        let disk = match Disk::mount(DISK) {
            Ok(disk) => disk,
            Err(why) => {
                eprintln!("SKIPPED {case}: {why}");
                return None;
            }
        };
        let upstream = Upstream::start().await;
        let local = json!({
            "apiVersion": "artifactapi.io/v1alpha1", "kind": "Local", "metadata": { "name": "l" },
            "spec": { "type": "docker", "access": { "read": "anonymous", "anonymousWrite": true } },
        });
        let remote = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
        let manifests = manifest::join(&[remote, format!("{local}\n")]);
        let data = disk.path().join("data");
        let proxy = Options::new(manifests).data(&data).env("ARTIFACTAPI_MIN_FREE", floor).start().await;
        Some(Shop { proxy, upstream, disk })
    }

    /// Body number `number`, at the upstream by now.
    fn body(&self, number: usize) -> Bytes {
        let bytes = noise(number as u64, BODY);
        self.upstream.put(&format!("{number}.bin"), bytes.clone());
        bytes
    }

    async fn is_served(&self, number: usize, bytes: &Bytes) {
        let answer = http::get(&format!("{}{number}.bin", self.proxy.remote("g"))).await;
        assert!(answer.is_ok() && answer.body == *bytes, "{number}: {}", answer.status);
    }

    fn is_kept(&self, bytes: &Bytes) -> bool {
        let hex = Digest::of(bytes).to_hex();
        self.proxy.data().join("blobs/sha256").join(&hex[..2]).join(hex).exists()
    }

    fn image(&self) -> Image {
        Registry::new([self.proxy.url()], "").image("l/app")
    }

    async fn has_room(&self, what: &str) {
        let waiting = wait::until(what, PATIENCE, async || self.disk.free() >= FLOOR as u64);
        let waited = tokio::time::timeout(PATIENCE - Duration::from_secs(5), waiting).await;
        let logs = || self.proxy.logs();
        assert!(waited.is_ok(), "{what}: {} bytes are free\n{}", self.disk.free(), logs());
    }

    /// Stops, checks the store, starts again.
    async fn is_sound(&mut self) {
        self.proxy.stop().await;
        let told = self.proxy.fsck(false).await;
        assert!(
            told.code == Some(0) && told.text.contains("0 damaged blobs, 0 rows without bytes"),
            "{told:?}"
        );
        self.proxy.respawn().await;
    }
}

/// An image of these layers under the tag `v1`; its names.
async fn push(image: &Image, layers: &[&Bytes]) -> Vec<String> {
    let config = Bytes::from_static(b"{}");
    image.push(Form::PostPut, &config, &Route::only(0)).await.expect("a config");
    let mut lines = Vec::new();
    for bytes in layers {
        let digest = image.push(Form::Streamed, bytes, &Route::only(0)).await.expect("a layer");
        lines.push((digest, bytes.len()));
    }
    let manifest = image_of(&config, &lines);
    image.put_manifest(0, "v1", &manifest).await.expect("a manifest");
    manifest.names
}

async fn is_whole(image: &Image, names: &[String], when: &str) {
    assert!(image.manifest(0, "v1").await.expect("an answer").is_some(), "{when}: the tag");
    for name in names {
        image.verify_blob(0, name).await.unwrap_or_else(|refused| panic!("{when}: {name}: {refused}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_given_back_what_was_not_asked_for_longest() {
    let Some(mut shop) = Shop::open("room", &FLOOR.to_string()).await else { return };
    let image = shop.image();
    // One of its layers is what a Remote has, too.
    let bodies: Vec<Bytes> = (0..BODIES).map(|number| shop.body(number)).collect();
    let names = push(&image, &[&noise(1000, 2 * MIB), &bodies[1]]).await;
    let favourite = shop.body(999);
    for (number, bytes) in bodies.iter().enumerate() {
        shop.is_served(999, &favourite).await;
        shop.is_served(number, bytes).await;
        assert_eq!(shop.upstream.hits(&format!("{number}.bin")), 1);
        shop.has_room(&format!("room after body {number}")).await;
    }
    assert_eq!(shop.upstream.hits("999.bin"), 1, "what is asked for all the time stays");
    assert!(shop.is_kept(&bodies[1]), "a Local has it");
    let kept: Vec<usize> =
        (0..BODIES).filter(|number| *number != 1 && shop.is_kept(&bodies[*number])).collect();
    let latest: Vec<usize> = (BODIES - kept.len()..BODIES).collect();
    assert_eq!(kept, latest, "the least recently used went first");
    assert!((4..BODIES - 6).contains(&kept.len()), "no more went than had to: {kept:?}");
    is_whole(&image, &names, "when room was made").await;

    let samples = metrics::samples(&shop.proxy).await;
    let sample = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} in {samples:?}"));
    assert!(sample("artifactapi_volume_free_bytes") >= FLOOR as f64, "{samples:?}");
    assert!(sample("artifactapi_volume_size_bytes") == DISK as f64, "{samples:?}");
    assert!(sample("artifactapi_volume_floor_bytes") == FLOOR as f64, "{samples:?}");
    let gone = (BODIES - 1 - kept.len()) as f64;
    assert!(sample("artifactapi_volume_evicted_artifacts_total") >= gone, "{samples:?}");
    assert!(sample("artifactapi_volume_evicted_bytes_total") == gone * BODY as f64, "{samples:?}");
    let logs = shop.proxy.logs();
    for sentence in ["there is too little room on the disk", "room was made on the disk"] {
        assert!(logs.contains(sentence), "{sentence} in\n{logs}");
    }
    assert!(!logs.contains("stored bytes were lost") && !logs.contains("panicked"), "{logs}");

    // What went is fetched again.
    shop.is_served(0, &bodies[0]).await;
    assert_eq!(shop.upstream.hits("0.bin"), 2);
    shop.has_room("room after all").await;
    shop.is_sound().await;
    is_whole(&shop.image(), &names, "after a restart").await;
}

/// More at once than fits, while somebody pushes.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_does_not_fit_is_served_whole_and_pushes_go_on() {
    let Some(mut shop) = Shop::open("room", &FLOOR.to_string()).await else { return };
    let bodies: Vec<Bytes> = (0..BODIES).map(|number| shop.body(number)).collect();
    let image = shop.image();
    let layers: Vec<Bytes> = (0..3).map(|number| noise(2000 + number, BODY)).collect();
    for round in 0..3 {
        join_all(bodies.iter().enumerate().map(|(number, bytes)| shop.is_served(number, bytes))).await;
        shop.has_room(&format!("room after burst {round}")).await;
    }
    let names = push(&image, &layers.iter().collect::<Vec<_>>()).await;
    join_all(bodies.iter().enumerate().map(|(number, bytes)| shop.is_served(number, bytes))).await;
    shop.has_room("room after the last burst").await;
    is_whole(&image, &names, "after bursts").await;
    shop.is_sound().await;
    is_whole(&shop.image(), &names, "after a restart").await;
}

/// A volume that an earlier release has filled to the brim.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_recovers_by_itself() {
    let Some(mut shop) = Shop::open("room", "0").await else { return };
    let bodies: Vec<Bytes> = (0..BODIES).map(|number| shop.body(number)).collect();
    for (number, bytes) in bodies.iter().enumerate() {
        shop.is_served(number, bytes).await;
    }
    let image = shop.image();
    shop.disk.fill(0);
    let refused = image.push(Form::Streamed, &noise(1000, 2 * MIB), &Route::only(0)).await;
    assert_eq!(refused.expect_err("there is no room").status, Some(507));
    let kept = bodies.iter().filter(|bytes| shop.is_kept(bytes)).count();
    assert!(kept > 8, "nothing went by itself: {kept}");
    // What others have on the disk stays there, so that less can be given up than would make up for the floor.
    let ballast = fs::metadata(shop.disk.path().join("ballast")).expect("it is there").len();
    assert!(ballast < 6 * MIB as u64, "{ballast}");

    shop.proxy.set_env("ARTIFACTAPI_MIN_FREE", Some("12Mi"));
    shop.proxy.crash().await;
    shop.has_room("a full disk recovers").await;
    let names = push(&shop.image(), &[&noise(1000, 2 * MIB)]).await;
    is_whole(&shop.image(), &names, "with room").await;
    for (number, bytes) in bodies.iter().enumerate() {
        shop.is_served(number, bytes).await;
    }
    shop.is_sound().await;
    is_whole(&shop.image(), &names, "after a restart").await;
}
