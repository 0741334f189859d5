//! Opening and migrating: what fits, what is refused, and what a killed migration leaves.

use std::time::Duration;

use super::{super::migrations::known, *};

/// Everything of ours in the database.
const TABLES: &str = "SELECT COUNT(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'public'";

async fn refused(settings: &PostgresSettings) -> PostgresError {
    match PostgresMetadata::open(settings.clone(), Arc::default()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn rs_117_an_old_schema_names_the_command_that_helps_and_is_left_alone() {
    let Some(server) = Server::start("rs_117_an_old_schema") else { return };
    let settings = server.database();
    let error = refused(&settings).await;
    assert!(matches!(error, PostgresError::TooOld { found: 0, needed: 9, .. }), "{error}");
    assert!(error.to_string().contains("artifactapi migrate"), "{error}");
    assert_eq!(server.postgres.sql(&settings.database, TABLES), "0");
    let migrated = PostgresMetadata::migrate(&settings).await.unwrap();
    assert_eq!(migrated, Migrated { from: 0, to: known() });
    open(settings.clone()).await.ping().await.unwrap();
    assert_eq!(PostgresMetadata::migrate(&settings).await.unwrap(), Migrated { from: known(), to: known() });
}

#[tokio::test]
async fn rs_118_a_newer_schema_is_used_as_long_as_it_says_it_can_be() {
    let Some(server) = Server::start("rs_118_a_newer_schema") else { return };
    let settings = server.database();
    PostgresMetadata::migrate(&settings).await.unwrap();
    let sql = |sql: &str| server.postgres.sql(&settings.database, sql);
    sql("INSERT INTO refinery_schema_history VALUES (99, 'later', '2030-01-01T00:00:00Z', '0')");
    open(settings.clone()).await.ping().await.expect("a release before an expansion goes on");
    assert_eq!(PostgresMetadata::migrate(&settings).await.unwrap(), Migrated { from: 99, to: 99 });
    sql("UPDATE schema_support SET oldest = 98");
    let before = sql(TABLES);
    let errors = [refused(&settings).await, PostgresMetadata::migrate(&settings).await.unwrap_err()];
    for error in errors {
        assert!(matches!(error, PostgresError::TooNew { found: 99, oldest: 98, .. }), "{error}");
        assert!(error.to_string().contains("start a newer release"), "{error}");
    }
    assert_eq!(sql(TABLES), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_117_of_several_that_migrate_at_once_one_does() {
    let Some(server) = Server::start("rs_117_of_several_that_migrate_at_once_one_does") else { return };
    let settings = server.database();
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let settings = settings.clone();
            tokio::spawn(async move { PostgresMetadata::migrate(&settings).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        let migrated = task.await.unwrap();
        assert_eq!(migrated.to, known());
        done += usize::from(migrated.from == 0);
    }
    assert_eq!(done, 1);
    open(settings).await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_97_a_migration_killed_midway_is_resumed() {
    let Some(server) = Server::start("rs_97_a_migration_killed_midway_is_resumed") else { return };
    let settings = server.database();
    // A table of a late step is being made by somebody else, so that the migration stops there.
    let other = super::super::schema::connect(&settings).await.unwrap();
    other.client.batch_execute("BEGIN; CREATE TABLE objects (a INT)").await.unwrap();
    let migration = tokio::spawn({
        let settings = settings.clone();
        async move { PostgresMetadata::migrate(&settings).await }
    });
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let terminate = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = \
         current_database() AND wait_event_type = 'Lock' AND query LIKE '%Expand%'";
    while server.postgres.sql(&settings.database, terminate) == "0" {
        assert!(std::time::Instant::now() < end, "the migration never got there");
    }
    let error = migration.await.unwrap().unwrap_err();
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error}");
    drop(other);
    assert_eq!(
        server.postgres.sql(&settings.database, "SELECT COUNT(*) FROM refinery_schema_history"),
        "0",
        "nothing was completed"
    );
    assert!(matches!(refused(&settings).await, PostgresError::TooOld { found: 0, .. }));
    assert_eq!(PostgresMetadata::migrate(&settings).await.unwrap(), Migrated { from: 0, to: known() });
    open(settings).await.ping().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_says_where_what_and_why_but_no_secret() {
    let Some(mut server) = Server::start("what_cannot_be_used_says_where_what_and_why") else { return };
    let good = server.database();
    let place = good.place();
    let refusals = [
        (
            PostgresSettings { password: SecretString::from("wrong-secret").into(), ..good.clone() },
            "password",
        ),
        (PostgresSettings { database: "nowhere".into(), ..good.clone() }, "does not exist"),
        (PostgresSettings { user: "nobody".into(), ..good.clone() }, "nobody"),
    ];
    for (settings, why) in refusals {
        let error = refused(&settings).await;
        assert!(matches!(error, PostgresError::Refused { .. }), "{error}");
        let text = error.to_string();
        let wanted = [&place, &settings.database, why].map(|word| text.contains(word));
        assert_eq!(wanted, [true; 3], "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let encrypted = refused(&PostgresSettings { tls: PostgresTls::Require, ..good.clone() }).await;
    assert!(encrypted.to_string().to_lowercase().contains("tls"), "{encrypted}");
    server.postgres.process.stop();
    let error = refused(&good).await;
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&place) && error.to_string().contains(&good.database), "{error}");
    server.postgres.process.start_again();
    assert!(matches!(refused(&good).await, PostgresError::TooOld { .. }), "trying again helps");
}

#[tokio::test]
async fn a_password_in_a_file_is_the_one_that_stands_there_now() {
    let Some(server) = Server::start("a_password_in_a_file_is_the_one_that_stands_there_now") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    let known = SecretString::from("what-it-was-at-the-start");
    let password = Password::in_file(known, file.path().to_owned());
    let settings = PostgresSettings { user: "keeper".into(), password, ..server.database() };
    let sql = |statement: &str| server.postgres.sql(&settings.database, statement);
    sql("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD 'first-secret'");
    assert!(matches!(refused(&settings).await, PostgresError::Refused { .. }), "an empty file");
    write("wrong-secret\n");
    assert!(matches!(refused(&settings).await, PostgresError::Refused { .. }));
    write("first-secret\n");
    PostgresMetadata::migrate(&settings).await.unwrap();
    let store = open(settings.clone()).await;
    store.ping().await.unwrap();
    // Changed under a store that is in use.
    sql("ALTER ROLE keeper PASSWORD 'second-secret'");
    write("second-secret");
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'");
    store.ping().await.unwrap();
}
