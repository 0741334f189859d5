//! What holds a manifest, and when it expires.

use artifactapi_model::{oci::Reference, ports::registry::Deleted};

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    what_was_never_held_is_kept(make().await).await;
    what_a_tag_held_expires_after_it(make().await).await;
    what_an_index_held_expires_after_it(make().await).await;
    what_refers_to_a_manifest_expires_after_it(make().await).await;
    what_a_pusher_asked_for_is_kept_anew(make().await).await;
    expiry_is_of_one_local_and_bounded(make().await).await;
    an_expired_manifest_lets_go_of_its_blobs(make().await).await;
}

async fn expire(store: &Faces, age: Duration) -> u64 {
    store.registry.expire_manifests(RepoId(1), age, ALL).await.unwrap()
}

async fn delete(store: &Faces, image: &ImageKey, text: &str) {
    let gone = store.registry.delete_manifest(image, &sha256(text), &[]).await.unwrap();
    assert_eq!(gone, Deleted::Done);
}

async fn untag(store: &Faces, image: &ImageKey, name: &str) {
    assert_eq!(store.registry.delete_tag(image, &tag(name)).await.unwrap(), Deleted::Done);
}

async fn what_was_never_held_is_kept(store: Faces) {
    let app = image(1, "app");
    stored(&store, &app, &manifest("by digest")).await;
    stored(&store, &app, &manifest("by digest")).await;
    let referrer = NewManifest { subject: Some(sha256("nowhere")), ..manifest("referrer") };
    stored(&store, &app, &referrer).await;
    assert_eq!(expire(&store, NONE).await, 0);
    assert!(has_manifest(&store, &app, "by digest").await && has_manifest(&store, &app, "referrer").await);
}

async fn what_a_tag_held_expires_after_it(store: Faces) {
    let app = image(1, "app");
    stored(&store, &app, &tagged("one", &["latest", "v1"])).await;
    stored(&store, &app, &tagged("two", &["latest"])).await;
    assert_eq!(expire(&store, NONE).await, 0, "another tag holds it");
    untag(&store, &app, "v1").await;
    assert_eq!(expire(&store, LONG).await, 0, "it is kept for a while");
    stored(&store, &app, &tagged("one", &["v1"])).await;
    assert_eq!(expire(&store, NONE).await, 0, "it is held again");
    stored(&store, &app, &tagged("three", &["latest", "v1"])).await;
    stored(&store, &app, &manifest("one")).await;
    assert_eq!(expire(&store, LONG).await, 0);
    assert_eq!(expire(&store, NONE).await, 2);
    for (text, is_there) in [("one", false), ("two", false), ("three", true)] {
        assert_eq!(has_manifest(&store, &app, text).await, is_there, "{text}");
    }
}

async fn what_an_index_held_expires_after_it(store: Faces) {
    let app = image(1, "app");
    for text in ["amd64", "arm64"] {
        stored(&store, &app, &manifest(text)).await;
    }
    let children = vec![sha256("amd64"), sha256("arm64")];
    let index = NewManifest { children, ..tagged("index", &["latest"]) };
    stored(&store, &app, &index).await;
    stored(&store, &app, &tagged("amd64", &["amd64"])).await;
    untag(&store, &app, "amd64").await;
    assert_eq!(expire(&store, NONE).await, 0, "the index holds it");
    stored(&store, &app, &tagged("next", &["latest"])).await;
    assert_eq!(expire(&store, NONE).await, 1, "the index");
    assert!(has_manifest(&store, &app, "arm64").await, "its manifests are kept for a while of their own");
    assert_eq!(expire(&store, LONG).await, 0);
    // An index that lists one of them again holds it again.
    let index = NewManifest { children: vec![sha256("arm64")], ..tagged("another", &["arm"]) };
    stored(&store, &app, &index).await;
    assert_eq!(expire(&store, NONE).await, 1);
    assert!(!has_manifest(&store, &app, "amd64").await && has_manifest(&store, &app, "arm64").await);
    assert_eq!(
        store.registry.delete_manifest(&app, &sha256("another"), &tags(&["arm"])).await.unwrap(),
        Deleted::Done
    );
    assert_eq!(expire(&store, NONE).await, 1);
    assert!(!has_manifest(&store, &app, "arm64").await && has_manifest(&store, &app, "next").await);
}

