//! Walls between images: what one has is for another as if it were nowhere (RS-45), also what it has no more
//! (RS-46).

use artifactapi_tests::{
    fixtures::noise,
    http::Fetched,
    registry::{Form, Image, NewManifest, Route, image_of, index_of, sha256},
};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, ask, assert_refused, at, document, local, send, told};
use crate::Ending;

/// A config that every image of these tests has.
const CONFIG: Bytes = Bytes::from_static(b"{}");

/// What is asked of an image about a blob and a manifest that it should not know.
fn questions(blob: &str, size: usize, child: &NewManifest) -> Vec<(Method, String, &'static str, Bytes)> {
    let (none, digest) = (Bytes::new(), child.digest());
    let image = image_of(&CONFIG, &[(blob.to_owned(), size)]);
    let index = index_of(std::slice::from_ref(child));
    vec![
        (Method::HEAD, format!("blobs/{blob}"), "", none.clone()),
        (Method::GET, format!("blobs/{blob}"), "", none.clone()),
        (Method::DELETE, format!("blobs/{blob}"), "", none.clone()),
        (Method::HEAD, format!("manifests/{digest}"), "", none.clone()),
        (Method::GET, format!("manifests/{digest}"), "", none.clone()),
        (Method::DELETE, format!("manifests/{digest}"), "", none.clone()),
        (Method::GET, format!("referrers/{digest}"), "", none.clone()),
        (Method::PUT, "manifests/naming".to_owned(), image.media_type, image.body.clone()),
        (Method::PUT, "manifests/naming".to_owned(), index.media_type, index.body.clone()),
        (Method::PUT, format!("manifests/{digest}"), child.media_type, child.body.clone()),
        (Method::POST, format!("blobs/uploads/?mount={blob}"), "", none.clone()),
        (Method::POST, format!("blobs/uploads/?mount={blob}&from=a/app"), "", none.clone()),
        (Method::POST, format!("blobs/uploads/?mount={blob}&from=nowhere/app"), "", none.clone()),
        (Method::POST, format!("blobs/uploads/?mount={blob}&from=a/nothing"), "", none),
    ]
}

/// Everything of an answer that does not depend on the moment, with other words for `names`.
fn shape(answer: &Fetched, names: &[(&str, &str)]) -> String {
    let mut headers: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    let length = answer.header("content-length");
    let mut text = format!("{} {headers:?} {length} {}", answer.status, answer.text());
    for (name, word) in names {
        text = text.replace(name, word);
    }
    text
}

