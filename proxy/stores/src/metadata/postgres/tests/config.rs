//! Configurations, replicas and notifications.

use std::{collections::BTreeSet, time::Duration};

use artifactapi_model::{
    Notice,
    account::{Robot, RobotKey},
    ports::{Accounts as _, Heard, Housekeeping as _, Messages, accounts::Source},
};
use futures_util::StreamExt as _;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn object(name: &str, document: &str) -> StoredObject {
    StoredObject {
        kind: "Remote".into(),
        namespace: "default".into(),
        name: name.into(),
        document: document.into(),
        sealed: false,
        version: 0,
        uid: None,
        generation: None,
    }
}

fn robot(name: &str) -> Robot {
    let key = RobotKey { namespace: "default".into(), name: name.parse().unwrap() };
    Robot { key, grants: vec!["*=pull".parse().unwrap()], token_ttl: None }
}

fn declared(name: &str, base_url: &str) -> Declared {
    Declared {
        namespace: "default".into(),
        name: name.parse().unwrap(),
        package_type: PackageType::Pypi,
        base_url: base_url.into(),
    }
}

async fn heard(messages: &mut Messages) -> Heard {
    tokio::time::timeout(PATIENCE, messages.next()).await.expect("in time").expect("it never ends")
}

/// Listens, and hears of the connection.
async fn listening(store: &PostgresMetadata) -> Messages {
    let mut messages = store.listen();
    assert_eq!(heard(&mut messages).await, Heard::Gap);
    messages
}

fn says(notice: &Notice) -> Heard {
    Heard::Message(notice.encode().into())
}

