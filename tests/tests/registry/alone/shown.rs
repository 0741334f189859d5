//! What is pushed to a Local shows through the Virtual over it.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    RemoteManifest, Upstream,
    fixtures::noise,
    manifest,
    registry::{Form, Route, image_of},
};
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::{World, ask, local};
use crate::Ending;

/// For how long a Virtual remembers what a Local does not have, and a bit.
const REMEMBERED: Duration = Duration::from_millis(1_100);

/// Nobody had the image when it was first asked for: that is not what the next client is told, however much later.
pub(super) async fn later() -> Ending {
    let upstream = Upstream::start().await;
    let world = World::start(&[
        local("l", &Value::Null),
        RemoteManifest::new("r", PackageType::Docker, &upstream).document(),
        manifest::united("v", PackageType::Docker, &["l", "r"], &Value::Null),
    ])
    .await;
    let (pushed, shown) = (world.image("l/app"), world.image("v/app"));
    assert_eq!(ask(&shown, Method::GET, "manifests/1").await.status, 404);
    let asked = Instant::now();
    let config = noise(1, 100);
    let digest = pushed.push(Form::Post, &config, &Route::only(0)).await.expect("a blob");
    let manifest = image_of(&config, &[(digest, config.len())]);
    pushed.put_manifest(0, "1", &manifest).await.expect("a manifest");
    // The time that passes is what this is about.
    sleep_until(asked + REMEMBERED).await;
    let first = ask(&shown, Method::GET, "manifests/1").await;
    assert!(first.is_ok() && first.header("docker-content-digest") == manifest.digest(), "{first:?}");
    Ok(())
}
