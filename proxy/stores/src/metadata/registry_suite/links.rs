//! Which images have which blobs.

use artifactapi_model::ports::{housekeeping::BlobStates, metadata::Announced, registry::Unlinking};

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    rs_45_a_blob_is_there_for_the_image_that_has_it(make().await).await;
    rs_46_an_unlinked_blob_is_gone_at_once(make().await).await;
    two_digests_of_one_blob_are_two_links(make().await).await;
    a_quota_counts_each_blob_once(make().await).await;
    rs_113_links_that_nothing_names_expire(make().await).await;
    links_that_are_needed_count_too(make().await).await;
    rs_114_a_linked_blob_is_never_collected(make().await).await;
    rs_114_a_blob_being_deleted_cannot_be_linked(make().await).await;
}

async fn mount(store: &Faces, from: (i64, Option<&str>), to: &ImageKey, text: &str) -> Linking {
    let source = from.1.map(name);
    let from = (RepoId(from.0), source.as_ref());
    store.registry.mount(from, to, &sha256(text), None).await.unwrap()
}

async fn unlink(store: &Faces, image: &ImageKey, text: &str) -> Unlinking {
    store.registry.unlink(image, &sha256(text)).await.unwrap()
}

async fn usage(store: &Faces, repo: i64) -> u64 {
    store.registry.local_usage(RepoId(repo)).await.unwrap()
}

async fn locals(store: &Faces, text: &str, limit: usize) -> Vec<RepoId> {
    store.registry.locals_with(&sha256(text), limit).await.unwrap()
}

async fn rs_45_a_blob_is_there_for_the_image_that_has_it(store: Faces) {
    let (own, other, apart) = (image(2, "team/app"), image(2, "other"), image(1, "team/app"));
    assert_eq!(locals(&store, "text", ALL).await, []);
    push(&store, &own, "text").await;
    for renew in [false, true] {
        let ask = async |image| store.registry.linked(image, &sha256("text"), renew).await.unwrap();
        assert_eq!(ask(&own).await, Some(blob("text")));
        assert_eq!((ask(&other).await, ask(&apart).await), (None, None));
    }
    assert_eq!(linked(&store, &own, "unknown").await, None);
    // What is not there cannot be mounted.
    assert_eq!(mount(&store, (2, Some("other")), &other, "text").await, Linking::Missing);
    assert_eq!(mount(&store, (1, None), &other, "text").await, Linking::Missing);
    assert_eq!(mount(&store, (2, Some("team/app")), &other, "unknown").await, Linking::Missing);
    assert_eq!(linked(&store, &other, "text").await, None);
    assert_eq!(mount(&store, (2, Some("team/app")), &other, "text").await, Linking::Linked);
    assert_eq!(mount(&store, (2, Some("team/app")), &other, "text").await, Linking::Linked, "once more");
    assert_eq!(mount(&store, (2, None), &apart, "text").await, Linking::Linked);
    assert_eq!(linked(&store, &other, "text").await, Some(blob("text")));
    assert_eq!(linked(&store, &apart, "text").await, Some(blob("text")));
    assert_eq!(locals(&store, "text", ALL).await, [RepoId(1), RepoId(2)]);
    assert_eq!((locals(&store, "text", 1).await, locals(&store, "text", 0).await), (vec![RepoId(1)], vec![]));
    assert_eq!((usage(&store, 1).await, usage(&store, 2).await, usage(&store, 3).await), (4, 4, 0));
}

async fn rs_46_an_unlinked_blob_is_gone_at_once(store: Faces) {
    let (one, other) = (image(1, "one"), image(1, "other"));
    push(&store, &one, "text").await;
    push(&store, &other, "text").await;
    assert_eq!(unlink(&store, &one, "text").await, Unlinking::Done);
    assert_eq!(unlink(&store, &one, "text").await, Unlinking::Unknown);
    assert_eq!(linked(&store, &one, "text").await, None);
    assert_eq!(linked(&store, &other, "text").await, Some(blob("text")));
    assert_eq!(usage(&store, 1).await, 4);
    let named = NewManifest { blobs: vec![sha256("text")], ..manifest("m") };
    stored(&store, &other, &named).await;
    assert_eq!(unlink(&store, &other, "text").await, Unlinking::InUse);
    assert_eq!(linked(&store, &other, "text").await, Some(blob("text")));
    push(&store, &one, "text").await;
    assert_eq!(unlink(&store, &one, "text").await, Unlinking::Done, "the manifest is another image's");
    store.registry.delete_manifest(&other, &sha256("m"), &[]).await.unwrap();
    assert_eq!(unlink(&store, &other, "text").await, Unlinking::Done);
    assert_eq!(usage(&store, 1).await, 0);
}

