//! Pods of the proxy come and go, and clients do not notice.

use std::{path::Path, time::Duration};

use artifactapi_tests::{
    Fault, Oracle, Registry, Run, Upstream,
    fixtures::{self, noise},
    http::{self, PATIENCE as ANSWER},
    registry::{Form, Route},
    replicas::load::{Load, Target},
    wait,
};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Ending,
    bench::{Bench, PATIENCE},
    release::{Release, manifest, remote},
    site::{doorway, site, values},
};

/// Bytes of the layer that is pulled and pushed while pods are deleted, and how many of them a second get through.
const LAYER: usize = 24 << 20;
const SPEED: u64 = 4 << 20;
/// Reads a second.
const RATE: u32 = 20;
/// The name of the Deployment of the proxies.
const PROXIES: &str = "site-artifactapi-proxy";

/// Each of the two proxies is deleted while a client pulls and another one pushes: both succeed.
pub(crate) async fn deleted(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let access = json!({ "anonymousWrite": true });
    release.configure(&[manifest("Local", "large", json!({ "type": "docker", "access": access }))]).await;
    let directory = bench.directory("disruptions");
    fixtures::write(&directory.join("noise"), noise(6, LAYER)).expect("space");
    fixtures::tar_plain(&directory, &directory.join("layer.tar"), &["noise"]).await.expect("tar");
    let door = doorway(bench).await;
    let image = format!("{}/large/app", door.address());
    let append = ["append", "-f", "layer.tar", "-t", &format!("{image}:0"), "-o", "image.tar"];
    crane(&directory, &append).await.expect("an image");
    crane(&directory, &["push", "image.tar", &format!("{image}:0")]).await.expect("a push in peace");
    door.set(Fault::Throttle(SPEED)).await;
    let victims = release.pods("proxy").await;
    for (round, victim) in victims.iter().enumerate() {
        // Another layer, or there would be nothing to push.
        fixtures::write(&directory.join("noise"), noise(7 + round as u64, LAYER)).expect("space");
        fixtures::tar_plain(&directory, &directory.join("layer.tar"), &["noise"]).await.expect("tar");
        let tag = format!("{image}:{}", round + 1);
        crane(&directory, &["append", "-f", "layer.tar", "-t", &tag, "-o", "next.tar"])
            .await
            .expect("an image");
        let before = door.counts();
        let (here, there, from, to) =
            (directory.clone(), directory.clone(), format!("{image}:0"), tag.clone());
        let pull = tokio::spawn(async move { crane(&here, &["pull", &from, "pulled.tar"]).await });
        let push = tokio::spawn(async move { crane(&there, &["push", "next.tar", &to]).await });
        let under_way = async || {
            let now = door.counts();
            now.received - before.received > 1 << 20 && now.sent - before.sent > 1 << 20
        };
        wait::until("both to be under way", PATIENCE, under_way).await;
        release.kubectl(&["delete", "pod", victim, "--wait=false"]).await;
        let (pull, push) = (pull.await.expect("no panic"), push.await.expect("no panic"));
        pull.unwrap_or_else(|why| panic!("a pull while {victim} ends: {why}"));
        push.unwrap_or_else(|why| panic!("a push while {victim} ends: {why}"));
        gone(&release, std::slice::from_ref(victim)).await;
        bench.rolled_out(release.name, PROXIES).await;
        crane(&directory, &["validate", "--remote", &tag]).await.unwrap_or_else(|why| panic!("{tag}: {why}"));
    }
    println!(
        "\nfigure: {} proxies deleted, each during a pull and a push of {LAYER} bytes: all succeed",
        victims.len()
    );
    Ok(())
}

async fn crane(directory: &Path, arguments: &[&str]) -> Result<(), String> {
    Run::new("crane", directory).args(["--insecure"]).args(arguments).ok().await.map(drop)
}

