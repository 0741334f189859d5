//! Uploads whose every request goes to another replica.

use std::{env, time::Instant};

use artifactapi_tests::{
    fixtures::{Blocks, noise},
    registry::{Form, Image, Ledger, Registry, Route, image_of, sha256},
};
use bytes::Bytes;

use crate::{Ending, scale, subject::Subject};

const MIB: usize = 1 << 20;
/// Chunk of the large layer.
const LARGE: usize = 50 * MIB;
/// More than one part of an S3 upload, and not a multiple of anything.
const ODD: usize = 11 * MIB + 13;
/// How many pushes are looked for everywhere.
const PROBES: usize = 40;

/// Every form, with nothing, a byte, a little and several parts; what must be refused is refused.
pub(crate) async fn every_form(subject: &mut Subject) -> Ending {
    let registry = subject.registry();
    let image = registry.image("chunks/forms");
    let ledger = Ledger::default();
    let mut pushes = 0;
    for (number, size) in [0, 1, 70_000, ODD].into_iter().enumerate() {
        for (turn, form) in Form::all(3 * MIB + 1).into_iter().enumerate() {
            let bytes = noise((number * 10 + turn) as u64 + 1, size);
            let route = registry.everywhere_from(turn);
            let digest = image.push(form, &bytes, &route).await;
            let digest = digest.unwrap_or_else(|refused| panic!("{form:?} of {size} bytes: {refused}"));
            ledger.blob(&image, &digest);
            pushes += 1;
        }
    }
    ledger.assert_kept("after every form").await;
    out_of_order(&image, &registry).await;
    wrong_digests(&image, &registry).await;
    cancelled(&image, &registry).await;
    mounted(&image, &registry).await;
    println!(
        "\nfigure: {pushes} pushes in {} forms over {} replicas",
        Form::all(1).len(),
        registry.entries()
    );
    Ok(())
}

/// A chunk that is not the next one is refused at every replica, and the session goes on.
async fn out_of_order(image: &Image, registry: &Registry) {
    let bytes = noise(101, 300_000);
    let digest = sha256(&bytes);
    let route = registry.everywhere();
    let mut session = image.begin(route.next()).await.expect("a session");
    image.patch(route.next(), &mut session, bytes.slice(..100_000)).await.expect("the first chunk");
    for (offset, chunk) in [(0, bytes.slice(..100_000)), (200_000, bytes.slice(200_000..))] {
        let mut wrong = session.clone();
        wrong.offset = offset;
        let refused = image.patch(route.next(), &mut wrong, chunk).await.expect_err("not the next chunk");
        assert_eq!(refused.status, Some(416), "a chunk at {offset}: {refused}");
    }
    let mut again = session.clone();
    image.resume(route.next(), &mut again).await.expect("the session is there");
    assert_eq!(again.offset, 100_000, "only what was acknowledged");
    image.patch(route.next(), &mut again, bytes.slice(100_000..)).await.expect("the rest");
    image.close(route.next(), &again, &digest, Bytes::new()).await.expect("the end");
    image.verify_blob(route.next(), &digest).await.expect("what was pushed");
}

/// A digest that is not that of the bytes is refused in every form, and nothing is there afterwards.
async fn wrong_digests(image: &Image, registry: &Registry) {
    let (bytes, other) = (noise(102, 70_000), sha256(b"something else"));
    let route = registry.everywhere();
    let session = image.begin(route.next()).await.expect("a session");
    let refused =
        image.close(route.next(), &session, &other, bytes.clone()).await.expect_err("a wrong digest");
    assert!(refused.status == Some(400) && refused.is("DIGEST_INVALID"), "{refused}");
    let mut session = image.begin(route.next()).await.expect("a session");
    image.patch(route.next(), &mut session, bytes).await.expect("a chunk");
    let refused =
        image.close(route.next(), &session, &other, Bytes::new()).await.expect_err("a wrong digest");
    assert!(refused.status == Some(400) && refused.is("DIGEST_INVALID"), "{refused}");
    for entry in 0..registry.entries() {
        assert!(!image.has_blob(entry, &other).await.expect("an answer"), "a blob nobody pushed, at {entry}");
    }
}