async fn two_digests_of_one_blob_are_two_links(store: Faces) {
    let image = image(1, "app");
    push(&store, &image, "text").await;
    let alias = body(sha512("text"), "text", None);
    assert_eq!(close(&store, &image, &id(1), &alias, Some(4)).await, Linking::Linked);
    let ask = async |digest| store.registry.linked(&image, &digest, false).await.unwrap();
    assert_eq!(ask(sha512("text")).await, Some(blob("text")));
    assert_eq!(usage(&store, 1).await, 4, "its bytes count once");
    assert_eq!(unlink(&store, &image, "text").await, Unlinking::Done);
    assert_eq!((ask(sha256("text")).await, ask(sha512("text")).await), (None, Some(blob("text"))));
    assert_eq!((usage(&store, 1).await, collect(&store).await), (4, vec![]));
    assert_eq!(store.registry.unlink(&image, &sha512("text")).await.unwrap(), Unlinking::Done);
    assert_eq!((usage(&store, 1).await, collect(&store).await), (0, vec![key("text")]));
}

async fn a_quota_counts_each_blob_once(store: Faces) {
    let (one, other) = (image(1, "one"), image(1, "other"));
    let text = |text| body(sha256(text), text, None);
    assert_eq!(close(&store, &one, &id(1), &text("four"), Some(10)).await, Linking::Linked);
    assert_eq!(close(&store, &other, &id(2), &text("four"), Some(4)).await, Linking::Linked);
    assert_eq!(close(&store, &other, &id(3), &text("another"), Some(10)).await, Linking::OverQuota);
    assert_eq!(linked(&store, &other, "another").await, None);
    assert_eq!(collect(&store).await, [], "nothing was changed");
    assert_eq!(usage(&store, 1).await, 4);
    let again = store.registry.close_upload(&other, &id(3), "pusher", &text("another"), Some(11)).await;
    assert_eq!(again.unwrap(), Linking::Linked, "the session is as it was");
    push(&store, &image(2, "app"), "elsewhere").await;
    let mount = async |quota| {
        let from = (RepoId(2), None);
        store.registry.mount(from, &one, &sha256("elsewhere"), Some(quota)).await.unwrap()
    };
    assert_eq!((mount(19).await, linked(&store, &one, "elsewhere").await), (Linking::OverQuota, None));
    assert_eq!((mount(20).await, usage(&store, 1).await), (Linking::Linked, 20));
    assert_eq!(mount(0).await, Linking::Linked, "it is there already");
    for (image, left) in [(&one, 20), (&other, 16)] {
        unlink(&store, image, "four").await;
        assert_eq!(usage(&store, 1).await, left);
    }
}

async fn rs_113_links_that_nothing_names_expire(store: Faces) {
    let (app, other) = (image(1, "app"), image(2, "app"));
    for (image, text) in [(&app, "named"), (&app, "loose"), (&app, "looser"), (&other, "named")] {
        push(&store, image, text).await;
    }
    let named = NewManifest { blobs: vec![sha256("named")], ..manifest("m") };
    stored(&store, &app, &named).await;
    let twin = NewManifest { blobs: vec![sha256("named")], ..manifest("n") };
    stored(&store, &app, &twin).await;
    let expire = async |grace, limit| store.registry.expire_links(grace, limit).await.unwrap().dropped;
    assert_eq!(expire(LONG, ALL).await, 0, "they are young");
    assert_eq!((expire(NONE, 1).await, expire(NONE, 0).await), (1, 0));
    assert_eq!(expire(NONE, ALL).await, 2);
    assert_eq!(linked(&store, &app, "named").await, Some(blob("named")));
    for (image, text) in [(&app, "loose"), (&app, "looser"), (&other, "named")] {
        assert_eq!(linked(&store, image, text).await, None, "{text}");
    }
    assert_eq!((usage(&store, 1).await, usage(&store, 2).await), (5, 0));
    store.registry.delete_manifest(&app, &sha256("m"), &[]).await.unwrap();
    assert_eq!(expire(NONE, ALL).await, 0, "the other one names it still");
    store.registry.delete_manifest(&app, &sha256("n"), &[]).await.unwrap();
    assert_eq!((expire(LONG, ALL).await, expire(NONE, ALL).await), (0, 1));
    assert_eq!((linked(&store, &app, "named").await, usage(&store, 1).await), (None, 0));
}

