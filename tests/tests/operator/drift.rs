//! Nothing is written that is there already, and what is no longer there is written again (RS-135).

use std::time::Duration;

use artifactapi_tests::{
    kubernetes::{Condition, Object},
    wait,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage, Wishes},
};

/// Pause between two full looks of these operators.
const RESYNC: Duration = Duration::from_secs(3);

fn often() -> Wishes {
    Wishes { environment: vec![("ARTIFACTAPI_RESYNC", "3s")], ..Wishes::default() }
}

async fn all_kinds(stage: &Stage<'_>) {
    stage.api.apply(&stage.secret("login", json!({ "token": "t" }))).await;
    let closed =
        json!({ "type": "npm", "baseURL": "https://a/", "auth": { "secretRef": { "name": "login" } } });
    stage.api.apply(&stage.manifest("Remote", "a", closed)).await;
    stage
        .api
        .apply(&stage.manifest(
            "Remote",
            "bad",
            json!({ "type": "npm", "baseURL": "https://a/", "patterns": ["("] }),
        ))
        .await;
    stage.api.apply(&stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["a"] }))).await;
    let charts = json!({ "type": "helm", "baseURL": "https://a/" });
    stage.api.apply(&stage.manifest("Remote", "helm", charts)).await;
    // Its indexes are merged, so that it is a repository of its own to stores.
    stage
        .api
        .apply(&stage.manifest("Virtual", "charts", json!({ "type": "helm", "members": ["helm"] })))
        .await;
    stage.api.apply(&stage.manifest("Local", "l", json!({ "type": "docker" }))).await;
    let grants = json!({ "grants": [{ "repositories": ["l"], "actions": ["pull", "push"] }] });
    stage.api.apply(&stage.manifest("Robot", "r", grants)).await;
    let all = [("Remote", "a"), ("Virtual", "v"), ("Virtual", "charts"), ("Local", "l"), ("Robot", "r")];
    for (kind, name) in all {
        stage.api.until_ready(&stage.object(kind, name), PATIENCE).await;
    }
    stage.until_refused(&stage.object("Remote", "bad"), "Invalid").await;
}

pub(crate) async fn repaired(bench: &Bench) -> Ending {
    let stage = Stage::with(bench, "drift", often()).await?;
    let _operator = stage.operator().await;
    all_kinds(&stage).await;
    let good = stage.rows();
    let bump = "UPDATE config_version SET version = version + 1";
    for damage in [
        "DELETE FROM objects WHERE kind = 'Remote' AND name = 'a'",
        "UPDATE objects SET document = replace(document, 'https://a/', 'https://evil/')",
        "INSERT INTO objects (kind, namespace, name, document, sealed, version, uid, generation) \
         SELECT kind, namespace, 'stray', replace(document, '\"a\"', '\"stray\"'), sealed, version, uid, generation \
         FROM objects WHERE kind = 'Remote' AND name = 'a'",
        "UPDATE objects SET document = 'nonsense' WHERE kind = 'Secret'",
        "UPDATE repositories SET retired_at = now() WHERE name = 'l'",
        "UPDATE repositories SET retired_at = now() WHERE name = 'charts'",
        "UPDATE robots SET grants = '*=pull,push,delete' WHERE name = 'r'",
        "INSERT INTO robots (namespace, name, source, grants) \
         SELECT namespace, 'stray', 'manifest', grants FROM robots WHERE name = 'r'",
        "DELETE FROM robots WHERE name = 'r'",
    ] {
        stage.site.sql(&format!("{damage}; {bump}"));
        let is_repaired = async || stage.rows() == good;
        wait::until(&format!("the repair of: {damage}"), PATIENCE, is_repaired).await;
    }
    // The robot that was lost has a token again, and it is the one in its Secret.
    let has_token = async || stage.site.sql("SELECT count(*) FROM tokens WHERE robot = 'r'") != "0";
    wait::until("another token", PATIENCE, has_token).await;
    // Statuses are the operator's, whoever may write them.
    let remote = stage.object("Remote", "a");
    let lie = json!({ "status": { "url": "https://evil/", "conditions": [{
        "type": "Ready", "status": "False", "reason": "Lie", "message": "a lie", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    stage.api.merge(&remote, "status", &lie).await.ok();
    let is_true = async || {
        let found = stage.api.get(&remote).await.unwrap_or_default();
        let is_ready = Condition::of(&found, "Ready").is_some_and(|one| one.holds());
        is_ready && found["status"]["url"] == json!(stage.site.remote("a"))
    };
    wait::until("the truth", PATIENCE, is_true).await;
    assert_eq!(stage.rows(), good);
    Ok(())
}

pub(crate) async fn nothing(bench: &Bench) -> Ending {
    let stage = Stage::with(bench, "still", often()).await?;
    let mut operator = stage.operator().await;
    all_kinds(&stage).await;
    let writes = stage.settled(&operator, 0).await;
    let version = stage.version();
    // Several full looks at everything.
    sleep(RESYNC * 3).await;
    assert_eq!(
        (stage.version(), stage.settled(&operator, 0).await),
        (version, writes.clone()),
        "an operator at rest writes nothing"
    );
    operator.stop().await;
    operator.start().await;
    let back = stage.remote_at("later", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&back).await;
    stage.api.until_ready(&Object::of(&back), PATIENCE).await;
    let more = stage.settled(&operator, writes.len()).await;
    assert_eq!(more, ["patch remotes/status later"], "a restart writes nothing of what is there");
    assert_eq!(stage.version(), version + 1);
    // Nor does it undo what proxies do, which would do it again.
    let _proxy = stage.site.proxy().await;
    sleep(RESYNC * 3).await;
    assert_eq!(stage.version(), version + 1, "operator and proxies agree on which repositories there are");
    Ok(())
}
