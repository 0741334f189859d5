//! Policy refuses what is asked for.

use artifactapi_model::PackageType;
use artifactapi_tests::{fixtures::oci, http};
use reqwest::Method;
use serde_json::json;

use crate::{
    Cell,
    bench::{Bench, HASTY},
    kinds::Kind,
};

/// RS-50: a blocked path is refused under every spelling and verb, stored or not, and the upstream is not asked.
pub(crate) async fn blocklist(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.cold_index().await;
    let file = bench.way_to_file().await;
    bench.check_file(&http::get(&file).await, "MISS");

    bench.reconfigure(&json!({ "blocklist": [bench.stock.block] }));
    http::get_until(&file, |answer| answer.status == 403).await;
    let asked = bench.upstream.requests().len();
    let mut spellings = vec![file.clone(), encoded(&file)];
    spellings.extend(bench.stock.aliases.iter().map(|path| bench.url(HASTY, path)));
    // The other repository has stored nothing: blocked there is blocked before the upstream is asked.
    spellings.extend(bench.stock.aliases.iter().map(|path| bench.url(crate::bench::USUAL, path)));
    for url in &mut spellings {
        // Some types answer an alias with a redirect to the name proper; that is where it must be refused.
        let first = http::get(url).await;
        if first.status == 301 {
            *url = format!("{}{}", bench.proxy.url(), first.header("location"));
        }
        kind.check_refused(&http::get(url).await, 403);
        let head = http::head(url).await;
        assert_eq!((head.status, head.body.len()), (403, 0), "HEAD {url}");
        let range = http::request(Method::GET, url, &[("range", "bytes=0-9")]).await;
        kind.check_refused(&range, 403);
    }
    assert_eq!(bench.upstream.requests().len(), asked, "what is blocked is not asked for");

    bench.reconfigure(&json!({}));
    let open = http::get_until(&file, |answer| answer.status == 200).await;
    bench.check_file(&open, "HIT");
    assert!(http::get(&encoded(&file)).await.is_ok(), "the encoded spelling is one that works");
}

/// The same URL with the last letter of its path percent-encoded.
fn encoded(url: &str) -> String {
    let path = url.split('?').next().unwrap_or(url);
    let at = path.rfind(|c: char| c.is_ascii_alphabetic()).expect("a letter");
    format!("{}%{:02X}{}", &url[..at], url.as_bytes()[at], &url[at + 1..])
}

/// What only some types know.
pub(crate) fn further() -> Vec<(PackageType, &'static str, Cell)> {
    vec![(PackageType::Docker, "rs_51_banned_tags", |kind| Box::pin(banned_tags(kind)))]
}

/// RS-51: a banned tag is refused on GET and HEAD, stored or not, and left out of `tags/list`; its manifest can
/// still be had by digest, which names bytes and no tag.
async fn banned_tags(kind: Kind) {
    let bench = Bench::new(kind).await;
    let tag = |tag: &str| bench.url(HASTY, &format!("{}/manifests/{tag}", oci::IMAGE));
    let list = bench.url(HASTY, &format!("{}/tags/list", oci::IMAGE));
    let cold = bench.cold_index().await;
    assert_eq!(http::get(&list).await.json()["tags"], json!(["1.0"]));

    bench.reconfigure(&json!({ "docker": { "banTags": ["1[.]0", "never.*"] } }));
    http::get_until(&tag("1.0"), |answer| answer.status == 403).await;
    let asked = bench.asked_for_index();
    for name in ["1.0", "1%2E0", "never-seen"] {
        kind.check_refused(&http::get(&tag(name)).await, 403);
        let head = http::head(&tag(name)).await;
        assert_eq!((head.status, head.body.len()), (403, 0), "HEAD {name}");
    }
    assert_eq!(bench.asked_for_index(), asked, "a banned tag is not asked for");
    assert_eq!(http::get(&list).await.json()["tags"], json!([]));
    let by_digest = http::get(&tag(&oci::digest(&cold.body))).await;
    assert!(by_digest.is_ok() && by_digest.body == cold.body, "{by_digest:?}");

    bench.reconfigure(&json!({}));
    http::get_until(&tag("1.0"), |answer| answer.status == 200).await;
    assert_eq!(http::get(&list).await.json()["tags"], json!(["1.0"]));
}
