//! Upload sessions: where one is, who has it, and when it is over (RS-110).

use artifactapi_tests::{
    fixtures::noise,
    http::Fetched,
    registry::{Form, Image, Route, Session, sha256},
};
use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{World, ask, assert_refused, at};
use crate::Ending;

const CHUNK: usize = 100_000;

async fn patch(image: &Image, session: &Session, range: Option<&str>, body: impl Into<Body>) -> Fetched {
    let headers: Vec<_> = range.map(|range| ("content-range", range)).into_iter().collect();
    at(image, Method::PATCH, &session.location, &headers, body).await
}

async fn put(image: &Image, session: &Session, digest: &str, range: Option<&str>, body: Bytes) -> Fetched {
    let headers: Vec<_> = range.map(|range| ("content-range", range)).into_iter().collect();
    at(image, Method::PUT, &format!("{}?digest={digest}", session.location), &headers, body).await
}

/// Holds that the answer says where the session is, and that it has `offset` bytes.
#[track_caller]
fn assert_at(answer: &Fetched, status: u16, session: &Session, offset: usize, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.header("range"), format!("0-{}", offset.saturating_sub(1)), "{what}: {answer:?}");
    assert_eq!(answer.header("location"), session.location, "{what}: {answer:?}");
}

/// Every use of a session that is not, or no more, the image's.
async fn assert_unknown(image: &Image, session: &Session, digest: &str, what: &str) {
    let chunk = Bytes::from_static(b"chunk");
    for (method, path) in [
        (Method::GET, session.location.clone()),
        (Method::PATCH, session.location.clone()),
        (Method::PUT, format!("{}?digest={digest}", session.location)),
        (Method::DELETE, session.location.clone()),
    ] {
        let body = if method == Method::GET { Bytes::new() } else { chunk.clone() };
        let answer = at(image, method.clone(), &path, &[], body).await;
        assert_refused(&answer, 404, "BLOB_UPLOAD_UNKNOWN", &format!("{what}: {method}"));
    }
}

/// 416 says how far the session is and where to go on; a range that does not fit its body is 400; neither changes the
/// session.
pub(crate) async fn out_of_order() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    let bytes = noise(1, 3 * CHUNK);
    let digest = sha256(&bytes);
    let session = image.begin(0).await.expect("a session");
    let chunk = |n: usize| bytes.slice(n * CHUNK..(n + 1) * CHUNK);
    let range = |n: usize| format!("{}-{}", n * CHUNK, (n + 1) * CHUNK - 1);
    for offset in 0..3 {
        for wrong in (0..3).filter(|n| *n != offset) {
            let what = format!("chunk {wrong} in place of {offset}");
            let answer = patch(&image, &session, Some(&range(wrong)), chunk(wrong)).await;
            assert_at(&answer, 416, &session, offset * CHUNK, &what);
            assert_refused(&answer, 416, "BLOB_UPLOAD_INVALID", &what);
            let answer = put(&image, &session, &digest, Some(&range(wrong)), chunk(wrong)).await;
            assert_at(&answer, 416, &session, offset * CHUNK, &format!("{what}, in a PUT"));
        }
        let (first, last) = (offset * CHUNK, (offset + 1) * CHUNK - 1);
        for wrong in [
            format!("bytes {first}-{last}/*"),
            format!("bytes={first}-{last}"),
            format!("{}-{first}", last),
            format!("{first}-"),
            format!("-{last}"),
            format!("{first}"),
            format!("{first}-{last}x"),
            format!("{first}-{}", last + 1),
            format!("{first}-{}", last - 1),
            format!("{first}-18446744073709551615"),
            format!("{first}-18446744073709551616"),
        ] {
            let answer = patch(&image, &session, Some(&wrong), chunk(offset)).await;
            assert_refused(&answer, 400, "BLOB_UPLOAD_INVALID", &wrong);
            let answer = at(&image, Method::GET, &session.location, &[], "").await;
            assert_at(&answer, 204, &session, offset * CHUNK, &format!("after {wrong}"));
        }
        let answer = patch(&image, &session, Some(&range(offset)), chunk(offset)).await;
        assert_at(&answer, 202, &session, (offset + 1) * CHUNK, "the right chunk");
    }
    let answer = put(&image, &session, &digest, None, Bytes::new()).await;
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, digest.as_str()));
    image.verify_blob(0, &digest).await.expect("what was sent");
    Ok(())
}

/// A body whose second half comes when the gate is opened, and what says that the first was taken off the client.
fn gated(bytes: &Bytes) -> (Body, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (began, begun) = oneshot::channel();
    let (open, gate) = oneshot::channel::<()>();
    let half = bytes.len() / 2;
    let (first, second) = (bytes.slice(..half), bytes.slice(half..));
    let steps = stream::unfold((0, Some(began), Some(gate)), move |(step, mut began, mut gate)| {
        let (first, second) = (first.clone(), second.clone());
        async move {
            let piece = match step {
                0 => first,
                1 => {
                    // Polled again: the first half is on its way.
                    let _ = began.take().map(|began| began.send(()));
                    if let Some(gate) = gate.take() {
                        let _ = gate.await;
                    }
                    second
                }
                _ => return None,
            };
            Some((Ok::<_, std::convert::Infallible>(piece), (step + 1, began, gate)))
        }
    });
    (Body::wrap_stream(steps), begun, open)
}

