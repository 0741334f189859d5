//! `spec.quota`: what is pushed counts once, what is refused or deleted does not, and uploads under way do (RS-67).

use artifactapi_tests::{
    fixtures::noise,
    registry::{Form, Image, Refused, Route, image_of, sha256},
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{World, local};
use crate::Ending;

const KIB: usize = 1 << 10;
/// `spec.quota.bytes` of most tests.
const QUOTA: usize = 100 * KIB;
/// Chunk of the forms that have some.
const CHUNK: usize = 16 * KIB;

fn limited(bytes: usize) -> Value {
    json!({ "quota": { "bytes": bytes } })
}

async fn push(image: &Image, form: Form, bytes: &Bytes) -> Result<String, Refused> {
    image.push(form, bytes, &Route::only(0)).await
}

#[track_caller]
fn assert_full(result: Result<impl std::fmt::Debug, Refused>, what: &str) {
    let refused = result.expect_err(what);
    assert!(refused.status == Some(403) && refused.is("DENIED"), "{what}: {refused}");
    assert!(refused.text.contains("quota"), "{what}: it says why: {refused}");
}

/// Pushes into all the room there should be, and takes it away again.
async fn assert_room(image: &Image, room: usize, what: &str) {
    let bytes = noise(9_000 + room as u64, room);
    let digest = push(image, Form::PostPut, &bytes).await;
    let digest = digest.unwrap_or_else(|refused| panic!("{what}: room for {room} bytes: {refused}"));
    assert_full(push(image, Form::PostPut, &Bytes::from_static(b"x")).await, what);
    image.delete_blob(0, &digest).await.expect("it can be deleted");
}

/// A push that does not fit is refused in every form, and right after it there is as much room as before.
pub(crate) async fn leaves_nothing() -> Ending {
    let world = World::of_local(&limited(QUOTA)).await;
    let image = world.image("l/app");
    let kept = push(&image, Form::PostPut, &noise(1, 60 * KIB)).await.expect("it fits");
    for (seed, form) in (2..).zip(Form::all(CHUNK)) {
        let large = noise(seed, 50 * KIB);
        assert_full(push(&image, form, &large).await, &format!("{form:?}"));
        assert!(!image.has_blob(0, &sha256(&large)).await.expect("an answer"), "{form:?}");
        assert_room(&image, 40 * KIB, &format!("after {form:?}")).await;
    }
    image.verify_blob(0, &kept).await.expect("what was there before");
    let logs = world.proxy.logs();
    assert!(!logs.contains("panicked"), "{logs}");
    Ok(())
}

/// A blob counts once however many images have it, until the last lets it go.
pub(crate) async fn counts_once() -> Ending {
    let world = World::start(&[local("l", &limited(QUOTA)), local("free", &Value::Null)]).await;
    let (one, two, three) = (world.image("l/one"), world.image("l/two"), world.image("l/three"));
    let shared = noise(1, 60 * KIB);
    let digest = push(&one, Form::PostPut, &shared).await.expect("it fits");
    push(&two, Form::Post, &shared).await.expect_err("its bytes do not fit while they are under way");
    assert!(two.mount(0, &digest, Some(&one)).await.expect("an answer"), "it is there already");
    assert!(three.mount(0, &digest, None).await.expect("an answer"), "it is there already");
    assert_room(&one, 40 * KIB, "in three images").await;
    for (image, others) in [(&one, &two), (&two, &three)] {
        image.delete_blob(0, &digest).await.expect("it can be deleted");
        assert_full(push(image, Form::PostPut, &noise(2, 50 * KIB)).await, "another image has it");
        others.verify_blob(0, &digest).await.expect("it is there");
    }
    three.delete_blob(0, &digest).await.expect("it can be deleted");
    assert_room(&one, QUOTA, "nobody has it any more").await;
    // The other Local has no quota; what is mounted from it counts here.
    let elsewhere = world.image("free/app");
    let large = push(&elsewhere, Form::PostPut, &noise(3, 2 * QUOTA)).await.expect("no quota");
    assert_full(one.mount(0, &large, Some(&elsewhere)).await, "a mount from another Local");
    let small = push(&elsewhere, Form::PostPut, &noise(4, 60 * KIB)).await.expect("no quota");
    assert!(one.mount(0, &small, Some(&elsewhere)).await.expect("an answer"), "it fits");
    assert_room(&one, 40 * KIB, "after a mount").await;
    Ok(())
}

/// Uploads under way count with what they have; so however many come at once, not more than fits is taken.
pub(crate) async fn together() -> Ending {
    let world = World::of_local(&limited(QUOTA)).await;
    let image = world.image("l/app");
    let each = 30 * KIB;
    let pushes = (1..=8).map(|seed| {
        let image = image.clone();
        async move { push(&image, Form::all(CHUNK)[seed as usize % 5], &noise(seed, each)).await }
    });
    let mut taken = Vec::new();
    for result in join_all(pushes).await {
        match result {
            Ok(digest) => taken.push(digest),
            refused => assert_full(refused, "one of eight"),
        }
    }
    assert!(taken.len() <= QUOTA / each, "{} pushes of {each} bytes in {QUOTA}", taken.len());
    for digest in &taken {
        image.verify_blob(0, digest).await.expect("what was acknowledged");
        image.delete_blob(0, digest).await.expect("it can be deleted");
    }
    assert_room(&image, QUOTA, "all are over").await;
    // What a session has is taken from the room of others until it ends.
    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, noise(20, 60 * KIB)).await.expect("it fits");
    assert_full(push(&image, Form::PostPut, &noise(21, 50 * KIB)).await, "beside a session");
    assert_room(&image, 40 * KIB, "beside a session").await;
    image.cancel(0, &session).await.expect("it is cancelled");
    assert_room(&image, QUOTA, "it was cancelled").await;
    // A session that ends with the wrong digest.
    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, noise(22, 60 * KIB)).await.expect("it fits");
    image.close(0, &session, &sha256(b"other"), Bytes::new()).await.expect_err("a wrong digest");
    assert_room(&image, QUOTA, "it was refused").await;
    Ok(())
}

/// A smaller quota takes nothing away, and a larger one gives room at once.
pub(crate) async fn changes() -> Ending {
    let world = World::of_local(&limited(QUOTA)).await;
    let image = world.image("l/app");
    let config = noise(1, 60 * KIB);
    let kept = push(&image, Form::PostPut, &config).await.expect("it fits");
    let manifest = image_of(&config, &[]);
    let small = Bytes::from_static(b"small");
    let takes = async || match push(&image, Form::PostPut, &small).await {
        Ok(digest) => image.delete_blob(0, &digest).await.is_ok(),
        Err(_) => false,
    };
    let less = [local("l", &limited(10 * KIB))];
    world.change(&less, "the smaller quota", async || !takes().await).await;
    image.verify_blob(0, &kept).await.expect("what is there stays");
    image.put_manifest(0, "latest", &manifest).await.expect("manifests do not count");
    assert!(world.image("l/other").mount(0, &kept, Some(&image)).await.expect("an answer"), "nothing new");
    let more = [local("l", &limited(2 * QUOTA))];
    world.change(&more, "the larger quota", async || takes().await).await;
    assert_room(&image, 2 * QUOTA - 60 * KIB, "the larger quota").await;
    world.change(&less, "the smaller quota", async || !takes().await).await;
    let none = [local("l", &Value::Null)];
    world.change(&none, "no quota", async || takes().await).await;
    push(&image, Form::Streamed, &noise(2, 3 * QUOTA)).await.expect("no quota");
    Ok(())
}
