//! SQLite against the suite, and what only a file can get wrong.

use std::time::Duration;

use artifactapi_model::{
    Notice,
    ports::{
        Housekeeping as _,
        housekeeping::{Change, Selection},
    },
};

use super::*;
use crate::{
    lock::once_free,
    metadata::{
        accounts_suite, housekeeping_suite, observations_suite, registry_suite,
        suite::{self, key, row},
    },
};

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

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_accounts_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    accounts_suite::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(open(dir.path().join(format!("{number}.db"))).await) as _
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_observations_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    observations_suite::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Arc::new(open(dir.path().join(format!("{number}.db"))).await);
        (store.clone() as Arc<dyn MetadataStore>, store as _)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_housekeeping_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    housekeeping_suite::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Arc::new(open(dir.path().join(format!("{number}.db"))).await);
        (store.clone() as Arc<dyn MetadataStore>, store as _)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_at_once_what_nobody_holds() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    housekeeping_suite::at_once_suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Arc::new(open(dir.path().join(format!("{number}.db"))).await);
        (store.clone() as Arc<dyn MetadataStore>, store as _)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_registry_suite() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    registry_suite::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        registry_suite::Faces::of(Arc::new(open(dir.path().join(format!("{number}.db"))).await))
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
async fn rs_117_blobs_that_an_older_release_stored_are_kept_and_collected_like_others() {
    const NONE: Duration = Duration::ZERO;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    let mut old = rusqlite::Connection::open(&path).unwrap();
    migrations::run_up_to(&mut old, 1);
    for text in ["one", "two"] {
        let (digest, size) = (Digest::of(text.as_bytes()).to_hex(), text.len());
        let sql = format!(
            "INSERT INTO artifacts VALUES (1, 1, '{text}', '{digest}', {size}, 'mutable', '[]', '', 0, 1, 1, 1, 1)"
        );
        old.execute(&sql, []).unwrap();
    }
    drop(old);
    let store = open(&path).await;
    let [one, two, stray] =
        ["one", "two", "stray"].map(|text| (Digest::of(text.as_bytes()), text.len() as u64));
    assert_eq!(store.condemn_blobs(NONE, 10, false).await.unwrap(), []);
    assert_eq!(store.take_up_strays(&[one, two, stray]).await.unwrap(), 1, "rows name the others");
    assert_eq!(store.blob_states().await.unwrap().live.count, 2);
    assert_eq!(store.condemn_blobs(NONE, 10, false).await.unwrap(), []);
    store.forget_artifact(&key(1, "two"), &two.0).await.unwrap();
    assert_eq!(store.condemn_blobs(NONE, 10, false).await.unwrap(), [two]);
    let mut claimed = store.claim_blobs(NONE, 10).await.unwrap();
    claimed.sort_unstable_by_key(|(_, size)| *size);
    assert_eq!(claimed, [two, stray]);
}

#[tokio::test]
async fn notices_reach_whoever_has_the_same_file_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.db");
    let (proxy, tool) = (open(&path).await, open(&path).await);
    let below = |n| Notice::ChangedBelow { repo: n, epoch: 1, prefix: "a/".into() };
    let post = async |n| {
        let selection = Selection::Prefix("a/".into());
        tool.change(RepoId(n), Epoch(1), &selection, Change::Evict).await.unwrap();
    };
    post(1).await;
    let begin = proxy.posted(None).await.unwrap();
    assert!(begin.notices.is_empty() && !begin.gap, "what was said before it began is nothing to it");
    assert_eq!(proxy.posted(Some(begin.last)).await.unwrap(), begin);
    post(2).await;
    tool.change(RepoId(3), Epoch(1), &Selection::Path("b".into()), Change::Refresh).await.unwrap();
    let heard = proxy.posted(Some(begin.last)).await.unwrap();
    assert_eq!((&heard.notices[..], heard.gap), (&[below(2), Notice::changed(&key(3, "b"), "")][..], false));
    assert_eq!(proxy.posted(Some(heard.last)).await.unwrap().notices, []);
    // Two hours pass.
    let other = rusqlite::Connection::open(&path).unwrap();
    post(4).await;
    other.execute("UPDATE notices SET at = at - 7200000", []).unwrap();
    post(5).await;
    let late = proxy.posted(Some(heard.last)).await.unwrap();
    assert_eq!((&late.notices[..], late.gap), (&[below(5)][..], true), "it missed one");
}

#[tokio::test]
async fn a_turn_is_seen_by_whoever_opens_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path().join("m.db")).await, open(dir.path().join("m.db")).await);
    let turn = one.take_turn("collect").await.unwrap();
    assert!(turn.is_some() && other.take_turn("collect").await.unwrap().is_none());
    drop(turn);
    once_free(async || other.take_turn("collect").await.unwrap()).await;
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
async fn only_its_owner_can_read_it() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.db");
    let modes = || -> Vec<u32> {
        let files = fs::read_dir(dir.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777).collect()
    };
    let store = open(&path).await;
    store.signing_key("alpine", Some("key")).await.unwrap();
    assert_eq!(modes(), [0o600; 3], "the file, its log and the index of that");
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await;
    assert_eq!(store.signing_key("alpine", None).await.unwrap().as_deref(), Some("key"));
    assert_eq!(modes(), [0o600; 3], "an older release left it open to all");
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
    assert_eq!(counted, [("next_fetch_seq", 1), ("artifact", 1), ("commit_artifact", 3)]);
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
        session.execute(secrets::PUT_SECRET, ("half", "done"))?;
        session.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    let panics = store.writer.run(Operation::Unpin, |session| -> rusqlite::Result<()> {
        session.execute(secrets::PUT_SECRET, ("before", "the panic"))?;
        panic!("a job's own mistake")
    });
    let good =
        store.writer.run(Operation::Unpin, |session| session.execute(secrets::PUT_SECRET, ("good", "1")));
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
