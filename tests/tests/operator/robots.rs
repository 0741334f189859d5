//! A robot's token is where clients look for it, whatever happens to the operator and to the Secret.

use std::{fs, time::Duration};

use artifactapi_model::failpoint::ROBOT_NAMES;
use artifactapi_tests::{Run, client, fixtures::oci, http, kubernetes::Object, wait};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, SOON, Stage},
};

/// How soon what happens to a Secret is made good.
const MENDED: Duration = Duration::from_secs(10);

fn robot(stage: &Stage<'_>, name: &str) -> Value {
    let grants = json!([{ "repositories": ["images"], "actions": ["pull", "push"] }]);
    stage.manifest("Robot", name, json!({ "grants": grants, "tokenTTL": "10m" }))
}

/// A value of the robot's Secret.
async fn value(stage: &Stage<'_>, name: &str, key: &str) -> Option<String> {
    let secret = stage.api.get(&stage.object("Secret", name)).await?;
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether the proxy lets in who shows `token` to the Local, which it has to know for that.
async fn is_let_in(stage: &Stage<'_>, token: &str) -> bool {
    let shown = format!("Basic {}", STANDARD.encode(format!("robot:{token}")));
    let url = format!("{}/v2/images/app/tags/list", stage.site.url());
    let answer = http::request(Method::GET, &url, &[("authorization", &shown)]).await;
    answer.status != 401 && !answer.text().contains("there is no repository called")
}

/// Waits for another token than `old`, with which one is let in.
async fn another(stage: &Stage<'_>, old: &str) -> String {
    let fresh = async || value(stage, "ci", "token").await.is_some_and(|token| token != old);
    wait::until("another token", MENDED, fresh).await;
    let token = value(stage, "ci", "token").await.expect("it was there");
    wait::until("the token to count", PATIENCE, async || is_let_in(stage, &token).await).await;
    token
}

pub(crate) async fn login(bench: &Bench) -> Ending {
    client::find("crane")?;
    let stage = Stage::new(bench, "robots").await?;
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let local = json!({ "type": "docker", "access": { "read": "authenticated" } });
    stage.api.apply(&stage.manifest("Local", "images", local)).await;
    stage.api.apply(&robot(&stage, "ci")).await;
    let object = stage.object("Robot", "ci");
    stage.api.until_ready(&object, PATIENCE).await;
    stage.api.until_ready(&stage.object("Local", "images"), PATIENCE).await;

    // As a kubelet has it: the file alone.
    let dir = TempDir::new().expect("a temporary directory");
    let config = value(&stage, "ci", ".dockerconfigjson").await.expect("a pull secret");
    fs::write(dir.path().join("config.json"), config).expect("space");
    oci::layout(&dir.path().join("multi")).await?;
    let registry = value(&stage, "ci", "registry").await.expect("a registry");
    let place = format!("{registry}/images/app:1");
    let crane = |words: &[&str]| {
        Run::new("crane", dir.path()).args(words.iter().copied()).env("DOCKER_CONFIG", dir.path())
    };
    wait::until("the proxy to know the robot", PATIENCE, async || {
        let token = value(&stage, "ci", "token").await.unwrap_or_default();
        is_let_in(&stage, &token).await
    })
    .await;
    crane(&["--insecure", "push", "multi", &place]).ok().await.expect("a push");
    crane(&["--insecure", "pull", "--format", "oci", &place, "back"]).ok().await.expect("a pull");

    // On request there is another, and the old one has its time.
    let first = value(&stage, "ci", "token").await.expect("a token");
    let asked = json!({ "metadata": { "annotations": { "artifactapi.io/requested-at": "now" } } });
    stage.api.merge(&object, "", &asked).await.ok();
    let second = another(&stage, &first).await;
    assert!(is_let_in(&stage, &first).await, "the old one counts for a while");
    // Who deletes the Secret gets another.
    stage.api.delete(&stage.object("Secret", "ci")).await.ok();
    let third = another(&stage, &second).await;
    let stored = stage.site.sql("SELECT string_agg(hash || id, ' ') FROM tokens");
    assert!(!stored.contains(&third) && !stored.contains("aapi_"), "only hashes are stored");
    // With the robot go its tokens.
    stage.api.delete(&object).await.ok();
    // Proxies are told so: by themselves they would ask again only after half a minute.
    for token in [&first, &second, &third] {
        wait::until("the token to end", SOON, async || !is_let_in(&stage, token).await).await;
    }
    Ok(())
}

/// An operator that dies while it makes a token leaves nothing that the next one does not put right.
pub(crate) async fn crashes(bench: &Bench) -> Ending {
    for point in ROBOT_NAMES {
        let stage = Stage::new(bench, "robotcrash").await?;
        let _proxy = stage.site.proxy().await;
        let mut operator = stage.idle_operator("one").await;
        operator.set("ARTIFACTAPI_FAILPOINT", point);
        let local = json!({ "type": "docker", "access": { "read": "authenticated" } });
        stage.api.apply(&stage.manifest("Local", "images", local)).await;
        stage.api.apply(&robot(&stage, "ci")).await;
        operator.spawn();
        let end = tokio::time::Instant::now() + PATIENCE;
        while !operator.has_ended() {
            assert!(tokio::time::Instant::now() < end, "no operator has died at {point}");
            wait::breathe().await;
        }
        stage.api.delete(&stage.object("Lease", "artifactapi-operator")).await;
        operator.unset("ARTIFACTAPI_FAILPOINT").start().await;
        stage.api.until_ready(&stage.object("Robot", "ci"), PATIENCE).await;
        let token = another(&stage, "").await;
        let rows = stage.site.sql("SELECT COUNT(*) FROM tokens WHERE source = 'manifest'");
        println!("figure: died at {point}: {rows} rows of tokens, the Secret's counts ({})", token.len());
        operator.stop().await;
    }
    Ok(())
}

/// What proxies see becomes conditions, which never feed Ready.
pub(crate) async fn upstreams(bench: &Bench) -> Ending {
    use artifactapi_tests::{Upstream, kubernetes::Condition, upstream::Guard};
    const SEEN: Duration = Duration::from_secs(30);
    let stage = Stage::new(bench, "upstreams").await?;
    let upstream = Upstream::start().await;
    upstream.guard(Guard::Basic("me".into(), "right".into()));
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let credentials =
        |password: &str| stage.secret("login", json!({ "username": "me", "password": password }));
    stage.api.apply(&credentials("wrong")).await;
    let closed = stage.remote("closed", &upstream, json!({ "auth": { "secretRef": { "name": "login" } } }));
    let dead = stage.remote_at("dead", "http://127.0.0.1:9/", json!({}));
    for remote in [&closed, &dead] {
        stage.api.apply(remote).await;
        stage.api.until_ready(&Object::of(remote), PATIENCE).await;
    }
    let is = |status: bool, reason: &'static str| {
        move |one: &Condition| one.holds() == status && one.reason == reason
    };
    let until = async |remote: &Value, kind: &str, status, reason| {
        let object = Object::of(remote);
        stage.api.until(&object, kind, SEEN, is(status, reason)).await
    };
    let (told, took) = until(&dead, "UpstreamReachable", false, "ConnectFailed").await;
    println!("figure: a dead upstream is told after {took:.1?}: {}", told.message);
    until(&closed, "UpstreamReachable", true, "Answers").await;
    until(&closed, "CredentialsValid", false, "Refused").await;
    stage.api.apply(&credentials("right")).await;
    let (_, took) = until(&closed, "CredentialsValid", true, "Accepted").await;
    println!("figure: mended credentials are told after {took:.1?}");
    for remote in [&closed, &dead] {
        stage.api.until_ready(&Object::of(remote), PATIENCE).await;
    }
    let requested = json!({ "metadata": { "annotations": { "artifactapi.io/requested-at": "2026-01-01" } } });
    stage.api.merge(&Object::of(&closed), "", &requested).await.ok();
    let handled = async || {
        let found = stage.api.get(&Object::of(&closed)).await.unwrap_or_default();
        found["status"]["lastHandledRequestedAt"] == "2026-01-01"
    };
    wait::until("the request to be answered", SEEN, handled).await;
    Ok(())
}
