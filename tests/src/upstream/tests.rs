//! The upstream itself: that good behaviour is good, and that each misbehaviour arrives as it was scripted.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Authority, Behaviour, Gate, Guard, Upstream, gzip, spoiled};

const BODY: &[u8] = b"0123456789abcdef";

fn client() -> Client {
    crate::http::use_ring();
    Client::builder().pool_max_idle_per_host(0).build().unwrap()
}

async fn with_file() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.put("f", BODY);
    upstream
}

/// All bytes of a connection on which one GET was made.
async fn raw(upstream: &Upstream) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(upstream.host()).await?;
    stream.write_all(b"GET /f HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_good_server_revalidates_and_slices() {
    let upstream = with_file().await;
    let client = client();
    let url = format!("{}f", upstream.url());
    let first = client.get(&url).send().await.unwrap();
    let (etag, modified) = (first.headers()["etag"].clone(), first.headers()["last-modified"].clone());
    assert_eq!(first.bytes().await.unwrap(), BODY);
    for (name, value) in [("if-none-match", &etag), ("if-modified-since", &modified)] {
        let again = client.get(&url).header(name, value).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{name}");
    }
    for (range, status, part) in [
        ("bytes=0-3", 206, "0123"),
        ("bytes=12-", 206, "cdef"),
        ("bytes=-2", 206, "ef"),
        ("bytes=14-99", 206, "ef"),
        ("bytes=16-", 416, ""),
        ("bytes=0-0,2-2", 200, "0123456789abcdef"),
    ] {
        let answer = client.get(&url).header("range", range).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{range}");
        assert_eq!(answer.text().await.unwrap(), part, "{range}");
    }
    upstream.put("f", "other");
    let changed = client.get(&url).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(changed.headers()["last-modified"], modified);
    assert_eq!(client.head(&url).send().await.unwrap().headers()["content-length"], "5");
    assert_eq!((upstream.hits_by("GET", "f"), upstream.hits_by("HEAD", "f")), (10, 1));
}

#[tokio::test]
async fn every_misbehaviour_arrives_as_scripted() {
    let cases: Vec<(Behaviour, &str, &str)> = vec![
        (Behaviour::WrongBytes, "content-length: 16\r\n", "0123456789abcdeF"),
        (Behaviour::CutAt(4), "content-length: 16\r\n", "0123"),
        (Behaviour::ExtraBytes("more".into()), "content-length: 16\r\n", "0123456789abcdefmore"),
        (Behaviour::Chunked, "transfer-encoding: chunked\r\n", "10\r\n0123456789abcdef\r\n0\r\n\r\n"),
        (Behaviour::ChunkedNoEnd, "transfer-encoding: chunked\r\n", "10\r\n0123456789abcdef\r\n"),
        (Behaviour::CloseDelimited, "connection: close\r\n", "0123456789abcdef"),
        (Behaviour::Drip(5, Duration::ZERO), "content-length: 16\r\n", "0123456789abcdef"),
        (Behaviour::RetryAfter(429, "7"), "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\n", ""),
        (Behaviour::Status(410, "gone"), "HTTP/1.1 410 Gone\r\n", "gone"),
        (Behaviour::Redirect(302, "http://elsewhere/".into()), "location: http://elsewhere/\r\n", ""),
        (
            Behaviour::Bare,
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-",
            "0123456789abcdef",
        ),
    ];
    for (behaviour, head, body) in cases {
        let upstream = with_file().await;
        upstream.script("f", behaviour);
        let answer = raw(&upstream).await.unwrap();
        let (got_head, got_body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(format!("{got_head}\r\n").contains(head), "{head:?} in {got_head}");
        assert_eq!(got_body, body, "{head}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let upstream = with_file().await;
    upstream.script("f", Behaviour::ResetAt(4));
    let error = raw(&upstream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn contents_change_in_turn_and_encodings_come_unasked() {
    let upstream = with_file().await;
    let url = format!("{}f", upstream.url());
    upstream.script("f", Behaviour::changing([b"one"[..].into(), b"two"[..].into()]));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(client().get(&url).send().await.unwrap().text().await.unwrap());
    }
    assert_eq!(seen, ["one", "two", "two"]);
    upstream.script("f", Behaviour::Gzip);
    assert_eq!(client().get(&url).send().await.unwrap().bytes().await.unwrap(), gzip(BODY));
    assert_eq!(spoiled(BODY).len(), BODY.len());
}

#[tokio::test]
async fn a_gate_holds_until_the_test_opens_it() {
    let upstream = with_file().await;
    let (stall, hold) = (Gate::new(), Gate::new());
    upstream.script("f", Behaviour::HoldHead(hold.clone(), Box::new(Behaviour::StallAt(3, stall.clone()))));
    let request = tokio::spawn(client().get(format!("{}f", upstream.url())).send());
    hold.reached_by(1).await;
    hold.open();
    let mut answer = request.await.unwrap().unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), &BODY[..3]);
    stall.reached_by(1).await;
    stall.open();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), &BODY[3..]);
}

