//! Where connections go (RS-30 to RS-33). The canary is a listener on loopback, which the policy closes.

use artifactapi_model::{ports::upstream::Layer, repository::FileHosts};

use super::*;
use crate::testing::{
    loopback,
    server::{Server, Then, raw, reply},
    spec,
};

/// A redirect to `location`, whatever was asked.
async fn redirecting_to(location: String) -> Server {
    Server::start(move |_| reply(302, &[("Location", &location)], "")).await
}

#[tokio::test]
async fn rs_30_base_url_on_a_closed_address_needs_allow_cidrs() {
    let canary = Server::start(|_| reply(200, &[], "secret")).await;
    let names = Names::new(&[("canary.test", &[&["127.0.0.1"]])]);
    for base in [canary.url("/"), canary.url_as("canary.test", "/")] {
        let upstream = upstream_with(clock(), names.clone());
        let error = refused(send(&upstream, &spec(&base), get(&base)).await);
        assert!(matches!(&error, UpstreamError::Forbidden { .. }), "{error:?}");
        assert!(error.to_string().contains("loopback; egress.allowCIDRs must list it"), "{error}");
        assert!(canary.requests().is_empty());
        let allowed = send(&upstream, &loopback(&base), get(&base)).await;
        assert_eq!(allowed.unwrap().status, 200, "{base}");
        assert_eq!(canary.requests().len(), 1);
        canary.forget();
    }
}

/// RS-30 on every hop: the upstream is allowed, what it leads to is not.
#[tokio::test]
async fn rs_30_redirects_and_index_files_are_checked_like_the_first_request() {
    let canary = Server::start(|_| reply(200, &[], "secret")).await;
    let port = canary.address.port();
    for location in [
        format!("http://localhost.test:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://0:{port}/"),
        "http://10.0.0.1/".to_owned(),
    ] {
        let server = redirecting_to(location.clone()).await;
        let mut spec = spec(&server.url("/"));
        // The first hop's address only, so that the canary at 127.0.0.2 is closed.
        spec.egress.allow_cidrs = vec!["127.0.0.1/32".parse().unwrap()];
        let upstream = upstream_with(clock(), Names::new(&[("localhost.test", &[&["127.0.0.2"]])]));
        for result in [
            send(&upstream, &spec, get(&server.url("/a"))).await,
            send(&upstream, &spec, from_index(&location)).await,
        ] {
            let error = refused(result);
            assert!(matches!(error, UpstreamError::Forbidden { .. }), "{location}: {error:?}");
        }
    }
    assert!(canary.requests().is_empty());
}

/// RS-31: the name is public when it is checked and loopback when it is asked again.
#[tokio::test]
async fn rs_31_rebinding_never_reaches_a_closed_address() {
    let canary = Server::start(|_| reply(200, &[], "secret")).await;
    let base = canary.url_as("rebind.test", "/");
    // 127.0.0.3 stands for the public address: allowed, and nobody listens there.
    let public = &["127.0.0.3"][..];
    let private = &["127.0.0.1"][..];
    let both = &["127.0.0.3", "127.0.0.1"][..];
    for answers in [&[public, private][..], &[private, public], &[both, private], &[both]] {
        let mut spec = spec(&base);
        spec.egress.allow_cidrs = vec!["127.0.0.3/32".parse().unwrap()];
        for _ in 0..50 {
            let upstream = upstream_with(clock(), Names::new(&[("rebind.test", answers)]));
            for _ in 0..3 {
                assert!(send(&upstream, &spec, get(&base)).await.is_err());
            }
        }
    }
    assert!(canary.requests().is_empty());
}

