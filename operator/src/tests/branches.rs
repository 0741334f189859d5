//! What becomes of an object, as its owner sees it.

use serde_json::json;

use super::bench::{Bench, local, remote, robot, secret, virt};
use crate::{ceilings::Ceilings, names::GRACE, sink::SinkError};

#[tokio::test]
async fn what_is_valid_is_stored_and_says_so() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    let images = bench.apply(&local("team", "images", "Retain"));
    let all = bench.apply(&virt("team", "all", &["npm"]));
    let ci = bench.apply(&robot("team", "ci"));
    bench.settle().await;
    assert_eq!(
        bench.stored().await,
        ["Local team/images", "Remote team/npm", "Robot team/ci", "Virtual team/all"]
    );
    assert_eq!(bench.repositories().await, ["team/images docker", "team/npm npm https://npm.test/"]);
    let ready = bench.ready(&ci);
    assert!(ready.starts_with("False TokensUnavailable"), "nobody keeps tokens here: {ready}");
    for object in [&npm, &images, &all] {
        assert!(bench.ready(object).starts_with("True Stored"), "{object}: {}", bench.ready(object));
        assert_eq!(bench.condition(object, "Stalled"), None);
        assert_eq!(bench.condition(object, "Reconciling"), None);
    }
    let status = bench.cluster().objects[&npm]["status"].clone();
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["url"], "https://packages.test/api/v1/remote/npm/");
    assert_eq!(status["effective"], json!({ "mutableTTL": "15m", "read": "anonymous" }));
    assert_eq!(bench.cluster().objects[&images]["status"]["url"], "https://packages.test/v2/images/");
    let version = crate::sink::Sink::load(&*bench.sink).await.unwrap().version;
    assert_eq!(version, 3, "one change for Remotes and Locals, one for Virtuals, one for Robots");
}

