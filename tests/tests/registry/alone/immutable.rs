//! `spec.immutableTags`: such a tag stays where it was pushed first, whichever way one comes (RS-52).

use artifactapi_tests::registry::{Form, Image, NewManifest, Route, image_of, index_of, sha256};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::{World, ask, assert_refused, send};
use crate::Ending;

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Stock {
    _world: World,
    image: Image,
    first: NewManifest,
    second: NewManifest,
}

/// A manifest under `v1`, and another one that is not pushed.
async fn stock() -> Stock {
    let world = World::of_local(&json!({ "immutableTags": ["v.*", "stable"] })).await;
    let image = world.image("l/app");
    let route = Route::only(0);
    let configs = [Bytes::from_static(b"{\"n\":1}"), Bytes::from_static(b"{\"n\":2}")];
    for config in &configs {
        image.push(Form::PostPut, config, &route).await.expect("a config");
    }
    let [first, second] = configs.map(|config| image_of(&config, &[]));
    image.put_manifest(0, "v1", &first).await.expect("nobody has this tag yet");
    Stock { _world: world, image, first, second }
}

async fn put(image: &Image, rest: &str, manifest: &NewManifest) -> artifactapi_tests::http::Fetched {
    let headers = [("content-type", manifest.media_type)];
    send(image, Method::PUT, &format!("manifests/{rest}"), &headers, manifest.body.clone()).await
}

/// The digest under a tag.
async fn under(image: &Image, tag: &str) -> Option<String> {
    image.manifest(0, tag).await.expect("an answer").map(|answer| sha256(&answer.body))
}

/// Moving is refused by every way, and then nothing of the request was done.
pub(crate) async fn moved() -> Ending {
    let Stock { _world, image, first, second } = &stock().await;
    let docker = NewManifest { media_type: DOCKER, ..second.clone().with("mediaType", Value::from(DOCKER)) };
    let index = index_of(std::slice::from_ref(first));
    let sha512 = format!("sha512:{}", hex::encode(Sha512::digest(&first.body)));
    for (what, rest, manifest) in [
        ("by tag", "v1".to_owned(), second),
        ("beside a digest", format!("{}?tag=v1", second.digest()), second),
        ("among others", format!("{}?tag=free&tag=v1&tag=more", second.digest()), second),
        ("as another media type", "v1".to_owned(), &docker),
        ("as another media type, beside a digest", format!("{}?tag=v1", docker.digest()), &docker),
        ("as an index", "v1".to_owned(), &index),
        ("as an index of what it names", format!("{}?tag=v1", index.digest()), &index),
        ("by another digest of the same bytes", format!("{sha512}?tag=v1"), first),
    ] {
        let answer = put(image, &rest, manifest).await;
        assert_refused(&answer, 403, "DENIED", what);
        assert!(answer.text().contains("v1"), "{what}: it says which tag: {}", answer.text());
        assert_eq!(under(image, "v1").await, Some(first.digest()), "{what}: it stands where it stood");
        assert_eq!(image.tags(0).await.expect("tags"), ["v1"], "{what}: no other tag was set");
        if manifest.digest() != first.digest() {
            assert_eq!(under(image, &manifest.digest()).await, None, "{what}: nothing was stored");
        }
    }
    for rest in ["v1".to_owned(), format!("{}?tag=v1", first.digest()), first.digest()] {
        let answer = put(image, &rest, first).await;
        assert_eq!(answer.status, 201, "the same again, {rest}: {}", answer.text());
    }
    // The pattern is for whole tags, and for each image by itself.
    let other = image.registry().image("l/other");
    for manifest in [first, second] {
        for tag in ["latest", "av1", "stable-1", "V1"] {
            assert_eq!(put(image, tag, manifest).await.status, 201, "{tag} is free");
            assert_eq!(under(image, tag).await, Some(manifest.digest()), "{tag} was moved");
        }
        for config in &manifest.names {
            assert!(other.mount(0, config, Some(image)).await.expect("an answer"), "a mount");
        }
    }
    assert_eq!(put(&other, "v1", second).await.status, 201, "another image");
    assert_refused(&put(&other, "v1", first).await, 403, "DENIED", "another image");
    Ok(())
}

/// Neither the tag nor what it names can be deleted; others can.
pub(crate) async fn deleted() -> Ending {
    let Stock { _world, image, first, second } = &stock().await;
    for (tag, manifest) in [("latest", first), ("other", second)] {
        assert_eq!(put(image, tag, manifest).await.status, 201);
    }
    let manifest = format!("manifests/{}", first.digest());
    for (what, rest) in [("the tag", "manifests/v1"), ("its manifest", &manifest)] {
        assert_refused(&ask(image, Method::DELETE, rest).await, 403, "DENIED", what);
        assert_eq!(image.tags(0).await.expect("tags"), ["latest", "other", "v1"], "{what}: nothing is gone");
        assert_eq!(under(image, "v1").await, Some(first.digest()), "{what}");
    }
    let blob = format!("blobs/{}", first.names[0]);
    assert_refused(&ask(image, Method::DELETE, &blob).await, 405, "UNSUPPORTED", "what the manifest needs");
    image.verify_blob(0, &first.names[0]).await.expect("it is there");
    assert_eq!(ask(image, Method::DELETE, "manifests/latest").await.status, 202, "a free tag");
    let free = format!("manifests/{}", second.digest());
    assert_eq!(ask(image, Method::DELETE, &free).await.status, 202, "a manifest with free tags");
    assert_eq!(image.tags(0).await.expect("tags"), ["v1"]);
    assert_eq!(ask(image, Method::DELETE, "manifests/v2").await.status, 403, "one that was never pushed");
    Ok(())
}
