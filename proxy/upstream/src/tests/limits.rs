//! Pauses, breakers and queues, seen from outside.

use std::time::Duration;

use artifactapi_model::{RepoName, ports::upstream::Layer};
use http::StatusCode;

use super::*;
use crate::testing::{
    loopback,
    server::{Server, Then, raw, reply},
};
use crate::{BreakerState, Observer};

#[tokio::test]
async fn rs_91_a_host_that_asked_for_a_pause_gets_it() {
    let server = Server::start(|_| reply(429, &[("Retry-After", "120")], "slow down")).await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let upstream = upstream_with(clock.clone(), Names::new(&[]));
    let answered = send(&upstream, &spec, head(&server.url("/a"))).await.unwrap();
    assert_eq!(answered.status, 429);
    for request in [get(&server.url("/a")), head(&server.url("/b"))] {
        let error = refused(send(&upstream, &spec, request).await);
        assert!(matches!(error, UpstreamError::Paused { retry_after, .. } if retry_after.as_secs() == 120));
    }
    assert_eq!(server.requests().len(), 1);
    clock.advance(Duration::from_secs(120));
    assert!(send(&upstream, &spec, get(&server.url("/a"))).await.is_ok());
}

#[tokio::test]
async fn rs_91_a_pause_of_a_twin_counts_too() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let upstream = upstream_with(clock.clone(), Names::new(&[]));
    upstream.pause(&server.address.to_string(), clock.now() + Duration::from_secs(9));
    assert!(matches!(
        send(&upstream, &spec, get(&server.url("/a"))).await,
        Err(UpstreamError::Paused { .. })
    ));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn rs_94_five_failures_open_the_breaker_and_a_probe_closes_it() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let server = Server::start({
        let broken = broken.clone();
        move |_| match broken.load(std::sync::atomic::Ordering::SeqCst) {
            true => raw("nonsense\r\n\r\n", Then::Close),
            false => reply(200, &[], "ok"),
        }
    })
    .await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let upstream = upstream_with(clock.clone(), Names::new(&[]));
    for _ in 0..5 {
        let error = refused(send(&upstream, &spec, get(&server.url("/a"))).await);
        assert!(matches!(error, UpstreamError::Broken { layer: Layer::Http, .. }), "{error:?}");
    }
    let error = refused(send(&upstream, &spec, get(&server.url("/a"))).await);
    assert!(matches!(error, UpstreamError::BreakerOpen { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 5, "nothing is sent while it is open");

    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    clock.advance(Duration::from_secs(30));
    for _ in 0..2 {
        assert_eq!(send(&upstream, &spec, get(&server.url("/a"))).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn rs_94_cut_bodies_open_the_breaker_too() {
    let server = Server::start(|_| raw("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhe", Then::Close)).await;
    let (upstream, spec) = (upstream(), loopback(&server.url("/")));
    for _ in 0..5 {
        let response = send(&upstream, &spec, get(&server.url("/a"))).await.unwrap();
        assert!(read(response).await.1.is_some());
    }
    let error = refused(send(&upstream, &spec, get(&server.url("/a"))).await);
    assert!(matches!(error, UpstreamError::BreakerOpen { .. }), "{error:?}");
}

/// RS-71: a place is held until the body ends, or is dropped.
#[tokio::test]
async fn rs_71_max_concurrent_counts_bodies() {
    let server = Server::start(|_| reply(200, &[], "hello")).await;
    let mut spec = loopback(&server.url("/"));
    spec.max_concurrent = 1;
    // The limit bounds whole exchanges too: only the one that waits in vain has a short one.
    let mut hasty = spec.clone();
    hasty.timeouts.first_byte = Duration::from_millis(50);
    let upstream = upstream();
    let held = send(&upstream, &spec, get(&server.url("/a"))).await.unwrap();
    let error = refused(send(&upstream, &hasty, get(&server.url("/b"))).await);
    assert!(matches!(error, UpstreamError::Saturated), "{error:?}");
    drop(held);
    let second = send(&upstream, &spec, get(&server.url("/b"))).await.unwrap();
    assert_eq!(read(second).await.0, b"hello");
    assert!(send(&upstream, &spec, get(&server.url("/c"))).await.is_ok());
}

/// Writes down what it is told.
#[derive(Default)]
struct Notebook(Mutex<Vec<String>>);

impl Observer for Notebook {
    fn on_request(
        &self,
        remote: &RepoName,
        host: &str,
        outcome: Result<StatusCode, &UpstreamError>,
        _duration: Duration,
    ) {
        let outcome = outcome.map_or("failed".to_owned(), |status| status.as_u16().to_string());
        self.0.lock().unwrap().push(format!("{remote} {host} {outcome}"));
    }

    fn on_breaker(&self, host: &str, state: BreakerState) {
        self.0.lock().unwrap().push(format!("{host} {state:?}"));
    }

    fn on_pause(&self, host: &str, until: Timestamp) {
        self.0.lock().unwrap().push(format!("{host} paused until {until}"));
    }
}

#[tokio::test]
async fn the_observer_is_told_about_requests_breakers_and_pauses() {
    let server = Server::start(|request| match request.starts_with("GET /busy") {
        true => reply(503, &[("Retry-After", "1")], ""),
        false => raw("nonsense\r\n\r\n", Then::Close),
    })
    .await;
    let (clock, notebook) = (clock(), Arc::new(Notebook::default()));
    let upstream = HttpUpstream::with_resolver(clock.clone(), notebook.clone(), Names::new(&[]));
    let spec = loopback(&server.url("/"));
    send(&upstream, &spec, get(&server.url("/busy"))).await.unwrap();
    clock.advance(Duration::from_secs(1));
    for _ in 0..5 {
        assert!(send(&upstream, &spec, get(&server.url("/a"))).await.is_err());
    }
    let host = server.address;
    let failed = format!("upstream {host} failed");
    assert_eq!(
        *notebook.0.lock().unwrap(),
        [
            format!("upstream {host} 503"),
            format!("{host} paused until 1700000001000ms"),
            failed.clone(),
            failed.clone(),
            failed.clone(),
            failed,
            format!("{host} Open"),
        ]
    );
}

/// What one Remote of a host runs into by its own settings, five times and more.
async fn fails_often(upstream: &HttpUpstream, spec: &RemoteSpec, request: &UpstreamRequest) {
    for _ in 0..7 {
        match send(upstream, spec, request.clone()).await {
            Ok(response) => assert!(read(response).await.1.is_some(), "{}", request.url),
            Err(error) => assert!(!matches!(error, UpstreamError::BreakerOpen { .. }), "{error}"),
        }
    }
}

/// Breakers are everybody's: what is too slow for one Remote is so for nobody else.
#[tokio::test]
async fn rs_94_a_strict_limit_of_one_remote_shuts_no_host() {
    let server = Server::start(|request| match request {
        request if request.starts_with("GET /mute") => raw("", Then::Stall),
        request if request.starts_with("GET /cut") => {
            raw("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhe", Then::Stall)
        }
        _ => reply(200, &[], "ok"),
    })
    .await;
    let (usual, upstream) = (loopback(&server.url("/")), upstream());
    let mut strict = usual.clone();
    strict.timeouts.first_byte = Duration::from_millis(20);
    fails_often(&upstream, &strict, &get(&server.url("/mute"))).await;
    let mut strict = usual.clone();
    strict.timeouts.idle = Duration::from_millis(20);
    fails_often(&upstream, &strict, &get(&server.url("/cut"))).await;
    assert_eq!(send(&upstream, &usual, get(&server.url("/a"))).await.unwrap().status, 200);
}

/// Nor does an egress proxy speak for the host behind it, whether it is dead, cuts bodies or answers in its place.
#[tokio::test]
async fn rs_94_a_proxy_of_one_remote_shuts_no_host() {
    let server = Server::start(|_| reply(200, &[], "ok")).await;
    let pausing = Server::start(|_| reply(503, &[("Retry-After", "60")], "")).await;
    let failing = Server::start(|_| reply(502, &[], "")).await;
    let cutting = Server::start(|_| raw("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhe", Then::Close)).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (usual, upstream) = (loopback(&server.url("/")), upstream());
    for proxy in [dead, pausing.address, failing.address, cutting.address] {
        let mut proxied = usual.clone();
        proxied.egress.proxy_url = Url::parse(&format!("http://{proxy}")).ok();
        let mut error = None;
        for _ in 0..7 {
            error = match send(&upstream, &proxied, get(&server.url("/a"))).await {
                Ok(response) => read(response).await.1,
                Err(error) => Some(error),
            };
        }
        // Of those who go there by the same proxy it is kept all the same.
        let Some(UpstreamError::BreakerOpen { host, .. } | UpstreamError::Paused { host, .. }) = error else {
            panic!("{proxy}: {error:?}")
        };
        assert_eq!(host, server.address.to_string(), "clients do not hear of proxies");
        assert_eq!(send(&upstream, &usual, get(&server.url("/a"))).await.unwrap().status, 200, "{proxy}");
    }
}

/// A realm is an upstream's word about somebody else's host.
#[tokio::test]
async fn rs_94_a_host_that_is_no_token_service_stays_in_use() {
    let other = Server::start(|_| reply(200, &[], "<html></html>")).await;
    let realm = format!("Bearer realm=\"{}\",service=\"x\"", other.url("/"));
    let server = Server::start(move |_| reply(401, &[("WWW-Authenticate", &realm)], "")).await;
    let upstream = upstream();
    fails_often(&upstream, &loopback(&server.url("/")), &get(&server.url("/v2/"))).await;
    assert_eq!(other.requests().len(), 7);
    assert_eq!(send(&upstream, &loopback(&other.url("/")), get(&other.url("/a"))).await.unwrap().status, 200);
}

/// Redirects and challenges count as answers, although nobody reads them to their end.
#[tokio::test]
async fn rs_94_a_host_that_answers_between_failures_stays_in_use() {
    let cdn = Server::start(|_| reply(200, &[], "")).await;
    let location = cdn.url("/");
    let server = Server::start(move |request| match request {
        request if request.starts_with("GET /302") => reply(302, &[("Location", &location)], "moved"),
        request if request.starts_with("GET /404") => reply(404, &[], "none"),
        request if request.starts_with("HEAD /") => {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Then::Continue)
        }
        _ => reply(500, &[], ""),
    })
    .await;
    let spec = loopback(&server.url("/"));
    for healthy in [get(&server.url("/302")), get(&server.url("/404")), head(&server.url("/a"))] {
        let upstream = upstream();
        for _ in 0..6 {
            assert!(send(&upstream, &spec, healthy.clone()).await.is_ok(), "{}", healthy.url);
            assert_eq!(send(&upstream, &spec, get(&server.url("/500"))).await.unwrap().status, 500);
        }
    }
}

#[tokio::test]
async fn a_closed_port_is_a_connect_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/?", listener.local_addr().unwrap());
    drop(listener);
    let error = refused(send(&upstream(), &loopback(&base), get(&format!("{base}c4n4ry"))).await);
    assert!(matches!(error, UpstreamError::Broken { layer: Layer::Connect, .. }), "{error:?}");
    assert!(!error.to_string().contains("c4n4ry"), "{error}");
}
