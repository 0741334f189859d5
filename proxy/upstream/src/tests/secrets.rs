//! Secrets stay on the origin they were configured for (RS-35) and out of every message (RS-37). Canaries are
//! listeners and strings that must never meet.

use artifactapi_model::{PackageType, repository::Credentials};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::testing::{
    loopback,
    pki::Authority,
    server::{Server, header, reply},
};

const SECRET: &str = "c4n4ry-s3cret";

/// Where the upstream redirects to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    SameOrigin,
    OtherPort,
    OtherHost,
    OtherScheme,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Basic,
    Bearer,
    Certificate,
}

fn holds_a_secret(request: &str) -> bool {
    let encoded = STANDARD.encode(format!("user:{SECRET}"));
    let named = ["authorization", "cookie"].iter().any(|name| header(request, name).is_some());
    named
        || request.contains(SECRET)
        || request.contains(&encoded)
        || request.contains("(client certificate)")
}

fn armed(mut spec: RemoteSpec, kind: Kind, authority: &Authority) -> RemoteSpec {
    spec.tls.ca_pem = Some(authority.pem());
    match kind {
        Kind::Basic => spec.credentials = Some(basic()),
        Kind::Bearer => spec.credentials = Some(Credentials::Bearer(SECRET.into())),
        Kind::Certificate => spec.tls.client = Some(authority.client()),
    }
    spec
}

fn basic() -> Credentials {
    Credentials::Basic { username: "user".into(), password: SECRET.into() }
}

/// An upstream that answers `/start` with a redirect to the path it is asked for in `?to=`, and sets a cookie.
async fn origin(code: u16, https: bool, authority: &Authority) -> Server {
    let handler = move |request: &str| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.split_once("?to=") {
            Some((_, to)) => reply(code, &[("Location", to), ("Set-Cookie", "session=1")], ""),
            None => reply(200, &[], "end"),
        }
    };
    if https { Server::tls(authority.server(&[]), handler).await } else { Server::start(handler).await }
}

/// 5 redirect codes × 3 kinds of secret × same and other origin, from http and from https.
#[tokio::test]
async fn rs_35_redirects_carry_no_secret_to_another_origin() {
    let authority = Authority::new();
    let names = || Names::new(&[("a.test", &[&["127.0.0.1"]])]);
    for code in [301, 302, 303, 307, 308] {
        for https in [false, true] {
            for kind in [Kind::Basic, Kind::Bearer, Kind::Certificate] {
                if kind == Kind::Certificate && !https {
                    continue;
                }
                for target in [Target::SameOrigin, Target::OtherPort, Target::OtherHost, Target::OtherScheme]
                {
                    let server = origin(code, https, &authority).await;
                    let canary = origin(code, https != (target == Target::OtherScheme), &authority).await;
                    let to = match target {
                        Target::SameOrigin => server.url("/end"),
                        Target::OtherPort | Target::OtherScheme => canary.url("/end"),
                        Target::OtherHost => server.url_as("a.test", "/end"),
                    };
                    let spec = armed(loopback(&server.url("/")), kind, &authority);
                    let upstream = upstream_with(clock(), names());
                    let result = send(&upstream, &spec, get(&server.url(&format!("/start?to={to}")))).await;
                    let case = format!("{code} https={https} {kind:?} {target:?}");

                    let requests = server.requests();
                    assert!(holds_a_secret(&requests[0]), "{case}: the origin itself is shown it");
                    let foreign = match target {
                        Target::OtherHost => requests[1..].to_vec(),
                        Target::SameOrigin => Vec::new(),
                        _ => canary.requests(),
                    };
                    assert!(!foreign.iter().any(|request| holds_a_secret(request)), "{case}: {foreign:?}");
                    match (https, target) {
                        (true, Target::OtherScheme) => {
                            assert!(matches!(result, Err(UpstreamError::Redirect(_))), "{case}");
                            assert!(foreign.is_empty());
                        }
                        (_, Target::SameOrigin) => assert!(holds_a_secret(&requests[1]), "{case}"),
                        _ => assert_eq!((result.unwrap().status.as_u16(), foreign.len()), (200, 1), "{case}"),
                    }
                }
            }
        }
    }
}

/// A foreign host that sends the chain back may not choose what is asked with our credentials.
#[tokio::test]
async fn rs_35_a_chain_that_returns_stays_anonymous() {
    let authority = Authority::new();
    let (server, foreign) = (origin(302, true, &authority).await, origin(302, true, &authority).await);
    for kind in [Kind::Basic, Kind::Bearer, Kind::Certificate] {
        server.forget();
        let spec = armed(loopback(&server.url("/")), kind, &authority);
        let there = foreign.url(&format!("/?to={}", server.url("/admin")));
        send(&upstream(), &spec, get(&server.url(&format!("/?to={there}")))).await.unwrap();
        let shown: Vec<bool> = server.requests().iter().map(|request| holds_a_secret(request)).collect();
        assert_eq!(shown, [true, false], "{kind:?}");
    }
}

