//! Manifests, tags, and lists of them.

use artifactapi_model::{
    oci::Reference,
    ports::registry::{Deleted, HOLDING_DEPTH, Referrer},
};

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    a_manifest_is_what_was_put(make().await).await;
    what_is_missing_is_named_and_nothing_is_changed(make().await).await;
    an_immutable_tag_is_set_once(make().await).await;
    tags_are_listed_in_order(make().await).await;
    images_are_those_that_have_a_manifest(make().await).await;
    deleting_takes_what_was_meant(make().await).await;
    what_holds_a_manifest_is_found_through_indexes(make().await).await;
    referrers_are_listed_in_order(make().await).await;
    a_purged_local_has_nothing_left(make().await).await;
}

async fn get(store: &Faces, image: &ImageKey, reference: &str) -> Option<Manifest> {
    let reference: Reference = reference.parse().unwrap();
    store.registry.manifest(image, &reference, false).await.unwrap()
}

async fn tags_of(store: &Faces, image: &ImageKey, text: &str) -> Vec<Tag> {
    store.registry.tags_of(image, &sha256(text)).await.unwrap()
}

async fn listed(store: &Faces, image: &ImageKey, after: Option<&str>, limit: usize) -> Option<Vec<Tag>> {
    store.registry.tags(image, after, limit).await.unwrap()
}

async fn a_manifest_is_what_was_put(store: Faces) {
    let (app, other) = (image(1, "app"), image(1, "other"));
    let new = tagged("body \0 \u{e4}", &["v1", "latest"]);
    stored(&store, &app, &new).await;
    let digest = new.manifest.digest.to_string();
    for reference in [&digest, "v1", "latest"] {
        assert_eq!(get(&store, &app, reference).await, Some(new.manifest.clone()), "{reference}");
        assert_eq!(get(&store, &other, reference).await, None, "{reference}");
    }
    assert_eq!(get(&store, &app, "v2").await, None);
    let mut again = new.clone();
    again.manifest.media_type = "text/plain".into();
    again.tags = movable(&["v2"]);
    stored(&store, &app, &again).await;
    assert_eq!(get(&store, &app, "v2").await, Some(new.manifest.clone()), "it stays as it was");
    assert_eq!(tags_of(&store, &app, "body \0 \u{e4}").await, tags(&["latest", "v1", "v2"]));
    let sha512 = Manifest { digest: sha512("{}"), body: "{}".into(), ..new.manifest.clone() };
    let new = NewManifest { manifest: sha512.clone(), tags: movable(&["latest"]), ..new };
    stored(&store, &app, &new).await;
    assert_eq!(get(&store, &app, "latest").await, Some(sha512.clone()), "the tag has moved");
    assert_eq!(get(&store, &app, &sha512.digest.to_string()).await, Some(sha512));
    assert!(get(&store, &app, &digest).await.is_some(), "both can be pulled");
    let large = manifest(&"x".repeat(4 << 20));
    stored(&store, &app, &large).await;
    assert_eq!(get(&store, &app, &large.manifest.digest.to_string()).await, Some(large.manifest));
}

async fn what_is_missing_is_named_and_nothing_is_changed(store: Faces) {
    let (app, other) = (image(1, "app"), image(1, "other"));
    push(&store, &app, "config").await;
    push(&store, &other, "layer").await;
    stored(&store, &other, &manifest("child")).await;
    let blobs = vec![sha256("config"), sha256("layer"), sha256("z"), sha256("a"), sha256("config")];
    let mut new = NewManifest { blobs, children: vec![sha256("child")], ..tagged("m", &["latest"]) };
    for missing in ["layer", "z", "a"] {
        assert_eq!(put(&store, &app, &new).await, Put::MissingBlob(sha256(missing)));
        assert!(!has_manifest(&store, &app, "m").await);
        assert_eq!(listed(&store, &app, None, ALL).await, None);
        push(&store, &app, missing).await;
    }
    assert_eq!(put(&store, &app, &new).await, Put::MissingManifest(sha256("child")));
    stored(&store, &app, &manifest("child")).await;
    stored(&store, &app, &new).await;
    assert_eq!(expire_links(&store, NONE).await, 1, "that of the other image");
    // The image may name the bytes only by the digest they were pushed under.
    new.blobs = vec![sha512("config")];
    assert_eq!(put(&store, &app, &new).await, Put::MissingBlob(sha512("config")));
}