#[tokio::test]
async fn a_sink_is_told_once_that_everything_is_there() {
    let mut bench = Bench::new();
    bench.apply(&remote("team", "npm", json!({})));
    bench.apply(&remote("team", "broken", json!({ "baseURL": "ftp://x/" })));
    bench.apply(&virt("team", "all", &["npm"]));
    bench.apply(&robot("team", "ci"));
    assert!(bench.sink.completed().is_empty());
    bench.settle().await;
    assert_eq!(bench.sink.completed(), [3], "not before, and whatever cannot be stored is not waited for");
    bench.apply(&local("team", "images", "Retain"));
    bench.settle().await;
    assert_eq!(bench.sink.completed(), [3]);
    bench.restart().await;
    // The next look, which comes at once where upstreams are looked at.
    bench.operator.work().await;
    assert_eq!(bench.sink.completed(), [3, 4], "by each leader, for it may be the first that this sink sees");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_told_later() {
    let mut bench = Bench::new();
    bench.sink.fail(Some(SinkError::Unavailable("away".into())));
    bench.operator.work().await;
    assert!(bench.sink.completed().is_empty());
    bench.sink.fail(None);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    bench.settle().await;
    assert_eq!(bench.sink.completed(), [0]);
}

#[tokio::test]
async fn a_restart_without_a_change_writes_nothing() {
    let mut bench = Bench::new();
    bench.apply(&secret("team", "s", &[("token", "canary")]));
    bench.apply(&remote("team", "npm", json!({ "auth": { "secretRef": { "name": "s" } } })));
    bench.apply(&remote("team", "broken", json!({ "baseURL": "ftp://x/" })));
    bench.apply(&virt("team", "all", &["npm"]));
    bench.apply(&robot("team", "ci"));
    bench.settle().await;
    let (writes, before) = (bench.writes(), crate::sink::Sink::load(&*bench.sink).await.unwrap());
    assert_eq!(
        writes,
        6,
        "one status each, and an event for what is not ready: {:?}",
        bench.cluster().requests
    );
    bench.restart().await;
    assert_eq!(bench.writes(), writes, "{:?}", bench.cluster().requests);
    assert_eq!(crate::sink::Sink::load(&*bench.sink).await.unwrap(), before);
}

#[tokio::test]
async fn rs_132_a_broken_object_keeps_its_last_good_version_and_costs_no_other() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    let good = bench.sink.document(&npm);
    bench.apply(&remote("team", "npm", json!({ "patterns": ["("], "mutableTTL": "-1s" })));
    let nonsense = bench.apply(&json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": "Remote",
        "metadata": { "namespace": "team", "name": "nonsense" }, "spec": ["no", "spec"],
    }));
    let fine = bench.apply(&remote("team", "fine", json!({})));
    bench.settle().await;
    let ready = bench.ready(&npm);
    assert!(ready.starts_with("False Invalid: "), "{ready}");
    assert!(ready.contains("spec.patterns[0]: ") && ready.contains("spec.mutableTTL: "), "{ready}");
    assert_eq!(bench.condition(&npm, "Stalled").unwrap().0, "True");
    assert_eq!(bench.sink.document(&npm), good, "the last good version serves on");
    assert_eq!(bench.cluster().objects[&npm]["status"]["url"], "https://packages.test/api/v1/remote/npm/");
    assert!(bench.ready(&nonsense).starts_with("False Invalid: "), "{}", bench.ready(&nonsense));
    assert!(bench.ready(&fine).starts_with("True"));
    bench.apply(&remote("team", "npm", json!({ "patterns": ["x"] })));
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"));
    assert_eq!(bench.condition(&npm, "Stalled"), None);
    assert_ne!(bench.sink.document(&npm), good);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_has_a_name_and_its_end_gives_it_to_the_next() {
    let mut bench = Bench::new();
    let first = bench.apply(&remote("a", "npm", json!({})));
    let second = bench.apply(&local("b", "npm", "Retain"));
    let third = bench.apply(&virt("c", "npm", &["x"]));
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Remote a/npm"]);
    let ready = bench.ready(&second);
    assert!(
        ready.starts_with("False NameConflict: metadata.name: ") && ready.contains("Remote a/npm"),
        "{ready}"
    );
    assert!(bench.ready(&third).contains("Remote a/npm"));
    bench.delete(&first);
    bench.settle().await;
    assert_eq!(bench.stored().await, Vec::<String>::new());
    let ready = bench.ready(&second);
    assert!(ready.contains("belonged to namespace \"a\" until now, which keeps it for 120 s"), "{ready}");
    tokio::time::advance(GRACE).await;
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Local b/npm"]);
    assert_eq!(bench.repositories().await, ["b/npm docker"]);
    assert!(bench.ready(&second).starts_with("True"));
    assert!(bench.ready(&third).contains("Local b/npm"));
}

#[tokio::test(start_paused = true)]
async fn a_name_does_not_fall_to_who_waited_for_its_object_to_be_made_again() {
    let mut bench = Bench::new();
    let own = bench.apply(&remote("a", "npm", json!({})));
    bench.settle().await;
    let squatter = bench.apply(&remote("b", "npm", json!({ "baseURL": "https://evil.test/" })));
    bench.settle().await;
    let stays = async |bench: &Bench, how: &str| {
        assert!(bench.ready(&own).starts_with("True"), "{how}: {}", bench.ready(&own));
        assert!(
            bench.ready(&squatter).starts_with("False NameConflict"),
            "{how}: {}",
            bench.ready(&squatter)
        );
        assert_eq!(bench.repositories().await, ["a/npm npm https://npm.test/"], "{how}");
    };
    bench.delete(&own);
    bench.apply(&remote("a", "npm", json!({})));
    bench.settle().await;
    stays(&bench, "at once").await;
    bench.delete(&own);
    bench.settle().await;
    assert!(bench.stored().await.is_empty(), "nobody has it meanwhile");
    tokio::time::advance(GRACE / 2).await;
    bench.settle().await;
    bench.apply(&remote("a", "npm", json!({})));
    bench.settle().await;
    stays(&bench, "after a while").await;
    bench.delete(&own);
    bench.apply(&remote("a", "npm", json!({})));
    bench.restart().await;
    stays(&bench, "while no operator was there").await;
    // One that is broken at first is mended in time.
    bench.delete(&own);
    bench.apply(&remote("a", "npm", json!({ "baseURL": "ftp://x" })));
    bench.settle().await;
    assert!(bench.stored().await.is_empty());
    bench.apply(&remote("a", "npm", json!({})));
    bench.settle().await;
    stays(&bench, "after a mistake").await;
}

