//! An operator that dies anywhere leaves nothing that the next one does not put right (RS-136).

use std::time::Duration;

use artifactapi_model::failpoint::OPERATOR_NAMES;
use artifactapi_tests::{http, kubernetes::Condition, wait};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage},
};

/// Longest wait for an operator that is ready to reach its end.
const DEATH: Duration = Duration::from_secs(40);
/// How long one that has done all that is wanted has written nothing more when nothing more is to be expected of it.
const REST: Duration = Duration::from_secs(4);
/// Pause between two looks at an operator and at what it has done.
const LOOK: Duration = Duration::from_millis(500);
/// Points at a time: operators wait more than they work.
const SIDE_BY_SIDE: usize = 5;

/// What operators have written: the version of the configuration, and all requests.
type Written = (u64, Vec<String>);

/// What an operator has done once it is through with a step of the history.
struct Aim {
    /// They are ready as they were applied last.
    ready: &'static [(&'static str, &'static str)],
    gone: &'static [(&'static str, &'static str)],
}

/// One for each step.
const AIMS: [Aim; 3] = [
    Aim { ready: &[("Remote", "a"), ("Remote", "b"), ("Local", "l"), ("Virtual", "v")], gone: &[] },
    Aim { ready: &[("Remote", "a"), ("Virtual", "v")], gone: &[("Remote", "b")] },
    Aim { ready: &[("Remote", "a"), ("Virtual", "v")], gone: &[("Remote", "b"), ("Local", "l")] },
];

impl Aim {
    async fn is_reached(&self, stage: &Stage<'_>) -> bool {
        for (kind, name) in self.ready {
            let found = stage.api.get(&stage.object(kind, name)).await.unwrap_or_default();
            let generation = found["metadata"]["generation"].as_i64();
            let ready = Condition::of(&found, "Ready");
            if !ready.is_some_and(|one| one.holds() && Some(one.generation) == generation) {
                return false;
            }
        }
        for (kind, name) in self.gone {
            if stage.api.get(&stage.object(kind, name)).await.is_some() {
                return false;
            }
        }
        true
    }
}

/// A little history: objects come, change and go.
async fn history(stage: &Stage<'_>, mut step: impl AsyncFnMut(&Aim)) {
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
    step(&AIMS[0]).await;
    stage.api.apply(&npm("a", "https://changed/")).await;
    stage.api.apply(&stage.secret("login", json!({ "token": "second" }))).await;
    stage.api.apply(&stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["a"] }))).await;
    stage.api.delete(&stage.object("Remote", "b")).await.ok();
    step(&AIMS[1]).await;
    stage.api.delete(&stage.object("Local", "l")).await.ok();
    step(&AIMS[2]).await;
}

/// Waits until the operator has done all that is wanted.
async fn settled(stage: &Stage<'_>, objects: &[(&str, &str)]) {
    for (kind, name) in objects {
        stage.api.until_ready(&stage.object(kind, name), PATIENCE).await;
    }
}

/// The history with nobody dying; what is stored at its end.
async fn undisturbed(bench: &Bench) -> Result<String, artifactapi_tests::Missing> {
    let stage = Stage::new(bench, "calm").await?;
    let _operator = stage.operator().await;
    history(&stage, async |_| settled(&stage, &[("Remote", "a"), ("Virtual", "v")]).await).await;
    end(&stage).await;
    Ok(stage.rows())
}

/// Waits for the end that every history has.
async fn end(stage: &Stage<'_>) {
    settled(stage, &[("Remote", "a"), ("Virtual", "v")]).await;
    stage.api.until_gone(&stage.object("Local", "l"), PATIENCE).await;
    stage.api.until_gone(&stage.object("Remote", "b"), PATIENCE).await;
    let gone = async || stage.site.sql("SELECT count(*) FROM objects WHERE name IN ('b', 'l')") == "0";
    wait::until("what was deleted to be gone from the database", PATIENCE, gone).await;
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
    let step = async |aim: &Aim| {
        forget_leader(&stage).await;
        operator.set("ARTIFACTAPI_FAILPOINT", point);
        operator.spawn();
        let ready = operator.page("readyz");
        let (mut is_ready, mut end) = (false, Instant::now() + PATIENCE);
        let mut rest: Option<(Written, Instant)> = None;
        while !operator.has_ended() && Instant::now() < end {
            if !is_ready {
                is_ready = http::try_request(Method::GET, &ready, &[]).await.is_ok_and(|told| told.is_ok());
                end = if is_ready { Instant::now() + DEATH } else { end };
            }
            // One that has nothing left to do does not pass the point in this step.
            if rest.is_some() || aim.is_reached(&stage).await {
                let written = (stage.version(), stage.writes());
                match &rest {
                    Some((before, since)) if *before == written => {
                        if since.elapsed() >= REST {
                            break;
                        }
                    }
                    _ => rest = Some((written, Instant::now())),
                }
            }
            sleep(LOOK).await;
        }
        if operator.has_ended() {
            deaths += 1;
        } else {
            operator.kill().await;
        }
    };
    history(&stage, step).await;
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
    for some in OPERATOR_NAMES.chunks(SIDE_BY_SIDE) {
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
