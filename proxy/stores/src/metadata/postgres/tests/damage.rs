//! Rows that make no sense (RS-88), and the access log's partitions.

use super::*;
use crate::metadata::suite::{key, row};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

#[tokio::test]
async fn rs_88_rows_that_make_no_sense_are_absent_and_can_be_replaced() {
    let Some(server) = Server::start("rs_88_rows_that_make_no_sense") else { return };
    let store = server.store().await;
    let damages = [
        "digest = 'unknown'",
        "digest = upper(digest)",
        "headers = '{'",
        "headers = '[[1, 2]]'",
        "mutability = 'perhaps'",
    ];
    for (number, damage) in damages.iter().enumerate() {
        let path = format!("{number}/bad");
        store.commit_artifact(&key(1, &path), &row("body", 1)).await.unwrap();
        server.sql(&store, &format!("UPDATE artifacts SET {damage} WHERE path = '{path}'"));
        assert_eq!(store.artifact(&key(1, &path)).await.unwrap(), None, "{damage}");
        assert_eq!(store.begin_fetch(&key(1, &path)).await.unwrap().row, None, "{damage}");
    }
    store.commit_artifact(&key(1, "9/good"), &row("body", 1)).await.unwrap();
    for limit in [1, 2, 100] {
        let walk = store.artifacts_after(None, limit).await.unwrap();
        assert_eq!(walk, [(key(1, "9/good"), row("body", 1))], "pages of {limit}");
        assert_eq!(store.artifacts_after(Some(&key(1, "9/good")), limit).await.unwrap(), []);
    }
    assert!(store.pool.statements().unreadable() >= 2 * damages.len() as u64, "they are counted");
    for number in 0..damages.len() {
        let key = key(1, &format!("{number}/bad"));
        assert_eq!(store.commit_artifact(&key, &row("new", 2)).await.unwrap(), Committed::Stored);
        assert_eq!(store.artifact(&key).await.unwrap(), Some(row("new", 2)));
    }
}

#[tokio::test]
async fn rs_88_a_ledger_entry_that_is_no_digest_pins_nothing() {
    let Some(server) = Server::start("rs_88_a_ledger_entry_that_is_no_digest_pins_nothing") else { return };
    let store = server.store().await;
    let immutable =
        |body, seq| ArtifactRow { mutability: artifactapi_model::Mutability::Immutable, ..row(body, seq) };
    store.commit_artifact(&key(1, "a"), &immutable("body", 5)).await.unwrap();
    server.sql(&store, "UPDATE ledger SET digest = 'damaged'");
    assert_eq!(store.pinned(&key(1, "a")).await.unwrap(), None);
    assert_eq!(store.begin_fetch(&key(1, "a")).await.unwrap().pinned, None);
    let late = store.commit_artifact(&key(1, "a"), &immutable("late", 4)).await.unwrap();
    assert_eq!(late, Committed::Superseded);
    assert_eq!(store.pinned(&key(1, "a")).await.unwrap(), None, "a late fill decides nothing");
    let next = store.commit_artifact(&key(1, "a"), &immutable("next", 6)).await.unwrap();
    assert_eq!(next, Committed::Stored);
    assert_eq!(store.pinned(&key(1, "a")).await.unwrap(), Some(Digest::of(b"next")));
    let other = store.commit_artifact(&key(1, "a"), &immutable("other", 7)).await.unwrap();
    assert_eq!(other, Committed::Pinned(Digest::of(b"next")), "it pins again");
}

#[tokio::test]
async fn rs_88_derived_rows_that_make_no_sense_are_made_anew() {
    let Some(server) = Server::start("rs_88_derived_rows_that_make_no_sense_are_made_anew") else { return };
    let store = server.store().await;
    let document = DerivedRow {
        digest: Digest::of(b"document"),
        size: 8,
        gzip: Some((Digest::of(b"gzip"), 4)),
        content_type: "text/html".into(),
    };
    let inputs: Vec<Digest> = (0..4_u8).map(|n| Digest::of(&[n])).collect();
    for inputs in &inputs {
        store.put_derived(inputs, &document, Timestamp(1)).await.unwrap();
    }
    for (inputs, damage) in inputs.iter().zip(["digest = 'x'", "gzip_digest = 'x'", "gzip_digest = NULL"]) {
        server.sql(&store, &format!("UPDATE derived SET {damage} WHERE inputs = '{}'", inputs.to_hex()));
        assert_eq!(store.derived(inputs).await.unwrap(), None, "{damage}");
    }
    let walk = store.derived_after(None, 1).await.unwrap();
    assert_eq!(walk, [(inputs[3], document.clone())], "a walk goes on");
    for inputs in &inputs {
        store.put_derived(inputs, &document, Timestamp(2)).await.unwrap();
        assert_eq!(store.derived(inputs).await.unwrap().as_ref(), Some(&document));
    }
}

