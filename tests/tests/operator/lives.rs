//! A repository is what it was when its object comes back, unless it was to be purged (design 2).

use std::time::Duration;

use artifactapi_tests::{
    Registry, Upstream, http,
    kubernetes::Object,
    registry::{Image, image_of},
    wait,
};
use bytes::Bytes;
use serde_json::json;

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage},
};

pub(crate) async fn remote(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "remotelife").await?;
    let upstream = Upstream::start().await;
    upstream.put("a.bin", vec![7; 10_000]);
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let remote = stage.remote("files", &upstream, json!({ "immutablePatterns": [".*"] }));
    let url = stage.site.remote("files") + "a.bin";
    stage.api.apply(&remote).await;
    stage.until_served(&url, PATIENCE, http::Fetched::is_ok).await;
    let id = || stage.site.sql("SELECT id, epoch, retired_at IS NULL FROM repositories WHERE name = 'files'");
    let first = id();
    stage.api.delete(&Object::of(&remote)).await.ok();
    stage.until_served(&url, PATIENCE, |answer| answer.status == 404).await;
    assert_eq!(id(), first.replace("|t", "|f"), "it is retired");

    // The same again: what was cached is there, without asking upstream.
    stage.api.apply(&remote).await;
    let asked = upstream.hits("a.bin");
    stage.until_served(&url, PATIENCE, http::Fetched::is_ok).await;
    assert_eq!((id(), upstream.hits("a.bin")), (first.clone(), asked), "it is adopted with its bytes");

    // Another origin has another cache.
    let elsewhere = Upstream::start().await;
    elsewhere.put("a.bin", vec![9; 10]);
    stage.api.apply(&stage.remote("files", &elsewhere, json!({ "immutablePatterns": [".*"] }))).await;
    let other = stage.until_served(&url, PATIENCE, |answer| answer.is_ok() && answer.body.len() == 10).await;
    assert_eq!(other.body[0], 9);
    assert_ne!(id(), first, "another epoch");

    // As another type it is another repository.
    stage.api.delete(&Object::of(&remote)).await.ok();
    stage.api.until_gone(&Object::of(&remote), PATIENCE).await;
    let npm = stage.manifest("Remote", "files", json!({ "type": "npm", "baseURL": "https://h/" }));
    stage.api.apply(&npm).await;
    stage.api.until_ready(&Object::of(&npm), PATIENCE).await;
    assert_eq!(
        stage.site.sql("SELECT count(*) FROM repositories WHERE name = 'files' AND retired_at IS NULL"),
        "1"
    );
    Ok(())
}

async fn push(image: &Image) -> String {
    let (config, layer) = (Bytes::from_static(b"{}"), Bytes::from_static(b"a layer"));
    for blob in [&config, &layer] {
        let session = image.begin(0).await.expect("a session");
        let digest = artifactapi_tests::registry::sha256(blob);
        image.close(0, &session, &digest, blob.clone()).await.expect("a blob");
    }
    let manifest = image_of(&config, &[(artifactapi_tests::registry::sha256(&layer), layer.len())]);
    image.put_manifest(0, "v1", &manifest).await.expect("a manifest").digest
}

pub(crate) async fn local(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "locallife").await?;
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let local = |policy: &str| {
        let spec =
            json!({ "type": "docker", "access": { "anonymousWrite": true }, "deletionPolicy": policy });
        stage.manifest("Local", "l", spec)
    };
    let object = stage.object("Local", "l");
    let image = Registry::new([stage.site.url()], "l/").image("app");
    let pulls = async || image.manifest(0, "v1").await.ok().flatten();
    stage.api.apply(&local("Retain")).await;
    stage.api.until_ready(&object, PATIENCE).await;
    wait::until("a Local one can push to", PATIENCE, async || image.begin(0).await.is_ok()).await;
    let digest = push(&image).await;

    stage.api.delete(&object).await.ok();
    wait::until("a Local that is gone", PATIENCE, async || image.begin(0).await.is_err()).await;
    assert!(pulls().await.is_none());
    stage.api.apply(&local("Retain")).await;
    wait::until("what was pushed to be back", PATIENCE, async || pulls().await.is_some()).await;
    image.verify_blob(0, &artifactapi_tests::registry::sha256(b"a layer")).await.expect("the layer is kept");

    // Purge: it waits for its bytes to be gone, and what comes after it starts empty.
    stage.api.apply(&local("Purge")).await;
    stage.api.until_ready(&object, PATIENCE).await;
    let held = async || {
        let found = stage.api.get(&object).await.unwrap_or_default();
        found["metadata"]["finalizers"].to_string().contains("artifactapi.io/purge")
    };
    wait::until("the finalizer", PATIENCE, held).await;
    stage.api.delete(&object).await.ok();
    stage.api.until_gone(&object, Duration::from_secs(30)).await;
    stage.api.apply(&local("Retain")).await;
    wait::until("a Local one can push to", PATIENCE, async || image.begin(0).await.is_ok()).await;
    assert!(pulls().await.is_none(), "what was purged does not come back");
    assert!(image.manifest(0, &digest).await.expect("an answer").is_none());
    assert_eq!(image.tags(0).await.expect("an answer"), Vec::<String>::new());

    // A finalizer that came with the manifest, as from an export, belongs to whoever applied it, and holds no longer.
    let mut exported = local("Purge");
    exported["metadata"]["finalizers"] = json!(["artifactapi.io/purge"]);
    stage.api.delete(&object).await.ok();
    stage.api.until_gone(&object, PATIENCE).await;
    stage.api.apply(&exported).await;
    stage.api.until_ready(&object, PATIENCE).await;
    stage.api.delete(&object).await.ok();
    stage.api.until_gone(&object, Duration::from_secs(30)).await;

    // A policy that is taken back holds nothing any more.
    stage.api.apply(&local("Purge")).await;
    wait::until("the finalizer", PATIENCE, held).await;
    stage.api.apply(&local("Retain")).await;
    wait::until("no finalizer", PATIENCE, async || !held().await).await;
    Ok(())
}
