//! What callers see when the server is down, stuck, slow or refuses: an answer in time, and the store works
//! again afterwards.

use std::{future::Future, time::Duration};

use artifactapi_model::Mutability;
use futures_util::future::join_all;

use super::*;
use crate::metadata::{
    postgres::{
        pool::{CALL, CONNECT, CONNECTIONS},
        schema::{Alone, connect},
    },
    suite::{key, row},
};

/// Longest time until the store works again (RS-85).
const RECOVERY: Duration = Duration::from_secs(10);
/// What a busy machine may add to a bound.
const MARGIN: Duration = Duration::from_secs(5);

fn immutable(body: &str, fetch_seq: i64) -> ArtifactRow {
    ArtifactRow { mutability: Mutability::Immutable, ..row(body, fetch_seq) }
}

/// One call of each kind: reads, a write, a transaction, a COPY. All are unavailable within `bound`.
async fn all_are_unavailable(store: &PostgresMetadata, bound: Duration) {
    let record = AccessRecord {
        at: Timestamp(1),
        repository: String::new(),
        method: "GET".into(),
        path: "a".into(),
        status: 200,
        outcome: "hit".into(),
        bytes: 1,
        duration_us: 1,
        client: "::1".into(),
    };
    let (key, row) = (key(1, "a"), immutable("body", 1));
    let is_unavailable =
        |outcome: Result<(), MetadataError>| matches!(outcome, Err(MetadataError::Unavailable(_)));
    let outcomes = async {
        [
            is_unavailable(store.artifact(&key).await.map(drop)),
            is_unavailable(store.begin_fetch(&key).await.map(drop)),
            is_unavailable(store.commit_artifact(&key, &row).await.map(drop)),
            is_unavailable(store.load_config().await.map(drop)),
            is_unavailable(store.apply_config(&Changes::default()).await.map(drop)),
            is_unavailable(store.log_access(&[record]).await),
            is_unavailable(store.ping().await),
        ]
    };
    let outcomes = tokio::time::timeout(bound, outcomes).await.expect("an answer in time");
    assert_eq!(outcomes, [true; 7]);
}

/// Changes how long the only owner of `store` waits for a connection; how long that was.
fn connect_within(store: &mut Arc<PostgresMetadata>, bound: Duration) -> Duration {
    let store = Arc::get_mut(store).expect("nobody else has it");
    std::mem::replace(&mut store.pool.connect, bound)
}

/// Waits until a call goes well.
async fn recovers<T, F: Future<Output = Result<T, MetadataError>>>(call: impl Fn() -> F) -> T {
    let calls = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(MetadataError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(RECOVERY, calls).await.expect("it works again, without a restart")
}

#[tokio::test]
async fn rs_85_a_stopped_server_fails_calls_at_once_until_it_is_back() {
    let Some(mut server) = Server::start("rs_85_a_stopped_server") else { return };
    let (store, key) = (server.store().await, key(1, "a"));
    store.commit_artifact(&key, &row("body", 1)).await.unwrap();
    server.postgres.process.stop();
    all_are_unavailable(&store, CONNECT + MARGIN).await;
    server.postgres.process.start_again();
    assert_eq!(recovers(|| store.artifact(&key)).await, Some(row("body", 1)));
    server.postgres.process.kill();
    all_are_unavailable(&store, CONNECT + MARGIN).await;
    server.postgres.process.start_again();
    assert_eq!(recovers(|| store.artifact(&key)).await, Some(row("body", 1)));
}

#[tokio::test]
async fn rs_85_a_server_that_stands_still_is_given_up_in_time() {
    let Some(server) = Server::start("rs_85_a_server_that_stands_still") else { return };
    let mut store = server.store().await;
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    let patience = connect_within(&mut store, CONNECT);
    server.postgres.process.pause();
    // More than there are connections: whoever waits for one hears with those who have one.
    let key = key(1, "a");
    let calls = (0..3 * CONNECTIONS).map(|_| store.artifact(&key));
    let outcomes = tokio::time::timeout(CALL + MARGIN, join_all(calls)).await.expect("an answer in time");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(MetadataError::Unavailable(_)))));
    all_are_unavailable(&store, CONNECT * 7 + MARGIN).await;
    server.postgres.process.resume();
    assert_eq!(recovers(|| store.artifact(&key)).await, Some(row("body", 1)));
    connect_within(&mut store, patience);
    // At first nobody waits for more than a connection.
    for rounds in [1, 3] {
        let outcomes = join_all((0..rounds * CONNECTIONS).map(|_| store.artifact(&key))).await;
        assert!(outcomes.iter().all(Result::is_ok), "all connections are good again");
    }
}

#[tokio::test]
async fn rs_85_callers_do_not_storm_a_server_that_refuses() {
    let Some(server) = Server::start("rs_85_callers_do_not_storm_a_server_that_refuses") else { return };
    let store = server.store().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let settings = PostgresSettings { port: listener.local_addr().unwrap().port(), ..store.settings.clone() };
    let broken = Pool::new(&settings, Arc::default()).unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    tokio::spawn({
        let attempts = attempts.clone();
        async move {
            while let Ok((connection, _)) = listener.accept().await {
                attempts.fetch_add(1, Relaxed);
                drop(connection);
            }
        }
    });
    for _ in 0..3 {
        let calls = (0..1_000).map(|_| broken.ask(Operation::Ping, Repeat::Safe, sql::PING, &[]));
        let outcomes = join_all(calls).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(MetadataError::Unavailable(_)))));
    }
    let attempts = attempts.load(Relaxed);
    assert!(attempts >= 1 && attempts <= 2 * CONNECTIONS as u32, "{attempts} connections for 3000 calls");
}