async fn an_immutable_tag_is_set_once(store: Faces) {
    let app = image(1, "app");
    let fixed = |text, names: &[&str]| {
        let tags = tags(names).into_iter().map(|tag| NewTag { tag, immutable: true });
        NewManifest { tags: tags.collect(), ..manifest(text) }
    };
    stored(&store, &app, &fixed("one", &["v1"])).await;
    stored(&store, &app, &fixed("one", &["v1", "v2"])).await;
    let mut other = fixed("two", &["v3", "v2"]);
    assert_eq!(put(&store, &app, &other).await, Put::Immutable(tag("v2")));
    assert!(!has_manifest(&store, &app, "two").await);
    assert_eq!(listed(&store, &app, None, ALL).await, Some(tags(&["v1", "v2"])), "nothing was changed");
    other.tags[1].immutable = false;
    stored(&store, &app, &other).await;
    assert_eq!(tags_of(&store, &app, "two").await, tags(&["v2", "v3"]));
    stored(&store, &image(1, "apart"), &fixed("two", &["v1"])).await;
}

async fn tags_are_listed_in_order(store: Faces) {
    let app = image(1, "app");
    assert_eq!(listed(&store, &app, None, ALL).await, None, "there is no such image");
    stored(&store, &app, &manifest("untagged")).await;
    assert_eq!(listed(&store, &app, None, ALL).await, Some(vec![]));
    let order = ["1.0", "1.0-a", "10", "A", "Z", "_", "a", "a-b", "a.b", "aB", "ab", "b"];
    let mut shuffled = order;
    shuffled.reverse();
    stored(&store, &app, &tagged("m", &shuffled)).await;
    stored(&store, &image(1, "app2"), &tagged("m", &["elsewhere"])).await;
    assert_eq!(listed(&store, &app, None, ALL).await, Some(tags(&order)));
    assert_eq!(listed(&store, &app, None, 0).await, Some(vec![]));
    assert_eq!(listed(&store, &app, None, 2).await, Some(tags(&["1.0", "1.0-a"])));
    for (after, next) in [
        ("1.0-a", "10"),
        ("1.1", "10"),
        ("", "1.0"),
        ("a", "a-b"),
        ("a\0b", "a-b"),
        ("a%_'\"\\", "a-b"),
        ("aA", "aB"),
    ] {
        assert_eq!(listed(&store, &app, Some(after), 1).await, Some(tags(&[next])), "after {after:?}");
    }
    for after in ["b", "\u{e4}", "zz"] {
        assert_eq!(listed(&store, &app, Some(after), 5).await, Some(vec![]), "after {after:?}");
    }
    assert_eq!(tags_of(&store, &app, "m").await, tags(&order));
    assert_eq!(tags_of(&store, &app, "untagged").await, []);
}

async fn images_are_those_that_have_a_manifest(store: Faces) {
    let images = async |after: Option<&str>, limit| {
        let names = store.registry.images(RepoId(1), after, limit).await.unwrap();
        names.iter().map(ImageName::to_string).collect::<Vec<_>>()
    };
    assert!(images(None, ALL).await.is_empty());
    push(&store, &image(1, "only-blobs"), "text").await;
    let order = ["a", "a-b", "a.b", "a/b", "a0", "ab", "b"];
    for name in order.iter().rev() {
        for text in ["one", "two"] {
            stored(&store, &image(1, name), &manifest(text)).await;
        }
        stored(&store, &image(2, &format!("{name}-2")), &manifest("one")).await;
    }
    assert_eq!(images(None, ALL).await, order);
    assert_eq!(images(None, 2).await, ["a", "a-b"]);
    assert_eq!(images(Some("a-b"), 2).await, ["a.b", "a/b"]);
    assert_eq!(images(Some("a\0"), 1).await, ["a-b"]);
    assert_eq!((images(Some("b"), 2).await, images(None, 0).await), (vec![], vec![]));
    for text in ["one", "two"] {
        let gone = store.registry.delete_manifest(&image(1, "a"), &sha256(text), &[]).await.unwrap();
        assert_eq!(gone, Deleted::Done);
    }
    assert_eq!(images(None, 1).await, ["a-b"]);
}