/// An upgrade, a rollback, and the deletion of all proxies one by one, under a load of reads and pushes: none fails.
pub(crate) async fn rolled(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let upstream = Upstream::start_at(bench.node().machine()).await;
    let oracle = Oracle::new(ANSWER);
    let url = release.url().await;
    let access = json!({ "anonymousWrite": true });
    release
        .configure(&[
            remote(bench, "steady", "generic", &upstream.url(), json!({})),
            manifest("Local", "pushes", json!({ "type": "docker", "access": access })),
        ])
        .await;
    let mut targets = Vec::new();
    for (name, length) in [("small", 9_000), ("large", 2 << 20)] {
        let bytes = noise(length as u64, length);
        upstream.put(name, bytes.clone());
        oracle.knows(name, bytes);
        let target = Target {
            key: name.to_owned(),
            url: format!("{url}/api/v1/remote/steady/{name}"),
            in_parts: true,
        };
        http::get_until(&target.url, http::Fetched::is_ok).await;
        targets.push(target);
    }
    let stores = bench.stores().await?;
    let mut changed = values(bench, stores);
    changed["proxy"]["podAnnotations"] = json!({ "test/round": "2" });
    let revision = release.helm(&["history", release.name, "--max", "1", "-o", "json"]).await;
    let revision: serde_json::Value = serde_json::from_str(&revision).expect("JSON");
    let revision = revision[0]["revision"].to_string();
    let pushes = Pushes::start(&url);
    for what in ["upgrade", "rollback", "drain"] {
        let before = release.pods("proxy").await;
        let load = Load::start(&oracle, targets.clone(), RATE);
        let began = std::time::Instant::now();
        match what {
            "upgrade" => drop(release.put("upgrade", &changed).await),
            "rollback" => drop(release.helm(&["rollback", release.name, &revision, "--wait"]).await),
            _ => drain(bench, &release, &before).await,
        }
        // Those of before serve what they have begun until they are gone.
        gone(&release, &before).await;
        let took = began.elapsed();
        let history = load.stop().await;
        println!("\nfigure: {what} in {:.1} s: {history}; {}", took.as_secs_f64(), history.latencies());
        history.assert_no_wrong_bytes();
        history.assert_all_complete(what);
        let after = release.pods("proxy").await;
        assert!(after.iter().all(|pod| !before.contains(pod)), "{what}: all are new");
    }
    let (done, failed) = pushes.stop().await;
    println!("figure: {done} pushes meanwhile");
    assert!(failed.is_empty(), "{} of {done} pushes failed: {:?}", failed.len(), failed.first());
    assert!(done > 0, "somebody pushed");
    Ok(())
}

/// Waits until these pods have ended.
async fn gone(release: &Release<'_>, pods: &[String]) {
    for pod in pods {
        release.kubectl(&["wait", "--for=delete", &format!("pod/{pod}"), "--timeout=120s"]).await;
    }
}

/// As a node is drained: one proxy after the other is deleted, the next once there are two again.
async fn drain(bench: &Bench, release: &Release<'_>, pods: &[String]) {
    for pod in pods {
        release.kubectl(&["delete", "pod", pod]).await;
        bench.rolled_out(release.name, PROXIES).await;
    }
}

/// Pushes one after the other, each in chunks that go to whoever answers.
struct Pushes {
    stop: watch::Sender<bool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Pushes {
    fn start(url: &str) -> Self {
        let image = Registry::new([url.to_owned()], "pushes/").image("app");
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let task = tokio::spawn(async move {
            let (mut done, mut failed) = (0, Vec::new());
            while !*stopped.borrow() {
                let bytes = noise(1_000 + done as u64, 300_000);
                if let Err(why) = image.push(Form::Chunked(100_000), &bytes, &Route::only(0)).await {
                    failed.push(why.to_string());
                }
                done += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (done, failed)
        });
        Pushes { stop, task }
    }

    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.send_replace(true);
        self.task.await.expect("no push panics")
    }
}
