//! TLS, client certificates and HTTP/2.

use artifactapi_model::ports::upstream::{Framing, Layer};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{
    loopback,
    pki::Authority,
    server::{Server, Then, raw, reply},
};

fn trusting(base: &str, authority: &Authority) -> RemoteSpec {
    let mut spec = loopback(base);
    spec.tls.ca_pem = Some(authority.pem());
    spec
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&[]), |_| reply(200, &[], "ok")).await;
    let spec = trusting(&server.url("/"), &authority);
    let response = send(&upstream(), &spec, get(&server.url("/"))).await.unwrap();
    assert_eq!(read(response).await.0, b"ok");

    for spec in [loopback(&server.url("/")), trusting(&server.url("/"), &Authority::new())] {
        let error = refused(send(&upstream(), &spec, get(&server.url("/"))).await);
        assert!(matches!(error, UpstreamError::Broken { layer: Layer::Tls, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_tls_failure() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&[]), |_| reply(200, &[], "ok")).await;
    let base = server.url_as("b.test", "/");
    let upstream = upstream_with(clock(), Names::new(&[("b.test", &[&["127.0.0.1"]])]));
    let error = refused(send(&upstream, &trusting(&base, &authority), get(&base)).await);
    assert!(matches!(error, UpstreamError::Broken { layer: Layer::Tls, .. }), "{error:?}");
}

#[tokio::test]
async fn client_certificates_are_shown_to_the_own_origin() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&[]), |_| reply(200, &[], "")).await;
    let mut spec = trusting(&server.url("/"), &authority);
    spec.tls.client = Some(authority.client());
    send(&upstream(), &spec, get(&server.url("/"))).await.unwrap();
    assert!(server.requests()[0].contains("(client certificate)"));
}

#[tokio::test]
async fn unusable_certificates_are_named() {
    let mut spec = loopback("https://127.0.0.1:9/");
    spec.tls.ca_pem = Some("none".into());
    let error = refused(send(&upstream(), &spec, get("https://127.0.0.1:9/")).await);
    assert!(error.to_string().contains("tls.caSecretRef"), "{error}");
}

/// RS-03: a TLS stream that ends without close_notify may have been cut by anyone.
#[tokio::test]
async fn rs_03_a_tls_close_without_notice_is_a_cut() {
    let authority = Authority::new();
    for (then, whole) in [(Then::Cut, false), (Then::Close, true)] {
        let then = std::sync::Mutex::new(Some(then));
        let server = Server::tls(authority.server(&[]), move |_| {
            raw("HTTP/1.1 200 OK\r\n\r\nhello", then.lock().unwrap().take().unwrap_or(Then::Close))
        })
        .await;
        let spec = trusting(&server.url("/"), &authority);
        let response = send(&upstream(), &spec, get(&server.url("/"))).await.unwrap();
        assert_eq!(response.framing, Framing::Close);
        let (_, error) = read(response).await;
        assert_eq!(error.is_none(), whole, "{error:?}");
    }
}

/// How the HTTP/2 server ends the body "hello".
#[derive(Clone, Copy, Debug)]
enum Ending {
    EndStream,
    Reset,
    Short,
}

/// An HTTP/2 server for one connection; every request is answered with "hello".
async fn h2_server(authority: &Authority, length: Option<u64>, ending: Ending) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}/", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&[b"h2"])));
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(acceptor.accept(socket).await.unwrap()).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut head = http::Response::builder();
            if let Some(length) = length {
                head = head.header("content-length", length);
            }
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            match ending {
                Ending::EndStream => body.send_data(Bytes::from_static(b"hello"), true).unwrap(),
                Ending::Short => body.send_data(Bytes::from_static(b"hel"), true).unwrap(),
                Ending::Reset => {
                    body.send_data(Bytes::from_static(b"hel"), false).unwrap();
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                }
            }
        }
    });
    base
}

/// RS-03, RS-04 on HTTP/2: END_STREAM ends a body, a reset or too few bytes do not.
#[tokio::test]
async fn rs_03_rs_04_http2_bodies() {
    let authority = Authority::new();
    for (length, ending, framing, whole) in [
        (Some(5), Ending::EndStream, Framing::Length(5), true),
        (None, Ending::EndStream, Framing::Delimited, true),
        (Some(5), Ending::Short, Framing::Length(5), false),
        (Some(5), Ending::Reset, Framing::Length(5), false),
        (None, Ending::Reset, Framing::Delimited, false),
    ] {
        let base = h2_server(&authority, length, ending).await;
        let response = match send(&upstream(), &trusting(&base, &authority), get(&base)).await {
            Ok(response) => response,
            Err(UpstreamError::Broken { layer: Layer::Http, .. }) if !whole => continue,
            Err(error) => panic!("{ending:?}: {error:?}"),
        };
        assert_eq!(response.framing, framing);
        let (bytes, error) = read(response).await;
        assert_eq!(error.is_none(), whole, "{length:?} {ending:?}");
        assert!(!whole || bytes == b"hello");
    }
}