async fn deleting_takes_what_was_meant(store: Faces) {
    let (app, other) = (image(1, "app"), image(1, "other"));
    for image in [&app, &other] {
        stored(&store, image, &tagged("m", &["v1", "v2", "v3"])).await;
    }
    let delete_tag = async |name| store.registry.delete_tag(&app, &tag(name)).await.unwrap();
    assert_eq!((delete_tag("v3").await, delete_tag("v3").await), (Deleted::Done, Deleted::Unknown));
    assert_eq!(get(&store, &app, "v3").await, None);
    assert!(has_manifest(&store, &app, "m").await, "only the tag");
    let delete = async |text, given: &[&str]| {
        store.registry.delete_manifest(&app, &sha256(text), &tags(given)).await.unwrap()
    };
    assert_eq!(delete("m", &["v2"]).await, Deleted::Tagged(tag("v1")));
    assert_eq!(delete("m", &["v1", "v3"]).await, Deleted::Tagged(tag("v2")));
    assert_eq!(tags_of(&store, &app, "m").await, tags(&["v1", "v2"]), "nothing was changed");
    assert_eq!(delete("unknown", &[]).await, Deleted::Unknown);
    assert_eq!(delete("m", &["v1", "v2", "v9"]).await, Deleted::Done);
    assert_eq!(delete("m", &[]).await, Deleted::Unknown);
    assert!(!has_manifest(&store, &app, "m").await);
    assert_eq!((get(&store, &app, "v1").await, listed(&store, &app, None, ALL).await), (None, None));
    assert_eq!(tags_of(&store, &other, "m").await, tags(&["v1", "v2", "v3"]));
}

async fn what_holds_a_manifest_is_found_through_indexes(store: Faces) {
    let (app, other) = (image(1, "app"), image(1, "other"));
    let index = |text: &str, names: &[&str], children: &[&str]| NewManifest {
        children: children.iter().copied().map(sha256).collect(),
        ..tagged(text, names)
    };
    stored(&store, &app, &tagged("m", &["own"])).await;
    stored(&store, &app, &tagged("beside", &["beside"])).await;
    stored(&store, &app, &index("i", &["v1", "A"], &["m", "beside"])).await;
    // By two ways, of which one is longer.
    stored(&store, &app, &index("of i", &["v2"], &["i", "m"])).await;
    stored(&store, &app, &index("of beside", &["no"], &["beside"])).await;
    for new in [manifest("m"), index("elsewhere", &["elsewhere"], &["m"])] {
        stored(&store, &other, &new).await;
    }
    let holding = async |text, after: Option<&str>, limit| {
        let after = after.map(tag);
        store.registry.holding_tags(&app, &sha256(text), after.as_ref(), limit).await.unwrap()
    };
    assert_eq!(holding("m", None, ALL).await, tags(&["A", "own", "v1", "v2"]));
    assert_eq!(holding("i", None, ALL).await, tags(&["A", "v1", "v2"]));
    assert_eq!(holding("of i", None, ALL).await, tags(&["v2"]));
    assert_eq!(holding("m", None, 2).await, tags(&["A", "own"]));
    assert_eq!(holding("m", Some("own"), 1).await, tags(&["v1"]));
    assert_eq!((holding("m", Some("v2"), ALL).await, holding("m", None, 0).await), (vec![], vec![]));
    assert_eq!(holding("unknown", None, ALL).await, []);
    store.registry.delete_tag(&app, &tag("v1")).await.unwrap();
    assert_eq!(holding("m", None, ALL).await, tags(&["A", "own", "v2"]));
    // What is deleted is held by nothing, whoever lists it.
    let deleted = store.registry.delete_manifest(&app, &sha256("m"), &tags(&["own"])).await.unwrap();
    assert_eq!((deleted, holding("m", None, ALL).await), (Deleted::Done, vec![]));
    assert_eq!(holding("i", None, ALL).await, tags(&["A", "v2"]), "the index stays");

    let mut below = "beside".to_owned();
    for depth in 0..=HOLDING_DEPTH {
        let text = format!("depth {depth}");
        stored(&store, &app, &index(&text, &[&format!("depth-{depth}")], &[&below])).await;
        below = text;
    }
    let found = holding("beside", Some("depth"), ALL).await;
    let deepest = tag(&format!("depth-{HOLDING_DEPTH}"));
    assert!(found.contains(&tag("depth-7")) && !found.contains(&deepest), "{found:?}");
}