/// A Local that one may not read is as if it had nothing.
pub(crate) async fn private() -> Ending {
    let access = json!({ "access": { "read": "authenticated", "anonymousWrite": false } });
    let closed = json!({ "access": { "anonymousWrite": false } });
    let robot = |name, repositories: &[&str]| {
        let grants = json!([{ "repositories": repositories, "actions": ["pull", "push", "delete"] }]);
        document("Robot", name, &json!({ "grants": grants }))
    };
    let world = World::start(&[
        local("a", &access),
        local("b", &Value::Null),
        local("c", &closed),
        robot("owner", &["a"]),
        robot("both", &["a", "c"]),
        robot("writer", &["c"]),
    ])
    .await;
    let (a, b) = (world.image("a/app"), world.image("b/app"));
    let (owner, both) = (world.authorization("owner").await, world.authorization("both").await);
    let (secret, layer) = (noise(1, 5_000), noise(2, 7_000));
    let manifest = image_of(&secret, &[(sha256(&layer), layer.len())]);
    let authorized = [("authorization", owner.as_str())];
    for bytes in [&secret, &layer] {
        let rest = format!("blobs/uploads/?digest={}", sha256(bytes));
        assert_eq!(send(&a, Method::POST, &rest, &authorized, bytes.clone()).await.status, 201);
    }
    let headers = [authorized[0], ("content-type", manifest.media_type)];
    assert_eq!(send(&a, Method::PUT, "manifests/1", &headers, manifest.body.clone()).await.status, 201);

    b.push(Form::PostPut, &CONFIG, &Route::only(0)).await.expect("a config");
    let (digest, absent) = (sha256(&layer), sha256(b"nobody has ever had this"));
    let other = manifest.clone().with("annotations", json!({ "n": "1" }));
    // Of the same length, so that nothing but the names differs.
    let never = manifest.clone().with("annotations", json!({ "n": "2" }));
    let put = send(&a, Method::PUT, "manifests/2", &headers, other.body.clone()).await;
    assert_eq!(put.status, 201);
    for (there, not_there) in
        questions(&digest, layer.len(), &other).into_iter().zip(questions(&absent, layer.len(), &never))
    {
        let (method, rest, media_type, body) = there;
        let headers = [("content-type", media_type)];
        let headers = if media_type.is_empty() { &[][..] } else { &headers };
        let got = send(&b, method.clone(), &rest, headers, body).await;
        let wanted = send(&b, method.clone(), &not_there.1, headers, not_there.3).await;
        let uploads = |answer: &Fetched| answer.header("docker-upload-uuid").to_owned();
        let (got_id, wanted_id) = (uploads(&got), uploads(&wanted));
        let mut names = vec![(digest.as_str(), "BLOB"), (absent.as_str(), "BLOB")];
        let digests = (other.digest(), never.digest());
        names.extend([(digests.0.as_str(), "MANIFEST"), (digests.1.as_str(), "MANIFEST")]);
        names.extend([(&*got_id, "ID"), (&*wanted_id, "ID")].into_iter().filter(|(id, _)| !id.is_empty()));
        assert_eq!(shape(&got, &names), shape(&wanted, &names), "{method} {rest}");
        let status = got.status;
        let as_absent = matches!((method.as_str(), status), ("POST", 202) | (_, 404));
        let empty = rest.starts_with("referrers") && status == 200 && got.json()["manifests"] == json!([]);
        assert!(as_absent || empty, "{method} {rest}: {status} {}", got.text());
    }
    assert_eq!(b.tags(0).await.expect("tags"), [""; 0], "no manifest was taken");
    needs_the_bytes(&b, &layer).await;
    // Nor can it be asked itself.
    for rest in [format!("blobs/{digest}"), "manifests/1".to_owned(), "tags/list".to_owned()] {
        assert_eq!(ask(&a, Method::GET, &rest).await.status, 401, "{rest}");
    }
    let catalog = at(&b, Method::GET, "/v2/_catalog", &[], "").await;
    assert!(!catalog.text().contains("a/app"), "{}", catalog.text());
    let given =
        Given { authorization: &both, other: &world.authorization("writer").await, blob: &sha256(&secret) };
    mounted_by_right(&world, &given).await;
    Ok(())
}

/// A blob of the private Local, and whose request may read it.
struct Given<'a> {
    /// Of a robot that may read it.
    authorization: &'a str,
    /// Of one that may not.
    other: &'a str,
    blob: &'a str,
}

/// Who may read a blob and push elsewhere may mount it there; a short-lived token must have been asked for both
/// Locals.
async fn mounted_by_right(world: &World, given: &Given<'_>) {
    let &Given { authorization, other, blob } = given;
    let bearer = async |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| format!("&scope=repository:{scope}")).collect::<String>();
        let path = format!("/token?service={}{scopes}", world.proxy.host());
        let headers = [("authorization", authorization)];
        let answer = at(&world.image("c/x"), Method::GET, &path, &headers, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        format!("Bearer {}", answer.json()["token"].as_str().expect("a token"))
    };
    for (name, from) in [("c/named", "&from=a/app"), ("c/any", "")] {
        let (image, rest) = (world.image(name), format!("blobs/uploads/?mount={blob}{from}"));
        let (push, pull) = (format!("{name}:pull,push"), "a/app:pull");
        let may_only_push = bearer(&[&push]).await;
        for (who, shown) in [("another robot", other), ("a token for pushing only", &may_only_push)] {
            let answer = send(&image, Method::POST, &rest, &[("authorization", shown)], "").await;
            assert_eq!(answer.status, 202, "{name}: {who}: {}", answer.text());
            assert!(!image.has_blob(0, blob).await.expect("an answer"), "{name}: {who}");
        }
        let for_both = bearer(&[&push, pull]).await;
        for shown in [&for_both, authorization] {
            let answer = send(&image, Method::POST, &rest, &[("authorization", shown)], "").await;
            assert_eq!(answer.status, 201, "{name}: {}", answer.text());
            image.verify_blob(0, blob).await.expect("it was mounted");
            let headers = [("authorization", authorization)];
            let gone = send(&image, Method::DELETE, &format!("blobs/{blob}"), &headers, "").await;
            assert_eq!(gone.status, 202, "{}", gone.text());
        }
    }
}

