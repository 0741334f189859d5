//! What is taken whatever its age, and what holds keep from that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use artifactapi_model::ports::metadata::Announced;

use super::{Faces, NONE, announce, blob, claim, commit, condemn, forget, key, row};

/// What a database that one process has to itself does besides.
pub async fn at_once_suite(make: impl AsyncFn() -> Faces) {
    rs_114_what_nobody_holds_is_taken_at_once(make().await).await;
    rs_114_holds_and_takings_at_once(make().await).await;
}

async fn rs_114_what_nobody_holds_is_taken_at_once(store: Faces) {
    let (metadata, keeper) = &store;
    for path in ["artifact", "shared", "other"] {
        commit(&store, path, if path == "artifact" { "artifact" } else { "shared" }).await;
    }
    let held = metadata.hold(&blob("held").0);
    let again = metadata.hold(&blob("held").0);
    announce(&store, "held").await;
    announce(&store, "announced").await;
    let all = ["artifact", "shared", "held", "announced", "unknown"].map(|text| blob(text).0);
    assert_eq!(keeper.claim_unnamed(&all).await.unwrap(), [blob("announced")], "whatever its age");
    assert_eq!(announce(&store, "announced").await, Announced::BeingDeleted);
    keeper.drop_blob(&blob("announced").0).await.unwrap();
    forget(&store, "artifact", "artifact").await;
    forget(&store, "shared", "shared").await;
    assert_eq!(
        keeper.claim_unnamed(&all).await.unwrap(),
        [blob("artifact")],
        "another row names the shared one"
    );
    assert_eq!(keeper.claim_unnamed(&all).await.unwrap(), [], "once");
    assert_eq!(condemn(&store, NONE).await, [blob("held")]);
    drop(again);
    assert_eq!(claim(&store, NONE).await, [blob("artifact")], "what is held is not claimed in turn, either");
    assert_eq!(keeper.claim_unnamed(&all).await.unwrap(), []);
    commit(&store, "held", "held").await;
    drop(held);
    assert_eq!(keeper.claim_unnamed(&all).await.unwrap(), [], "a row names it");
    forget(&store, "held", "held").await;
    assert_eq!(keeper.claim_unnamed(&all).await.unwrap(), [blob("held")]);
}

async fn rs_114_holds_and_takings_at_once(store: Faces) {
    for round in 0..50 {
        let text = format!("body {round}");
        // The same body, evicted a moment ago.
        commit(&store, "past", &text).await;
        forget(&store, "past", &text).await;
        let kept = Arc::new(AtomicBool::new(false));
        let fill = tokio::spawn({
            let (store, text, kept) = (store.clone(), text.clone(), kept.clone());
            async move {
                let _hold = store.0.hold(&blob(&text).0);
                let may_put = announce(&store, &text).await == Announced::Kept;
                kept.store(may_put, SeqCst);
                tokio::task::yield_now().await;
                may_put && store.0.commit_artifact(&key(1, &text), &row(&text, 1)).await.is_ok()
            }
        });
        let was_kept = kept.load(SeqCst);
        let claimed = store.1.claim_unnamed(&[blob(&text).0]).await.unwrap();
        let (named, taken) = (fill.await.unwrap(), !claimed.is_empty());
        assert!(!(was_kept && taken), "taken after it was announced");
        assert!(named != taken, "named: {named}, taken: {taken}");
    }
}
