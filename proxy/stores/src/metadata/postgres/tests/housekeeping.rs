//! The collector's port, and that replicas hear of changes.

use artifactapi_model::{
    Notice,
    ports::{
        Heard, Housekeeping,
        housekeeping::{Change, Selection},
    },
};
use futures_util::StreamExt as _;

use super::*;
use crate::metadata::{
    housekeeping_suite,
    suite::{key, row},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite() {
    let Some(server) = Server::start("housekeeping::passes_the_suite") else { return };
    housekeeping_suite::suite(async || {
        let store = server.store().await;
        (store.clone() as Arc<dyn MetadataStore>, store as Arc<dyn Housekeeping>)
    })
    .await;
}

#[tokio::test]
async fn replicas_hear_of_what_the_command_line_changes() {
    let Some(server) = Server::start("replicas_hear_of_what_the_command_line_changes") else { return };
    let store = server.store().await;
    store.commit_artifact(&key(1, "a/b"), &row("body", 1)).await.unwrap();
    let mut messages = store.listen();
    assert_eq!(messages.next().await, Some(Heard::Gap));
    for change in [Change::Refresh, Change::Evict, Change::Unpin] {
        for (selection, notice) in [
            (Selection::Path("a/b".into()), Notice::changed(&key(1, "a/b"), "")),
            (Selection::Prefix("a/".into()), Notice::ChangedBelow { repo: 1, epoch: 1, prefix: "a/".into() }),
            (Selection::Prefix("".into()), Notice::ChangedBelow { repo: 1, epoch: 1, prefix: "".into() }),
        ] {
            store.change(RepoId(1), Epoch(1), &selection, change).await.unwrap();
            assert_eq!(messages.next().await, Some(Heard::Message(notice.encode().into())), "{change:?}");
        }
    }
}