#[tokio::test]
async fn rs_32_chains_that_end_in_a_refusal() {
    let looping = Server::start(|request| {
        let next = if request.starts_with("GET /a") { "/b" } else { "/a" };
        reply(302, &[("Location", next)], "")
    })
    .await;
    let endless = Server::start(|request| {
        let next = format!("{}x", request.split(' ').nth(1).unwrap());
        reply(302, &[("Location", &next)], "")
    })
    .await;
    for (server, requests, word) in [(looping, 3, "same chain"), (endless, 6, "more than 5")] {
        let spec = loopback(&server.url("/"));
        let error = refused(send(&upstream(), &spec, get(&server.url("/a?c4n4ry"))).await);
        assert!(matches!(&error, UpstreamError::Redirect(why) if why.contains(word)), "{error:?}");
        assert!(!error.to_string().contains("c4n4ry"));
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn redirects_are_followed_to_the_last_answer() {
    let cdn = Server::start(|_| reply(200, &[], "blob")).await;
    let server = redirecting_to(cdn.url("/b?sig=1#frag")).await;
    let spec = loopback(&server.url("/"));
    let response = send(&upstream(), &spec, get(&server.url("/a"))).await.unwrap();
    assert_eq!(response.url.as_str(), cdn.url("/b?sig=1"));
    assert_eq!(read(response).await.0, b"blob");
    let response = send(&upstream(), &spec, head(&server.url("/a"))).await.unwrap();
    assert_eq!(response.status, 200);
    assert!(cdn.requests()[1].starts_with("HEAD /b?sig=1 "));
}

#[tokio::test]
async fn file_hosts_narrow_what_an_index_may_name() {
    let files = Server::start(|_| reply(200, &[], "file")).await;
    let mut spec = loopback("http://127.0.0.1:9/");
    let upstream = upstream();
    assert!(send(&upstream, &spec, from_index(&files.url("/a"))).await.is_ok());
    assert!(matches!(
        send(&upstream, &spec, get(&files.url("/a"))).await,
        Err(UpstreamError::Forbidden { .. })
    ));
    spec.file_hosts = FileHosts::Only(vec!["files.test".into()]);
    let error = refused(send(&upstream, &spec, from_index(&files.url("/a"))).await);
    assert!(error.to_string().contains("fileHosts"), "{error}");
    spec.file_hosts = FileHosts::Only(vec![files.address.to_string()]);
    assert!(send(&upstream, &spec, from_index(&files.url("/a"))).await.is_ok());
}

#[tokio::test]
async fn an_unknown_name_is_a_dns_failure() {
    let error =
        refused(send(&upstream(), &spec("http://nowhere.test/"), get("http://nowhere.test/?c4n4ry")).await);
    assert!(matches!(error, UpstreamError::Broken { layer: Layer::Dns, .. }), "{error:?}");
    assert!(!error.to_string().contains("c4n4ry"));
}

/// RS-33: the proxy is on a private address, reached by name; the target's address is never looked up.
#[tokio::test]
async fn rs_33_an_egress_proxy_on_a_private_address() {
    let proxy = Server::start(|_| reply(200, &[], "through")).await;
    let mut spec = spec("http://pypi.example/");
    spec.egress.proxy_url =
        Url::parse(&format!("http://user:c4n4ry@proxy.test:{}", proxy.address.port())).ok();
    let upstream = upstream_with(clock(), Names::new(&[("proxy.test", &[&["127.0.0.1"]])]));
    let response = send(&upstream, &spec, get("http://pypi.example/simple/")).await.unwrap();
    assert_eq!(read(response).await.0, b"through");
    let request = &proxy.requests()[0];
    assert!(request.starts_with("GET http://pypi.example/simple/ "), "{request}");
    assert!(crate::testing::server::header(request, "proxy-authorization").is_some());

    for target in ["http://127.0.0.1:1/", "http://localhost/", "http://10.0.0.1/", "http://kubernetes/"] {
        let error = refused(send(&upstream, &spec, from_index(target)).await);
        assert!(matches!(error, UpstreamError::Forbidden { .. }), "{target}: {error:?}");
    }
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn rs_33_a_failing_proxy_is_named() {
    let proxy = Server::start(|_| raw("HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n", Then::Continue)).await;
    for base in ["http://pypi.example/", "https://pypi.example/"] {
        let mut spec = spec(base);
        spec.egress.proxy_url = Url::parse(&format!("http://u:c4n4ry@{}", proxy.address)).ok();
        let error = refused(send(&upstream(), &spec, get(base)).await);
        assert!(matches!(error, UpstreamError::Broken { layer: Layer::Proxy, .. }), "{error:?}");
        assert!(!error.to_string().contains("c4n4ry"), "{error}");
    }
}
