//! Two operators at once (RS-130, RS-116).

use std::time::Duration;

use artifactapi_tests::{Server, kubernetes::Object, metrics::samples_at, wait};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage},
};

/// A lease that nobody renews runs out in this time; a successor looks every few seconds.
const SUCCEEDED: Duration = Duration::from_secs(40);
/// Less than a lease lasts that nobody gives back.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// Whether `operator` holds the lease.
async fn leads(stage: &Stage<'_>, operator: &Server) -> bool {
    let lease = stage.api.get(&stage.object("Lease", "artifactapi-operator")).await.unwrap_or_default();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    holder.contains(&format!("_{}-", operator.pid()))
}

/// What one operator has written by its own count: statuses and changes of the configuration.
async fn written(operator: &Server) -> f64 {
    let samples = samples_at(&operator.page("metrics")).await;
    let writes = samples.iter().filter(|(name, _)| name.starts_with("artifactapi_operator_writes_total"));
    writes.map(|(_, count)| count).sum()
}

/// Statuses of Remotes among what was written.
fn transitions(writes: &[String]) -> usize {
    writes.iter().filter(|write| write.starts_with("patch remotes/status ")).count()
}

pub(crate) async fn stale(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "leaders").await?;
    let (mut first, mut second) = (stage.idle_operator("first").await, stage.idle_operator("second").await);
    first.start().await;
    wait::until("the first to lead", PATIENCE, async || leads(&stage, &first).await).await;
    second.spawn();
    let remote = |number: usize, url: &str| stage.remote_at(&format!("r{number}"), url, json!({}));
    for number in 0..5 {
        stage.api.apply(&remote(number, "http://127.0.0.1:9/old/")).await;
    }
    for number in 0..5 {
        stage.api.until_ready(&stage.object("Remote", &format!("r{number}")), PATIENCE).await;
    }
    let before = stage.settled(&first, 0).await;
    let written_before = written(&first).await;
    assert!(written_before > 0.0, "it counts what it writes");
    first.pause();
    // What is wanted changes while nobody of the two can see it, and while only the second can.
    for number in 0..3 {
        stage.api.apply(&remote(number, "http://127.0.0.1:9/new/")).await;
    }
    stage.api.delete(&stage.object("Remote", "r4")).await.ok();
    wait::until("the second to lead", SUCCEEDED, async || leads(&stage, &second).await).await;
    for number in 0..3 {
        let object = format!("r{number}");
        stage.api.until(&stage.object("Remote", &object), "Ready", PATIENCE, |one| one.holds()).await;
    }
    let objects = || stage.site.sql("SELECT name, document FROM objects ORDER BY name");
    let after = objects();
    assert!(after.matches("/new/").count() == 3 && !after.contains("r4"), "{after}");
    let version = stage.version();
    first.resume();
    // It finds out that it leads no more, whatever it was about to do; it may end over that.
    let gave_up = async || first.has_ended() || !leads(&stage, &first).await;
    let mut gave_up = gave_up;
    wait::until("the first to know that it leads no more", PATIENCE, async || gave_up().await).await;
    assert!(leads(&stage, &second).await);
    // The next edit is the second's.
    stage.api.apply(&remote(3, "http://127.0.0.1:9/newer/")).await;
    stage.api.until(&stage.object("Remote", "r3"), "Ready", PATIENCE, |one| one.holds()).await;
    assert_eq!(stage.version(), version + 1, "one edit is one write: nothing stale got in between");
    let rows = objects();
    assert!(rows.contains("/newer/") && rows.matches("/new/").count() == 3 && !rows.contains("r4"), "{rows}");
    if !first.has_ended() {
        let written_after = written(&first).await;
        assert_eq!(
            written_after, written_before,
            "who slept past its lease writes nothing, statuses neither"
        );
    }
    // Four edits: a status each.
    let writes = stage.settled(&second, before.len()).await;
    assert_eq!(transitions(&writes), 4, "statuses for four edits: {writes:?}");
    Ok(())
}

/// One that ends in order hands over at once.
pub(crate) async fn handover(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "handover").await?;
    let (mut first, mut second) = (stage.idle_operator("first").await, stage.idle_operator("second").await);
    first.start().await;
    wait::until("the first to lead", PATIENCE, async || leads(&stage, &first).await).await;
    second.start().await;
    assert!(!leads(&stage, &second).await, "one leads");
    let early = stage.remote_at("early", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&early).await;
    stage.api.until_ready(&Object::of(&early), PATIENCE).await;
    assert_eq!(written(&second).await, 0.0, "the other only watches");
    let before = stage.settled(&first, 0).await;
    let version = stage.version();
    let began = Instant::now();
    first.stop().await;
    wait::until("the second to lead", HANDED_OVER, async || leads(&stage, &second).await).await;
    let took = began.elapsed();
    let remote = stage.remote_at("one", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&remote).await;
    stage.api.until_ready(&Object::of(&remote), PATIENCE).await;
    assert_eq!(stage.version(), version + 1, "nothing that was there is written again");
    let writes = stage.settled(&second, before.len()).await;
    assert_eq!(transitions(&writes), 1, "{writes:?}");
    println!("figure: a leader that ends is followed after {took:.1?}");
    Ok(())
}
