//! RS-11: `artifactapi fsck` finds what a disk or a person has broken, says so, and repairs by forgetting.

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifactapi_model::{Digest, PackageType};
use artifactapi_tests::{Proxy, RemoteManifest, Upstream, http, proxy, proxy::Options};
use bytes::Bytes;
use tempfile::TempDir;

use artifactapi_tests::fixtures::noise;

struct Shop {
    upstream: Upstream,
    proxy: Proxy,
    bodies: Vec<(String, Bytes)>,
}

impl Shop {
    /// A stopped proxy with three bodies.
    async fn closed() -> Shop {
        let upstream = Upstream::start().await;
        let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream).document();
        let mut proxy = Options::new(manifest).start().await;
        let mut bodies = Vec::new();
        for number in 0..3u8 {
            let (path, bytes) = (format!("body-{number}.bin"), noise(u64::from(number) + 1, 400 << 10));
            upstream.put(&path, bytes.clone());
            assert!(http::get(&format!("{}{path}", proxy.remote("g"))).await.is_ok());
            bodies.push((path, bytes));
        }
        proxy.stop().await;
        Shop { upstream, proxy, bodies }
    }

    fn file(&self, number: usize) -> PathBuf {
        blob(&self.proxy.data(), &self.bodies[number].1)
    }

    fn digest(&self, number: usize) -> String {
        Digest::of(&self.bodies[number].1).to_string()
    }

    /// Exit code and words, without repair.
    async fn check(&self, code: i32, words: &[&str]) {
        self.told(false, code, words).await;
    }

    async fn told(&self, repair: bool, code: i32, words: &[&str]) {
        let told = self.proxy.fsck(repair).await;
        assert_eq!(told.code, Some(code), "{}", told.text);
        for word in words {
            assert!(told.text.contains(word), "{word:?} in {}", told.text);
        }
    }

    /// Everything is served again; `fetched` of the bodies had to be asked for.
    async fn reopen(&mut self, fetched: usize) {
        let before = self.upstream.requests().len();
        self.proxy.respawn().await;
        for (path, bytes) in &self.bodies {
            let answer = http::get(&format!("{}{path}", self.proxy.remote("g"))).await;
            assert!(answer.is_ok() && answer.body == *bytes, "{path}");
        }
        assert_eq!(self.upstream.requests().len() - before, fetched);
        self.proxy.stop().await;
        self.check(0, &["0 damaged blobs, 0 rows without bytes"]).await;
    }
}

fn blob(data: &Path, bytes: &[u8]) -> PathBuf {
    let hex = Digest::of(bytes).to_hex();
    data.join("blobs/sha256").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn rs_11_fsck_calls_a_sound_store_sound() {
    let mut shop = Shop::closed().await;
    shop.check(0, &["3 blobs (1228800 bytes)", "3 artifacts", "0 damaged blobs, 0 rows without bytes"]).await;
    shop.reopen(0).await;
}

#[tokio::test]
async fn rs_11_fsck_finds_a_flipped_byte_and_repair_fetches_anew() {
    let mut shop = Shop::closed().await;
    let mut bytes = fs::read(shop.file(1)).unwrap();
    bytes[200_000] ^= 1;
    fs::write(shop.file(1), bytes).unwrap();
    let damaged = format!("damaged blob {}", shop.digest(1));
    shop.check(1, &[&damaged, "artifact without its bytes", "body-1.bin", "1 damaged blobs"]).await;
    shop.check(1, &[&damaged]).await;
    shop.told(true, 1, &[&damaged, "quarantined", "forgotten"]).await;
    shop.check(0, &["2 blobs", "0 damaged blobs, 0 rows without bytes"]).await;
    assert!(!shop.file(1).exists());
    shop.reopen(1).await;
}

#[tokio::test]
async fn rs_11_fsck_finds_a_missing_and_a_short_file() {
    let mut shop = Shop::closed().await;
    fs::remove_file(shop.file(0)).unwrap();
    let short = fs::OpenOptions::new().write(true).open(shop.file(2)).unwrap();
    short.set_len(1000).unwrap();
    let damaged = format!("damaged blob {}", shop.digest(2));
    shop.check(1, &["body-0.bin", "body-2.bin", &damaged, "2 rows without bytes"]).await;
    shop.told(true, 1, &["forgotten", "quarantined"]).await;
    shop.reopen(2).await;
}

/// A file that no row names is what a crash between bytes and row leaves: counted, and no reason to fail.
#[tokio::test]
async fn rs_11_fsck_counts_files_without_rows() {
    let mut shop = Shop::closed().await;
    let orphan = noise(99, 5000);
    fs::write(blob(&shop.proxy.data(), &orphan), &orphan).unwrap();
    shop.check(0, &["0 damaged blobs, 0 rows without bytes, 1 blobs without rows"]).await;
    shop.reopen(0).await;
}

#[tokio::test]
async fn rs_11_fsck_needs_the_data_to_itself_and_makes_none() {
    let mut shop = Shop::closed().await;
    shop.proxy.respawn().await;
    let told = shop.proxy.fsck(true).await;
    assert_eq!(told.code, Some(1), "{}", told.text);
    let data = shop.proxy.data().display().to_string();
    assert!(told.text.contains(&data) && told.text.contains("in use"), "{}", told.text);
    let path = format!("{}body-0.bin", shop.proxy.remote("g"));
    assert!(http::get(&path).await.is_ok(), "the proxy is not disturbed");

    let empty = TempDir::new().unwrap();
    let told = proxy::command(["fsck".as_ref(), "--data".as_ref(), empty.path().as_os_str()]).await;
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert!(told.text.contains("holds no data"), "{}", told.text);
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "looking makes nothing");
}
