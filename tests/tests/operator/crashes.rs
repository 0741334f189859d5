//! An operator that dies anywhere leaves nothing that the next one does not put right (RS-136).

use std::time::Duration;

use artifactapi_model::failpoint::OPERATOR_NAMES;
use artifactapi_tests::wait;
use futures_util::future::join_all;
use serde_json::json;

use crate::{
    Ending,
    bench::Bench,
    stage::{SOON, Stage},
};

/// Longest wait for an operator to reach its end.
const DEATH: Duration = Duration::from_secs(20);

/// A little history: objects come, change and go.
async fn history(stage: &Stage<'_>, mut step: impl AsyncFnMut()) {
    let npm = |name: &str, url: &str| {
        stage.manifest(
            "Remote",
            name,
            json!({ "type": "npm", "baseURL": url, "auth": { "secretRef": { "name": "login" } } }),
        )
    };
    stage.api.apply(&stage.secret("login", json!({ "token": "first" }))).await;
    stage.api.apply(&npm("a", "https://a/")).await;
    stage.api.apply(&npm("b", "https://b/")).await;
    let purged = json!({ "type": "docker", "deletionPolicy": "Purge" });
    stage.api.apply(&stage.manifest("Local", "l", purged)).await;
    stage.api.apply(&stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["a", "b"] }))).await;
    step().await;
    stage.api.apply(&npm("a", "https://changed/")).await;
    stage.api.apply(&stage.secret("login", json!({ "token": "second" }))).await;
    stage.api.apply(&stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["a"] }))).await;
    stage.api.delete(&stage.object("Remote", "b")).await.ok();
    step().await;
    stage.api.delete(&stage.object("Local", "l")).await.ok();
    step().await;
}

/// Waits until the operator has done all that is wanted.
async fn settled(stage: &Stage<'_>, objects: &[(&str, &str)]) {
    for (kind, name) in objects {
        stage.api.until_ready(&stage.object(kind, name), SOON * 4).await;
    }
}

/// The history with nobody dying; what is stored at its end.
async fn undisturbed(bench: &Bench) -> Result<String, artifactapi_tests::Missing> {
    let stage = Stage::new(bench, "calm").await?;
    let _operator = stage.operator().await;
    history(&stage, async || settled(&stage, &[("Remote", "a"), ("Virtual", "v")]).await).await;
    end(&stage).await;
    Ok(stage.rows())
}

/// Waits for the end that every history has.
async fn end(stage: &Stage<'_>) {
    settled(stage, &[("Remote", "a"), ("Virtual", "v")]).await;
    stage.api.until_gone(&stage.object("Local", "l"), SOON * 4).await;
    stage.api.until_gone(&stage.object("Remote", "b"), SOON * 4).await;
    let gone = async || stage.site.sql("SELECT count(*) FROM objects WHERE name IN ('b', 'l')") == "0";
    wait::until("what was deleted to be gone from the database", SOON, gone).await;
}

/// Takes away the lease of one that died, so that the next one need not wait until it runs out.
async fn forget_leader(stage: &Stage<'_>) {
    stage.api.delete(&stage.object("Lease", "artifactapi-operator")).await;
}

/// The same history under operators that die at `point`, one after each step.
async fn dying_at(bench: &Bench, point: &'static str) -> Result<(String, usize), artifactapi_tests::Missing> {
    let stage = Stage::new(bench, "dying").await?;
    let mut deaths = 0;
    let mut operator = stage.idle_operator("one").await;
    let step = async || {
        forget_leader(&stage).await;
        operator.set("ARTIFACTAPI_FAILPOINT", point);
        operator.spawn();
        let died = tokio::time::timeout(DEATH, async {
            while !operator.has_ended() {
                wait::breathe().await;
            }
        });
        deaths += usize::from(died.await.is_ok());
        if !operator.has_ended() {
            operator.kill().await;
        }
    };
    let mut step = step;
    history(&stage, async || step().await).await;
    forget_leader(&stage).await;
    operator.unset("ARTIFACTAPI_FAILPOINT").start().await;
    end(&stage).await;
    let rows = stage.rows();
    operator.stop().await;
    Ok((rows, deaths))
}

pub(crate) async fn at_every_point(bench: &Bench) -> Ending {
    let calm = undisturbed(bench).await?;
    assert!(OPERATOR_NAMES.len() >= 10, "{}", OPERATOR_NAMES.len());
    let mut told = Vec::new();
    for some in OPERATOR_NAMES.chunks(4) {
        for (point, ended) in some.iter().zip(join_all(some.iter().map(|point| dying_at(bench, point))).await)
        {
            let (rows, deaths) = ended?;
            assert_eq!(rows, calm, "after deaths at {point}");
            assert!(deaths > 0, "no operator has died at {point}");
            told.push(format!("{point}: {deaths}"));
        }
    }
    println!("figure: operators that died at their points: {}", told.join(", "));
    Ok(())
}
