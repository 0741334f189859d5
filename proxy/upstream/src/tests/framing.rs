//! How bodies end (RS-03 to RS-06), and what is asked for (RS-10, RS-36).

use std::time::Duration;

use artifactapi_model::ports::upstream::{Framing, Layer, PostBody};
use bytes::Bytes;
use http::header;

use super::*;
use crate::testing::{
    loopback,
    server::{Reply, Server, Then, raw, reply},
};

async fn fetch(reply: fn() -> Reply) -> Result<(Framing, Vec<u8>, Option<UpstreamError>), UpstreamError> {
    let server = Server::start(move |_| reply()).await;
    let response = send(&upstream(), &loopback(&server.url("/")), get(&server.url("/a"))).await?;
    let framing = response.framing;
    let (bytes, error) = read(response).await;
    Ok((framing, bytes, error))
}

#[tokio::test]
async fn bodies_that_are_whole() {
    type Case = (fn() -> Reply, Framing, &'static [u8]);
    let cases: [Case; 6] = [
        (|| reply(200, &[], "hello"), Framing::Length(5), b"hello"),
        (|| reply(200, &[], ""), Framing::Length(0), b""),
        (
            || {
                raw(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
                    Then::Continue,
                )
            },
            Framing::Delimited,
            b"hello",
        ),
        (|| raw("HTTP/1.1 200 OK\r\n\r\nhello", Then::Close), Framing::Close, b"hello"),
        (|| raw("HTTP/1.0 200 OK\r\n\r\nhello", Then::Close), Framing::Close, b"hello"),
        (|| raw("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", Then::Continue), Framing::Length(0), b""),
    ];
    for (reply, framing, bytes) in cases {
        let (got_framing, got, error) = fetch(reply).await.unwrap();
        assert_eq!((got_framing, got.as_slice()), (framing, bytes));
        assert!(error.is_none(), "{error:?}");
    }
}

/// RS-03: a body short of its Content-Length; RS-04: chunks without the final one.
#[tokio::test]
async fn rs_03_rs_04_a_cut_body_ends_in_an_error() {
    let cases: [fn() -> Reply; 6] = [
        || raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Then::Close),
        || raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nh", Then::Close),
        || raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Then::Cut),
        || raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Then::Close),
        || raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", Then::Close),
        || raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Then::Close),
    ];
    for reply in cases {
        let (_, bytes, error) = fetch(reply).await.unwrap();
        assert!(bytes.len() <= 5);
        assert!(matches!(error, Some(UpstreamError::Broken { layer: Layer::Http, .. })), "{error:?}");
    }
}

