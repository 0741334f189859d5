//! Everybody at once: nothing is lost, nothing points nowhere.

use artifactapi_model::{
    oci::Reference,
    ports::{
        metadata::Announced,
        registry::{Deleted, Unlinking},
    },
};
use tokio::task::JoinSet;

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    rs_110_one_of_two_claims_wins(make().await).await;
    rs_67_no_more_sessions_than_allowed(make().await).await;
    rs_112_a_tag_is_where_the_last_put_left_it(make().await).await;
    rs_113_no_link_is_lost_and_none_is_to_a_deleted_blob(make().await).await;
    rs_113_what_a_manifest_names_is_there(make().await).await;
}

async fn rs_110_one_of_two_claims_wins(store: Faces) {
    let app = image(1, "app");
    for round in 0..20 {
        store.registry.begin_upload(&app, &id(round), &UNLIMITED).await.unwrap();
        let mut claims = JoinSet::new();
        for writer in 0..4 {
            let (store, app) = (store.clone(), app.clone());
            claims.spawn(async move {
                let writer = format!("writer {writer}");
                store.registry.claim_upload(&app, &id(round), &writer, LONG).await.unwrap()
            });
        }
        let claims = claims.join_all().await;
        let taken = claims.iter().filter(|claim| matches!(claim, Claim::Taken { .. })).count();
        assert_eq!(taken, 1, "{claims:?}");
        assert!(claims.iter().all(|claim| !matches!(claim, Claim::Taken { took_over: true, .. })));
    }
}

async fn rs_67_no_more_sessions_than_allowed(store: Faces) {
    let mut begun = JoinSet::new();
    for number in 0..12 {
        let store = store.clone();
        begun.spawn(async move {
            let limits = UploadLimits { sessions: 5, quota: Some(1) };
            let image = image(1, &format!("app{number}"));
            store.registry.begin_upload(&image, &id(number), &limits).await.unwrap()
        });
    }
    let begun = begun.join_all().await;
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::Started).count(), 5);
}

async fn rs_112_a_tag_is_where_the_last_put_left_it(store: Faces) {
    let app = image(1, "app");
    for round in 0..10 {
        let texts: Vec<String> = (0..4).map(|n| format!("{round} {n}")).collect();
        let mut puts = JoinSet::new();
        for text in texts.clone() {
            let (store, app) = (store.clone(), app.clone());
            puts.spawn(async move { stored(&store, &app, &tagged(&text, &["latest"])).await });
        }
        puts.join_all().await;
        let latest = Reference::Tag(tag("latest"));
        let latest = store.registry.manifest(&app, &latest, false).await.unwrap().unwrap();
        let mut holders = 0;
        for text in &texts {
            assert!(has_manifest(&store, &app, text).await, "every one stays");
            let tags = store.registry.tags_of(&app, &sha256(text)).await.unwrap();
            assert_eq!(!tags.is_empty(), latest.digest == sha256(text), "one answer to both questions");
            holders += tags.len();
        }
        assert_eq!(holders, 1);
    }
    let expired = store.registry.expire_manifests(RepoId(1), NONE, ALL).await.unwrap();
    assert_eq!(expired, 39, "all but the last are let go");
}

/// Pushes as a client does whose bytes are at their place when the session is closed.
async fn push_patiently(store: &Faces, image: &ImageKey, text: &str) {
    let id = fresh_id();
    let body = body(sha256(text), text, None);
    loop {
        let announced = store.metadata.announce_blob(&key(text), body.size).await.unwrap();
        if announced == Announced::Kept {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut linking = close(store, image, &id, &body, None).await;
    while linking == Linking::BeingDeleted {
        tokio::task::yield_now().await;
        linking = store.registry.close_upload(image, &id, "pusher", &body, None).await.unwrap();
    }
    assert_eq!(linking, Linking::Linked);
}

/// Collects until `stop`, and says how often a blob was taken that an image had.
async fn collect_until(store: Faces, stop: Arc<std::sync::atomic::AtomicBool>) -> usize {
    let mut wrong = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        expire_links(&store, NONE).await;
        store.keeper.condemn_blobs(NONE, ALL, false).await.unwrap();
        let claimed = store.keeper.claim_blobs(NONE, ALL).await.unwrap();
        let digests: Vec<Digest> = claimed.into_iter().map(|(digest, _)| digest).collect();
        // While it is being deleted nobody may have it.
        wrong += store.metadata.referenced(&digests).await.unwrap().len();
        for digest in &digests {
            store.keeper.drop_blob(digest).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    wrong
}

async fn rs_113_no_link_is_lost_and_none_is_to_a_deleted_blob(store: Faces) {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let collector = tokio::spawn(collect_until(store.clone(), stop.clone()));
    let mut pushers = JoinSet::new();
    for number in 0..3 {
        let store = store.clone();
        pushers.spawn(async move {
            let (one, other) = (image(number, "one"), image((number + 1) % 3, "other"));
            for _ in 0..15 {
                push_patiently(&store, &one, "shared").await;
                let from = (one.repo, Some(&one.name));
                let mounted = store.registry.mount(from, &other, &sha256("shared"), None).await.unwrap();
                assert!(matches!(mounted, Linking::Linked | Linking::Missing), "{mounted:?}");
                if let Some(found) = store.registry.linked(&other, &sha256("shared"), true).await.unwrap() {
                    assert_eq!(found, blob("shared"));
                }
                let gone = store.registry.unlink(&one, &sha256("shared")).await.unwrap();
                assert!(matches!(gone, Unlinking::Done | Unlinking::Unknown), "{gone:?}");
            }
        });
    }
    pushers.join_all().await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(collector.await.unwrap(), 0, "a blob was taken that an image had");
    expire_links(&store, NONE).await;
    for repo in 0..3 {
        assert_eq!(store.registry.local_usage(RepoId(repo)).await.unwrap(), 0);
    }
    assert_eq!(store.registry.locals_with(&sha256("shared"), ALL).await.unwrap(), []);
}

async fn rs_113_what_a_manifest_names_is_there(store: Faces) {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let collector = tokio::spawn(collect_until(store.clone(), stop.clone()));
    let mut pushers = JoinSet::new();
    for number in 0..3 {
        let store = store.clone();
        pushers.spawn(async move {
            let app = image(1, "app");
            for round in 0..15 {
                let text = format!("layer {}", round % 2);
                let blobs = vec![sha256(&text)];
                let new = NewManifest { blobs, ..tagged(&format!("{number} {round}"), &["latest"]) };
                loop {
                    push_patiently(&store, &app, &text).await;
                    match put(&store, &app, &new).await {
                        Put::Stored => break,
                        Put::MissingBlob(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                // Nobody but this one deletes the manifest, so that its layer must be there.
                assert_eq!(linked(&store, &app, &text).await, Some(blob(&text)));
                let unlinked = store.registry.unlink(&app, &sha256(&text)).await.unwrap();
                assert_eq!(unlinked, Unlinking::InUse);
                let tags = tags(&["latest"]);
                let gone = store.registry.delete_manifest(&app, &new.manifest.digest, &tags).await.unwrap();
                assert_eq!(gone, Deleted::Done);
            }
        });
    }
    pushers.join_all().await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(collector.await.unwrap(), 0, "a blob was taken that an image had");
    expire_links(&store, NONE).await;
    assert_eq!(store.registry.local_usage(RepoId(1)).await.unwrap(), 0, "nothing keeps a layer by mistake");
}
