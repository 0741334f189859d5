//! Clients that are sent to the store for the bytes.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    RemoteManifest, Services, Upstream,
    fixtures::noise,
    http::{self, Fetched},
    manifest,
    replicas::Options,
};
use reqwest::Method;
use serde_json::json;

/// From a mebibyte on a second request is worth it.
const SIZE: usize = 3 << 20;

/// A file comes from the store; a document never does, since the store knows neither its type nor that it is compressed.
pub(crate) async fn by_the_store(services: &mut Services) {
    let upstream = Upstream::start().await;
    let file = noise(5, SIZE);
    upstream.put("file.bin", file.clone());
    let readme: String = noise(6, SIZE).iter().map(|byte| format!("{byte:02x}")).collect();
    let dist =
        json!({ "tarball": format!("{}/big/-/big-1.0.0.tgz", upstream.url()), "shasum": "0".repeat(40) });
    let packument = json!({
        "name": "big", "dist-tags": { "latest": "1.0.0" }, "readme": readme,
        "versions": { "1.0.0": { "name": "big", "version": "1.0.0", "dist": dist } },
    });
    upstream.put_with("big", packument.to_string(), &[("content-type", "application/json")]);
    let documents = [
        RemoteManifest::new("files", PackageType::Generic, &upstream).set("delivery", "auto").document(),
        RemoteManifest::new("packages", PackageType::Npm, &upstream).set("delivery", "redirect").document(),
    ];
    let cluster = Options::new(manifest::join(&documents))
        .replicas(1)
        .env("ARTIFACTAPI_S3_PUBLIC_ENDPOINT", format!("http://{}", services.minio.endpoint()))
        .start(services)
        .await;

    let url = cluster.remote("files") + "file.bin";
    assert_eq!(http::get(&url).await.body, file, "what is being fetched comes from here");
    let sent = http::get_until(&url, |answer| answer.status == 307).await;
    let given = http::get(sent.header("location")).await;
    assert!(given.is_ok() && given.body == file, "{} {} bytes", given.status, given.body.len());

    let url = cluster.remote("packages") + "big";
    for encodings in [&[][..], &[("accept-encoding", "gzip")]] {
        // The second time it is stored.
        for _ in 0..2 {
            let told: Fetched = http::request(Method::GET, &url, encodings).await;
            assert_eq!(told.status, 200, "{encodings:?}");
            assert!(told.header("content-type").contains("json"), "{encodings:?}");
            assert_eq!(told.header("content-encoding") == "gzip", !encodings.is_empty());
            assert!(told.body.len() > SIZE / 2, "{encodings:?}: {} bytes", told.body.len());
        }
    }
}
