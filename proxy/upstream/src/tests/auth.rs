//! Challenges and tokens against a registry of one listener: `/token` is its token service.

use std::{sync::atomic::AtomicUsize, sync::atomic::Ordering, time::Duration};

use artifactapi_model::{PackageType, Sealer, ports::upstream::Layer, repository::Credentials};
use artifactapi_stores::LocalCoordinator;
use futures_util::future::join_all;

use super::*;
use crate::testing::{
    loopback,
    server::{Reply, Server, header, reply},
};

fn docker(base: &str) -> RemoteSpec {
    let mut spec = loopback(base);
    spec.package_type = PackageType::Docker;
    spec.credentials = Some(basic("user", "pass"));
    spec
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.into(), password: password.into() }
}

fn pull(server: &Server, name: &str) -> UpstreamRequest {
    let scope = Some(format!("repository:{name}:pull"));
    UpstreamRequest { scope, ..get(&server.url(&format!("/v2/{name}/manifests/1"))) }
}

fn challenge(request: &str, more: &str) -> Reply {
    let host = header(request, "host").unwrap();
    let value = format!("Bearer realm=\"http://{host}/token\",service=\"reg\"{more}");
    reply(401, &[("WWW-Authenticate", &value)], "{}")
}

/// A registry that knows the tokens `t1`, `t2`, … of which `accepts` says which are good, and answers
/// refusals with `more` in the challenge.
async fn registry(accepts: fn(&str) -> bool, more: &'static str) -> Server {
    let issued = AtomicUsize::new(0);
    Server::start(move |request| {
        if request.starts_with("GET /token") {
            let serial = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200, &[], &format!("{{\"token\":\"t{serial}\"}}"));
        }
        match header(request, "authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if accepts(token) => reply(200, &[], "manifest"),
            Some(_) => challenge(request, more),
            None => challenge(request, ""),
        }
    })
    .await
}

fn token_requests(server: &Server) -> Vec<String> {
    server.requests().into_iter().filter(|request| request.starts_with("GET /token")).collect()
}

#[tokio::test]
async fn the_token_dance_and_its_memory() {
    let server = registry(|_| true, "").await;
    let (clock, spec) = (clock(), docker(&server.url("/")));
    let upstream = upstream_with(clock.clone(), Names::new(&[]));
    for _ in 0..3 {
        let response = send(&upstream, &spec, pull(&server, "a/b")).await.unwrap();
        assert!(response.authenticated);
        assert_eq!(read(response).await.0, b"manifest");
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 5, "one refusal, one token, three answers");
    assert_eq!(header(&requests[0], "authorization"), None);
    assert!(
        requests[1].starts_with("GET /token?service=reg&scope=repository%3Aa%2Fb%3Apull "),
        "{}",
        requests[1]
    );
    assert_eq!(header(&requests[1], "authorization"), Some("Basic dXNlcjpwYXNz"));

    // 60 s where the service names no life, of which four fifths are used.
    clock.advance(Duration::from_secs(48));
    send(&upstream, &spec, pull(&server, "a/b")).await.unwrap();
    assert_eq!(token_requests(&server).len(), 2);
    // Another repository is another scope.
    send(&upstream, &spec, pull(&server, "c")).await.unwrap();
    assert_eq!(token_requests(&server).len(), 3);
}

#[tokio::test]
async fn anonymous_tokens_need_no_credentials() {
    let server = registry(|_| true, "").await;
    let mut spec = docker(&server.url("/"));
    spec.credentials = None;
    let response = send(&upstream(), &spec, pull(&server, "a")).await.unwrap();
    assert!(response.authenticated);
    assert_eq!(header(&token_requests(&server)[0], "authorization"), None);
}

