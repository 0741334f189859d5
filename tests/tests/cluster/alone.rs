//! The chart's default: one pod and one volume, and nothing else.

use std::{sync::Arc, time::Duration};

use artifactapi_tests::{
    Oracle, Registry, Upstream,
    fixtures::noise,
    http,
    oracle::{History, Outcome, Record},
    registry::sha256,
    replicas::load::{Load, Target},
    wait,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Ending,
    bench::{Bench, PATIENCE},
    release::{Release, manifest, remote},
};

/// The bound for how long nobody answers while the one pod is replaced.
const RESTART: Duration = Duration::from_secs(10);
/// What takes longer is no answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Reads a second that see it.
const RATE: u32 = 20;
/// Definitions of ours.
const DEFINITIONS: [&str; 4] = ["locals", "remotes", "robots", "virtuals"];

/// Installed with nothing said but the images; tested; configured; pushed to; upgraded and rolled back; taken away,
/// which leaves the definitions with their objects and the volume with what was pushed; and installed again.
pub(crate) async fn life(bench: &Bench) -> Ending {
    bench.images().await;
    let release = Release::new(bench, "alone");
    bench.namespace(release.name, "restricted").await;
    let values =
        Release::values(json!({ "operator": { "ceilings": { "allowCIDRs": [bench.node().network()] } } }));
    let took = release.put("install", &values).await;
    println!("\nfigure: standalone is installed and ready after {:.1} s", took.as_secs_f64());
    let told = release.helm(&["test", release.name]).await;
    assert!(told.contains("Succeeded"), "{told}");

    let upstream = Upstream::start_at(bench.node().machine()).await;
    upstream.put("a/file", noise(1, 100_000));
    let objects = [
        remote(bench, "files", "generic", &upstream.url(), json!({})),
        manifest("Local", "own", json!({ "type": "docker", "access": { "anonymousWrite": true } })),
    ];
    release.configure(&objects).await;
    let url = release.url().await;
    let oracle = Oracle::new(ANSWER);
    oracle.knows("file", noise(1, 100_000));
    let target =
        Target { key: "file".to_owned(), url: format!("{url}/api/v1/remote/files/a/file"), in_parts: true };
    // The proxy reads what the operator has written within a second or so.
    http::get_until(&target.url, http::Fetched::is_ok).await;
    let pushed = noise(2, 3 << 20);
    let image = Registry::new([url.clone()], "own/").image("app");
    image
        .push(
            artifactapi_tests::registry::Form::Streamed,
            &pushed,
            &artifactapi_tests::registry::Route::only(0),
        )
        .await
        .unwrap_or_else(|why| panic!("{why}"));

    restarts(&release, &oracle, &target, values.clone()).await;
    without_operator(&release, &target).await;
    image.verify_blob(0, &sha256(&pushed)).await.unwrap_or_else(|why| panic!("after restarts: {why}"));
    drop(upstream);

    release.helm(&["uninstall", release.name, "--wait"]).await;
    release.until_left(&["persistentvolumeclaim/alone-artifactapi-data"]).await;
    for definition in DEFINITIONS {
        bench.kubectl(&["get", "crd", &format!("{definition}.artifactapi.io")]).await;
    }
    release.kubectl(&["get", "remote/files", "local/own"]).await;

    release.put("install", &values).await;
    let again = Registry::new([release.url().await], "own/").image("app");
    again
        .verify_blob(0, &sha256(&pushed))
        .await
        .unwrap_or_else(|why| panic!("after it was taken away: {why}"));
    // The upstream is gone: this was fetched by the release before.
    http::get_until(&format!("{}/api/v1/remote/files/a/file", release.url().await), http::Fetched::is_ok)
        .await;
    release.helm(&["uninstall", release.name, "--wait"]).await;
    bench.kubectl(&["delete", "namespace", release.name, "--wait=false"]).await;
    Ok(())
}

/// The operator's process ends until its container is made to wait, with which the pod is not ready any more: what is
/// cached is read all the same, by new connections too.
async fn without_operator(release: &Release<'_>, target: &Target) {
    let pod = release.pods("standalone").await.remove(0);
    let status = async || release.get(&["pod", &pod]).await["status"].clone();
    let is_ready = |status: &Value| {
        let of = |condition: &&Value| condition["type"] == "Ready";
        status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(of)
            .is_some_and(|it| it["status"] == "True")
    };
    let operator = |status: &Value| {
        let mut all = status["containerStatuses"].as_array().into_iter().flatten();
        all.find(|it| it["name"] == "operator").cloned().unwrap_or_default()
    };
    wait::until("an operator that is made to wait", PATIENCE, async || {
        let seen = status().await;
        let operator = operator(&seen);
        if operator["state"]["running"].is_object() {
            // One that has ended since is none of ours any more.
            let end = ["exec", "pkill", "-KILL", "-f", "^/usr/bin/artifactapi-operator"];
            let _ = release.bench.node().run(&end);
        }
        // The first waits are over before kube-proxy has heard of them.
        let is_long = operator["restartCount"].as_u64().is_some_and(|count| count >= 2);
        is_long && operator["state"]["waiting"]["reason"] == "CrashLoopBackOff" && !is_ready(&seen)
    })
    .await;
    let (began, mut reads) = (Instant::now(), 0);
    wait::until("the operator that was made to wait", PATIENCE, async || {
        let answer = http::get(&target.url).await;
        assert!(answer.is_ok(), "{reads} reads after {:?}: {answer:?}", began.elapsed());
        reads += 1;
        is_ready(&status().await)
    })
    .await;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "figure: standalone's pod is not ready for {seconds:.1} s for want of its operator: {reads} reads, 0 failed"
    );
}

/// How long nobody answered: the spans in which no request had an answer. One that was answered late, while those before
/// and after it were answered in time, is none.
fn away(history: &History) -> Duration {
    let mut records = history.records().to_vec();
    records.sort_by_key(|record| record.start);
    let has_answer = |record: &Record| record.outcome == Outcome::Complete;
    let spans = records.chunk_by(|one, next| has_answer(one) == has_answer(next));
    let empty = spans.filter(|span| !has_answer(&span[0]));
    empty.map(|span| span[span.len() - 1].start - span[0].start).sum()
}

/// An upgrade and a rollback: the one pod is replaced, and nobody answers for a short time.
async fn restarts(
    release: &Release<'_>,
    oracle: &Arc<Oracle>,
    target: &Target,
    mut values: serde_json::Value,
) {
    values["proxy"]["podAnnotations"] = json!({ "test/round": "2" });
    for verb in ["upgrade", "rollback"] {
        let load = Load::start(oracle, vec![target.clone()], RATE);
        let pods = release.pods("standalone").await;
        if verb == "upgrade" {
            release.put("upgrade", &values).await;
        } else {
            release.helm(&["rollback", release.name, "1", "--wait"]).await;
        }
        assert_ne!(release.pods("standalone").await, pods, "another pod");
        http::get_until(&target.url, http::Fetched::is_ok).await;
        let history = load.stop().await;
        history.assert_no_wrong_bytes();
        let away = away(&history);
        println!(
            "figure: standalone does not answer for {:.1} s of an {verb}: {history}",
            away.as_secs_f64()
        );
        assert!(away <= RESTART, "{verb}: nobody answered for {away:?}");
    }
}
