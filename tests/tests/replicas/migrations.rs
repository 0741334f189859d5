//! `migrate` as a Job runs it: made once, beside a database that is not there yet or refuses at first.

use std::{fs, process::Stdio};

use artifactapi_services::Postgres;
use artifactapi_tests::{Fault, Link, Services, http::PATIENCE, proxy};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{ChildStderr, Command},
    time::timeout,
};

/// The database comes late, then the password is put right, and the schema is made by the same process. It is told of
/// nothing but the database.
pub(crate) async fn wait_for_the_database(services: &mut Services) {
    services.postgres.database("late");
    let link = Link::to(format!("127.0.0.1:{}", services.postgres.process.port())).await;
    link.set(Fault::Refuse).await;
    let home = TempDir::new().expect("a temporary directory");
    let password = home.path().join("password");
    fs::write(&password, "yesterdays-secret\n").expect("space");
    let mut command = Command::new(proxy::binary().expect("a built proxy"));
    command
        .args(["migrate", "--wait=2m"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env("DBHOST", "127.0.0.1").env("DBPORT", link.port().to_string()).env("DBNAME", "late");
    command.env("DBUSER", Postgres::USER).env("DBPASS_FILE", &password).kill_on_drop(true);
    let mut migrating = command.spawn().expect("it starts");
    let mut told = BufReader::new(migrating.stderr.take().expect("piped")).lines();

    let unreachable = next(&mut told).await;
    assert!(unreachable.contains("waiting for the database"), "{unreachable}");
    assert!(unreachable.contains("cannot be reached"), "{unreachable}");
    link.set(Fault::Pass).await;
    let refused = next(&mut told).await;
    assert!(refused.contains("refuses") && refused.contains("password"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
    fs::write(&password, Postgres::PASSWORD).expect("space");
    let ended = timeout(PATIENCE, migrating.wait()).await.expect("it ends").expect("its own child");
    let mut said = String::new();
    migrating.stdout.take().expect("piped").read_to_string(&mut said).await.expect("text");
    assert_eq!(ended.code(), Some(0), "{said}");
    assert!(said.contains("the schema went from version 0 to "), "{said}");
    assert_eq!(told.next_line().await.expect("text"), None, "each reason once");
}

async fn next(told: &mut Lines<BufReader<ChildStderr>>) -> String {
    let line = timeout(PATIENCE, told.next_line()).await.expect("a line in time");
    line.expect("text").expect("it goes on")
}
