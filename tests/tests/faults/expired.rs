//! A stored document has expired.

use artifactapi_model::PackageType;
use artifactapi_tests::http;
use reqwest::Method;
use tokio::time::Instant;

use crate::{
    bench::{Bench, HASTY, USUAL, check_cache},
    kinds::Kind,
};

/// Expired → 304: one conditional request, the same bytes.
pub(crate) async fn unchanged(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    assert_eq!(bench.asked_for_index(), 1);
    let sent = Instant::now();
    let again = bench.index().await;
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(again.body, cold.body);
    assert_eq!(again.header("etag"), cold.header("etag"));
    assert!(!again.header("etag").is_empty());
    // As old as its confirmation, which came after it was asked for.
    let age: u64 = again.header("age").parse().unwrap_or_else(|_| panic!("Age in seconds: {again:?}"));
    assert!(age <= sent.elapsed().as_secs(), "{again:?}");
    check_cache(&again, "REVALIDATED", "fwd=stale; fwd-status=304");
    assert_eq!(bench.asked_for_index(), 2, "one conditional request");
    let asked = bench.upstream.requests().into_iter().rfind(|r| bench.stock.index.1 == r.target);
    let asked = asked.expect("it was asked");
    if kind.package_type == PackageType::Docker {
        assert_eq!(asked.method, "HEAD", "tags are compared by HEAD");
    } else {
        assert!(asked.header("if-none-match").is_some(), "{asked:?}");
    }
    // What a client holds is confirmed without a body, and HEAD says what GET says.
    let held = [("if-none-match", cold.header("etag"))];
    let confirmed = http::request(Method::GET, &bench.index_url(), &held).await;
    assert_eq!((confirmed.status, confirmed.body.len()), (304, 0));
    let head = http::head(&bench.index_url()).await;
    assert_eq!((head.status, head.header("etag")), (200, cold.header("etag")));
    assert_eq!(head.header("content-length"), cold.body.len().to_string());
}

/// Expired → changed: the new version comes with the same request; files that do not change are not asked for.
pub(crate) async fn changed(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = bench.way_to_file().await;
    bench.check_file(&http::get(&file).await, "MISS");
    // With a usual lifetime nothing expires here.
    let fresh = bench.url(USUAL, bench.stock.index.0);
    assert!(http::get(&fresh).await.is_ok());

    (bench.stock.change)(&bench.upstream);
    let asked = bench.asked_for_index();
    let new = bench.index().await;
    assert!(new.is_ok(), "{new:?}");
    bench.stock.versions.check(&new, true);
    check_cache(&new, "MISS", "fwd=uri-miss; stored");
    assert_ne!(new.header("etag"), cold.header("etag"));
    let requests = if kind.package_type == PackageType::Docker { 2 } else { 1 };
    assert_eq!(bench.asked_for_index(), asked + requests);

    let held = http::get(&fresh).await;
    bench.stock.versions.check(&held, false);
    check_cache(&held, "HIT", "hit; ttl=");
    assert_eq!(bench.asked_for_index(), asked + requests, "a fresh document asks nothing");

    let asked = bench.asked_for_file();
    bench.check_file(&http::get(&file).await, "HIT");
    assert_eq!(bench.asked_for_file(), asked, "{HASTY}: immutable files do not expire");
}
