//! RS-97 with replicas: one dies at each named point of fill, upload, rewrite and collection; the others serve on,
//! and PostgreSQL and S3 agree.

use std::iter;

use artifactapi_model::{
    PackageType,
    failpoint::{NAMES, S3_NAMES},
};
use artifactapi_tests::{
    RemoteManifest, Services, Upstream,
    fixtures::noise,
    http::{self, Fetched},
    manifest,
    replicas::{Cluster, Options},
};
use bytes::Bytes;
use futures_util::future::join_all;

/// More than one part of an upload.
const LARGE: usize = 12 << 20;

/// Clusters at a time, each on services of its own: after a death the others wait for its lease to end, and work little.
const LANES: usize = 3;

/// Points that a replica passes: the others belong to a directory and to SQLite, or to a collection.
fn of_a_replica() -> impl Iterator<Item = &'static str> {
    let fills = NAMES.into_iter().filter(|name| name.starts_with("fill.") || name.starts_with("derive."));
    fills.chain(S3_NAMES)
}

struct Body {
    path: String,
    remote: &'static str,
    /// `None`: a document that is rewritten.
    bytes: Option<Bytes>,
}

/// New bodies at `upstream`: small, large, and an index that is asked for twice, so that it is revalidated.
fn stock(number: usize, upstream: &Upstream) -> Vec<Body> {
    let package = format!("p{number}");
    let index = serde_json::json!({
        "name": package,
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": package, "version": "1.0.0", "dist": {
            "tarball": format!("{}/{package}/-/{package}-1.0.0.tgz", upstream.url()) } } },
    });
    upstream.put(&package, index.to_string());
    let mut bodies = vec![
        Body { path: package.clone(), remote: "n", bytes: None },
        Body { path: package, remote: "n", bytes: None },
    ];
    for (name, length) in [("small", 3_000), ("large", LARGE)] {
        let (path, bytes) =
            (format!("{number}/{name}.bin"), noise(number as u64 * 2 + length as u64, length));
        upstream.put(&path, bytes.clone());
        bodies.push(Body { path, remote: "g", bytes: Some(bytes) });
    }
    bodies
}

fn judge(body: &Body, answer: &Fetched, case: &str) {
    assert!(answer.is_ok(), "{case}: {}: {} {}", body.path, answer.status, answer.text());
    match &body.bytes {
        Some(bytes) => assert!(answer.body == *bytes, "{case}: {} has other bytes", body.path),
        None => assert!(answer.json()["versions"]["1.0.0"].is_object(), "{case}: {}", answer.text()),
    }
}

async fn is_sound(cluster: &Cluster, case: &str) {
    let told = cluster.command(&["fsck"]).await;
    assert_eq!(told.code, Some(0), "{case}: {}", told.text);
    assert!(told.text.contains("0 damaged blobs, 0 rows without bytes"), "{case}: {}", told.text);
}

async fn cluster(services: &Services, upstream: &Upstream) -> Cluster {
    let manifests = manifest::join(&[
        RemoteManifest::new("g", PackageType::Generic, upstream).document(),
        RemoteManifest::new("n", PackageType::Npm, upstream)
            .set("mutableTTL", "1ms")
            .set("staleWhileRevalidate", "0s")
            .document(),
    ]);
    Options::new(manifests).replicas(2).start(services).await
}

/// See the module.
pub(crate) async fn of_fills(services: &Services) {
    let more = tokio::task::block_in_place(|| [(); LANES - 1].map(|()| Services::start()));
    let more = more.map(|started| started.unwrap_or_else(|missing| panic!("{} was there before", missing.0)));
    let points: Vec<_> = of_a_replica().enumerate().collect();
    let lanes = iter::once(services).chain(&more).enumerate().map(|(lane, services)| {
        let some: Vec<_> = points.iter().copied().skip(lane).step_by(LANES).collect();
        async move { dying_at(services, &some).await }
    });
    let judged: usize = join_all(lanes).await.into_iter().sum();
    assert_eq!(judged, points.len(), "every point has its turn");
    println!("\nfigure: a replica died at {judged} points of fill and upload; fsck was clean after each");
}