fn record(at: i64) -> AccessRecord {
    AccessRecord {
        at: Timestamp(at),
        repository: "pypi".into(),
        method: "GET".into(),
        path: "a\0b".into(),
        status: 200,
        outcome: "hit".into(),
        bytes: u64::MAX,
        duration_us: 15,
        client: "::1".into(),
    }
}

#[tokio::test]
async fn the_access_log_has_a_partition_a_day_and_loses_them_whole() {
    let Some(server) = Server::start("the_access_log_has_a_partition_a_day") else { return };
    let store = server.store().await;
    let today = 20_000 * DAY;
    let records: Vec<_> = [today - 2 * DAY, today - DAY, today - 1, today, today + 5, today + DAY]
        .into_iter()
        .chain([-1, i64::MAX - DAY])
        .map(record)
        .collect();
    store.log_access(&records).await.unwrap();
    let partitions = || {
        server.sql(
            &store,
            "SELECT string_agg(inhrelid::regclass::TEXT, ' ' ORDER BY inhrelid::regclass::TEXT) FROM pg_inherits \
             WHERE inhparent = 'access_log'::regclass",
        )
    };
    let far = (i64::MAX - DAY) / DAY;
    assert_eq!(
        partitions(),
        format!(
            "access_log_day_{far} access_log_day_19998 access_log_day_19999 access_log_day_20000 \
             access_log_day_20001 access_log_day_minus_1"
        )
        .split(' ')
        .map(str::to_owned)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(" ")
    );
    assert_eq!(server.sql(&store, "SELECT DISTINCT path || bytes FROM access_log"), "a\u{fffd}b-1");
    server.sql(
        &store,
        "CREATE TABLE kept PARTITION OF access_log FOR VALUES FROM (-1000000000) TO (-900000000)",
    );
    assert_eq!(store.expire_access_log(Timestamp(today + 5)).await.unwrap(), 5, "of four days and one row");
    assert_eq!(
        partitions(),
        format!("access_log_day_{far} access_log_day_20000 access_log_day_20001 kept")
            .split(' ')
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" "),
        "an administrator's partition is theirs"
    );
    store.log_access(&[record(today - DAY)]).await.unwrap();
    assert_eq!(store.expire_access_log(Timestamp(today)).await.unwrap(), 1, "a day may come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_make_and_drop_the_same_partitions_at_once() {
    let Some(server) = Server::start("replicas_make_and_drop_the_same_partitions_at_once") else { return };
    let first = server.store().await;
    let mut stores = vec![first.clone()];
    for _ in 0..3 {
        stores.push(open(first.settings.clone()).await);
    }
    let tasks: Vec<_> = stores
        .iter()
        .map(|store| {
            let store = store.clone();
            tokio::spawn(async move {
                for day in 0..10 {
                    store.log_access(&[record(day * DAY), record(day * DAY + 1)]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.sql(&first, "SELECT COUNT(*) FROM access_log"), "80");
    let before = Timestamp(5 * DAY);
    let (one, two) = tokio::join!(stores[0].expire_access_log(before), stores[1].expire_access_log(before));
    assert_eq!(one.unwrap() + two.unwrap(), 40, "who dropped a day has counted it");
    assert_eq!(server.sql(&first, "SELECT COUNT(*) FROM access_log"), "40");
    // Those that did not expire believe that the partition is there.
    for store in &stores {
        store.log_access(&[record(1)]).await.unwrap();
    }
    assert_eq!(first.expire_access_log(Timestamp(DAY)).await.unwrap(), 4);
}