/// The session that was opened in place of a mount takes the bytes; before them the blob is not there.
async fn needs_the_bytes(image: &Image, bytes: &Bytes) {
    let digest = sha256(bytes);
    let begun = ask(image, Method::POST, &format!("blobs/uploads/?mount={digest}&from=a/app")).await;
    assert_eq!(begun.status, 202);
    let path = format!("{}?digest={digest}", begun.header("location"));
    let answer = at(image, Method::PUT, &path, &[], "").await;
    assert_refused(&answer, 400, "DIGEST_INVALID", "a digest without the bytes");
    assert!(!image.has_blob(0, &digest).await.expect("an answer"));
    image.push(Form::PostPut, bytes, &Route::only(0)).await.expect("who has the bytes may push them");
    assert!(image.has_blob(0, &digest).await.expect("an answer"));
}

/// The same between images of one Local that everybody may read: there a mount is allowed, and nothing else.
pub(crate) async fn images() -> Ending {
    let world = World::start(&[local("a", &Value::Null), local("b", &Value::Null)]).await;
    let a = world.image("a/app");
    let (config, layer) = (noise(1, 5_000), noise(2, 7_000));
    for bytes in [&config, &layer] {
        a.push(Form::PostPut, bytes, &Route::only(0)).await.expect("a blob");
    }
    let manifest = image_of(&config, &[(sha256(&layer), layer.len())]);
    a.put_manifest(0, "1", &manifest).await.expect("a manifest");
    let digest = sha256(&layer);
    for name in ["a/other", "a/app/below", "b/app"] {
        let other = world.image(name);
        other.push(Form::PostPut, &CONFIG, &Route::only(0)).await.expect("a config");
        for (method, rest, media_type, body) in questions(&digest, layer.len(), &manifest) {
            if method == Method::POST || rest.starts_with("referrers") {
                continue;
            }
            let answer = send(&other, method.clone(), &rest, &[("content-type", media_type)], body).await;
            assert_eq!(answer.status, 404, "{name}: {method} {rest}: {}", answer.text());
        }
        assert!(
            !other.mount(0, &digest, Some(&world.image("a/nothing"))).await.expect("an answer"),
            "{name}"
        );
        assert!(other.mount(0, &digest, Some(&a)).await.expect("an answer"), "{name}: everybody may read it");
        other.verify_blob(0, &digest).await.expect("it was mounted");
        assert!(!other.has_blob(0, &sha256(&config)).await.expect("an answer"), "{name}: nothing else was");
    }
    Ok(())
}

/// A blob, and a manifest, that an image gave up is 404 there from the answer on, in every way it can be asked for,
/// while another image has it.
pub(crate) async fn taken() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let (one, two) = (world.image("l/one"), world.image("l/two"));
    let config = noise(1, 5_000);
    let manifest = image_of(&config, &[]);
    let (blob, digest) = (sha256(&config), manifest.digest());
    for image in [&one, &two] {
        image.push(Form::PostPut, &config, &Route::only(0)).await.expect("a blob");
        image.put_manifest(0, "1", &manifest).await.expect("a manifest");
    }
    for round in 0..20 {
        // It is as well known as it can be.
        for image in [&one, &two] {
            image.verify_blob(0, &blob).await.expect("it is there");
            image.verify_manifest(0, &digest).await.expect("it is there");
        }
        for rest in [format!("manifests/{digest}"), format!("blobs/{blob}")] {
            assert_eq!(ask(&one, Method::DELETE, &rest).await.status, 202, "{round}: {rest}");
            let tag = format!("\"{}\"", rest.rsplit('/').next().unwrap_or_default());
            for (method, headers) in [
                (Method::GET, vec![]),
                (Method::HEAD, vec![]),
                (Method::GET, vec![("range", "bytes=0-9")]),
                (Method::GET, vec![("if-none-match", tag.as_str())]),
                (Method::DELETE, vec![]),
            ] {
                let answer = send(&one, method.clone(), &rest, &headers, "").await;
                assert_eq!(
                    answer.status,
                    404,
                    "{round}: {method} {rest} with {headers:?}: {:?}",
                    told(&answer)
                );
            }
            two.verify_manifest(0, &digest).await.expect("the other image has it");
            two.verify_blob(0, &blob).await.expect("the other image has it");
        }
        assert_eq!(ask(&one, Method::GET, "manifests/1").await.status, 404, "{round}: its tag went with it");
        assert!(one.mount(0, &blob, Some(&two)).await.expect("an answer"), "{round}");
        one.put_manifest(0, "1", &manifest).await.expect("it is taken again");
    }
    Ok(())
}