async fn referrers_are_listed_in_order(store: Faces) {
    let (app, other) = (image(1, "app"), image(1, "other"));
    let referrer = |text: &str, kind: Option<&str>| NewManifest {
        artifact_type: kind.map(str::to_owned),
        annotations: [("org.example.\u{e4}".to_owned(), format!("\"{text}\" \0"))].into(),
        subject: Some(sha256("subject")),
        ..manifest(text)
    };
    let all = [
        referrer("one", Some("application/sbom")),
        referrer("two", None),
        referrer("three", Some("application/signature")),
        referrer("four", Some("application/sbom")),
    ];
    for new in &all {
        stored(&store, &app, new).await;
    }
    stored(&store, &other, &referrer("elsewhere", None)).await;
    stored(&store, &app, &manifest("no referrer")).await;
    let mut want: Vec<Referrer> = all
        .iter()
        .map(|new| Referrer {
            digest: new.manifest.digest,
            media_type: new.manifest.media_type.clone(),
            size: new.manifest.body.len() as u64,
            artifact_type: new.artifact_type.clone(),
            annotations: new.annotations.clone(),
        })
        .collect();
    want.sort_by_key(|referrer| referrer.digest.to_string());
    let list = async |kind: Option<&str>, after: Option<&OciDigest>, limit| {
        store.registry.referrers(&app, &sha256("subject"), kind, after, limit).await.unwrap()
    };
    assert_eq!(list(None, None, ALL).await, want, "the subject need not be there");
    let (first, rest) = want.split_first().unwrap();
    assert_eq!(list(None, None, 1).await, std::slice::from_ref(first));
    assert_eq!(list(None, Some(&first.digest), ALL).await, rest);
    let sboms: Vec<_> =
        want.iter().filter(|r| r.artifact_type.as_deref() == Some("application/sbom")).cloned().collect();
    assert_eq!(list(Some("application/sbom"), None, ALL).await, sboms);
    assert_eq!(list(Some("application/sbom"), Some(&sboms[0].digest), ALL).await, sboms[1..]);
    for unknown in ["application/other", "", "\0"] {
        assert_eq!(list(Some(unknown), None, ALL).await, []);
    }
    let other = store.registry.referrers(&app, &sha256("other"), None, None, ALL).await.unwrap();
    assert_eq!(other, []);
}

async fn a_purged_local_has_nothing_left(store: Faces) {
    let (app, stays) = (image(1, "app"), image(2, "app"));
    for image in [&app, &stays] {
        for text in ["config", "layer"] {
            push(&store, image, text).await;
        }
        let blobs = vec![sha256("config"), sha256("layer")];
        stored(&store, image, &NewManifest { blobs, ..tagged("m", &["v1", "v2"]) }).await;
        let index = NewManifest { children: vec![sha256("m")], ..manifest("index") };
        stored(&store, image, &index).await;
    }
    store.registry.begin_upload(&app, &id(1), &UNLIMITED).await.unwrap();
    let mut rows = 0;
    loop {
        let gone = store.registry.purge_local(RepoId(1), 1).await.unwrap();
        assert!(gone <= 1, "in bounded steps");
        rows += gone;
        if gone == 0 {
            break;
        }
    }
    assert_eq!(rows, 3 + 2 + 2 + 2, "sessions, tags, manifests, links");
    assert_eq!(store.registry.images(RepoId(1), None, ALL).await.unwrap(), []);
    assert_eq!(listed(&store, &app, None, ALL).await, None);
    assert_eq!(linked(&store, &app, "layer").await, None);
    assert_eq!(store.registry.local_usage(RepoId(1)).await.unwrap(), 0);
    assert_eq!(store.registry.upload(&app, &id(1)).await.unwrap(), None);
    let ended = store.registry.ended_uploads(LONG, ALL).await.unwrap();
    assert_eq!(ended.len(), 3, "the bytes of its sessions are still to be dropped");
    assert!(has_manifest(&store, &stays, "m").await && has_manifest(&store, &stays, "index").await);
    assert_eq!(linked(&store, &stays, "layer").await, Some(blob("layer")));
    assert_eq!(collect(&store).await, [], "the other Local has the blobs too");
    while store.registry.purge_local(RepoId(2), ALL).await.unwrap() > 0 {}
    let mut collected = collect(&store).await;
    collected.sort_unstable();
    let mut want = vec![key("config"), key("layer")];
    want.sort_unstable();
    assert_eq!(collected, want);
}
