//! What every store of accounts must do. An adapter's test calls [`suite`] with a function that makes an empty store.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Digest,
    account::{Grant, Robot, RobotKey, RobotToken, TokenId},
    ports::{
        Accounts,
        accounts::{Holder, Others, Source},
    },
};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs everything; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Arc<dyn Accounts>) {
    a_token_leads_to_what_its_robot_may_at_that_moment(&*make().await).await;
    rs_95_a_token_ends_by_the_database_clock(&*make().await).await;
    a_revoked_token_is_nobodys(&*make().await).await;
    what_a_manifest_made_is_the_manifests(&*make().await).await;
    manifests_take_only_their_own_robots_away(&*make().await).await;
    tokens_go_with_their_robot_for_good(&*make().await).await;
    robots_of_namespaces_are_apart(&*make().await).await;
    uses_are_noted(&*make().await).await;
    tokens_are_told_apart_by_who_made_them(&*make().await).await;
}

fn key(name: &str) -> RobotKey {
    RobotKey { namespace: "default".into(), name: name.parse().unwrap() }
}

fn robot(name: &str, grants: &[&str]) -> Robot {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect();
    Robot { key: key(name), grants, token_ttl: None }
}

fn fresh() -> Digest {
    RobotToken::generate().unwrap().hash()
}

async fn names(store: &dyn Accounts) -> Vec<(String, Source)> {
    store
        .robots()
        .await
        .unwrap()
        .into_iter()
        .map(|(robot, source)| (robot.key.name.to_string(), source))
        .collect()
}

async fn a_token_leads_to_what_its_robot_may_at_that_moment(store: &dyn Accounts) {
    let hash = fresh();
    assert_eq!(store.holder(&hash).await.unwrap(), None);
    assert_eq!(
        store.add_token(&key("ci"), &hash, None, Source::Hand).await.unwrap(),
        None,
        "there is no such robot"
    );
    let mut ci = Robot { token_ttl: Some(HOUR), ..robot("ci", &["a,b-*=pull,push", "*=delete"]) };
    assert!(store.put_robot(&ci).await.unwrap());
    let row = store.add_token(&key("ci"), &hash, None, Source::Hand).await.unwrap().unwrap();
    assert_eq!(
        (&row.id, &row.robot, row.expires_at, row.used_at),
        (&TokenId::of(&hash), &key("ci"), None, None)
    );
    assert_eq!(store.tokens().await.unwrap(), [row]);
    let holder = |robot: &Robot| Some(Holder { robot: robot.clone(), expires_in: None });
    assert_eq!(store.holder(&hash).await.unwrap(), holder(&ci));
    ci.grants = vec!["a=pull".parse().unwrap()];
    assert!(store.put_robot(&ci).await.unwrap());
    assert_eq!(store.holder(&hash).await.unwrap(), holder(&ci), "grants are joined, not copied");
    assert_eq!(store.holder(&fresh()).await.unwrap(), None, "another token");
}

async fn rs_95_a_token_ends_by_the_database_clock(store: &dyn Accounts) {
    store.put_robot(&robot("ci", &["*=pull"])).await.unwrap();
    let (long, over) = (fresh(), fresh());
    let row = store.add_token(&key("ci"), &long, Some(HOUR), Source::Hand).await.unwrap().unwrap();
    assert_eq!(row.expires_at.unwrap().since(row.created_at), HOUR);
    let left = store.holder(&long).await.unwrap().unwrap().expires_in.unwrap();
    assert!(left <= HOUR && left > HOUR - Duration::from_secs(60), "{left:?}");
    store.add_token(&key("ci"), &over, Some(Duration::ZERO), Source::Hand).await.unwrap().unwrap();
    assert_eq!(store.holder(&over).await.unwrap(), None);
    assert_eq!(store.tokens().await.unwrap().len(), 2, "an expired one is listed for a while");
}

async fn a_revoked_token_is_nobodys(store: &dyn Accounts) {
    store.put_robot(&robot("ci", &["*=pull"])).await.unwrap();
    let (one, two) = (fresh(), fresh());
    for hash in [&one, &two] {
        store.add_token(&key("ci"), hash, None, Source::Hand).await.unwrap().unwrap();
    }
    assert!(store.revoke_token(&TokenId::of(&one)).await.unwrap());
    assert!(!store.revoke_token(&TokenId::of(&one)).await.unwrap());
    assert_eq!(store.holder(&one).await.unwrap(), None);
    assert!(store.holder(&two).await.unwrap().is_some());
    assert_eq!(store.tokens().await.unwrap().len(), 1);
}

async fn what_a_manifest_made_is_the_manifests(store: &dyn Accounts) {
    let hash = fresh();
    store.put_robot(&robot("ci", &["a=pull"])).await.unwrap();
    store.add_token(&key("ci"), &hash, None, Source::Hand).await.unwrap().unwrap();
    let declared = robot("ci", &["b=pull"]);
    store.declare_robots(std::slice::from_ref(&declared), Others::Go { but: &[] }).await.unwrap();
    assert_eq!(store.holder(&hash).await.unwrap().unwrap().robot, declared, "its tokens go on");
    assert!(!store.put_robot(&robot("ci", &["*=delete"])).await.unwrap());
    assert!(!store.remove_robot(&key("ci")).await.unwrap());
    assert_eq!(store.robots().await.unwrap(), [(declared, Source::Manifest)]);
}