async fn links_that_are_needed_count_too(store: Faces) {
    let app = image(1, "app");
    let texts = ["one", "two", "three"];
    for text in texts {
        push(&store, &app, text).await;
    }
    // They lose a manifest, and have another.
    let blobs: Vec<OciDigest> = texts.map(sha256).to_vec();
    for text in ["m", "n"] {
        stored(&store, &app, &NewManifest { blobs: blobs.clone(), ..manifest(text) }).await;
    }
    store.registry.delete_manifest(&app, &sha256("m"), &[]).await.unwrap();
    push(&store, &app, "loose").await;
    let (mut steps, mut dropped) = (0, 0);
    loop {
        let step = store.registry.expire_links(NONE, 2).await.unwrap();
        assert!(step.dropped <= step.looked_at && step.looked_at <= 2, "{step:?}");
        (steps, dropped) = (steps + 1, dropped + step.dropped);
        if step.looked_at < 2 {
            break;
        }
    }
    assert_eq!(dropped, 1);
    assert!(steps <= 3, "none is looked at again");
    assert_eq!(store.registry.expire_links(NONE, 2).await.unwrap().looked_at, 0);
    assert_eq!(linked(&store, &app, "loose").await, None);
    for text in texts {
        assert_eq!(linked(&store, &app, text).await, Some(blob(text)));
    }
}

async fn rs_114_a_linked_blob_is_never_collected(store: Faces) {
    let image = image(1, "app");
    push(&store, &image, "text").await;
    let found = store.metadata.referenced(&[key("text"), key("unknown")]).await.unwrap();
    assert_eq!(found, [key("text")]);
    assert_eq!(store.keeper.condemn_blobs(NONE, ALL, true).await.unwrap(), []);
    assert_eq!(collect(&store).await, []);
    assert_eq!(store.keeper.take_up_strays(&[(key("text"), 4)]).await.unwrap(), 0);
    unlink(&store, &image, "text").await;
    assert_eq!(store.metadata.referenced(&[key("text")]).await.unwrap(), []);
    assert_eq!(store.keeper.condemn_blobs(LONG, ALL, false).await.unwrap(), [], "it has its grace");
    assert_eq!(store.keeper.condemn_blobs(NONE, ALL, false).await.unwrap(), [(key("text"), 4)]);
    push(&store, &image, "text").await;
    assert_eq!(store.keeper.claim_blobs(NONE, ALL).await.unwrap(), [], "it is back");
    unlink(&store, &image, "text").await;
    assert_eq!(collect(&store).await, [key("text")]);
    assert_eq!(store.keeper.blob_states().await.unwrap(), BlobStates::default());
}

async fn rs_114_a_blob_being_deleted_cannot_be_linked(store: Faces) {
    let image = image(1, "app");
    assert_eq!(store.metadata.announce_blob(&key("text"), 4).await.unwrap(), Announced::Kept);
    store.keeper.condemn_blobs(NONE, ALL, false).await.unwrap();
    assert_eq!(store.keeper.claim_blobs(NONE, ALL).await.unwrap(), [(key("text"), 4)]);
    let text = body(sha256("text"), "text", Some(place(1)));
    assert_eq!(close(&store, &image, &id(1), &text, None).await, Linking::BeingDeleted);
    assert_eq!((linked(&store, &image, "text").await, usage(&store, 1).await), (None, 0));
    assert_eq!(store.registry.place(&key("text")).await.unwrap(), None);
    store.keeper.drop_blob(&key("text")).await.unwrap();
    let again = store.registry.close_upload(&image, &id(1), "pusher", &text, None).await.unwrap();
    assert_eq!(again, Linking::Linked);
    assert_eq!(linked(&store, &image, "text").await, Some(blob("text")));
}
