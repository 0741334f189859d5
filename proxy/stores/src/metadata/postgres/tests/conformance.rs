//! The suite, and what the port promises of statements.

use super::*;
use crate::metadata::{
    accounts_suite, observations_suite,
    suite::{self, key, row},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite() {
    let Some(server) = Server::start("passes_the_suite") else { return };
    suite::suite(async || server.store().await as Arc<dyn MetadataStore>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_accounts_suite() {
    let Some(server) = Server::start("passes_the_accounts_suite") else { return };
    accounts_suite::suite(async || server.store().await as _).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_observations_suite() {
    let Some(server) = Server::start("passes_the_observations_suite") else { return };
    observations_suite::suite(async || {
        let store = server.store().await;
        (store.clone() as Arc<dyn MetadataStore>, store as _)
    })
    .await;
}

#[tokio::test]
async fn a_miss_costs_one_statement_to_begin_and_one_to_end() {
    let Some(server) = Server::start("a_miss_costs_one_statement_to_begin_and_one_to_end") else { return };
    let store = server.store().await;
    let statements = store.pool.statements();
    assert_eq!(statements.total(), 0);
    let key = key(1, "a");
    let start = store.begin_fetch(&key).await.unwrap();
    assert_eq!((start.row, start.pinned), (None, None));
    let row =
        ArtifactRow { mutability: artifactapi_model::Mutability::Immutable, ..row("body", start.fetch_seq) };
    assert_eq!(store.commit_artifact(&key, &row).await.unwrap(), Committed::Stored);
    let counted: Vec<_> = statements.by_operation().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("commit_artifact", 1), ("begin_fetch", 1)]);
    let next = store.begin_fetch(&key).await.unwrap();
    assert!(next.fetch_seq > start.fetch_seq);
    assert_eq!((next.row, next.pinned), (Some(row.clone()), Some(row.digest)));
}