#[tokio::test]
async fn rs_85_lost_connections_cost_no_call() {
    let Some(server) = Server::start("rs_85_lost_connections_cost_no_call") else { return };
    let store = server.store().await;
    let key = key(1, "a");
    let read = || join_all((0..CONNECTIONS).map(|_| store.artifact(&key)));
    assert!(read().await.iter().all(Result::is_ok));
    server.sql(
        &store,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()",
    );
    for outcome in read().await {
        outcome.unwrap();
    }
}

/// Holds locks in a session of its own until it is dropped.
async fn holding(store: &PostgresMetadata, locks: &str) -> Alone {
    let alone = connect(&store.settings).await.unwrap();
    alone.client.batch_execute(&format!("BEGIN; {locks}")).await.unwrap();
    alone
}

/// Waits until a statement like `pattern` waits for a lock, and ends its connection. Asks over a connection that is there
/// already: the statement gives up within seconds.
async fn terminate_waiting(looking: &Alone, pattern: &str) {
    let terminate = format!(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event_type = 'Lock' AND query LIKE '{pattern}'"
    );
    let end = std::time::Instant::now() + RECOVERY;
    while looking.client.query_one(terminate.as_str(), &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(std::time::Instant::now() < end, "nothing waits for the lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_86_what_may_be_repeated_is_repeated_once_and_nothing_else() {
    let Some(server) = Server::start("rs_86_what_may_be_repeated_is_repeated_once") else { return };
    let store = server.store().await;
    let row = row("body", 1);
    let looking = connect(&store.settings).await.unwrap();
    let held = holding(&store, "LOCK TABLE artifacts").await;
    let commit = tokio::spawn({
        let (store, row) = (store.clone(), row.clone());
        async move { store.commit_artifact(&key(1, "a"), &row).await }
    });
    terminate_waiting(&looking, "%commit_artifact%").await;
    drop(held);
    assert_eq!(commit.await.unwrap().unwrap(), Committed::Stored, "asked again on another connection");

    let held = holding(&store, "LOCK TABLE secrets").await;
    let never = tokio::spawn({
        let store = store.clone();
        async move {
            store.pool.ask(Operation::Ping, Repeat::Never, secrets::PUT_SECRET, &[&"name", &"value"]).await
        }
    });
    terminate_waiting(&looking, "INSERT INTO secrets%").await;
    drop(held);
    assert!(matches!(never.await.unwrap(), Err(MetadataError::Unavailable(_))), "nobody knows");
    assert_eq!(server.sql(&store, "SELECT COUNT(*) FROM secrets"), "0", "and it was not asked again");
}

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_ends_one_call_only() {
    let Some(server) = Server::start("a_lock_that_is_not_to_be_had_ends_one_call_only") else { return };
    let store = server.store().await;
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    let _held = holding(&store, "SELECT 1 FROM artifacts FOR UPDATE").await;
    let (contended, newer) = (key(1, "a"), row("late", 2));
    let late = tokio::time::timeout(CALL + MARGIN, store.commit_artifact(&contended, &newer));
    let late = late.await.expect("an answer in time");
    assert!(matches!(late, Err(MetadataError::Unavailable(_))), "{late:?}");
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), Some(row("body", 1)));
    store.commit_artifact(&key(1, "b"), &row("body", 1)).await.expect("the server is not down");
}

#[tokio::test]
async fn busy_connections_are_waited_for_and_not_for_ever() {
    let Some(server) = Server::start("busy_connections_are_waited_for") else { return };
    let store = server.store().await;
    let mut leases = Vec::new();
    for _ in 0..CONNECTIONS {
        leases.push(store.pool.acquire(tokio::time::Instant::now() + CALL).await.unwrap());
    }
    let busy = tokio::time::timeout(CALL + MARGIN, store.ping()).await.expect("an answer in time");
    assert!(matches!(&busy, Err(MetadataError::Unavailable(cause)) if cause.contains("busy")), "{busy:?}");
    let (waited, ()) = tokio::join!(store.ping(), async { drop(leases.pop()) });
    waited.expect("it waited for the one that came free; the server was never down");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_unavailable_for_them_only() {
    let Some(server) = Server::start("a_server_that_takes_no_writes") else { return };
    let store = server.store().await;
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    let set = |value: &str| {
        let database = &store.settings.database;
        server.postgres.sql(
            Postgres::DATABASE,
            &format!("ALTER DATABASE {database} SET default_transaction_read_only = {value}"),
        );
        // As a failover does, this ends all connections.
        server.postgres.sql(
            Postgres::DATABASE,
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"),
        );
    };
    set("on");
    let refused = store.commit_artifact(&key(1, "a"), &row("new", 2)).await;
    assert!(matches!(refused, Err(MetadataError::Unavailable(_))), "{refused:?}");
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), Some(row("body", 1)));
    set("off");
    assert_eq!(store.commit_artifact(&key(1, "a"), &row("new", 2)).await.unwrap(), Committed::Stored);
}