/// A cancelled session is gone at every replica.
async fn cancelled(image: &Image, registry: &Registry) {
    let route = registry.everywhere();
    let mut session = image.begin(route.next()).await.expect("a session");
    image.patch(route.next(), &mut session, noise(103, 70_000)).await.expect("a chunk");
    image.cancel(route.next(), &session).await.expect("it is cancelled");
    for entry in 0..registry.entries() {
        let refused = image.resume(entry, &mut session.clone()).await.expect_err("it is gone");
        assert_eq!(refused.status, Some(404), "{refused}");
    }
}

/// A mounted blob is in the other image at once, and only what its source has can be mounted.
async fn mounted(image: &Image, registry: &Registry) {
    let bytes = noise(104, 70_000);
    let digest = image.push(Form::PostPut, &bytes, &registry.everywhere()).await.expect("a blob");
    for entry in 0..registry.entries() {
        let other = registry.image(&format!("chunks/mounted{entry}"));
        assert!(!other.has_blob(entry, &digest).await.expect("an answer"), "it was never pushed there");
        assert!(other.mount(entry, &digest, Some(image)).await.expect("an answer"), "mounted at {entry}");
        for reader in 0..registry.entries() {
            other.verify_blob(reader, &digest).await.expect("it is there at once");
        }
        let none = sha256(b"nobody has this");
        assert!(!other.mount(entry, &none, Some(image)).await.expect("an answer"), "nothing to mount");
    }
}

/// A layer of 1 GiB, each chunk to the next replica, read back from each.
pub(crate) async fn gigabyte(subject: &mut Subject) -> Ending {
    let mebibytes = env::var("ARTIFACTAPI_LAYER_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let layer = Blocks::new(7, mebibytes * MIB);
    let digest = layer.digest();
    let registry = subject.registry();
    let image = registry.image("chunks/large");
    let route = registry.everywhere();
    let mut session = image.begin(route.next()).await.expect("a session");
    let began = Instant::now();
    for chunk in layer.clone().pieces(LARGE) {
        let sent = image.patch(route.next(), &mut session, chunk).await;
        sent.unwrap_or_else(|refused| panic!("{refused}\n{}", subject.logs()));
    }
    let closing = Instant::now();
    image.close(route.next(), &session, &digest, Bytes::new()).await.expect("the end");
    let closed = closing.elapsed();
    let pushed = began.elapsed();
    for entry in 0..registry.entries() {
        let length = image.verify_blob(entry, &digest).await;
        let length = length.unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(length, layer.length() as u64, "all of it, from replica {entry}");
    }
    image.delete_blob(route.next(), &digest).await.expect("it can be deleted");
    println!(
        "\nfigure: {mebibytes} MiB in chunks of {} MiB over {} replicas: {:.1} s, the close {} ms",
        LARGE / MIB,
        registry.entries(),
        pushed.as_secs_f64(),
        closed.as_millis()
    );
    Ok(())
}

/// What one replica has acknowledged, all others have.
pub(crate) async fn seen_at_once(subject: &mut Subject) -> Ending {
    let registry = subject.registry();
    let image = registry.image("chunks/seen");
    let mut probes = 0;
    for number in 0..PROBES * scale() {
        let writer = Route::only(number % registry.entries());
        let config = Bytes::from(format!("{{\"number\":{number}}}"));
        let digest = image.push(Form::PostPut, &config, &writer).await.expect("a config");
        for reader in 0..registry.entries() {
            image.verify_blob(reader, &digest).await.unwrap_or_else(|refused| panic!("{number}: {refused}"));
        }
        let manifest = image_of(&config, &[]);
        let pushed = image.put_manifest(writer.next(), "latest", &manifest).await.expect("a manifest");
        for reader in 0..registry.entries() {
            let by_tag = image.manifest(reader, "latest").await.expect("an answer").expect("a manifest");
            assert_eq!(sha256(&by_tag.body), pushed.digest, "{number}: the tag at {reader}");
            image.verify_manifest(reader, &pushed.digest).await.unwrap_or_else(|refused| panic!("{refused}"));
            probes += 3;
        }
    }
    println!("\nfigure: {probes} reads right after an acknowledged push, all seen");
    Ok(())
}
