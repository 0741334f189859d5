//! What every sink keeps.

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{PackageType, account::Robot, account::RobotKey};
use artifactapi_stores::postgres::Declared;
use serde_json::json;

use super::{Contents, Delta, Row, Sink, StoredRow, Written};

const CANARY: &str = "canary-of-the-suite";

fn object(kind: &'static str, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: "team".into(), name: name.into() }
}

fn row(kind: &'static str, name: &str, body: &str, generation: Option<i64>) -> Row {
    let document = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": kind, "body": body,
        "metadata": { "namespace": "team", "name": name, "uid": format!("uid-{name}") },
    });
    Row {
        object: object(kind, name),
        uid: format!("uid-{name}"),
        generation,
        document: document.to_string().into(),
    }
}

fn stored(row: &Row) -> StoredRow {
    use secrecy::ExposeSecret as _;
    StoredRow {
        object: row.object.clone(),
        uid: Some(row.uid.clone()),
        generation: row.generation,
        digest: Some(row.digest()),
        document: (!row.is_secret()).then(|| row.document.expose_secret().to_owned()),
    }
}

fn put(rows: &[&Row]) -> Delta {
    Delta { upserts: rows.iter().map(|row| (*row).clone()).collect(), ..Delta::default() }
}

async fn rows(sink: &dyn Sink) -> Vec<StoredRow> {
    sink.load().await.unwrap().rows
}

/// Runs all of it on an empty sink.
pub(super) async fn sink_suite(sink: &dyn Sink) {
    let Contents { version, rows: none, records } = sink.load().await.unwrap();
    assert!(none.is_empty());
    let version = objects_come_change_and_go(sink, version).await;
    let version = the_longest_names_are_names(sink, version).await;
    let version = a_change_is_made_for_one_version_only(sink, version).await;
    if records.is_some() {
        records_follow(sink, version).await;
    }
    former_leaders_write_nothing(sink).await;
}

async fn objects_come_change_and_go(sink: &dyn Sink, version: i64) -> i64 {
    let (remote, secret) = (row("Remote", "a", "1", Some(1)), row("Secret", "s.dotted", CANARY, None));
    let map = row("ConfigMap", "m", "pem", None);
    let Written::Version(first) = sink.write(1, version, &put(&[&remote, &secret, &map])).await.unwrap()
    else {
        panic!("it is the first")
    };
    assert!(first > version);
    assert_eq!(
        rows(sink).await,
        [stored(&map), stored(&remote), stored(&secret)],
        "in order, secrets unread"
    );
    assert!(!format!("{:?}", sink.load().await.unwrap()).contains(CANARY));
    let changed = row("Remote", "a", "2", Some(2));
    let delta = Delta { deletes: vec![map.object], ..put(&[&changed]) };
    let Written::Version(second) = sink.write(1, first, &delta).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert!(second > first);
    assert_eq!(rows(sink).await, [stored(&changed), stored(&secret)]);
    let Written::Version(second) = sink.write(1, second, &put(&[&remote])).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert_eq!(rows(sink).await, [stored(&remote), stored(&secret)], "an earlier generation too");
    let Written::Version(second) = sink.write(1, second, &put(&[&changed])).await.unwrap() else {
        panic!("nobody was faster")
    };
    let gone = Delta { deletes: vec![object("Virtual", "none"), secret.object], ..Delta::default() };
    let Written::Version(third) = sink.write(1, second, &gone).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert_eq!(rows(sink).await, [stored(&changed)]);
    assert_eq!(sink.load().await.unwrap().version, third);
    third
}

/// As long as Kubernetes has them.
async fn the_longest_names_are_names(sink: &dyn Sink, version: i64) -> i64 {
    let before = rows(sink).await;
    let long = |last: &str| {
        let mut long = row("Secret", &format!("{}{last}", "s".repeat(252)), CANARY, None);
        long.object.namespace = "n".repeat(63);
        let document = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "namespace": long.object.namespace, "name": long.object.name },
        });
        Row { document: document.to_string().into(), ..long }
    };
    let (a, b) = (long("a"), long("b"));
    let Written::Version(there) = sink.write(1, version, &put(&[&a, &b])).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert_eq!(rows(sink).await, [before.clone(), vec![stored(&a), stored(&b)]].concat());
    let gone = Delta { deletes: vec![a.object, b.object], ..Delta::default() };
    let Written::Version(gone) = sink.write(1, there, &gone).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert_eq!(rows(sink).await, before);
    gone
}

async fn a_change_is_made_for_one_version_only(sink: &dyn Sink, version: i64) -> i64 {
    let change = |body| put(&[&row("Remote", "a", body, Some(3))]);
    let Written::Version(next) = sink.write(1, version, &change("3")).await.unwrap() else {
        panic!("nobody was faster")
    };
    assert_eq!(sink.write(1, version, &change("blind")).await.unwrap(), Written::Outdated(next));
    assert_eq!(rows(sink).await, [stored(&row("Remote", "a", "3", Some(3)))]);
    next
}

