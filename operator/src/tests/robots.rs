//! Robots' tokens in their Secrets, as those who use them see it.

use std::sync::Arc;

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    Timestamp,
    account::{Robot, RobotKey, RobotToken},
    clock::ManualClock,
    ports::{
        Accounts as _,
        accounts::{Others, Source},
    },
};
use artifactapi_stores::MemoryMetadata;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::jiff;
use serde_json::{Value, json};

use super::bench::{Bench, robot, secret};
use crate::robots::plan::PACE;

/// A bench whose store knows the robot `team/ci`.
async fn bench() -> Bench {
    bench_of(MemoryMetadata::default()).await
}

async fn bench_of(store: MemoryMetadata) -> Bench {
    let mut bench = Bench::new();
    let ci = Robot { key: key(), grants: vec!["*=pull".parse().unwrap()], token_ttl: None };
    store.declare_robots(&[ci], Others::Stay).await.unwrap();
    bench.store = Some(Arc::new(store));
    bench.restart().await;
    bench
}

fn key() -> RobotKey {
    RobotKey { namespace: "team".into(), name: "ci".parse().unwrap() }
}

fn of(name: &str) -> ObjectRef {
    ObjectRef { kind: "Secret", namespace: "team".into(), name: name.into() }
}

/// The token in a Secret, as the plain key has it.
fn token(bench: &Bench, name: &str) -> Option<RobotToken> {
    let cluster = bench.cluster();
    let text = cluster.objects.get(&of(name))?["data"]["token"].as_str()?.to_owned();
    RobotToken::parse(&String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
}

async fn is_good(bench: &Bench, token: &RobotToken) -> bool {
    bench.store.as_ref().unwrap().holder(&token.hash()).await.unwrap().is_some()
}

async fn tokens(bench: &Bench) -> usize {
    bench.store.as_ref().unwrap().tokens_of(&key(), Source::Manifest).await.unwrap().len()
}

#[tokio::test]
async fn a_robot_has_its_token_in_a_secret_and_a_restart_changes_nothing() {
    let mut bench = bench().await;
    let mut ci = robot("team", "ci");
    ci["spec"]["tokenTTL"] = json!("24h");
    let ci = bench.apply(&ci);
    bench.settle().await;
    let first = token(&bench, "ci").expect("a token");
    assert!(is_good(&bench, &first).await);
    assert_eq!(bench.ready(&ci), "True Stored: the Robot is valid, and its token is in Secret ci");
    let found = bench.cluster().objects[&of("ci")].clone();
    assert_eq!(found["type"], "kubernetes.io/dockerconfigjson");
    let uid = bench.cluster().objects[&ci]["metadata"]["uid"].clone();
    assert_eq!(found["metadata"]["ownerReferences"][0]["uid"], uid);
    let config = STANDARD.decode(found["data"][".dockerconfigjson"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["auths"]["packages.test"]["password"], first.expose());
    let status = bench.cluster().objects[&ci]["status"].clone();
    assert_eq!(status["secretName"], "ci");
    assert!(status["tokenExpiresAt"].is_string(), "{status}");
    assert!(!status.to_string().contains(first.expose()));
    let writes = bench.writes();
    bench.restart().await;
    assert_eq!((bench.writes(), tokens(&bench).await), (writes, 1), "{:?}", bench.cluster().requests);
    bench.delete(&ci);
    bench.settle().await;
    assert_eq!(bench.stored().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_happens_to_a_secret_is_made_good() {
    let mut bench = bench().await;
    bench.apply(&robot("team", "ci"));
    bench.settle().await;
    let first = token(&bench, "ci").unwrap();
    let mut damaged = bench.cluster().objects[&of("ci")].clone();
    damaged["data"]["registry"] = json!(STANDARD.encode("elsewhere"));
    bench.apply(&damaged);
    bench.settle().await;
    let registry = bench.cluster().objects[&of("ci")]["data"]["registry"].clone();
    assert_eq!(registry, STANDARD.encode("packages.test"));
    assert_eq!(token(&bench, "ci").unwrap().id(), first.id(), "it is mended with the token it has");
    damaged["data"]["token"] = json!(STANDARD.encode("nonsense"));
    bench.apply(&damaged);
    bench.settle().await;
    let second = token(&bench, "ci").expect("another token");
    bench.delete(&of("ci"));
    bench.settle().await;
    let third = token(&bench, "ci").expect("a third token");
    let ids = [first.id(), second.id(), third.id()];
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    for one in [&first, &second, &third] {
        assert!(is_good(&bench, one).await, "those who use it have time");
    }
    // Revoked behind the operator's back.
    bench.store.as_ref().unwrap().revoke_token(&third.id()).await.unwrap();
    bench.restart().await;
    assert!(is_good(&bench, &token(&bench, "ci").unwrap()).await);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let mut bench = bench().await;
    let theirs = bench.apply(&secret("team", "ci", &[("token", "theirs")]));
    let ci = bench.apply(&robot("team", "ci"));
    bench.settle().await;
    let before = bench.cluster().objects[&theirs].clone();
    assert!(bench.ready(&ci).starts_with("False SecretConflict: Secret ci is there"), "{}", bench.ready(&ci));
    assert_eq!(bench.condition(&ci, "Stalled").unwrap().0, "True");
    assert_eq!(bench.cluster().objects[&theirs], before);
    assert_eq!(tokens(&bench).await, 0);
    let mut renamed = robot("team", "ci");
    renamed["spec"]["secretName"] = json!("pull");
    bench.apply(&renamed);
    bench.settle().await;
    assert!(token(&bench, "pull").is_some() && bench.ready(&ci).starts_with("True"), "{}", bench.ready(&ci));
    bench.delete(&theirs);
    bench.apply(&robot("team", "ci"));
    bench.settle().await;
    assert!(token(&bench, "ci").is_some() && bench.ready(&ci).starts_with("True"), "{}", bench.ready(&ci));
    assert!(token(&bench, "pull").is_none(), "the one it had under another name goes");
}

#[tokio::test]
async fn another_token_comes_on_request_and_the_old_one_has_time() {
    // Tokens that are asked for again have been there for a while.
    let pace = i64::try_from(PACE.as_millis()).unwrap();
    let start = Timestamp(jiff::Timestamp::now().as_millisecond() - 2 * pace);
    let mut bench = bench_of(MemoryMetadata::with_clock(Arc::new(ManualClock::at(start)))).await;
    let mut ci = robot("team", "ci");
    let object = bench.apply(&ci);
    bench.settle().await;
    let first = token(&bench, "ci").unwrap();
    ci["metadata"]["annotations"] = json!({ "artifactapi.io/requested-at": "now" });
    bench.apply(&ci);
    bench.settle().await;
    let second = token(&bench, "ci").unwrap();
    assert_ne!(first.id(), second.id());
    assert!(is_good(&bench, &first).await && is_good(&bench, &second).await);
    bench.apply(&ci);
    bench.restart().await;
    assert_eq!(token(&bench, "ci").unwrap().id(), second.id(), "once");
    // One that cannot be accepted keeps what it has.
    ci["spec"]["grants"] = json!([]);
    bench.apply(&ci);
    bench.settle().await;
    assert!(bench.ready(&object).starts_with("False Invalid"), "{}", bench.ready(&object));
    assert!(is_good(&bench, &second).await);
}

#[tokio::test]
async fn where_no_secret_can_be_written_no_token_is_left() {
    let mut bench = bench().await;
    bench.cluster().failing = Some((403, "POST /api/v1/namespaces/team/secrets"));
    let ci = bench.apply(&robot("team", "ci"));
    bench.settle().await;
    assert!(
        bench.ready(&ci).starts_with("False SecretForbidden: Secret ci cannot be written"),
        "{}",
        bench.ready(&ci)
    );
    assert_eq!(tokens(&bench).await, 0);
    bench.cluster().failing = None;
    bench.restart().await;
    assert!(bench.ready(&ci).starts_with("True"), "{}", bench.ready(&ci));
    assert_eq!(tokens(&bench).await, 1);
}