#[tokio::test]
async fn rs_35_files_named_by_an_index_get_no_secret() {
    let authority = Authority::new();
    let canary = origin(302, true, &authority).await;
    for kind in [Kind::Basic, Kind::Bearer, Kind::Certificate] {
        let spec = armed(loopback("https://127.0.0.1:9/"), kind, &authority);
        let url = canary.url("/file").replace("https://", "https://user:pw@");
        let response = send(&upstream(), &spec, from_index(&url)).await.unwrap();
        assert_eq!(response.url.as_str(), canary.url("/file"), "without userinfo");
    }
    assert_eq!(canary.requests().len(), 3);
    assert!(!canary.requests().iter().any(|request| holds_a_secret(request)));
}

/// A registry whose realm is elsewhere: an anonymous token at most, unless `authRealms` lists it.
#[tokio::test]
async fn rs_35_a_foreign_realm_gets_credentials_only_when_listed() {
    let service = Server::start(|_| reply(200, &[], "{\"token\":\"t\"}")).await;
    let realm = service.url("/token");
    let registry = Server::start(move |request| match header(request, "authorization") {
        Some("Bearer t") => reply(200, &[], ""),
        _ => reply(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=s"))], ""),
    })
    .await;
    let mut spec = loopback(&registry.url("/"));
    spec.package_type = PackageType::Docker;
    spec.credentials = Some(basic());
    assert_eq!(send(&upstream(), &spec, get(&registry.url("/v2/a"))).await.unwrap().status, 200);
    assert!(!holds_a_secret(&service.requests()[0]), "{:?}", service.requests());

    for entry in [service.address.to_string(), "127.0.0.1".to_owned()] {
        service.forget();
        spec.auth_realms = vec![entry];
        send(&upstream(), &spec, get(&registry.url("/v2/a"))).await.unwrap();
        assert!(holds_a_secret(&service.requests()[0]));
    }
}

/// RS-30 holds for realms, and RS-35 for a bearer token: it is never given to a token service.
#[tokio::test]
async fn rs_30_rs_35_realms_are_checked_like_any_host() {
    let canary = Server::start(|_| reply(200, &[], "{\"token\":\"t\"}")).await;
    let realm = format!("http://127.0.0.2:{}/token", canary.address.port());
    let registry =
        Server::start(move |_| reply(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))], ""))
            .await;
    let mut spec = loopback(&registry.url("/"));
    spec.package_type = PackageType::Docker;
    spec.egress.allow_cidrs = vec!["127.0.0.1/32".parse().unwrap()];
    let error = refused(send(&upstream(), &spec, get(&registry.url("/v2/a"))).await);
    assert!(matches!(error, UpstreamError::Forbidden { .. }), "{error:?}");

    spec.credentials = Some(Credentials::Bearer(SECRET.into()));
    let response = send(&upstream(), &spec, get(&registry.url("/v2/a"))).await.unwrap();
    assert_eq!((response.status.as_u16(), response.authenticated), (401, false));
    assert!(canary.requests().is_empty());
}

/// RS-37: every way to fail, with a secret in every place that takes one.
#[tokio::test]
async fn rs_37_no_error_shows_a_secret() {
    let authority = Authority::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain =
        Server::start(|_| reply(302, &[("Location", &format!("ftp://u:{SECRET}@h/?{SECRET}"))], "")).await;
    let tls = Server::tls(authority.server(&[]), |_| reply(200, &[], "")).await;
    let mut spec = loopback("http://127.0.0.1/");
    spec.credentials = Some(basic());
    let bases = [
        format!("http://{closed}/"),
        plain.url("/"),
        tls.url("/"),
        "http://nowhere.test/".into(),
        "http://10.0.0.1/".into(),
    ];
    for base in bases {
        for proxy in [None, Some(format!("http://u:{SECRET}@{closed}"))] {
            spec.base_url = Url::parse(&base).unwrap();
            spec.egress.proxy_url = proxy.map(|proxy| Url::parse(&proxy).unwrap());
            let url = base.replace("://", &format!("://u:{SECRET}@"));
            let error = refused(send(&upstream(), &spec, get(&format!("{url}?sig={SECRET}"))).await);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET) && !shown.contains(&STANDARD.encode(SECRET)), "{shown}");
        }
    }
}
