//! Lists page by page: tags, images, referrers (RS-68).

use std::collections::BTreeSet;

use artifactapi_tests::{
    http::Fetched,
    registry::{Form, Image, NewManifest, Route, image_of},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, ask, assert_refused, at, document, local, send};
use crate::Ending;

const PAGE: usize = 1_000;
/// One more than two pages would be many; this is one more than one.
const MANY: usize = PAGE + 3;

/// Path of the next page.
fn next(answer: &Fetched) -> Option<String> {
    let link = answer.header("link");
    if link.is_empty() {
        return None;
    }
    let (path, rest) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("a Link");
    assert_eq!(rest, "; rel=\"next\"", "{link}");
    Some(path.to_owned())
}

/// Every page from `path` on: their entries below `field`.
async fn pages(image: &Image, path: &str, field: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut path) = (Vec::new(), Some(path.to_owned()));
    while let Some(at_path) = path {
        let answer = at(image, Method::GET, &at_path, &[], "").await;
        assert_eq!(answer.status, 200, "{at_path}: {}", answer.text());
        let entries = answer.json()[field].as_array().cloned().unwrap_or_else(|| panic!("{}", answer.text()));
        pages.push(entries);
        path = next(&answer);
        assert!(pages.len() <= 50, "{at_path}: there is no end");
    }
    pages
}

/// An image with a manifest and these tags.
async fn tagged(image: &Image, tags: &[String]) -> NewManifest {
    let config = Bytes::from_static(b"{}");
    image.push(Form::PostPut, &config, &Route::only(0)).await.expect("a config");
    let manifest = image_of(&config, &[]);
    let headers = [("content-type", manifest.media_type)];
    for some in tags.chunks(64) {
        let rest = format!("manifests/{}?tag={}", manifest.digest(), some.join("&tag="));
        let answer = send(image, Method::PUT, &rest, &headers, manifest.body.clone()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.headers.get_all("oci-tag").iter().count(), some.len(), "{answer:?}");
    }
    manifest
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Whatever `n` and `last` are, the answer is a list or a refusal.
pub(crate) async fn odd() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    let all = ["1", "A", "_", "a", "a-b", "b"];
    tagged(&image, &texts(&["b", "a", "A", "_", "1", "a-b"])).await;
    for (list, all) in [("tags/list", json!(all)), ("_catalog", json!(["l/app"]))] {
        let path = |query: &str| match list {
            "_catalog" => format!("/v2/_catalog?{query}"),
            _ => format!("/v2/{}/{list}?{query}", image.name()),
        };
        let field = if list == "_catalog" { "repositories" } else { "tags" };
        let page = async |query: &str| {
            let answer = at(&image, Method::GET, &path(query), &[], "").await;
            assert_eq!(answer.status, 200, "{list}?{query}: {}", answer.text());
            (answer.json()[field].clone(), next(&answer))
        };
        assert_eq!(page("n=0").await, (json!([]), None), "{list}: nothing was asked for");
        for n in
            ["9223372036854775808", "18446744073709551615", "340282366920938463463374607431768211456", "0007"]
        {
            assert_eq!(page(&format!("n={n}")).await, (all.clone(), None), "{list}: n={n}");
        }
        for n in ["-1", "+1", "1.5", "0x10", "1e3", "ten", "", "%31%20", "%00"] {
            let answer = at(&image, Method::GET, &path(&format!("n={n}")), &[], "").await;
            assert_refused(&answer, 400, "PAGINATION_NUMBER_INVALID", &format!("{list}: n={n}"));
        }
        for (last, is_before) in [
            ("", true),
            ("%20", true),
            ("%00", true),
            ("%27%20OR%20%271%27=%271", true),
            ("%25", true),
            ("zzz", false),
            ("%7F", false),
            ("%FF%FE", false),
            ("%F0%9F%90%99", false),
        ] {
            let wanted = if is_before { all.clone() } else { json!([]) };
            assert_eq!(page(&format!("last={last}")).await, (wanted, None), "{list}: last={last}");
        }
        let long = "z".repeat(8_000);
        assert_eq!(page(&format!("last={long}")).await, (json!([]), None), "{list}: a long one");
    }
    for (last, wanted) in
        [("a", vec!["a-b", "b"]), ("a-", vec!["a-b", "b"]), ("Z", vec!["_", "a", "a-b", "b"])]
    {
        let answer = ask(&image, Method::GET, &format!("tags/list?last={last}")).await;
        assert_eq!(answer.json()["tags"], json!(wanted), "after {last}");
    }
    for last in ["x", "sha256:12", "%00"] {
        let subject = artifactapi_tests::registry::sha256(b"x");
        let answer = ask(&image, Method::GET, &format!("referrers/{subject}?last={last}")).await;
        assert_refused(&answer, 400, "DIGEST_INVALID", last);
    }
    Ok(())
}

