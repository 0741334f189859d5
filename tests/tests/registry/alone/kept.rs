//! What was acknowledged stays: over a restart, a death, and while the Local's manifest is away (RS-111).

use artifactapi_tests::{
    fixtures::noise,
    registry::{Form, Image, Ledger, Route, Session, image_of, index_of, sha256},
};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, ask, at, local};
use crate::Ending;

/// What was pushed to one Local.
struct Stock {
    image: Image,
    ledger: Ledger,
    subject: String,
    /// An open session with its bytes, and one that was closed by what it got.
    open: (Session, Bytes),
    closed: (Session, String),
    /// Requests for lists, and what they answered.
    lists: Vec<(String, String)>,
}

impl Stock {
    /// Pushes in every form; a deleted tag, manifest and blob are among it.
    async fn push(world: &World) -> Stock {
        let image = world.image("l/app");
        let (ledger, route) = (Ledger::default(), Route::only(0));
        let mut manifests = Vec::new();
        for (number, form) in Form::all(40_000).into_iter().enumerate() {
            let bytes = noise(number as u64 + 1, 100_000);
            let digest = image.push(form, &bytes, &route).await.expect("a blob");
            ledger.blob(&image, &digest);
            let manifest = image_of(&bytes, &[(digest, bytes.len())]);
            let pushed = image.put_manifest(0, &format!("v{number}"), &manifest).await.expect("a manifest");
            ledger.manifest(&image, &pushed.digest);
            manifests.push(manifest);
        }
        let index = index_of(&manifests[1..]);
        let about = manifests[1].clone().about(&index, "application/x");
        for (tag, manifest) in [("latest", &index), (about.digest().as_str(), &about)] {
            let pushed = image.put_manifest(0, tag, manifest).await.expect("a manifest");
            ledger.manifest(&image, &pushed.digest);
        }
        let other = world.image("l/other");
        assert!(other.mount(0, &manifests[0].names[0], Some(&image)).await.expect("an answer"), "a mount");
        ledger.blob(&other, &manifests[0].names[0]);
        for reference in ["v4".to_owned(), manifests[0].digest()] {
            ledger.forget(&image, &reference);
            image.delete_manifest(0, &reference).await.expect("it can be deleted");
        }
        ledger.forget(&image, &manifests[0].names[0]);
        image.delete_blob(0, &manifests[0].names[0]).await.expect("nobody needs it");

        let bytes = noise(90, 100_000);
        let mut open = image.begin(0).await.expect("a session");
        image.patch(0, &mut open, bytes.slice(..30_000)).await.expect("a chunk");
        let closed = image.begin(0).await.expect("a session");
        image.close(0, &closed, &sha256(b"closed"), Bytes::from_static(b"closed")).await.expect("a blob");
        ledger.blob(&image, &sha256(b"closed"));
        let closed = (closed, sha256(b"closed"));
        let subject = index.digest();
        let mut stock = Stock { image, ledger, subject, open: (open, bytes), closed, lists: Vec::new() };
        stock.lists = stock.look().await;
        stock
    }

    async fn look(&self) -> Vec<(String, String)> {
        let mut lists = Vec::new();
        for rest in [
            "tags/list".to_owned(),
            format!("referrers/{}", self.subject),
            "manifests/latest".to_owned(),
            "manifests/v4".to_owned(),
        ] {
            let answer = ask(&self.image, Method::GET, &rest).await;
            // Errors carry the id of their request.
            let body = if answer.status == 200 { answer.text() } else { String::new() };
            lists.push((rest, format!("{} {body}", answer.status)));
        }
        let catalog = at(&self.image, Method::GET, "/v2/_catalog", &[], "").await;
        lists.push(("_catalog".to_owned(), catalog.text()));
        lists
    }

    /// Everything is as it was, also the open session.
    async fn assert_kept(&self, when: &str) {
        self.ledger.assert_kept(when).await;
        assert_eq!(self.look().await, self.lists, "{when}");
        let mut session = self.open.0.clone();
        self.image.resume(0, &mut session).await.unwrap_or_else(|refused| panic!("{when}: {refused}"));
        assert_eq!(session.offset, 30_000, "{when}: what was acknowledged of an upload");
        let (closed, digest) = &self.closed;
        let again = self.image.close(0, closed, digest, Bytes::new()).await;
        again.unwrap_or_else(|refused| panic!("{when}: a client asks again: {refused}"));
    }

    /// The open session comes to its end.
    async fn finish(&self, when: &str) {
        let (session, bytes) = (&self.open.0, &self.open.1);
        let digest = sha256(bytes);
        let ended = self.image.close(0, session, &digest, bytes.slice(30_000..)).await;
        ended.unwrap_or_else(|refused| panic!("{when}: {refused}"));
        self.image.verify_blob(0, &digest).await.unwrap_or_else(|refused| panic!("{when}: {refused}"));
    }
}

/// The process ends in order and is killed, several times.
pub(crate) async fn restarted() -> Ending {
    let mut world = World::of_local(&Value::Null).await;
    let stock = Stock::push(&world).await;
    world.proxy.crash().await;
    stock.assert_kept("after a kill").await;
    world.proxy.restart().await;
    stock.assert_kept("after a restart").await;
    world.proxy.crash().await;
    stock.finish("after three starts").await;
    stock.ledger.assert_kept("at the end").await;
    world.proxy.stop().await;
    let told = world.proxy.fsck(false).await;
    let sound = told.text.contains("0 damaged blobs, 0 rows without bytes");
    assert!(told.code == Some(0) && sound, "{}", told.text);
    Ok(())
}

/// A Local whose manifest is taken away stops serving, to itself and as a source of mounts, and has everything when
/// it is back; also when the proxy was started without it in between.
pub(crate) async fn put_back() -> Ending {
    let other = local("other", &Value::Null);
    let both = [other.clone(), local("l", &Value::Null)];
    let mut world = World::start(&both).await;
    let stock = Stock::push(&world).await;
    let app = world.image("other/app");
    let named = sha256(&noise(2, 100_000));
    let serves = async || ask(&stock.image, Method::GET, "tags/list").await.status == 200;
    for round in 0..3 {
        world.change(std::slice::from_ref(&other), "it to be gone", async || !serves().await).await;
        for rest in ["manifests/latest".to_owned(), format!("blobs/{named}"), "tags/list".to_owned()] {
            assert_eq!(ask(&stock.image, Method::GET, &rest).await.status, 404, "{round}: {rest}");
        }
        assert_eq!(ask(&stock.image, Method::POST, "blobs/uploads/").await.status, 404, "{round}");
        for from in [Some(&stock.image), None] {
            assert!(
                !app.mount(0, &named, from).await.expect("an answer"),
                "{round}: nothing is taken from it"
            );
        }
        let catalog = at(&app, Method::GET, "/v2/_catalog", &[], "").await;
        assert_eq!(catalog.json()["repositories"], json!([]), "{round}");
        match round {
            1 => world.proxy.restart().await,
            2 => world.proxy.crash().await,
            _ => {}
        }
        assert!(!serves().await, "{round}: it stays away");
        world.change(&both, "it to be back", serves).await;
        stock.assert_kept(&format!("round {round}")).await;
    }
    stock.finish("at the end").await;
    Ok(())
}