#[tokio::test]
async fn a_configuration_changes_as_a_whole_and_its_version_only_rises() {
    let Some(server) = Server::start("a_configuration_changes_as_a_whole") else { return };
    let store = server.store().await;
    let mut messages = listening(&store).await;
    let mark = store.config_mark().await.unwrap();
    assert_eq!((mark.version, mark.database.len(), mark.stamp.len()), (0, 36, 36), "{mark:?}");
    assert_eq!(
        store.load_config().await.unwrap(),
        Config { mark: mark.clone(), objects: vec![], repositories: vec![] }
    );
    let (a, b) = (object("a", "{\"a\":1}"), StoredObject { sealed: true, ..object("b", "sealed:v1:x") });
    let mut changes = Changes {
        based_on: Some(0),
        upserts: vec![a.clone(), b.clone()],
        deletes: vec![],
        repositories: vec![declared("a", "https://a.test/"), declared("b", "")],
        robots: vec![robot("ci")],
    };
    assert_eq!(store.apply_config(&changes).await.unwrap(), Applied::Version(1));
    assert_eq!(heard(&mut messages).await, says(&Notice::Configured { version: 1 }));
    assert_eq!(store.robots().await.unwrap(), [(robot("ci"), Source::Manifest)]);
    let first = store.load_config().await.unwrap();
    let at = |version, object: &StoredObject| StoredObject { version, ..object.clone() };
    assert_eq!(first.objects, [at(1, &a), at(1, &b)]);
    let names = |config: &Config| -> Vec<String> {
        config.repositories.iter().map(|(declared, _)| declared.name.to_string()).collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    let name: RepoName = "a".parse().unwrap();
    let ensured =
        store.ensure_repository("default", &name, PackageType::Pypi, "https://a.test/").await.unwrap();
    assert_eq!(first.repositories[0].1, ensured, "the same repository");
    // A collector that has not heard of this version.
    store.retire_others(&[]).await.unwrap();
    assert_eq!(store.load_config().await.unwrap(), first, "what the configuration has does not retire");

    changes.based_on = None;
    assert_eq!(store.apply_config(&changes).await.unwrap(), Applied::Version(1), "nothing is new");
    changes.based_on = Some(0);
    changes.upserts.clear();
    changes.repositories.clear();
    assert_eq!(store.apply_config(&changes).await.unwrap(), Applied::Outdated(1));
    assert_eq!(store.load_config().await.unwrap(), first, "nothing was changed");

    let changed = object("a", "{\"a\":2}");
    let changes = Changes {
        based_on: Some(1),
        upserts: vec![changed.clone()],
        deletes: vec![("Remote".into(), "default".into(), "b".into())],
        repositories: vec![declared("a", "https://moved.test/")],
        robots: vec![],
    };
    assert_eq!(store.apply_config(&changes).await.unwrap(), Applied::Version(2));
    assert_eq!(heard(&mut messages).await, says(&Notice::Configured { version: 2 }), "one for one change");
    let second = store.load_config().await.unwrap();
    assert_eq!(second.objects, [at(2, &changed)]);
    assert_eq!(names(&second), ["a"], "b is retired");
    assert_eq!(store.robots().await.unwrap(), [], "its rights end with the version that has it no more");
    assert_eq!(second.repositories[0].1.id, first.repositories[0].1.id);
    assert!(second.repositories[0].1.epoch > first.repositories[0].1.epoch, "another origin");
    let later = store.config_mark().await.unwrap();
    assert_eq!((later.version, &later.database), (2, &mark.database));
    assert_ne!(later.stamp, mark.stamp);
    assert_ne!(server.store().await.config_mark().await.unwrap().database, mark.database, "another database");
    let back = Changes {
        repositories: vec![declared("a", "https://moved.test/"), declared("b", "")],
        ..Changes::default()
    };
    assert_eq!(store.apply_config(&back).await.unwrap(), Applied::Version(3));
    let third = store.load_config().await.unwrap();
    assert_eq!(third.repositories[1], first.repositories[1], "adopted again as it was");
}

#[tokio::test]
async fn what_is_put_replaces_whatever_was_there() {
    let Some(server) = Server::start("what_is_put_replaces_whatever_was_there") else { return };
    let store = server.store().await;
    let put = async |uid: &str, generation: i64, document: &str| {
        let object =
            StoredObject { uid: Some(uid.into()), generation: Some(generation), ..object("a", document) };
        store.apply_config(&Changes { upserts: vec![object], ..Changes::default() }).await.unwrap()
    };
    assert_eq!(put("one", 2, "second").await, Applied::Version(1));
    assert_eq!(put("one", 2, "second").await, Applied::Version(1), "it is there");
    assert_eq!(put("one", 2, "rotated").await, Applied::Version(2), "the same generation may change");
    assert_eq!(put("one", 1, "first").await, Applied::Version(3), "a cluster was restored from a backup");
    assert_eq!(store.load_config().await.unwrap().objects[0].document, "first");
    assert_eq!(put("two", 1, "made again").await, Applied::Version(4), "another object of that name");
    assert_eq!(store.load_config().await.unwrap().objects[0].document, "made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_apply_at_once_take_turns() {
    let Some(server) = Server::start("two_that_apply_at_once_take_turns") else { return };
    let first = server.store().await;
    let second = open(first.settings.clone()).await;
    let tasks: Vec<_> = [first.clone(), second]
        .into_iter()
        .enumerate()
        .map(|(who, store)| {
            tokio::spawn(async move {
                let mut versions = Vec::new();
                for n in 0..20 {
                    // Both on the same rows, so that only the lock keeps them apart.
                    let changes = Changes {
                        upserts: vec![object("a", &format!("{who} {n}")), object(&format!("{who}-{n}"), "x")],
                        repositories: vec![declared("a", "https://a.test/"), declared("b", "")],
                        ..Changes::default()
                    };
                    let Applied::Version(version) = store.apply_config(&changes).await.unwrap() else {
                        panic!("it was based on nothing")
                    };
                    versions.push(version);
                }
                versions
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for task in tasks {
        let versions = task.await.unwrap();
        assert!(versions.is_sorted(), "the version never goes back");
        all.extend(versions);
    }
    assert_eq!(all, (1..=40).collect(), "every change has its own");
    let config = first.load_config().await.unwrap();
    assert_eq!((config.mark.version, config.objects.len(), config.repositories.len()), (40, 41, 2));
}

#[tokio::test]
async fn based_on_one_version_only_one_of_two_changes_is_made() {
    let Some(server) = Server::start("based_on_one_version_only_one_of_two_changes_is_made") else { return };
    let store = server.store().await;
    let changes = |document: &str| Changes {
        based_on: Some(0),
        upserts: vec![object("a", document)],
        ..Changes::default()
    };
    let (one, two) = (changes("one"), changes("two"));
    let (one, two) = tokio::join!(store.apply_config(&one), store.apply_config(&two));
    let mut outcomes = [one.unwrap(), two.unwrap()];
    outcomes.sort_by_key(|applied| matches!(applied, Applied::Outdated(_)));
    assert_eq!(outcomes, [Applied::Version(1), Applied::Outdated(1)]);
}

#[tokio::test]
async fn rs_88_foreign_rows_do_not_stop_a_configuration() {
    let Some(server) = Server::start("rs_88_foreign_rows_do_not_stop_a_configuration") else { return };
    let store = server.store().await;
    let changes = Changes { repositories: vec![declared("a", "")], ..Changes::default() };
    store.apply_config(&changes).await.unwrap();
    server.sql(
        &store,
        "INSERT INTO repositories (namespace, name, package_type, base_url, epoch) VALUES \
         ('default', 'No Name', 'pypi', '', 1), ('default', 'x', 'floppy', '', 1)",
    );
    let config = store.load_config().await.unwrap();
    assert_eq!(config.repositories.len(), 1);
    assert_eq!(store.pool.statements().unreadable(), 2);
}

#[tokio::test]
async fn replicas_are_known_while_they_are_seen() {
    let Some(server) = Server::start("replicas_are_known_while_they_are_seen") else { return };
    let store = server.store().await;
    let live = async |within| store.live_replicas(Duration::from_secs(within)).await.unwrap();
    store.register_replica("one", "10.0.0.1:8001").await.unwrap();
    store.register_replica("two", "10.0.0.2:8001").await.unwrap();
    store.register_replica("one", "10.0.0.3:8001").await.unwrap();
    assert_eq!(live(30).await, ["10.0.0.3:8001", "10.0.0.2:8001"]);
    server.sql(&store, "UPDATE replicas SET seen_at = now() - INTERVAL '1 minute' WHERE id = 'two'");
    assert_eq!(live(30).await, ["10.0.0.3:8001"], "by the database's clock");
    assert_eq!(live(90).await.len(), 2);
    server.sql(&store, "UPDATE replicas SET seen_at = now() - INTERVAL '2 days' WHERE id = 'two'");
    store.register_replica("one", "10.0.0.3:8001").await.unwrap();
    assert_eq!(
        server.sql(&store, "SELECT string_agg(id, ',') FROM replicas"),
        "one",
        "the dead are forgotten"
    );
    store.forget_replica("one").await.unwrap();
    assert!(live(30).await.is_empty());
}

#[tokio::test]
async fn notices_reach_every_listener_and_a_lost_connection_is_a_gap() {
    let Some(server) = Server::start("notices_reach_every_listener") else { return };
    let store = server.store().await;
    let twin = open(store.settings.clone()).await;
    let (mut one, mut two) = (listening(&store).await, listening(&twin).await);
    let notice = Notice::Configured { version: 7 };
    store.notify(&notice).await.unwrap();
    assert_eq!(heard(&mut one).await, says(&notice));
    assert_eq!(heard(&mut two).await, says(&notice));
    server.sql(
        &store,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()",
    );
    assert_eq!(heard(&mut one).await, Heard::Gap, "it listens again");
    assert_eq!(heard(&mut two).await, Heard::Gap);
    twin.notify(&notice).await.unwrap();
    assert_eq!(heard(&mut one).await, says(&notice));
    assert_eq!(heard(&mut two).await, says(&notice));
}

#[tokio::test]
async fn a_slow_listener_hears_a_gap_for_what_it_missed() {
    let Some(server) = Server::start("a_slow_listener_hears_a_gap_for_what_it_missed") else { return };
    let store = server.store().await;
    let (mut slow, mut quick) = (listening(&store).await, listening(&store).await);
    let many = "SELECT pg_notify('artifactapi', 'message ' || n) FROM generate_series(1, 3000) AS n";
    server.sql(&store, many);
    let mut others = 0;
    while heard(&mut quick).await != Heard::Gap {
        others += 1;
    }
    assert!(others > 500, "{others}");
    let mut messages = 0;
    while heard(&mut slow).await != Heard::Gap {
        messages += 1;
    }
    assert!(messages > 500 && messages < 3_000, "{messages}");
    let notice = Notice::Configured { version: 1 };
    store.notify(&notice).await.unwrap();
    assert_eq!(heard(&mut slow).await, says(&notice), "and listens on");
}