/// Following the links gives everything once and in order, however small the pages are.
pub(crate) async fn whole() -> Ending {
    let secret = json!({ "access": { "read": "authenticated", "anonymousWrite": false } });
    let actions = json!({ "grants": [{ "repositories": ["hidden"], "actions": ["pull", "push"] }] });
    let locals = [local("l", &Value::Null), local("l-2", &Value::Null), local("a", &Value::Null)];
    let more = [local("hidden", &secret), document("Robot", "owner", &actions)];
    let world = World::start(&[&locals[..], &more].concat()).await;
    let names = ["l/app", "l/app/below", "l/b", "l-2/app", "a/z", "a/a"];
    let tags = texts(&["v1", "v10", "v2", "latest", "_x", "A", "sha256-abc.sig"]);
    for name in names {
        tagged(&world.image(name), &tags).await;
    }
    let config = artifactapi_tests::registry::sha256(b"{}");
    let owner = world.authorization("owner").await;
    let rest = format!("blobs/uploads/?digest={config}");
    let hidden = world.image("hidden/app");
    assert_eq!(send(&hidden, Method::POST, &rest, &[("authorization", &owner)], "{}").await.status, 201);
    let image = world.image("l/app");
    let sorted = |list: &[String]| json!(list.iter().collect::<BTreeSet<_>>());
    for n in [1, 2, 3, 6, 7, 8] {
        let path = format!("/v2/{}/tags/list?n={n}", image.name());
        let tag_pages = pages(&image, &path, "tags").await;
        assert_eq!(json!(tag_pages.concat()), sorted(&tags), "tags by {n}");
        assert_eq!(tag_pages.len(), tags.len().div_ceil(n), "tags by {n}");
        let image_pages = pages(&image, &format!("/v2/_catalog?n={n}"), "repositories").await;
        // Local by local.
        let wanted = ["a/a", "a/z", "l/app", "l/app/below", "l/b", "l-2/app"];
        assert_eq!(json!(image_pages.concat()), json!(wanted), "images by {n}");
        assert_eq!(image_pages.len(), names.len().div_ceil(n), "images by {n}");
    }
    Ok(())
}

/// A page has a thousand entries at most, and the rest is behind its link.
pub(crate) async fn bounded() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let image = world.image("l/app");
    let tags: Vec<_> = (0..MANY).map(|n| format!("t{n:05}")).collect();
    let subject = tagged(&image, &tags).await;
    for query in ["", "?n=1003", "?n=9223372036854775808"] {
        let path = format!("/v2/{}/tags/list{query}", image.name());
        let found = pages(&image, &path, "tags").await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [PAGE, MANY - PAGE], "{query}");
        assert_eq!(json!(found.concat()), json!(tags), "{query}");
    }
    let pushed: BTreeSet<String> = stream::iter(0..MANY)
        .map(|n| {
            let (image, kind) =
                (image.clone(), if n % 2 == 0 { "application/even" } else { "application/odd" });
            let base = image_of(&Bytes::from_static(b"{}"), &[]);
            let about = base.about(&subject, kind).with("annotations", json!({ "n": n.to_string() }));
            async move { image.put_manifest(0, &about.digest(), &about).await.expect("a referrer").digest }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let path = format!("/v2/{}/referrers/{}", image.name(), subject.digest());
    let found = pages(&image, &path, "manifests").await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [PAGE, MANY - PAGE]);
    let entries = found.concat();
    let digests: BTreeSet<_> =
        entries.iter().filter_map(|it| Some(it["digest"].as_str()?.to_owned())).collect();
    assert_eq!((digests.len(), &digests), (MANY, &pushed), "each once");
    let last = found[0].last().and_then(|it| it["digest"].as_str()).expect("a digest");
    // A filter is kept by the link.
    for (query, count) in [("artifactType=application%2Feven", MANY.div_ceil(2)), ("artifactType=none", 0)] {
        let filtered = pages(&image, &format!("{path}?{query}"), "manifests").await;
        assert_eq!(filtered.concat().len(), count, "{query}");
    }
    let rest = ask(&image, Method::GET, &format!("referrers/{}?last={last}", subject.digest())).await;
    assert_eq!(rest.json()["manifests"].as_array().map(Vec::len), Some(MANY - PAGE));
    Ok(())
}
