//! Changes by an operator: what they name and nothing else, and only by the one that leads.

use artifactapi_model::{
    account::{Robot, RobotKey},
    ports::{Accounts as _, accounts::Source},
};

use super::*;

fn object(kind: &str, name: &str, document: &str, generation: i64) -> StoredObject {
    StoredObject {
        kind: kind.into(),
        namespace: "team".into(),
        name: name.into(),
        document: document.into(),
        sealed: false,
        version: 0,
        uid: Some(format!("uid-{name}")),
        generation: Some(generation),
    }
}

fn declared(name: &str, package_type: PackageType, base_url: &str) -> Declared {
    Declared {
        namespace: "team".into(),
        name: name.parse().unwrap(),
        package_type,
        base_url: base_url.into(),
    }
}

fn robot(name: &str) -> Robot {
    let key = RobotKey { namespace: "team".into(), name: name.parse().unwrap() };
    Robot { key, grants: vec!["*=pull".parse().unwrap()], token_ttl: None }
}

async fn names(store: &PostgresMetadata) -> (Vec<String>, Vec<String>) {
    let config = store.load_config().await.unwrap();
    let repository =
        |it: &Declared| format!("{} {} {}", it.name, it.package_type, it.base_url).trim_end().to_owned();
    (
        config.objects.iter().map(|it| format!("{}={}", it.name, it.document)).collect(),
        config.repositories.iter().map(|(it, _)| repository(it)).collect(),
    )
}

#[tokio::test]
async fn a_delta_touches_what_it_names_and_nothing_else() {
    let Some(server) = Server::start("a_delta_touches_what_it_names_and_nothing_else") else { return };
    let store = server.store().await;
    let first = Delta {
        upserts: vec![object("Remote", "a", "1", 1), object("Remote", "b", "1", 1)],
        declare: vec![
            declared("a", PackageType::Npm, "https://a.test/"),
            declared("b", PackageType::Npm, "https://b.test/"),
        ],
        robots: vec![robot("ci"), robot("cd")],
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 0, &first).await.unwrap(), Written::Version(1));
    assert_eq!(store.apply_delta(1, 1, &first).await.unwrap(), Written::Version(1), "nothing is new");
    let before = store.load_config().await.unwrap();
    let second = Delta {
        upserts: vec![object("Remote", "b", "2", 2)],
        declare: vec![declared("b", PackageType::Npm, "https://moved.test/")],
        robots_gone: vec![robot("cd").key],
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 1, &second).await.unwrap(), Written::Version(2));
    let (objects, repositories) = names(&store).await;
    assert_eq!(objects, ["a=1", "b=2"]);
    assert_eq!(repositories, ["a npm https://a.test/", "b npm https://moved.test/"]);
    assert_eq!(store.robots().await.unwrap(), [(robot("ci"), Source::Manifest)]);
    let after = store.load_config().await.unwrap();
    assert_eq!(after.repositories[0], before.repositories[0], "a was not touched");
    assert!(after.repositories[1].1.epoch > before.repositories[1].1.epoch, "another origin");
    let third = Delta {
        deletes: vec![("Remote".into(), "team".into(), "a".into())],
        retire: vec![declared("a", PackageType::Npm, "")],
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 2, &third).await.unwrap(), Written::Version(3));
    assert_eq!(names(&store).await.1, ["b npm https://moved.test/"]);
    let back = Delta {
        upserts: vec![object("Remote", "a", "1", 1)],
        declare: vec![declared("a", PackageType::Npm, "https://a.test/")],
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 3, &back).await.unwrap(), Written::Version(4));
    assert_eq!(
        store.load_config().await.unwrap().repositories[0],
        before.repositories[0],
        "adopted as it was"
    );
}

#[tokio::test]
async fn rs_130_a_former_leader_changes_nothing() {
    let Some(server) = Server::start("rs_130_a_former_leader_changes_nothing") else { return };
    let store = server.store().await;
    let put =
        |document: &str| Delta { upserts: vec![object("Remote", "a", document, 1)], ..Delta::default() };
    assert_eq!(store.fence().await.unwrap(), 0);
    assert_eq!(store.raise_fence(3).await.unwrap(), 3);
    assert_eq!(store.apply_delta(3, 0, &put("three")).await.unwrap(), Written::Version(1));
    assert_eq!(store.raise_fence(4).await.unwrap(), 4);
    assert_eq!(store.apply_delta(3, 1, &put("late")).await.unwrap(), Written::Fenced(4));
    assert_eq!(store.raise_fence(3).await.unwrap(), 4, "it never goes down");
    assert_eq!(store.apply_delta(5, 1, &put("five")).await.unwrap(), Written::Version(2));
    assert_eq!(store.apply_delta(4, 2, &put("late")).await.unwrap(), Written::Fenced(5), "a write raises it");
    assert_eq!(store.apply_delta(5, 1, &put("blind")).await.unwrap(), Written::Outdated(2));
    assert_eq!(names(&store).await.0, ["a=five"]);
}

#[tokio::test]
async fn a_delta_costs_the_same_beside_thousands() {
    let Some(server) = Server::start("a_delta_costs_the_same_beside_thousands") else { return };
    let store = server.store().await;
    let many: Vec<String> = (0..2_000).map(|n| format!("r{n}")).collect();
    let all = Delta {
        upserts: many.iter().map(|name| object("Remote", name, "1", 1)).collect(),
        declare: many.iter().map(|name| declared(name, PackageType::Npm, "https://x.test/")).collect(),
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 0, &all).await.unwrap(), Written::Version(1));
    let before = store.pool.statements().total();
    let one = Delta {
        upserts: vec![object("Remote", "r7", "2", 2)],
        declare: vec![declared("r7", PackageType::Npm, "https://y.test/")],
        ..Delta::default()
    };
    assert_eq!(store.apply_delta(1, 1, &one).await.unwrap(), Written::Version(2));
    assert_eq!(
        store.pool.statements().total() - before,
        6,
        "lock, fence, object, repository, version, notify"
    );
}

#[tokio::test]
async fn only_what_has_retired_is_purged() {
    let Some(server) = Server::start("only_what_has_retired_is_purged") else { return };
    let store = server.store().await;
    let name: RepoName = "a".parse().unwrap();
    let identity = store.ensure_repository("team", &name, PackageType::Npm, "https://a.test/").await.unwrap();
    let id = identity.id.0;
    server.sql(
        &store,
        &format!(
            "INSERT INTO artifacts SELECT {id}, 1, 'p' || n, NULL, repeat('0', 64), 1, 'immutable', '[]', '', TRUE, \
             0, 0, 0, 0 FROM generate_series(1, 5) AS n"
        ),
    );
    assert_eq!(store.purge_artifacts(identity.id, 3).await.unwrap(), 0, "it is in use");
    let retire = Delta { retire: vec![declared("a", PackageType::Npm, "")], ..Delta::default() };
    store.apply_delta(1, 0, &retire).await.unwrap();
    assert_eq!(store.purge_artifacts(identity.id, 3).await.unwrap(), 3);
    assert_eq!(store.purge_artifacts(identity.id, 3).await.unwrap(), 2);
    assert_eq!(store.purge_artifacts(identity.id, 3).await.unwrap(), 0);
}
