//! Tag lists of images name the tags that can be pulled, under a Virtual as under the Remote itself (RS-48, RS-51).

use std::collections::BTreeSet;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Answer, Behaviour, Upstream,
    fixtures::oci::{self, Image},
    http::{self, Fetched},
};
use serde_json::{Value, json};

use crate::{
    Stand,
    hidden::{hiding, texts},
};

const TAGS: [&str; 6] = ["1.0", "1.1", "2.0", "rc-1", "rc-2", "stable"];

/// An image with [`TAGS`], whose list comes in pages as the OCI distribution specification has them.
fn stock(upstream: &Upstream, text: &str) -> Image {
    let image = Image::of_layer(text.as_bytes());
    image.stock(upstream, oci::IMAGE, &TAGS);
    let list = format!("v2/{}/tags/list", oci::IMAGE);
    let page = Behaviour::handler(|request| {
        let (most, last) = (request.parameter("n"), request.parameter("last"));
        let most = most.and_then(|n| n.parse().ok()).unwrap_or(TAGS.len());
        let left = || TAGS.into_iter().filter(|tag| last.as_deref().is_none_or(|last| *tag > last));
        let tags: Vec<_> = left().take(most).collect();
        let answer = Answer::json(&json!({ "name": oci::IMAGE, "tags": tags }));
        match tags.last() {
            Some(end) if left().count() > tags.len() => {
                let link = format!("</v2/{}/tags/list?n={most}&last={end}>; rel=\"next\"", oci::IMAGE);
                answer.with("link", link)
            }
            _ => answer,
        }
    });
    upstream.script(&list, page);
    image
}

/// All tags that the pages of `n` at `base` name, and how many pages there are.
async fn walked(stand: &Stand, base: &str, n: usize) -> (Vec<String>, usize) {
    let (mut tags, mut pages, mut next) = (Vec::new(), 0, Some(format!("{base}tags/list?n={n}")));
    while let Some(path) = next.take() {
        let page = http::get(&format!("{}{path}", stand.proxy.url())).await;
        assert!(page.is_ok() && pages <= TAGS.len(), "{path}: {page:?}");
        let named = texts(page.json()["tags"].as_array().into_iter().flatten());
        assert!(named.len() <= n, "{path}: {named:?}");
        tags.extend(named);
        pages += 1;
        let link = page.header("link");
        next = link.split(['<', '>']).nth(1).map(str::to_owned);
        assert!(next.as_ref().is_none_or(|next| next.starts_with(&format!("{base}tags/list?"))), "{link}");
    }
    (tags, pages)
}

async fn pulled(stand: &Stand, base: &str, reference: &str) -> Fetched {
    http::get(&format!("{}{base}manifests/{reference}", stand.proxy.url())).await
}

async fn names_what_can_be_pulled(policy: &Value, want: &[&str]) {
    let stand = hiding(PackageType::Docker, policy).await;
    let image = stock(&stand.first, "one");
    stock(&stand.second, "two");
    for repository in ["v", "first"] {
        let base = format!("/v2/{repository}/{}/", oci::IMAGE);
        let list = http::get(&format!("{}{base}tags/list", stand.proxy.url())).await.json();
        assert_eq!((&list["name"], &list["tags"]), (&json!(base[4..].trim_end_matches('/')), &json!(want)));
        for n in 1..=TAGS.len() {
            let pages = (want.iter().map(|tag| (*tag).to_owned()).collect(), TAGS.len().div_ceil(n));
            assert_eq!(walked(&stand, &base, n).await, pages, "{base} by {n}");
        }
        let none = http::get(&format!("{}{base}tags/list?n=0", stand.proxy.url())).await;
        assert_eq!((&none.json()["tags"], none.header("link")), (&json!([]), ""));
        // Listed means that it can be pulled, and the other way round.
        let mut can_be_pulled = BTreeSet::new();
        for tag in TAGS {
            let answer = pulled(&stand, &base, tag).await;
            let head = http::head(&format!("{}{base}manifests/{tag}", stand.proxy.url())).await;
            assert_eq!(answer.status, head.status, "{tag}");
            match answer.status {
                200 => drop(can_be_pulled.insert(tag)),
                status => assert_eq!((status, &answer.json()["errors"][0]["code"]), (403, &json!("DENIED"))),
            }
        }
        assert_eq!(can_be_pulled, want.iter().copied().collect(), "{repository} {policy}");
        // A digest names bytes and no tag.
        let digest = pulled(&stand, &base, &oci::digest(&image.index)).await;
        assert!(digest.is_ok() && digest.body == image.index, "{digest:?}");
    }
    stand.told_nobody();
}

#[tokio::test]
async fn rs_51_tag_lists_leave_banned_tags_out() {
    let banned = json!({ "docker": { "banTags": ["rc-.*", "1[.]0"] } });
    names_what_can_be_pulled(&banned, &["1.1", "2.0", "stable"]).await;
}

#[tokio::test]
async fn rs_48_tag_lists_name_no_tag_that_patterns_refuse() {
    let blocked = json!({ "blocklist": ["/manifests/[0-9]"], "docker": { "banTags": ["stable"] } });
    names_what_can_be_pulled(&blocked, &["rc-1", "rc-2"]).await;
    let let_through = json!({ "patterns": ["/tags/list$", "/manifests/(1[.]1|sha256:)"] });
    names_what_can_be_pulled(&let_through, &["1.1"]).await;
}

#[tokio::test]
async fn referrers_are_named_by_digest_and_stay() {
    let stand = hiding(PackageType::Docker, &json!({ "docker": { "banTags": [".*"] } })).await;
    let image = stock(&stand.first, "one");
    let media_type = "application/vnd.oci.image.index.v1+json";
    let referrers = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "manifests": [{ "mediaType": "m", "digest": oci::digest(b"s"), "size": 1, "artifactType": "a" }],
    });
    let below = format!("{}/referrers/{}", oci::IMAGE, oci::digest(&image.index));
    stand.first.put_with(&format!("v2/{below}"), referrers.to_string(), &[("content-type", media_type)]);
    for repository in ["v", "first"] {
        let got = http::get(&format!("{}/v2/{repository}/{below}", stand.proxy.url())).await;
        assert!(got.is_ok() && got.json() == referrers, "{got:?}");
    }
    stand.told_nobody();
}