/// One cluster, of which a replica dies at each of these points; at how many it did.
async fn dying_at(services: &Services, points: &[(usize, &'static str)]) -> usize {
    let upstream = Upstream::start().await;
    let mut cluster = cluster(services, &upstream).await;
    let mut judged = 0;
    for &(number, name) in points {
        let bodies = stock(number, &upstream);
        cluster.replica(0).terminate();
        assert_eq!(cluster.replica(0).ended().await, Some(0), "{name}: an orderly end");
        cluster.replica(0).set_env("ARTIFACTAPI_FAILPOINT", Some(name));
        assert!(cluster.replica(0).try_start().await, "{name}: no point is passed before a request");
        let mut died = false;
        for body in &bodies {
            let url = cluster.replica(0).remote(body.remote) + &body.path;
            match http::try_request(reqwest::Method::GET, &url, &[]).await {
                Ok(answer) if answer.is_ok() => judge(body, &answer, name),
                _ => {
                    died = true;
                    break;
                }
            }
        }
        if !died {
            // The client may have had all before the point; what comes after the answer still passes it.
            cluster.replica(0).terminate();
        }
        assert_eq!(cluster.replica(0).ended().await, None, "{name} was never passed:\n{}", cluster.logs());
        for body in &bodies {
            let url = cluster.replica(1).remote(body.remote) + &body.path;
            judge(body, &http::get(&url).await, name);
        }
        is_sound(&cluster, name).await;
        cluster.replica(0).set_env("ARTIFACTAPI_FAILPOINT", None);
        cluster.replica(0).start_again().await;
        for body in &bodies {
            let url = cluster.replica(0).remote(body.remote) + &body.path;
            judge(body, &http::get(&url).await, name);
        }
        judged += 1;
    }
    judged
}

/// See the module.
pub(crate) async fn of_collections(services: &Services) {
    let upstream = Upstream::start().await;
    let cluster = cluster(services, &upstream).await;
    let kept = stock(1, &upstream);
    let fetch = async |body: &Body, replica: usize, case: &str| {
        let url = cluster.replicas()[replica].remote(body.remote) + &body.path;
        judge(body, &http::get(&url).await, case);
    };
    for body in &kept {
        fetch(body, 0, "the beginning").await;
    }
    let mut points = 0;
    for (number, name) in NAMES.into_iter().filter(|name| name.starts_with("gc.")).enumerate() {
        let garbage = stock(100 + number, &upstream);
        for body in &garbage {
            fetch(body, 0, name).await;
        }
        let told = cluster.command(&["evict", "g", &format!("{}/", 100 + number), "--prefix"]).await;
        assert_eq!((told.code, told.text.starts_with("2 evicted")), (Some(0), true), "{name}: {told:?}");
        let died = cluster.command_env(&["gc", "--grace", "0s"], &[("ARTIFACTAPI_FAILPOINT", name)]).await;
        assert_eq!(died.code, None, "{name} was never passed: {died:?}");
        is_sound(&cluster, name).await;
        for body in kept.iter().chain(&garbage) {
            fetch(body, 1, name).await;
        }
        let done = cluster.command(&["gc", "--grace", "0s"]).await;
        assert_eq!(done.code, Some(0), "{name}: {done:?}");
        is_sound(&cluster, name).await;
        points += 1;
    }
    for body in &kept {
        let before = upstream.hits(&body.path);
        fetch(body, 0, "the end").await;
        assert!(body.bytes.is_none() || upstream.hits(&body.path) == before, "{} was never lost", body.path);
    }
    println!(
        "\nfigure: a collection died at {points} points; fsck was clean after each and the next one finished"
    );
}
