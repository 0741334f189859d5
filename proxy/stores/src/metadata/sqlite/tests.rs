//! SQLite against the suite, and what only a file can get wrong.

use super::*;
use crate::metadata::suite::{self, key, row};

async fn open(path: impl AsRef<Path>) -> SqliteMetadata {
    SqliteMetadata::open(path, Arc::default()).await.unwrap()
}

#[tokio::test]
async fn passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    suite::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(open(dir.path().join(format!("{number}.db"))).await) as Arc<dyn MetadataStore>
    })
    .await;
}

#[tokio::test]
async fn rs_118_a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    std::fs::write(&path, "these are not the rows you are looking for").unwrap();
    let refused = SqliteMetadata::open(&path, Arc::default()).await;
    assert!(matches!(refused, Err(OpenError::Unusable { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"these are not the rows you are looking for");
}

#[tokio::test]
async fn rs_118_a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    drop(open(&path).await);
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (99, 'later', '2030-01-01T00:00:00Z', '0')";
    rusqlite::Connection::open(&path).unwrap().execute(newer, []).unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteMetadata::open(&path, Arc::default()).await;
    assert!(matches!(refused, Err(OpenError::TooNew { found: 99, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn rs_98_the_log_is_synced_before_a_commit_returns() {
    let dir = tempfile::tempdir().unwrap();
    let writer = connection::writer(&dir.path().join("metadata.db")).unwrap();
    let pragma = |name| writer.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(pragma("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".into()));
    assert_eq!(pragma("synchronous").unwrap(), rusqlite::types::Value::Integer(2), "2 is FULL");
}

#[tokio::test]
async fn rows_and_fetch_numbers_outlive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    let store = open(&path).await;
    let number = store.next_fetch_seq().await.unwrap();
    store.commit_artifact(&key(1, "a"), &row("body", number)).await.unwrap();
    drop(store);
    let beside: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(beside, ["metadata.db"], "closed in order, it is one file that can be copied");
    let store = open(&path).await;
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), Some(row("body", number)));
    assert!(store.next_fetch_seq().await.unwrap() > number);
}

#[tokio::test]
async fn a_miss_costs_few_statements_and_numbers_cost_almost_none() {
    let dir = tempfile::tempdir().unwrap();
    let statements = Arc::new(SqlStatements::default());
    let store = SqliteMetadata::open(dir.path().join("metadata.db"), statements.clone()).await.unwrap();
    assert_eq!(statements.total(), 0);
    for _ in 0..numbers::BLOCK {
        store.next_fetch_seq().await.unwrap();
    }
    store.artifact(&key(1, "a")).await.unwrap();
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    let counted: Vec<_> = statements.by_operation().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("next_fetch_seq", 1), ("artifact", 1), ("commit_artifact", 2)]);
}

#[tokio::test]
async fn reads_do_not_wait_for_a_writer_that_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    let store = Arc::new(open(&path).await);
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    // Another process (a backup, an administrator) holds the write lock.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.commit_artifact(&key(1, "b"), &row("late", 2)).await }
    });
    for _ in 0..100 {
        assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), Some(row("body", 1)));
    }
    assert!(!writing.is_finished());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(writing.await.unwrap().unwrap(), Committed::Stored, "it goes on when the lock is free");
}

#[tokio::test]
async fn a_job_that_fails_takes_back_its_own_changes_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path().join("metadata.db")).await);
    // All wait behind the first, so that they share a transaction.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let first = store.writer.run(Operation::Unpin, move |_| {
        let _ = held.recv();
        Ok(())
    });
    let bad = store.writer.run(Operation::Unpin, |session| {
        session.execute(sql::PUT_SECRET, ("half", "done"))?;
        session.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    let panics = store.writer.run(Operation::Unpin, |session| -> rusqlite::Result<()> {
        session.execute(sql::PUT_SECRET, ("before", "the panic"))?;
        panic!("a job's own mistake")
    });
    let good = store.writer.run(Operation::Unpin, |session| session.execute(sql::PUT_SECRET, ("good", "1")));
    let (first, bad, good, ()) = tokio::join!(first, bad, good, async { release.send(()).unwrap() });
    first.unwrap();
    assert!(matches!(bad, Err(MetadataError::Failed { doing: "clearing a pin", .. })), "{bad:?}");
    assert_eq!(good.unwrap(), 1);
    assert!(panics.await.is_err());
    let names = store.readers.run(Operation::SharedSecret, |session| {
        session.rows("SELECT name FROM secrets ORDER BY name", [], |row| row.get::<_, String>(0))
    });
    assert_eq!(names.await.unwrap(), ["good"]);
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.expect("the writer lives on");
}

#[tokio::test]
async fn a_read_that_panics_does_not_cost_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path().join("metadata.db")).await;
    for _ in 0..2 * READERS {
        let read = store.readers.run(Operation::Pinned, |_| -> rusqlite::Result<()> { panic!("a mistake") });
        assert!(matches!(read.await, Err(MetadataError::Unavailable(_))));
    }
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), None);
}