#[tokio::test(start_paused = true)]
async fn what_people_stored_without_kubernetes_keeps_its_name_and_is_adopted_by_its_own() {
    let mut bench = Bench::new();
    let manifest = remote("a", "npm", json!({}));
    let row = crate::sink::Row {
        object: super::bench::reference(&manifest),
        uid: String::new(),
        generation: None,
        document: manifest.to_string().into(),
    };
    bench.sink.put_by_hand(row);
    let other = bench.apply(&local("b", "npm", "Retain"));
    bench.settle().await;
    assert!(bench.ready(&other).contains("stored without Kubernetes"), "{}", bench.ready(&other));
    assert_eq!(bench.stored().await, ["Remote a/npm"], "it is left alone");
    let own = bench.apply(&remote("a", "npm", json!({ "suspend": true })));
    bench.settle().await;
    assert!(bench.ready(&own).starts_with("True"), "{}", bench.ready(&own));
    assert!(bench.sink.document(&own).unwrap().contains("suspend"));
    bench.restart().await;
    assert!(bench.ready(&own).starts_with("True"), "and it stays so: {}", bench.ready(&own));
    bench.delete(&own);
    bench.settle().await;
    tokio::time::advance(GRACE).await;
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Local b/npm"], "by then it was the operator's");
}

#[tokio::test]
async fn secrets_are_waited_for_followed_and_dropped() {
    let mut bench = Bench::new();
    let spec = json!({ "auth": { "secretRef": { "name": "s" } } });
    let npm = bench.apply(&remote("team", "npm", spec.clone()));
    bench.settle().await;
    let ready = bench.ready(&npm);
    assert!(ready.starts_with("False SecretNotFound: spec.auth.secretRef.name: "), "{ready}");
    assert_eq!(bench.condition(&npm, "Stalled"), None, "a Secret may come any moment");
    assert_eq!(bench.condition(&npm, "Reconciling").unwrap().0, "True");
    assert!(bench.stored().await.is_empty());
    let s = bench.apply(&secret("team", "s", &[("token", "first"), ("other", "stays-outside")]));
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
    assert_eq!(bench.stored().await, ["Remote team/npm", "Secret team/s"]);
    let first = bench.sink.document(&s).unwrap();
    assert!(!first.contains("other"), "only what a Remote can use is copied");
    bench.apply(&secret("team", "s", &[("token", "second")]));
    bench.settle().await;
    assert_ne!(bench.sink.document(&s).unwrap(), first, "a rotation is handed on");
    bench.apply(&secret("team", "s", &[("tocken", "third")]));
    bench.settle().await;
    let ready = bench.ready(&npm);
    assert!(ready.starts_with("False SecretInvalid: spec.auth.secretRef: Secret \"s\""), "{ready}");
    assert!(!ready.contains("third"));
    assert_eq!(bench.stored().await, ["Remote team/npm", "Secret team/s"], "the last good ones serve on");
    bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Remote team/npm"], "nobody needs it any more");
}

#[tokio::test]
async fn a_secret_that_two_use_stays_until_both_are_gone() {
    let mut bench = Bench::new();
    bench.apply(&secret("team", "s", &[("token", "x")]));
    let spec = json!({ "auth": { "secretRef": { "name": "s" } } });
    let (a, b) = (bench.apply(&remote("team", "a", spec.clone())), bench.apply(&remote("team", "b", spec)));
    bench.settle().await;
    bench.delete(&a);
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Remote team/b", "Secret team/s"]);
    bench.delete(&b);
    bench.settle().await;
    assert!(bench.stored().await.is_empty());
    assert!(bench.repositories().await.is_empty());
}

