//! Bounds of what is sent (RS-61).

use std::time::Instant;

use artifactapi_tests::{
    http::PATIENCE,
    raw,
    registry::{Form, NewManifest, Route, image_of},
};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, assert_refused, send};
use crate::Ending;

/// Largest manifest.
const LIMIT: usize = 4 << 20;

/// `manifest` with so much white space behind it that it has `size` bytes.
fn padded(manifest: &NewManifest, size: usize) -> NewManifest {
    let mut body = manifest.body.to_vec();
    body.resize(size, b' ');
    NewManifest { body: body.into(), ..manifest.clone() }
}

/// One of exactly the limit is taken; one byte more is refused without waiting for the rest, whether its length is
/// told or not.
pub(crate) async fn manifests() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    let config = Bytes::from_static(b"{}");
    image.push(Form::PostPut, &config, &Route::only(0)).await.expect("a config");
    let manifest = image_of(&config, &[]);
    let largest = padded(&manifest, LIMIT);
    image.put_manifest(0, "largest", &largest).await.expect("the limit itself");
    image.verify_manifest(0, &largest.digest()).await.expect("it is there");

    let over = padded(&manifest, LIMIT + 1);
    let headers = [("content-type", over.media_type)];
    for rest in ["over".to_owned(), over.digest()] {
        let answer =
            send(&image, Method::PUT, &format!("manifests/{rest}"), &headers, over.body.clone()).await;
        assert_refused(&answer, 413, "SIZE_INVALID", &rest);
    }
    let head = |more: &str| {
        let path = format!("/v2/{}/manifests/over", image.name());
        let fixed = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        format!("{fixed}Content-Type: {}\r\n{more}\r\n", over.media_type).into_bytes()
    };
    let mut streamed = head("Transfer-Encoding: chunked\r\n");
    for piece in over.body.chunks(64 << 10) {
        streamed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        streamed.extend_from_slice(piece);
        streamed.extend_from_slice(b"\r\n");
    }
    let declared = format!("Content-Length: {}\r\n", 1u64 << 40);
    // None of these requests ends: what is awaited is an answer all the same.
    for (what, request) in [
        ("declared, nothing sent", head(&declared)),
        (
            "declared, the client waits to be asked for it",
            head(&format!("{declared}Expect: 100-continue\r\n")),
        ),
        ("streamed, one byte too many", streamed),
    ] {
        let began = Instant::now();
        let answer = raw::exchange(&world.proxy.host(), &request).await;
        assert_eq!(answer.status, Some(413), "{what}: {}", answer.text);
        assert!(answer.text.contains("SIZE_INVALID"), "{what}: {}", answer.text);
        assert!(began.elapsed() < PATIENCE / 6, "{what}: {:?}", began.elapsed());
    }
    assert_eq!(image.tags(0).await.expect("tags"), ["largest"]);
    deep(&world).await;
    Ok(())
}

/// What is small and costs much to read is refused as well.
async fn deep(world: &World) {
    let image = world.image("l/deep");
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = json!({ "schemaVersion": 2, "manifests": vec![1; 100_000] });
    let media_type = "application/vnd.oci.image.index.v1+json";
    for (what, body) in [
        ("nested lists", nested.clone()),
        ("nested in a field", format!("{{\"schemaVersion\":2,\"manifests\":[],\"x\":{nested}}}")),
        ("no descriptors", many.to_string()),
        ("not UTF-8", "\u{fffd}".repeat(9)),
        ("nothing", String::new()),
    ] {
        let began = Instant::now();
        let answer = send(&image, Method::PUT, "manifests/1", &[("content-type", media_type)], body).await;
        assert_refused(&answer, 400, "MANIFEST_INVALID", what);
        assert!(began.elapsed() < PATIENCE / 6, "{what}: {:?}", began.elapsed());
    }
}