async fn records_follow(sink: &dyn Sink, version: i64) {
    let declared = |package_type| Declared {
        namespace: "team".into(),
        name: "a".parse().unwrap(),
        package_type,
        base_url: "https://a.test/".into(),
    };
    let robot = Robot {
        key: RobotKey { namespace: "team".into(), name: "ci".parse().unwrap() },
        grants: vec!["*=pull".parse().unwrap()],
        token_ttl: None,
    };
    let delta =
        Delta { declare: vec![declared(PackageType::Npm)], robots: vec![robot.clone()], ..Delta::default() };
    let Written::Version(next) = sink.write(1, version, &delta).await.unwrap() else {
        panic!("nobody was faster")
    };
    let records = sink.load().await.unwrap().records.unwrap();
    assert_eq!(
        (records.repositories, records.robots),
        (vec![declared(PackageType::Npm)], vec![robot.clone()])
    );
    let delta = Delta {
        declare: vec![declared(PackageType::Pypi)],
        retire: vec![declared(PackageType::Npm)],
        robots_gone: vec![robot.key],
        ..Delta::default()
    };
    sink.write(1, next, &delta).await.unwrap();
    let records = sink.load().await.unwrap().records.unwrap();
    assert_eq!((records.repositories, records.robots), (vec![declared(PackageType::Pypi)], vec![]));
}

async fn former_leaders_write_nothing(sink: &dyn Sink) {
    let before = sink.load().await.unwrap();
    assert_eq!(sink.epoch().await.unwrap(), 1, "a write raises it");
    assert_eq!(sink.raise(3).await.unwrap(), 3);
    assert_eq!(sink.raise(2).await.unwrap(), 3, "it never goes down");
    let late = put(&[&row("Remote", "a", "late", Some(9))]);
    assert_eq!(sink.write(2, before.version, &late).await.unwrap(), Written::Fenced(3));
    assert_eq!(sink.load().await.unwrap(), before);
    assert!(matches!(sink.write(3, before.version, &late).await.unwrap(), Written::Version(_)));
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use artifactapi_model::Sealer;
    use artifactapi_services::Postgres;
    use artifactapi_stores::{
        PostgresMetadata,
        postgres::{PostgresSettings, PostgresTls},
    };

    use super::*;
    use crate::sink::{SinkError, directory::DirectorySink, memory::MemorySink, postgres::PostgresSink};

    #[tokio::test]
    async fn memory() {
        sink_suite(&MemorySink::default()).await;
    }

    #[tokio::test]
    async fn directory() {
        let directory = tempfile::tempdir().unwrap();
        sink_suite(&DirectorySink::open(directory.path().to_owned()).unwrap()).await;
    }

    #[tokio::test]
    async fn secrets_in_a_directory_are_for_its_owner_and_files_of_people_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mine = directory.path().join("mine.json");
        std::fs::write(&mine, r#"{"kind":"Remote","metadata":{"namespace":"team","name":"mine"}}"#).unwrap();
        std::fs::write(directory.path().join("notes.json"), "{").unwrap();
        let sink = DirectorySink::open(directory.path().to_owned()).unwrap();
        let delta = put(&[&row("Secret", "s", CANARY, None), &row("Remote", "a", "1", Some(1))]);
        sink.write(1, 0, &delta).await.unwrap();
        assert_eq!(rows(&sink).await.len(), 2);
        let mode =
            |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("secret.team.s.json"), mode("remote.team.a.json")), (0o600, 0o644));
        assert!(mine.exists());
        // A change that was broken off before its end is found by its contents.
        let file = directory.path().join("remote.team.a.json");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("\"1\"", "\"2\"")).unwrap();
        assert_ne!(rows(&sink).await[0], stored(&row("Remote", "a", "1", Some(1))));
    }

    #[tokio::test]
    async fn whatever_no_file_can_be_made_for_is_refused_and_a_long_name_is_none_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let sink = DirectorySink::open(directory.path().to_owned()).unwrap();
        std::fs::create_dir(directory.path().join("remote.team.taken.json")).unwrap();
        let (taken, fine) = (row("Remote", "taken", "1", Some(1)), row("Remote", "fine", "1", Some(1)));
        let refused = sink.write(1, 0, &put(&[&taken, &fine])).await;
        let Err(SinkError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.starts_with("Remote team/taken cannot be a file: "), "{why}");
        let long = row("Secret", &"s".repeat(253), CANARY, None);
        sink.write(1, 0, &put(&[&long, &fine])).await.unwrap();
        let names = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        let name = names.iter().find(|name| name.starts_with("secret.team._")).unwrap();
        assert!(name.ends_with(".json"), "the proxy goes by that: {name}");
        assert!(names.contains(&"remote.team.fine.json".to_owned()), "{names:?}");
    }

    #[tokio::test]
    async fn postgres() {
        let Some(server) = artifactapi_services::provided(Postgres::start(), "sink suite") else { return };
        let settings = PostgresSettings {
            host: "127.0.0.1".into(),
            port: server.process.port(),
            user: Postgres::USER.into(),
            password: secrecy::SecretString::from(Postgres::PASSWORD).into(),
            database: Postgres::DATABASE.into(),
            tls: PostgresTls::Disable,
        };
        PostgresMetadata::migrate(&settings).await.unwrap();
        let store = Arc::new(PostgresMetadata::open(settings, Arc::default()).await.unwrap());
        let sealer = Sealer::new("a key of at least thirty-two characters").unwrap();
        let sink = PostgresSink::new(store.clone(), sealer);
        sink_suite(&sink).await;
        let secret = row("Secret", "s", CANARY, None);
        let version = sink.load().await.unwrap().version;
        sink.write(9, version, &put(&[&secret])).await.unwrap();
        assert!(
            !server.sql(Postgres::DATABASE, "SELECT document FROM objects").contains(CANARY),
            "it is sealed"
        );
        let other = Sealer::new("another key, as long as it has to be").unwrap();
        let rows = PostgresSink::new(store, other).load().await.unwrap().rows;
        let unread = rows.iter().find(|row| row.object == secret.object).unwrap();
        assert_eq!(unread.digest, None, "under another key it counts as different, and is sealed anew");
    }
}