async fn what_refers_to_a_manifest_expires_after_it(store: Faces) {
    let app = image(1, "app");
    let referrer = |text: &str, names: &[&str], subject: &str| NewManifest {
        subject: Some(sha256(subject)),
        ..tagged(text, names)
    };
    stored(&store, &app, &manifest("subject")).await;
    stored(&store, &app, &referrer("signature", &[], "subject")).await;
    stored(&store, &app, &referrer("of signature", &[], "signature")).await;
    stored(&store, &app, &referrer("tagged", &["sha256-abc.sig"], "subject")).await;
    assert_eq!(expire(&store, NONE).await, 0);
    delete(&store, &app, "subject").await;
    stored(&store, &app, &manifest("subject")).await;
    assert_eq!(expire(&store, NONE).await, 0, "the subject came back in time");
    delete(&store, &app, "subject").await;
    assert_eq!(expire(&store, LONG).await, 0, "it is kept for a while");
    assert_eq!(expire(&store, NONE).await, 1);
    assert!(has_manifest(&store, &app, "of signature").await, "it was let go only now");
    assert_eq!(expire(&store, NONE).await, 1);
    assert!(has_manifest(&store, &app, "tagged").await);
}

/// Until the database's clock has gone on.
async fn a_moment(store: &Faces) {
    let probe = image(9, "probe");
    stored(store, &probe, &tagged("probe", &["latest"])).await;
    untag(store, &probe, "latest").await;
    while store.registry.expire_manifests(probe.repo, Duration::from_millis(2), 1).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

async fn what_a_pusher_asked_for_is_kept_anew(store: Faces) {
    let app = image(1, "app");
    let ask = async |reference: Reference, renew| {
        let found = store.registry.manifest(&app, &reference, renew).await.unwrap();
        found.map(|found| found.digest)
    };
    for text in ["asked", "read", "last"] {
        stored(&store, &app, &tagged(text, &["latest"])).await;
        untag(&store, &app, "latest").await;
        a_moment(&store).await;
    }
    assert_eq!(ask(Reference::Digest(sha256("asked")), true).await, Some(sha256("asked")));
    a_moment(&store).await;
    assert_eq!(ask(Reference::Digest(sha256("read")), false).await, Some(sha256("read")));
    // The oldest go first.
    assert_eq!(store.registry.expire_manifests(app.repo, NONE, 2).await.unwrap(), 2);
    assert_eq!(ask(Reference::Digest(sha256("asked")), true).await, Some(sha256("asked")));
    for text in ["read", "last"] {
        assert_eq!(ask(Reference::Digest(sha256(text)), true).await, None, "{text}");
    }
    assert_eq!(expire(&store, LONG).await, 0);
    assert_eq!(expire(&store, NONE).await, 1, "it was not held by that");
    // Asking lets nothing go.
    stored(&store, &app, &manifest("by digest")).await;
    stored(&store, &app, &tagged("tagged", &["latest"])).await;
    assert_eq!(ask(Reference::Digest(sha256("by digest")), true).await, Some(sha256("by digest")));
    assert_eq!(ask(Reference::Tag(tag("latest")), true).await, Some(sha256("tagged")));
    assert_eq!(expire(&store, NONE).await, 0);
}

async fn expiry_is_of_one_local_and_bounded(store: Faces) {
    let (one, two, apart) = (image(1, "one"), image(1, "two"), image(2, "one"));
    for image in [&one, &two, &apart] {
        stored(&store, image, &tagged("old", &["latest"])).await;
        stored(&store, image, &tagged("new", &["latest"])).await;
    }
    let some = async |limit| store.registry.expire_manifests(RepoId(1), NONE, limit).await.unwrap();
    assert_eq!([some(0).await, some(1).await, some(5).await, some(5).await], [0, 1, 1, 0]);
    assert!(!has_manifest(&store, &one, "old").await && !has_manifest(&store, &two, "old").await);
    assert!(has_manifest(&store, &apart, "old").await);
}

async fn an_expired_manifest_lets_go_of_its_blobs(store: Faces) {
    let app = image(1, "app");
    push(&store, &app, "layer").await;
    let old = NewManifest { blobs: vec![sha256("layer")], ..tagged("old", &["latest"]) };
    stored(&store, &app, &old).await;
    stored(&store, &app, &tagged("new", &["latest"])).await;
    assert_eq!(expire_links(&store, NONE).await, 0);
    assert_eq!(expire(&store, NONE).await, 1);
    assert_eq!(expire_links(&store, NONE).await, 1);
    assert_eq!(collect(&store).await, [key("layer")]);
}