#[tokio::test]
async fn a_secret_nobody_may_read_is_told_with_the_way_out() {
    let mut bench = Bench::new();
    bench.cluster().failing = Some((403, "/api/v1/namespaces/team/secrets"));
    let npm = bench.apply(&remote("team", "npm", json!({ "auth": { "secretRef": { "name": "s" } } })));
    let fine = bench.apply(&remote("team", "fine", json!({})));
    bench.settle().await;
    let ready = bench.ready(&npm);
    assert!(
        ready.starts_with("False SecretForbidden: Secret team/s ") && ready.contains("get on secrets"),
        "{ready}"
    );
    assert!(bench.ready(&fine).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_api_server_delays_only_what_needs_it() {
    let mut bench = Bench::new();
    bench.apply(&secret("team", "s", &[("token", "x")]));
    bench.cluster().failing = Some((500, "/api/v1/namespaces/team/secrets"));
    let npm = bench.apply(&remote("team", "npm", json!({ "auth": { "secretRef": { "name": "s" } } })));
    let fine = bench.apply(&remote("team", "fine", json!({})));
    bench.settle().await;
    assert_eq!(bench.ready(&npm), "nothing", "nobody knows yet");
    assert!(bench.ready(&fine).starts_with("True"));
    bench.cluster().failing = None;
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
}

#[tokio::test]
async fn virtuals_wait_for_their_members() {
    let mut bench = Bench::new();
    let all = bench.apply(&virt("team", "all", &["npm"]));
    bench.apply(&remote("other", "npm-too", json!({})));
    bench.settle().await;
    let ready = bench.ready(&all);
    assert!(ready.starts_with("False MemberNotFound: spec.members[0]: "), "{ready}");
    assert_eq!(bench.condition(&all, "Stalled"), None);
    let npm = bench.apply(&remote("team", "npm", json!({ "baseURL": "ftp://x" })));
    bench.settle().await;
    assert!(bench.ready(&all).starts_with("False MemberNotFound"), "a broken member is none");
    bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    assert!(bench.ready(&all).starts_with("True"), "{}", bench.ready(&all));
    bench.delete(&npm);
    bench.settle().await;
    assert!(bench.ready(&all).starts_with("False MemberNotFound"), "{}", bench.ready(&all));
    assert_eq!(
        bench.stored().await,
        ["Remote other/npm-too", "Virtual team/all"],
        "its last good version stays"
    );
}

#[tokio::test]
async fn a_namespace_cannot_widen_its_own_power() {
    let docker = |more: serde_json::Value| {
        let mut spec = json!({ "type": "docker" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        remote("team", "hub", spec)
    };
    let wide = docker(json!({
        "docker": { "mirrorFor": ["docker.io"], "rootMirror": true },
        "egress": { "allowCIDRs": ["10.0.0.0/8"] },
    }));
    let mut bench = Bench::new();
    let hub = bench.apply(&docker(json!({})));
    bench.settle().await;
    bench.apply(&wide);
    bench.settle().await;
    let ready = bench.ready(&hub);
    assert!(ready.starts_with("False NotPermitted: spec.docker.mirrorFor[0]: "), "{ready}");
    for path in ["spec.docker.rootMirror", "spec.egress.allowCIDRs[0]", "ARTIFACTAPI_ALLOW_CIDRS"] {
        assert!(ready.contains(path), "{ready}");
    }
    assert_eq!(bench.stored().await, ["Remote team/hub"], "what was permitted serves on");

    let ceilings = Ceilings {
        mirror_for: vec!["docker.io".into()],
        root_mirror: true,
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..Ceilings::default()
    };
    let mut bench = Bench::with(ceilings, None);
    let hub = bench.apply(&wide);
    bench.settle().await;
    assert!(bench.ready(&hub).starts_with("True"), "{}", bench.ready(&hub));
    bench.lower_ceilings().await;
    assert!(bench.ready(&hub).starts_with("False NotPermitted"));
    assert!(bench.stored().await.is_empty(), "what is not permitted any more does not serve on");
}

#[tokio::test]
async fn who_mirrors_a_registry_goes_on_doing_so() {
    let ceilings = Ceilings { mirror_for: vec!["*".into()], ..Ceilings::default() };
    let mut bench = Bench::with(ceilings, None);
    let spec = json!({ "type": "docker", "docker": { "mirrorFor": ["docker.io"] } });
    let old = bench.apply(&remote("team", "old", json!({ "type": "docker" })));
    let young = bench.apply(&remote("team", "young", spec.clone()));
    bench.settle().await;
    assert!(bench.ready(&young).starts_with("True"));
    let plain = bench.sink.document(&old);
    bench.apply(&remote("team", "old", spec.clone()));
    bench.settle().await;
    let ready = bench.ready(&old);
    assert!(
        ready.starts_with("False MirrorConflict: spec.docker.mirrorFor[0]: Remote team/young"),
        "{ready}"
    );
    assert_eq!(bench.sink.document(&old), plain, "its last good version serves on");
    assert!(bench.ready(&young).starts_with("True"), "nobody takes it away by being older");
    bench.delete(&young);
    bench.settle().await;
    assert!(bench.ready(&old).starts_with("True"), "{}", bench.ready(&old));
}

#[tokio::test]
async fn another_object_of_the_name_does_not_inherit_a_last_good_version() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    bench.delete(&npm);
    bench.apply(&remote("team", "npm", json!({ "type": "pypi", "baseURL": "ftp://x" })));
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("False Invalid"));
    assert!(bench.stored().await.is_empty());
    bench.apply(&remote("team", "npm", json!({ "type": "pypi" })));
    bench.settle().await;
    assert_eq!(bench.repositories().await, ["team/npm pypi https://npm.test/"], "another type");
}

#[tokio::test(start_paused = true)]
async fn rs_135_what_is_changed_behind_the_operator_is_repaired_in_minutes() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.apply(&remote("team", "other", json!({})));
    bench.settle().await;
    let whole = crate::sink::Sink::load(&*bench.sink).await.unwrap();
    bench.sink.lose(&npm);
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Remote team/other"]);
    tokio::time::advance(std::time::Duration::from_secs(301)).await;
    bench.settle().await;
    assert_eq!(crate::sink::Sink::load(&*bench.sink).await.unwrap().rows, whole.rows);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_waited_for() {
    let mut bench = Bench::new();
    bench.sink.fail(Some(SinkError::Unavailable("the database is unavailable: gone".into())));
    let npm = bench.apply(&remote("team", "npm", json!({})));
    for _ in 0..8 {
        bench.settle().await;
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
    }
    bench.sink.fail(None);
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
    bench.sink.fail(Some(SinkError::Unavailable("the database is unavailable: gone".into())));
    bench.apply(&remote("team", "npm", json!({ "suspend": true })));
    for _ in 0..8 {
        bench.settle().await;
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
    }
    let ready = bench.ready(&npm);
    assert!(ready.starts_with("False StoreUnavailable") && ready.contains("gone"), "{ready}");
    assert_eq!(bench.condition(&npm, "Stalled"), None);
    bench.sink.fail(None);
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_refuses_costs_no_other() {
    let mut bench = Bench::new();
    bench.sink.refuse(Some("r7"));
    let all: Vec<_> =
        (0..20).map(|number| bench.apply(&remote("team", &format!("r{number}"), json!({})))).collect();
    bench.settle().await;
    for (number, object) in all.iter().enumerate() {
        let ready = bench.ready(object);
        if number == 7 {
            assert!(ready.starts_with("False StoreRefused: the Remote could not be handed"), "{ready}");
            assert!(ready.contains("r7 is refused"), "with the cause: {ready}");
            assert_eq!(bench.condition(object, "Stalled").unwrap().0, "True");
        } else {
            assert!(ready.starts_with("True"), "{object}: {ready}");
        }
    }
    assert_eq!(bench.stored().await.len(), 19);
    bench.sink.refuse(None);
    tokio::time::advance(std::time::Duration::from_secs(301)).await;
    bench.settle().await;
    assert!(bench.ready(&all[7]).starts_with("True"), "{}", bench.ready(&all[7]));
    assert_eq!(bench.stored().await.len(), 20);
}

#[tokio::test]
async fn a_status_that_somebody_else_has_written_is_written_again() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    let damaged = {
        let mut cluster = bench.cluster();
        let found = cluster.objects.get_mut(&npm).unwrap();
        found["status"]["conditions"][0]["status"] = json!("False");
        found["status"]["url"] = json!("https://evil.test/");
        found.clone()
    };
    bench.show(&damaged);
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
    assert_eq!(bench.cluster().objects[&npm]["status"]["url"], "https://packages.test/api/v1/remote/npm/");
}

#[tokio::test]
async fn a_robot_is_granted_nothing_of_another_namespace() {
    let mut bench = Bench::new();
    bench.apply(&remote("other", "npm", json!({})));
    let mut ci = robot("team", "ci");
    let granted = |names: serde_json::Value| json!([{ "repositories": names, "actions": ["pull"] }]);
    ci["spec"]["grants"] = granted(json!(["n*", "later", "npm"]));
    let object = bench.apply(&ci);
    bench.settle().await;
    let ready = bench.ready(&object);
    assert!(
        ready.starts_with(
            "False NotPermitted: spec.grants[0].repositories[2]: npm is a repository of another"
        ),
        "{ready}"
    );
    assert_eq!(bench.stored().await, ["Remote other/npm"]);
    ci["spec"]["grants"] = granted(json!(["n*", "later"]));
    bench.apply(&ci);
    bench.settle().await;
    assert!(
        bench.ready(&object).starts_with("False TokensUnavailable"),
        "it is stored: {}",
        bench.ready(&object)
    );
    // What comes later in another namespace takes nothing from it.
    let later = bench.apply(&remote("other", "later", json!({})));
    bench.settle().await;
    assert!(bench.ready(&object).starts_with("False NotPermitted"), "{}", bench.ready(&object));
    assert!(bench.stored().await.contains(&"Robot team/ci".to_owned()));
    bench.delete(&later);
    bench.settle().await;
    assert!(bench.ready(&object).starts_with("False TokensUnavailable"), "{}", bench.ready(&object));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_listed_stops_no_other() {
    let scope = ["a".to_owned(), "closed".to_owned()].into();
    let mut bench = Bench::with(Ceilings::default(), Some(scope));
    bench.apply(&remote("closed", "kept", json!({})));
    bench.settle().await;
    bench.restart_blind().await;
    let npm = bench.apply(&remote("a", "npm", json!({})));
    bench.list_only("a");
    bench.operator.work().await;
    assert_eq!(bench.ready(&npm), "nothing", "it is waited for");
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    bench.settle().await;
    assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
    let late = bench.apply(&local("a", "kept", "Retain"));
    bench.settle().await;
    assert!(bench.ready(&late).starts_with("False NameConflict"), "{}", bench.ready(&late));
    assert_eq!(bench.stored().await, ["Remote a/npm", "Remote closed/kept"], "nobody knows what is there");
    bench.list_only("closed");
    bench.settle().await;
    assert_eq!(bench.stored().await, ["Remote a/npm"], "by now it is known");
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let mut bench = Bench::new();
    bench.leader.send_replace(None);
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.operator.work().await;
    assert_eq!(bench.ready(&npm), "nothing");
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn rs_130_a_leader_with_a_successor_writes_nothing() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    crate::sink::Sink::raise(&*bench.sink, 9).await.unwrap();
    let before = bench.sink.document(&npm);
    bench.apply(&remote("team", "npm", json!({ "suspend": true })));
    bench.operator.work().await;
    assert_eq!(bench.sink.document(&npm), before);
    assert_eq!(bench.cluster().objects[&npm]["status"]["observedGeneration"], 1, "nor does it tell of it");
}

#[tokio::test]
async fn what_is_stored_for_namespaces_nobody_watches_any_more_stays_and_keeps_its_names() {
    let mut bench = Bench::new();
    bench.apply(&remote("a", "npm", json!({})));
    bench.apply(&remote("b", "pypi", json!({})));
    bench.settle().await;
    bench.watch_only("b").await;
    assert_eq!(bench.stored().await, ["Remote a/npm", "Remote b/pypi"]);
    let late = bench.apply(&local("b", "npm", "Retain"));
    bench.settle().await;
    assert!(bench.ready(&late).contains("is not watched any more"), "{}", bench.ready(&late));
}

#[tokio::test]
async fn nothing_is_deleted_before_everything_was_seen() {
    let mut bench = Bench::new();
    let npm = bench.apply(&remote("team", "npm", json!({})));
    bench.settle().await;
    bench.restart_blind().await;
    bench.operator.work().await;
    assert_eq!(bench.stored().await, [npm.to_string()]);
}