/// Of two requests with the same chunk one is taken and the other is told where the session is; without ranges both
/// are, one after the other.
pub(crate) async fn at_once() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    for with_range in [true, false] {
        let (one, two) = (noise(1, CHUNK), noise(2, CHUNK));
        let session = image.begin(0).await.expect("a session");
        let range = format!("0-{}", CHUNK - 1);
        let range = with_range.then_some(range.as_str());
        let (slow, begun, open) = gated(&one);
        let (fast, begun_fast, open_fast) = gated(&two);
        let first = patch(&image, &session, range, slow);
        let second = async {
            begun.await.expect("the first is under way");
            patch(&image, &session, range, fast).await
        };
        let gates = async {
            // The second may be answered before it has sent anything.
            let _ = begun_fast.await;
            let _ = (open.send(()), open_fast.send(()));
        };
        let (first, second, ()) = tokio::join!(first, second, gates);
        let both = Bytes::from([&one[..], &two[..]].concat());
        let other = Bytes::from([&two[..], &one[..]].concat());
        let now = at(&image, Method::GET, &session.location, &[], "").await;
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        if with_range {
            assert_eq!(statuses, [202, 416], "{first:?} {second:?}");
            assert_at(&now, 204, &session, CHUNK, "one chunk");
            let refused = if first.status == 416 { &first } else { &second };
            assert_at(refused, 416, &session, CHUNK, "the other one");
            let taken = if first.status == 202 { one } else { two };
            assert_eq!(put(&image, &session, &sha256(&taken), None, Bytes::new()).await.status, 201);
        } else {
            assert_eq!(statuses, [202, 202], "{first:?} {second:?}");
            assert_at(&now, 204, &session, 2 * CHUNK, "both chunks");
            let in_order = first.header("range") == format!("0-{}", CHUNK - 1);
            let whole = if in_order { both } else { other };
            assert_eq!(put(&image, &session, &sha256(&whole), None, Bytes::new()).await.status, 201);
        }
    }
    Ok(())
}

/// A session ends with a blob, with a wrong digest or when it is cancelled; then it is unknown, except that a client
/// which did not hear of the blob may ask again.
pub(crate) async fn over() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    let bytes = noise(1, CHUNK);
    let (digest, other) = (sha256(&bytes), sha256(b"other"));

    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, bytes.clone()).await.expect("a chunk");
    image.cancel(0, &session).await.expect("it is cancelled");
    assert_unknown(&image, &session, &digest, "cancelled").await;

    for (what, chunk, last) in
        [("at once", Bytes::new(), bytes.clone()), ("chunked", bytes.clone(), Bytes::new())]
    {
        let mut session = image.begin(0).await.expect("a session");
        if !chunk.is_empty() {
            image.patch(0, &mut session, chunk).await.expect("a chunk");
        }
        let answer = put(&image, &session, &other, None, last).await;
        assert_refused(&answer, 400, "DIGEST_INVALID", what);
        assert_unknown(&image, &session, &digest, &format!("{what}, with a wrong digest")).await;
        assert_eq!(ask(&image, Method::HEAD, &format!("blobs/{digest}")).await.status, 404, "{what}");
    }

    // What is no digest at all leaves the session as it is.
    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, bytes.clone()).await.expect("a chunk");
    for query in ["", "?digest=", "?digest=latest", "?digest=sha256:12", "?digest=md5:0123", "?other=1"] {
        let path = format!("{}{query}", session.location);
        assert_refused(&at(&image, Method::PUT, &path, &[], "").await, 400, "DIGEST_INVALID", query);
    }
    for attempt in 1..=3 {
        let last = if attempt == 3 { bytes.clone() } else { Bytes::new() };
        let answer = put(&image, &session, &digest, None, last).await;
        assert_eq!(answer.status, 201, "attempt {attempt}: {}", answer.text());
        assert_eq!(answer.header("docker-content-digest"), digest, "attempt {attempt}");
        assert_eq!(answer.header("location"), format!("/v2/l/app/blobs/{digest}"), "attempt {attempt}");
    }
    assert_unknown(&image, &session, &other, "it has its blob").await;
    image.verify_blob(0, &digest).await.expect("what was sent");
    Ok(())
}

/// The id of a session is of use only below the image where it was opened.
pub(crate) async fn of_another() -> Ending {
    let world = World::start(&[super::local("l", &Value::Null), super::local("m", &Value::Null)]).await;
    let image = world.image("l/app");
    let bytes = noise(1, CHUNK);
    let digest = sha256(&bytes);
    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, bytes.slice(..10)).await.expect("a chunk");
    let (_, id) = session.location.rsplit_once('/').expect("a path");
    for name in ["l/other", "l/app/below", "m/app"] {
        let there = Session { location: format!("/v2/{name}/blobs/uploads/{id}"), ..session.clone() };
        assert_unknown(&image, &there, &digest, name).await;
    }
    for id in ["0123456789abcdef0123456789abcdef", "x", "..%2f", "%00", &id.to_uppercase(), &format!("{id}0")]
    {
        let path = format!("/v2/l/app/blobs/uploads/{id}");
        let answer = at(&image, Method::GET, &path, &[], "").await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {} {}", answer.status, answer.text());
    }
    let answer = at(&image, Method::GET, &session.location, &[], "").await;
    assert_at(&answer, 204, &session, 10, "it is as it was");
    image.close(0, &session, &digest, bytes.slice(10..)).await.expect("it goes on");
    let other = world.image("l/other");
    other.push(Form::PostPut, &bytes, &Route::only(0)).await.expect("its own session");
    Ok(())
}
