//! A loopback listener that answers with bytes written by hand, so that a test decides about every CRLF, and
//! that remembers every byte it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What a listener does with a request.
pub(crate) struct Reply {
    /// Sent as they are.
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

pub(crate) enum Then {
    /// Await the next request on this connection.
    Continue,
    /// Close it in good order.
    Close,
    /// Close the socket under TLS, without close_notify.
    Cut,
    /// Keep it open and say nothing more.
    Stall,
}

/// A whole response with Content-Length; the connection stays open.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    raw(&format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\n\r\n{body}"), Then::Continue)
}

/// Bytes as they stand.
pub(crate) fn raw(text: &str, then: Then) -> Reply {
    Reply { bytes: text.as_bytes().to_vec(), then }
}

type Handler = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// The listener. Gone with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    scheme: &'static str,
}

impl Server {
    /// Answers every request (head and body as text) with what `handler` returns.
    pub(crate) async fn start(handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(handler), None).await
    }

    /// The same over TLS.
    pub(crate) async fn tls(
        config: rustls::ServerConfig,
        handler: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Arc::new(handler), Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(handler: Handler, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let log = requests.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (handler, log, acceptor) = (handler.clone(), log.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else { return serve(socket, &handler, &log, "").await };
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().is_some();
                    let note = if shown { "(client certificate)\r\n" } else { "" };
                    serve(stream, &handler, &log, note).await;
                });
            }
        });
        Server { address, requests, scheme }
    }

    /// `path` at this listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The same by a name.
    pub(crate) fn url_as(&self, name: &str, path: &str) -> String {
        format!("{}://{name}:{}{path}", self.scheme, self.address.port())
    }

    /// Forgets what was received so far.
    pub(crate) fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }

    /// Everything received so far, one text per request.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: &Handler,
    log: &Mutex<Vec<String>>,
    note: &str,
) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(format!("{note}{request}"));
        let Reply { bytes, then } = handler(&request);
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match then {
            Then::Continue => {}
            Then::Cut => return,
            Then::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            Then::Stall => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut text = String::from_utf8_lossy(&head).into_owned();
    let length = header(&text, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

/// The value of a header in a request's text.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