#[tokio::test]
async fn rs_06_bytes_beyond_content_length_are_dropped_with_their_connection() {
    let server = Server::start(|_| raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Then::Continue)).await;
    let (upstream, spec) = (upstream(), loopback(&server.url("/")));
    for path in ["/a", "/b"] {
        let response = send(&upstream, &spec, get(&server.url(path))).await.unwrap();
        let (bytes, error) = read(response).await;
        assert_eq!((bytes.as_slice(), error.is_none()), (&b"hello"[..], true), "{path}");
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn rs_06_two_lengths_are_no_length() {
    let reply =
        || raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Then::Close);
    assert!(matches!(fetch(reply).await, Err(UpstreamError::Broken { layer: Layer::Http, .. })));
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let server = Server::start(|_| raw("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Then::Continue)).await;
    let response = send(&upstream(), &loopback(&server.url("/")), head(&server.url("/a"))).await.unwrap();
    assert_eq!(response.framing, Framing::Length(7));
    let (bytes, error) = read(response).await;
    assert!(bytes.is_empty() && error.is_none(), "{error:?}");
}

/// RS-90: nothing waits for ever. Limits are real time, and short where they are to be met.
#[tokio::test]
async fn rs_90_silence_ends_in_a_timeout() {
    let mute = Server::start(|_| raw("", Then::Stall)).await;
    let mut spec = loopback(&mute.url("/"));
    spec.timeouts.first_byte = Duration::from_millis(80);
    let error = refused(send(&upstream(), &spec, get(&mute.url("/a?token=c4n4ry"))).await);
    assert!(matches!(error, UpstreamError::Timeout { layer: Layer::Http, .. }), "{error:?}");
    assert!(!error.to_string().contains("c4n4ry"));

    let stalling = Server::start(|_| raw("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhe", Then::Stall)).await;
    let mut spec = loopback(&stalling.url("/"));
    spec.timeouts.idle = Duration::from_millis(80);
    let response = send(&upstream(), &spec, get(&stalling.url("/a"))).await.unwrap();
    let (bytes, error) = read(response).await;
    assert_eq!(bytes, b"he");
    assert!(matches!(error, Some(UpstreamError::Timeout { .. })), "{error:?}");
}

/// RS-36: the allow list of headers, seen from upstream.
#[tokio::test]
async fn rs_36_nothing_but_our_own_headers_is_sent() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let request = UpstreamRequest {
        accept: Some("application/json".into()),
        if_none_match: Some("\"v1\"".into()),
        if_modified_since: Some("Fri, 31 Dec 1999 23:00:00 GMT".into()),
        ..get(&server.url("/a?b=c"))
    };
    send(&upstream(), &loopback(&server.url("/")), request).await.unwrap();
    let request = &server.requests()[0];
    let mut lines: Vec<String> = request.trim_end().lines().map(str::to_ascii_lowercase).collect();
    lines[1..].sort();
    assert_eq!(
        lines,
        [
            "get /a?b=c http/1.1".to_owned(),
            "accept-encoding: identity".into(),
            "accept: application/json".into(),
            format!("host: {}", server.address),
            "if-modified-since: fri, 31 dec 1999 23:00:00 gmt".into(),
            "if-none-match: \"v1\"".into(),
            format!("user-agent: artifactapi/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
}

#[tokio::test]
async fn a_post_carries_its_body_as_it_came() {
    let server = Server::start(|_| reply(200, &[], "{}")).await;
    let request = UpstreamRequest {
        method: UpstreamMethod::Post,
        body: Some(PostBody {
            content_type: Some("application/json".into()),
            content_encoding: Some("gzip".into()),
            bytes: Bytes::from_static(b"body"),
        }),
        ..get(&server.url("/-/npm/v1/security"))
    };
    send(&upstream(), &loopback(&server.url("/")), request).await.unwrap();
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /-/npm/v1/security ") && request.ends_with("\r\n\r\nbody"),
        "{request}"
    );
    assert_eq!(crate::testing::server::header(request, "content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn rs_10_a_coding_nobody_asked_for() {
    let server = Server::start(|request| {
        let coding = if request.starts_with("GET /br") { "br" } else { "gzip" };
        reply(200, &[("Content-Encoding", coding)], "not gzip")
    })
    .await;
    let (upstream, spec) = (upstream(), loopback(&server.url("/")));
    let refused = refused(send(&upstream, &spec, get(&server.url("/br"))).await);
    assert!(refused.to_string().contains("though asked not to"), "{refused}");

    let file = send(&upstream, &spec, get(&server.url("/a.tar.gz"))).await.unwrap();
    assert!(!file.headers.contains_key(header::CONTENT_ENCODING));
    assert_eq!(read(file).await.0, b"not gzip");
    let index = send(&upstream, &spec, head(&server.url("/index"))).await.unwrap();
    assert_eq!(index.framing, Framing::Delimited, "the length announced is that of other bytes");
    let index = send(&upstream, &spec, get(&server.url("/index"))).await.unwrap();
    assert!(read(index).await.1.is_some());
}

/// A connection that upstream closes as it is used again is no failure.
#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        1 => raw("", Then::Close),
        _ => reply(200, &[], "ok"),
    })
    .await;
    let (upstream, spec) = (upstream(), loopback(&server.url("/")));
    for _ in 0..2 {
        let response = send(&upstream, &spec, get(&server.url("/a"))).await.unwrap();
        assert_eq!(read(response).await.0, b"ok");
    }
    assert_eq!(server.requests().len(), 3);
}
