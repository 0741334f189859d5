//! What every store of observations must do. An adapter's test calls [`suite`] with a function that makes an empty
//! store.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Epoch, PackageType, Timestamp,
    observation::{Failure, Observation, ProbeDone, Track, Verdict},
    ports::{
        MetadataStore, Observations,
        observations::{DueProbe, ProbeRequest, Seen},
        upstream::Layer,
    },
    repository::RepoIdentity,
};

/// Two faces of one store.
pub type Faces = (Arc<dyn MetadataStore>, Arc<dyn Observations>);

const HOUR: Duration = Duration::from_secs(3600);
const AT_ONCE: Duration = Duration::ZERO;
const URL: &str = "https://up.test/";

/// Runs everything; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Faces) {
    what_replicas_have_seen_is_merged(make().await).await;
    nobody_writes_a_remote_again_too_soon(make().await).await;
    another_epoch_begins_anew(make().await).await;
    followers_see_every_change_in_its_order(make().await).await;
    a_probe_is_taken_once_whoever_asks(make().await).await;
    a_request_waits_for_its_configuration(make().await).await;
    a_request_stands_until_it_is_answered(make().await).await;
    what_is_scheduled_is_due_in_its_time_and_moved_by_what_is_seen(make().await).await;
    what_is_gone_is_not_probed(make().await).await;
}

async fn remote(store: &dyn MetadataStore, name: &str, url: &str) -> RepoIdentity {
    let name = name.parse().unwrap();
    store.ensure_repository("default", &name, PackageType::Generic, url).await.unwrap()
}

fn good(seconds: i64) -> Observation {
    let upstream = Track { good: Some(Timestamp(seconds * 1000)), bad: None };
    Observation { upstream, ..Observation::default() }
}

fn bad(seconds: i64) -> Observation {
    let bad = Failure::new(Timestamp(seconds * 1000), Layer::Tls, None, "it's \"expired\" \u{e4}");
    Observation { upstream: Track { good: None, bad: Some(bad) }, ..Observation::default() }
}

fn seen(identity: RepoIdentity, observation: Observation) -> [Seen; 1] {
    [Seen { identity, observation }]
}

fn wanted(name: &str, token: &str, config: i64) -> [ProbeRequest; 1] {
    let (namespace, name) = ("default".to_owned(), name.parse().unwrap());
    [ProbeRequest { namespace, name, token: token.to_owned(), config }]
}

fn asked(identity: RepoIdentity, token: &str) -> [DueProbe; 1] {
    [DueProbe { identity, token: Some(token.to_owned()) }]
}

async fn what_replicas_have_seen_is_merged((rows, store): Faces) {
    let one = remote(&*rows, "one", URL).await;
    for observation in [good(100), bad(50), good(90)] {
        assert_eq!(store.observe(&seen(one, observation), AT_ONCE).await.unwrap(), [one]);
    }
    let all = store.observed(0).await.unwrap();
    let [row] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((row.namespace.as_str(), row.name.as_str(), row.identity), ("default", "one", one));
    let mut want = good(100);
    want.merge(&bad(50));
    assert_eq!(row.observation, want);
    store.observe(&seen(one, bad(200)), AT_ONCE).await.unwrap();
    let row = store.observed(0).await.unwrap().pop().unwrap();
    assert!(matches!(row.observation.upstream.verdict(), Verdict::Bad(bad) if bad.layer == Layer::Tls));
}

async fn nobody_writes_a_remote_again_too_soon((rows, store): Faces) {
    let (one, two) = (remote(&*rows, "one", URL).await, remote(&*rows, "two", URL).await);
    assert_eq!(store.observe(&seen(one, good(1)), HOUR).await.unwrap(), [one], "the first");
    let both = [Seen { identity: one, observation: bad(50) }, Seen { identity: two, observation: good(2) }];
    assert_eq!(store.observe(&both, HOUR).await.unwrap(), [two], "the other is told of later");
    let known = |all: Vec<artifactapi_model::ports::observations::Observed>| {
        all.into_iter().map(|row| (row.identity, row.observation)).collect::<Vec<_>>()
    };
    assert_eq!(known(store.observed(0).await.unwrap()), [(one, good(1)), (two, good(2))]);
    assert_eq!(store.observe(&[], HOUR).await.unwrap(), []);
}

async fn another_epoch_begins_anew((rows, store): Faces) {
    let old = remote(&*rows, "one", URL).await;
    store.observe(&seen(old, bad(500)), HOUR).await.unwrap();
    let new = remote(&*rows, "one", "https://other.test/").await;
    assert_ne!(old.epoch, new.epoch);
    assert_eq!(store.observed(0).await.unwrap(), [], "what was seen of another upstream");
    assert_eq!(store.observe(&seen(new, good(5)), HOUR).await.unwrap(), [new], "however soon");
    assert_eq!(store.observe(&seen(old, bad(600)), AT_ONCE).await.unwrap(), [old], "nothing more to tell");
    let all = store.observed(0).await.unwrap();
    assert_eq!((all.len(), &all[0].observation), (1, &good(5)));
}

