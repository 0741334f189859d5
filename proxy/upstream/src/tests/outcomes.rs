//! What an observer is told of whole requests.

use artifactapi_model::{PackageType, Remote, ports::upstream::Layer, repository::Credentials};

use super::*;
use crate::{
    Observer, Outcome,
    testing::{
        loopback,
        pki::Authority,
        server::{Server, header, reply},
    },
};

/// Remembers outcomes as words.
#[derive(Default)]
struct Words(Mutex<Vec<String>>);

impl Observer for Arc<Words> {
    fn on_outcome(&self, _remote: &Remote, outcome: Outcome<'_>) {
        let result = match outcome.result {
            Ok(status) => status.as_str().to_owned(),
            Err(UpstreamError::Broken { layer, .. } | UpstreamError::Timeout { layer, .. }) => {
                layer.as_str().to_owned()
            }
            Err(UpstreamError::Refused { .. }) => "refused".to_owned(),
            Err(other) => format!("{other:?}"),
        };
        let words = format!("{result} {:?} {} {:?}", outcome.credentials, outcome.recognised, outcome.left);
        self.0.lock().unwrap().push(words);
    }
}

async fn words_of(spec: &RemoteSpec, request: UpstreamRequest) -> Vec<String> {
    let words = Arc::new(Words::default());
    let upstream = HttpUpstream::with_resolver(clock(), Arc::new(words.clone()), Names::new(&[]));
    let _ = send(&upstream, spec, request).await;
    let told = words.0.lock().unwrap();
    told.clone()
}

fn basic(password: &str) -> Option<Credentials> {
    Some(Credentials::Basic { username: "user".into(), password: password.into() })
}

#[tokio::test]
async fn one_request_has_one_outcome_whatever_it_took() {
    let server = Server::start(|request| match header(request, "authorization") {
        _ if request.starts_with("GET /old") => reply(302, &[("Location", "/new")], ""),
        Some("Basic dXNlcjpnb29k") => reply(200, &[("RateLimit-Remaining", "9;w=60")], "x"),
        Some(_) => reply(401, &[("WWW-Authenticate", "Basic realm=x")], ""),
        None => reply(401, &[("WWW-Authenticate", "Basic realm=x")], ""),
    })
    .await;
    for (credentials, want) in [
        (basic("good"), "200 Some(true) true Some(9)"),
        (basic("bad"), "401 Some(false) false None"),
        (None, "401 None false None"),
    ] {
        let mut spec = loopback(&server.url("/"));
        spec.credentials = credentials;
        assert_eq!(words_of(&spec, get(&server.url("/old"))).await, [want]);
    }
}

#[tokio::test]
async fn a_token_service_that_refuses_speaks_about_the_credentials() {
    let server = Server::start(|request| {
        let host = header(request, "host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"reg\"");
        match header(request, "authorization") {
            _ if request.starts_with("GET /token") => match header(request, "authorization") {
                Some("Basic dXNlcjpnb29k") | None => reply(200, &[], "{\"token\":\"t\"}"),
                Some(_) => reply(401, &[], ""),
            },
            Some("Bearer t") => reply(200, &[], "{}"),
            _ => reply(401, &[("WWW-Authenticate", &challenge)], ""),
        }
    })
    .await;
    for (credentials, want) in [
        (basic("good"), "200 Some(true) true None"),
        (basic("bad"), "refused Some(false) false None"),
        (None, "200 None true None"),
    ] {
        let mut spec = loopback(&server.url("/"));
        spec.package_type = PackageType::Docker;
        spec.credentials = credentials;
        assert_eq!(words_of(&spec, get(&server.url("/v2/"))).await, [want]);
    }
}

#[tokio::test]
async fn what_fails_names_its_layer() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&[]), |_| reply(200, &[], "")).await;
    let unknown = server.url("/");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (base, want) in [
        (format!("http://{port}/"), Layer::Connect),
        ("http://nowhere.test/".to_owned(), Layer::Dns),
        (unknown, Layer::Tls),
    ] {
        let told = words_of(&loopback(&base), get(&base)).await;
        assert_eq!(told, [format!("{} None false None", want.as_str())], "{base}");
    }
}
