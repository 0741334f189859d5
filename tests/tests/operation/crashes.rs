//! RS-97: the process dies at each named point of fill, commit and rewrite; what it leaves behind is sound.

use std::fs;

use artifactapi_model::{PackageType, failpoint::NAMES};
use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream,
    http::{self, Fetched},
    manifest,
    proxy::Options,
};
use bytes::Bytes;

use artifactapi_tests::fixtures::noise;

use crate::support::packument;

/// Passings of a point at which the process dies, one after the other. Points of the database are passed by
/// every statement, so that the interesting ones come later.
fn passings(name: &str) -> u32 {
    if name.starts_with("metadata.") { 16 } else { 2 }
}

/// The bodies of one round: path at the upstream, URL at the proxy, bytes where they are not rewritten.
struct Round {
    urls: Vec<(String, String, Option<Bytes>)>,
}

impl Round {
    /// New bodies at `upstream`: one that fits into memory, one in many pieces, an index and its archive.
    fn stock(number: usize, upstream: &Upstream, proxy: &Proxy) -> Self {
        let (g, n) = (proxy.remote("g"), proxy.remote("n"));
        let seed = number as u64 * 2 + 1;
        let (small, large) = (noise(seed, 3000), noise(seed + 1, 900 << 10));
        let package = format!("p{number}");
        let (index, archive) = packument(&package, &upstream.url());
        let tarball = format!("{package}/-/{package}-1.0.0.tgz");
        let files = [
            (format!("{number}/small.bin"), &g, small, true),
            (format!("{number}/large.bin"), &g, large, true),
            (package, &n, index.into(), false),
            (tarball, &n, archive, true),
        ];
        let mut urls = Vec::new();
        for (path, base, bytes, verbatim) in files {
            upstream.put(&path, bytes.clone());
            let url = format!("{base}{path}");
            urls.push((path, url, verbatim.then_some(bytes)));
        }
        // The index once more: by now it has expired and is revalidated.
        urls.push((urls[2].0.clone(), urls[2].1.clone(), None));
        Round { urls }
    }

    /// Asks for everything; what had come whole before the process died.
    async fn drive(&self) -> Vec<String> {
        let mut whole = Vec::new();
        for (path, url, bytes) in &self.urls {
            match http::try_request(reqwest::Method::GET, url, &[]).await {
                Ok(answer) if answer.is_ok() => {
                    self.judge(path, &answer, bytes.as_ref());
                    whole.push(path.clone());
                }
                _ => return whole,
            }
        }
        whole
    }

    fn judge(&self, path: &str, answer: &Fetched, bytes: Option<&Bytes>) {
        match bytes {
            Some(bytes) => assert!(answer.body == *bytes, "{path} has other bytes"),
            None => assert!(answer.json()["versions"]["1.0.0"].is_object(), "{path}: {}", answer.text()),
        }
    }

    /// Everything is served; what clients had whole, and will not change, without asking upstream again.
    async fn verify(&self, upstream: &Upstream, whole: &[String], case: &str) {
        for (path, url, bytes) in &self.urls {
            let before = upstream.hits(path);
            let answer = http::get(url).await;
            assert!(answer.is_ok(), "{case}: {path}: {} {}", answer.status, answer.text());
            self.judge(path, &answer, bytes.as_ref());
            if bytes.is_some() && whole.contains(path) {
                assert_eq!(upstream.hits(path), before, "{case}: {path} was served whole, so it was stored");
            }
        }
    }
}

fn names_in(proxy: &Proxy, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(proxy.data().join(directory)).expect("a directory of the store");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

async fn is_sound(proxy: &Proxy, case: &str) {
    let told = proxy.fsck(false).await;
    assert_eq!(told.code, Some(0), "{case}: {}", told.text);
    let verdict = "0 damaged blobs, 0 rows without bytes, 0 blobs without rows";
    assert!(told.text.contains(verdict), "{case}: {}", told.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_97_a_crash_at_any_point_leaves_a_sound_store_and_nothing_staged() {
    let upstream = Upstream::start().await;
    let manifests = manifest::join(&[
        RemoteManifest::new("g", PackageType::Generic, &upstream).document(),
        RemoteManifest::new("n", PackageType::Npm, &upstream)
            .set("mutableTTL", "1ms")
            .set("staleWhileRevalidate", "0s")
            .document(),
    ]);
    let mut proxy = Options::new(manifests).start().await;
    let first = Round::stock(0, &upstream, &proxy);
    assert_eq!(first.drive().await.len(), first.urls.len());
    let mut rounds = vec![first];
    proxy.stop().await;
    // The collector's points are passed by no request; `collection.rs` visits them.
    for name in NAMES.into_iter().filter(|name| !name.starts_with("gc.")) {
        for passing in 1..=passings(name) {
            let case = format!("{name}@{passing}");
            let round = Round::stock(rounds.len(), &upstream, &proxy);
            proxy.set_env("ARTIFACTAPI_FAILPOINT", Some(&case));
            let mut whole = Vec::new();
            if proxy.try_start().await {
                whole = round.drive().await;
            }
            if whole.len() == round.urls.len() {
                // Not passed so often by requests, but perhaps by what is still written while it stops.
                proxy.terminate();
                let code = proxy.ended().await;
                assert!(matches!(code, None | Some(0)), "{case}: {code:?}:\n{}", proxy.logs());
                assert!(
                    passing > 1 || code.is_none(),
                    "{case} was never reached: this test lacks a step for it, or the proxy was built without \
                     the feature failpoints"
                );
            } else {
                assert_eq!(proxy.ended().await, None, "{case}: a signal ends it:\n{}", proxy.logs());
            }
            proxy.set_env("ARTIFACTAPI_FAILPOINT", None);
            proxy.respawn().await;
            assert_eq!(names_in(&proxy, "staging"), Vec::<String>::new(), "{case}");
            round.verify(&upstream, &whole, &case).await;
            proxy.stop().await;
            is_sound(&proxy, &case).await;
            rounds.push(round);
        }
    }
    assert_eq!(names_in(&proxy, "quarantine"), Vec::<String>::new(), "nothing was ever damaged");
    upstream.off().await;
    proxy.respawn().await;
    for round in &rounds {
        for (path, url, bytes) in &round.urls {
            let answer = http::get(url).await;
            assert!(answer.is_ok(), "without upstream: {path}: {}", answer.status);
            round.judge(path, &answer, bytes.as_ref());
        }
    }
}