async fn manifests_take_only_their_own_robots_away(store: &dyn Accounts) {
    let (hand, manifest) = (Source::Hand, Source::Manifest);
    store.put_robot(&robot("by-hand", &["*=pull"])).await.unwrap();
    let both = [robot("one", &["*=pull"]), robot("two", &["*=pull"])];
    let by_hand = ("by-hand".to_owned(), hand);
    let of = |name: &str| (name.to_owned(), manifest);
    for _ in 0..2 {
        store.declare_robots(&both, Others::Go { but: &[] }).await.unwrap();
        assert_eq!(names(store).await, [by_hand.clone(), of("one"), of("two")]);
    }
    store.declare_robots(&both[..1], Others::Stay).await.unwrap();
    assert_eq!(names(store).await, [by_hand.clone(), of("one"), of("two")]);
    store.declare_robots(&[], Others::Go { but: &[key("two")] }).await.unwrap();
    assert_eq!(names(store).await, [by_hand.clone(), of("two")]);
    store.declare_robots(&[], Others::Go { but: &[] }).await.unwrap();
    assert_eq!(names(store).await, [by_hand]);
}

async fn tokens_go_with_their_robot_for_good(store: &dyn Accounts) {
    let (one, two) = (fresh(), fresh());
    store.put_robot(&robot("by-hand", &["*=pull"])).await.unwrap();
    let declared = [robot("declared", &["*=pull"])];
    store.declare_robots(&declared, Others::Go { but: &[] }).await.unwrap();
    store.add_token(&key("by-hand"), &one, None, Source::Hand).await.unwrap().unwrap();
    store.add_token(&key("declared"), &two, None, Source::Hand).await.unwrap().unwrap();
    assert!(store.remove_robot(&key("by-hand")).await.unwrap());
    assert!(!store.remove_robot(&key("by-hand")).await.unwrap());
    store.declare_robots(&[], Others::Go { but: &[] }).await.unwrap();
    assert_eq!(store.tokens().await.unwrap(), []);
    store.put_robot(&robot("by-hand", &["*=pull"])).await.unwrap();
    store.declare_robots(&declared, Others::Go { but: &[] }).await.unwrap();
    for hash in [&one, &two] {
        assert_eq!(store.holder(hash).await.unwrap(), None, "another robot of the same name");
    }
}

async fn robots_of_namespaces_are_apart(store: &dyn Accounts) {
    let mut other = robot("ci", &["other=pull"]);
    other.key.namespace = "team".into();
    store.put_robot(&robot("ci", &["a=pull"])).await.unwrap();
    store.put_robot(&other).await.unwrap();
    let hash = fresh();
    store.add_token(&other.key, &hash, None, Source::Hand).await.unwrap().unwrap();
    assert_eq!(store.holder(&hash).await.unwrap().unwrap().robot, other);
    assert!(store.remove_robot(&key("ci")).await.unwrap());
    assert!(store.holder(&hash).await.unwrap().is_some());
}

async fn uses_are_noted(store: &dyn Accounts) {
    store.put_robot(&robot("ci", &["*=pull"])).await.unwrap();
    let (one, two) = (fresh(), fresh());
    for hash in [&one, &two] {
        store.add_token(&key("ci"), hash, None, Source::Hand).await.unwrap().unwrap();
    }
    store.note_token_uses(&[]).await.unwrap();
    store.note_token_uses(&[TokenId::of(&one), TokenId::of(&fresh())]).await.unwrap();
    for row in store.tokens().await.unwrap() {
        assert_eq!(row.used_at.is_some(), row.id == TokenId::of(&one), "{row:?}");
    }
}

async fn tokens_are_told_apart_by_who_made_them(store: &dyn Accounts) {
    for name in ["ci", "other"] {
        store.put_robot(&robot(name, &["*=pull"])).await.unwrap();
    }
    let (by_hand, first, second) = (fresh(), fresh(), fresh());
    store.add_token(&key("ci"), &by_hand, None, Source::Hand).await.unwrap().unwrap();
    for hash in [&first, &second] {
        let row = store.add_token(&key("ci"), hash, Some(HOUR), Source::Manifest).await.unwrap().unwrap();
        assert_eq!(row.source, Source::Manifest);
    }
    store.add_token(&key("other"), &fresh(), None, Source::Manifest).await.unwrap().unwrap();
    let of = async |source| -> Vec<TokenId> {
        let mut ids: Vec<_> =
            store.tokens_of(&key("ci"), source).await.unwrap().into_iter().map(|row| row.id).collect();
        ids.sort();
        ids
    };
    let mut made = vec![TokenId::of(&first), TokenId::of(&second)];
    made.sort();
    assert_eq!(of(Source::Manifest).await, made);
    assert_eq!(of(Source::Hand).await, [TokenId::of(&by_hand)]);
}
