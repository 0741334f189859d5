//! How upstreams are, as the owner of a Remote sees it.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    PackageType, Timestamp,
    observation::{Failure, Observation, ProbeDone, Track},
    ports::{
        MetadataStore as _, Observations as _,
        observations::{DueProbe, Seen},
        upstream::Layer,
    },
    repository::RepoIdentity,
};
use serde_json::{Value, json};

use super::bench::{Bench, remote, secret};

/// A bench whose store knows the Remote `team/npm`.
async fn bench() -> (Bench, RepoIdentity) {
    let bench = Bench::with_store().await;
    let store = bench.store.clone().unwrap();
    let name = "npm".parse().unwrap();
    let identity =
        store.ensure_repository("team", &name, PackageType::Npm, "https://npm.test/").await.unwrap();
    (bench, identity)
}

fn with_auth() -> Value {
    remote("team", "npm", json!({ "auth": { "secretRef": { "name": "s" } } }))
}

/// What a proxy of the newest configuration is asked.
async fn asked(bench: &Bench) -> Vec<DueProbe> {
    bench.store.as_ref().unwrap().take_probes(i64::MAX, 9).await.unwrap()
}

/// A proxy tells.
async fn tell(
    bench: &Bench,
    identity: RepoIdentity,
    upstream: Track,
    credentials: Track,
    token: Option<String>,
) {
    // Each a moment after the last.
    static MOMENTS: AtomicI64 = AtomicI64::new(1);
    let probe = token.map(|token| ProbeDone { at: Timestamp(MOMENTS.fetch_add(1, Relaxed)), token });
    let observation = Observation { upstream, credentials, probe, ..Observation::default() };
    let store = bench.store.as_ref().unwrap();
    store.observe(&[Seen { identity, observation }], Duration::ZERO).await.unwrap();
}

fn good(at: i64) -> Track {
    Track { good: Some(Timestamp(at)), bad: None }
}

fn bad(at: i64, layer: Layer) -> Track {
    Track { good: None, bad: Some(Failure::new(Timestamp(at), layer, None, "it does not go well")) }
}

fn words(bench: &Bench, object: &ObjectRef) -> [String; 3] {
    ["Ready", "UpstreamReachable", "CredentialsValid"].map(|kind| {
        let found = bench.condition(object, kind);
        found.map_or("-".into(), |(status, reason)| format!("{status} {reason}"))
    })
}

#[tokio::test]
async fn a_remote_says_how_its_upstream_is_and_is_ready_all_the_same() {
    let (mut bench, identity) = bench().await;
    bench.apply(&secret("team", "s", &[("token", "canary")]));
    let npm = bench.apply(&with_auth());
    bench.settle().await;
    assert_eq!(words(&bench, &npm), ["True Stored", "Unknown NotObserved", "Unknown NotObserved"]);
    let probes = asked(&bench).await;
    let [DueProbe { token: Some(token), .. }] = probes.as_slice() else { panic!("{probes:?}") };
    tell(&bench, identity, good(1), bad(1, Layer::Authentication), Some(token.clone())).await;
    bench.look().await;
    assert_eq!(words(&bench, &npm), ["True Stored", "True Answers", "False Refused"]);
    tell(&bench, identity, bad(60_000, Layer::Dns), Track::default(), None).await;
    bench.look().await;
    assert_eq!(words(&bench, &npm), ["True Stored", "False DNSFailed", "False Refused"]);
    let status = bench.cluster().objects[&npm]["status"].clone();
    let reachable =
        status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "UpstreamReachable");
    assert_eq!(reachable.unwrap()["message"], "it does not go well");
    assert_eq!(reachable.unwrap()["observedGeneration"], 1);
    let told: Vec<String> = bench.cluster().events.iter().map(|(reason, _)| reason.clone()).collect();
    assert_eq!(told, ["Refused", "DNSFailed"], "events tell what has gone wrong");
    let writes = bench.writes();
    for at in [70_000, 80_000] {
        tell(&bench, identity, bad(at, Layer::Dns), Track::default(), None).await;
        bench.look().await;
    }
    bench.restart().await;
    assert_eq!(bench.writes(), writes, "the same again is no news: {:?}", bench.cluster().requests);
    assert_eq!(asked(&bench).await, [], "nor does a restart ask");
    tell(&bench, identity, good(90_000), good(90_000), None).await;
    bench.look().await;
    let told: Vec<String> = bench.cluster().events.iter().map(|(reason, _)| reason.clone()).collect();
    assert_eq!(told[2..], ["Answers", "Accepted"], "and what is well again");
    tell(&bench, identity, bad(100_000, Layer::Dns), Track::default(), None).await;
    bench.look().await;
    bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    assert_eq!(words(&bench, &npm), ["True Stored", "False DNSFailed", "-"], "without credentials");
}

#[tokio::test]
async fn proxies_are_asked_when_something_changes_and_when_somebody_asks() {
    let (mut bench, identity) = bench().await;
    bench.apply(&secret("team", "s", &[("token", "one")]));
    let npm = bench.apply(&with_auth());
    bench.settle().await;
    let mut tokens: Vec<String> = Vec::new();
    let mut answered = async |bench: &Bench, why: &str| {
        let probes = asked(bench).await;
        let [DueProbe { token: Some(token), .. }] = probes.as_slice() else { panic!("{why}: {probes:?}") };
        assert!(!tokens.contains(token), "{why}");
        tokens.push(token.clone());
        tell(bench, identity, good(1), good(1), Some(token.clone())).await;
    };
    answered(&bench, "it is new").await;
    bench.apply(&secret("team", "s", &[("token", "two")]));
    bench.settle().await;
    answered(&bench, "its Secret has changed").await;
    let mut asking = with_auth();
    asking["spec"]["mutableTTL"] = json!("1m");
    bench.apply(&asking);
    bench.settle().await;
    answered(&bench, "it has changed").await;
    bench.settle().await;
    assert_eq!(asked(&bench).await, []);
    let handled = |bench: &Bench| bench.cluster().objects[&npm]["status"]["lastHandledRequestedAt"].clone();
    for value in ["2026-01-01T00:00:00Z", "again"] {
        asking["metadata"]["annotations"] = json!({ "artifactapi.io/requested-at": value });
        bench.apply(&asking);
        bench.settle().await;
        assert_ne!(handled(&bench), value, "nobody has looked yet");
        answered(&bench, "somebody asks").await;
        bench.look().await;
        assert_eq!(handled(&bench), value);
        bench.restart().await;
        assert_eq!((asked(&bench).await, handled(&bench)), (vec![], json!(value)), "once");
    }
    assert_eq!(words(&bench, &npm), ["True Stored", "True Answers", "True Accepted"]);
}