#[tokio::test]
async fn many_requests_share_one_token_request() {
    let server = registry(|_| true, "").await;
    let (upstream, spec) = (upstream(), docker(&server.url("/")));
    let all = join_all((0..20).map(|_| send(&upstream, &spec, pull(&server, "a")))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(token_requests(&server).len(), 1);
}

#[tokio::test]
async fn replicas_lend_each_other_tokens_and_never_in_clear() {
    let server = registry(|token| token != "t1", "").await;
    let spec = docker(&server.url("/"));
    let coordinator = Arc::new(LocalCoordinator::default());
    let sealer = |key: &str| Some(Arc::new(Sealer::new(key).unwrap()));
    let replica =
        |sealer| upstream_with(clock(), Names::new(&[])).sharing(coordinator.clone(), "a replica", sealer);
    let key = "a key of at least thirty-two characters";
    let (one, two) = (replica(sealer(key)), replica(sealer(key)));
    // The first token is refused at once: nobody else gets to try it.
    assert_eq!(send(&one, &spec, pull(&server, "a")).await.unwrap().status, 401);
    assert_eq!(send(&one, &spec, pull(&server, "a")).await.unwrap().status, 200);
    assert_eq!(send(&two, &spec, pull(&server, "a")).await.unwrap().status, 200);
    assert_eq!(token_requests(&server).len(), 2, "the second replica asked nobody");
    assert_eq!(send(&two, &spec, pull(&server, "b")).await.unwrap().status, 200);
    assert_eq!(token_requests(&server).len(), 3, "another scope is another token");
    let stranger = replica(sealer("another key of thirty-two characters"));
    assert_eq!(send(&stranger, &spec, pull(&server, "a")).await.unwrap().status, 200);
    assert_eq!(token_requests(&server).len(), 4, "what cannot be opened is asked for");
    let alone = replica(None);
    assert_eq!(send(&alone, &spec, pull(&server, "a")).await.unwrap().status, 200);
    assert_eq!(token_requests(&server).len(), 5, "without a key nothing is lent");
}

#[tokio::test]
async fn a_token_that_went_bad_is_replaced_once() {
    let server = registry(|token| token != "t2", ",error=\"invalid_token\"").await;
    let (clock, spec) = (clock(), docker(&server.url("/")));
    let upstream = upstream_with(clock.clone(), Names::new(&[]));
    send(&upstream, &spec, pull(&server, "a")).await.unwrap();
    clock.advance(Duration::from_secs(50));
    // t2 is fetched ahead, refused, and t3 is accepted.
    assert_eq!(send(&upstream, &spec, pull(&server, "a")).await.unwrap().status, 200);
    assert_eq!(token_requests(&server).len(), 3);
}

/// Docker Hub's way of saying that a name does not exist.
#[tokio::test]
async fn a_refusal_of_a_fresh_and_fitting_token_is_authenticated() {
    for (more, authenticated) in [
        (",error=\"insufficient_scope\"", true),
        ("", true),
        (",scope=\"repository:a:pull\"", true),
        (",scope=\"repository:a:pull repository:b:pull\"", false),
        (",error=\"invalid_token\"", false),
    ] {
        let server = registry(|_| false, more).await;
        let response = send(&upstream(), &docker(&server.url("/")), pull(&server, "a")).await.unwrap();
        assert_eq!((response.status.as_u16(), response.authenticated), (401, authenticated), "{more}");
        assert_eq!(token_requests(&server).len(), 1, "{more}");
    }
}

#[tokio::test]
async fn basic_challenges_of_registries_are_met_and_remembered() {
    let server = Server::start(|request| match header(request, "authorization") {
        Some("Basic dXNlcjpwYXNz") => reply(200, &[], ""),
        _ => reply(401, &[("WWW-Authenticate", "Negotiate, Basic realm=\"ecr\"")], ""),
    })
    .await;
    let (upstream, spec) = (upstream(), docker(&server.url("/")));
    for _ in 0..2 {
        let response = send(&upstream, &spec, pull(&server, "a")).await.unwrap();
        assert_eq!((response.status.as_u16(), response.authenticated), (200, true));
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn other_types_show_their_credentials_at_once() {
    for (credentials, sent) in [
        (Some(basic("user", "pass")), Some("Basic dXNlcjpwYXNz")),
        (Some(Credentials::Bearer("tok".into())), Some("Bearer tok")),
        (None, None),
    ] {
        for (status, recognised) in [(200, true), (401, false), (403, true), (404, true)] {
            let server =
                Server::start(move |_| reply(status, &[("WWW-Authenticate", "Basic realm=x")], "")).await;
            let mut spec = loopback(&server.url("/"));
            spec.credentials = credentials.clone();
            let response = send(&upstream(), &spec, get(&server.url("/a"))).await.unwrap();
            assert_eq!(response.authenticated, recognised && sent.is_some(), "{status}");
            assert_eq!(server.requests().len(), 1);
            assert_eq!(header(&server.requests()[0], "authorization"), sent);
        }
    }
}

#[tokio::test]
async fn a_failing_token_service_is_an_authentication_failure() {
    type Case = (fn() -> Reply, &'static str);
    let answers: [Case; 5] = [
        (|| reply(401, &[], "c4n4ry"), "refused the credentials"),
        (|| reply(404, &[], "c4n4ry"), "answered 404"),
        (|| reply(302, &[("Location", "/c4n4ry")], ""), "answered 302"),
        (|| reply(200, &[], "c4n4ry"), "no token document"),
        (|| reply(200, &[], "{\"token\":\"c4n4ry\\u0000\"}"), "cannot stand in a header"),
    ];
    for (answer, word) in answers {
        let server = Server::start(move |request| match request.starts_with("GET /token") {
            true => answer(),
            false => challenge(request, ""),
        })
        .await;
        let error = refused(send(&upstream(), &docker(&server.url("/")), pull(&server, "a")).await);
        let is_known = match &error {
            UpstreamError::Refused { .. } => word.starts_with("refused"),
            UpstreamError::Broken { layer, .. } => *layer == Layer::Authentication,
            _ => false,
        };
        assert!(is_known && error.to_string().contains(word), "{error:?}");
        assert!(!error.to_string().contains("c4n4ry"), "{error}");
    }
}

#[tokio::test]
async fn rs_91_a_token_service_that_asks_for_a_pause_gets_it() {
    let server = Server::start(|request| match request.starts_with("GET /token") {
        true => reply(429, &[("Retry-After", "7")], ""),
        false => challenge(request, ""),
    })
    .await;
    let error = refused(send(&upstream(), &docker(&server.url("/")), pull(&server, "a")).await);
    assert!(
        matches!(error, UpstreamError::Paused { retry_after, .. } if retry_after.as_secs() == 7),
        "{error:?}"
    );
}