async fn followers_see_every_change_in_its_order((rows, store): Faces) {
    let (one, two) = (remote(&*rows, "one", URL).await, remote(&*rows, "two", URL).await);
    store.observe(&seen(one, good(1)), AT_ONCE).await.unwrap();
    store.observe(&seen(two, good(1)), AT_ONCE).await.unwrap();
    let both = store.observed(0).await.unwrap();
    assert_eq!(both.iter().map(|row| row.identity).collect::<Vec<_>>(), [one, two]);
    let last = both[1].version;
    assert_eq!(store.observed(last).await.unwrap(), []);
    store.observe(&seen(one, good(2)), AT_ONCE).await.unwrap();
    let next = store.observed(last).await.unwrap();
    assert_eq!(next.iter().map(|row| row.identity).collect::<Vec<_>>(), [one]);
    assert!(next[0].version > last);
}

async fn a_probe_is_taken_once_whoever_asks((rows, store): Faces) {
    let one = remote(&*rows, "one", URL).await;
    store.request_probes(&wanted("one", "t", 0)).await.unwrap();
    store.request_probes(&wanted("unknown", "t", 0)).await.unwrap();
    let takers = (0..8).map(|_| store.take_probes(0, 5));
    let taken: Vec<DueProbe> =
        futures_util::future::join_all(takers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(taken, asked(one, "t"));
    store.request_probes(&wanted("one", "u", 0)).await.unwrap();
    assert_eq!(store.take_probes(0, 5).await.unwrap(), asked(one, "u"), "a new request counts at once");
}

async fn a_request_waits_for_its_configuration((rows, store): Faces) {
    let one = remote(&*rows, "one", URL).await;
    store.request_probes(&wanted("one", "t", 7)).await.unwrap();
    assert_eq!(store.take_probes(6, 5).await.unwrap(), []);
    assert_eq!(store.take_probes(7, 0).await.unwrap(), []);
    assert_eq!(store.take_probes(8, 5).await.unwrap(), asked(one, "t"));
}

async fn a_request_stands_until_it_is_answered((rows, store): Faces) {
    let one = remote(&*rows, "one", URL).await;
    let answer = |token: &str, at: i64| {
        let probe = Some(ProbeDone { at: Timestamp(at), token: token.to_owned() });
        Observation { probe, ..good(at) }
    };
    store.schedule_probes(&[one], 0, AT_ONCE).await.unwrap();
    store.request_probes(&wanted("one", "t", 0)).await.unwrap();
    for other in [good(1), answer("s", 2)] {
        store.observe(&seen(one, other), AT_ONCE).await.unwrap();
    }
    assert_eq!(store.take_probes(0, 5).await.unwrap(), asked(one, "t"), "traffic is no answer");
    store.request_probes(&wanted("one", "u", 0)).await.unwrap();
    store.observe(&seen(one, answer("t", 3)), AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(0, 5).await.unwrap(), asked(one, "u"), "nor is one to an earlier request");
    store.observe(&seen(one, answer("u", 4)), AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(0, 5).await.unwrap(), []);
    let row = store.observed(0).await.unwrap().pop().unwrap();
    assert_eq!(row.observation.probe.unwrap().token, "u");
}

async fn what_is_scheduled_is_due_in_its_time_and_moved_by_what_is_seen((rows, store): Faces) {
    let (one, two) = (remote(&*rows, "one", URL).await, remote(&*rows, "two", URL).await);
    store.schedule_probes(&[one, two, one], 3, AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(2, 5).await.unwrap(), []);
    store.observe(&seen(two, good(1)), AT_ONCE).await.unwrap();
    let due = store.take_probes(3, 5).await.unwrap();
    assert_eq!(due, [DueProbe { identity: one, token: None }], "the other has traffic");
    store.schedule_probes(&[one, two], 4, AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(4, 5).await.unwrap(), [], "once");
    let later = RepoIdentity { epoch: Epoch(one.epoch.0 + 1), ..one };
    let three = remote(&*rows, "three", URL).await;
    store.schedule_probes(&[three], 4, HOUR).await.unwrap();
    store.schedule_probes(&[later], 4, AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(4, 5).await.unwrap(), [DueProbe { identity: later, token: None }]);
}

async fn what_is_gone_is_not_probed((rows, store): Faces) {
    let one = remote(&*rows, "one", URL).await;
    let later = RepoIdentity { epoch: Epoch(one.epoch.0 + 1), ..one };
    store.schedule_probes(&[later], 0, AT_ONCE).await.unwrap();
    store.forget_probes(&[one]).await.unwrap();
    assert_eq!(store.take_probes(0, 5).await.unwrap().len(), 1, "another epoch is there");
    store.forget_probes(&[later]).await.unwrap();
    store.schedule_probes(&[one], 0, AT_ONCE).await.unwrap();
    assert_eq!(store.take_probes(0, 5).await.unwrap(), [DueProbe { identity: one, token: None }]);
}