#[tokio::test]
async fn guards_let_in_who_knows() {
    let upstream = Upstream::start().await;
    upstream.put("v2/acme/app/manifests/1", "{}").guard(Guard::token(&upstream.url()));
    let url = format!("{}v2/acme/app/manifests/1", upstream.url());
    let refused = client().get(&url).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.contains("scope=\"repository:acme/app:pull\""), "{challenge}");
    let realm = format!("{}token?service=scripted&scope=repository:acme/app:pull", upstream.url());
    let token: serde_json::Value =
        serde_json::from_str(&client().get(realm).send().await.unwrap().text().await.unwrap()).unwrap();
    let client = client();
    let answer = client.get(&url).bearer_auth(token["token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    upstream.guard(Guard::Basic("u".into(), "p".into()));
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.get(&url).basic_auth("u", Some("p")).send().await.unwrap().status(), StatusCode::OK);
    assert!(upstream.requests().last().unwrap().contains("Basic "));
}

#[tokio::test]
async fn it_can_be_switched_off_and_on() {
    let upstream = with_file().await;
    let url = format!("{}f", upstream.url());
    let client = client();
    upstream.off().await;
    assert!(client.get(&url).send().await.unwrap_err().is_connect());
    upstream.on().await;
    assert_eq!(client.get(&url).send().await.unwrap().bytes().await.unwrap(), BODY);
}

#[tokio::test]
async fn tls_and_http2_serve_the_same_tree() {
    crate::http::use_ring();
    let authority = Authority::new();
    let root = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).build().unwrap();
    let plain = Upstream::start_tls(&authority).await;
    let http2 = Upstream::start_http2(&authority).await;
    for (upstream, version) in [(&plain, "1.1"), (&http2, "2")] {
        upstream.put("f", BODY);
        let answer = client.get(format!("{}f", upstream.url())).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), BODY);
        assert_eq!(upstream.requests()[0].version, version);
        for broken in [Behaviour::CutAt(4), Behaviour::ResetAt(4)] {
            upstream.script("f", broken);
            let answer = client.get(format!("{}f", upstream.url())).send().await.unwrap();
            assert!(answer.bytes().await.is_err(), "HTTP/{version}");
        }
    }
}

#[tokio::test]
async fn a_path_is_found_under_its_own_spelling_first_and_then_decoded() {
    let upstream = with_file().await;
    upstream.put("!a", "escaped").put("@s%2fn", "as sent").put("@s/n", "decoded").script("", Behaviour::Html);
    for (path, body) in [("%21a", "escaped"), ("!a", "escaped"), ("@s%2fn", "as sent"), ("%40s/n", "decoded")]
    {
        let answer = client().get(format!("{}{path}", upstream.url())).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), body, "{path}");
    }
    let absent = client().get(format!("{}absent", upstream.url())).send().await.unwrap();
    assert_eq!(absent.status(), 404, "the script of the root is not for everything");
}
