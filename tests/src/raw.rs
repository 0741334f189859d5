//! Requests as bytes, for what no client library would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::http::PATIENCE;

/// What came back on one connection.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Status code of the first answer; `None` when the connection ended without one.
    pub status: Option<u16>,
    /// Everything that came, as text.
    pub text: String,
}

/// Sends `request` to `host` and reads until the other side closes.
///
/// # Panics
/// When it does not close within [`PATIENCE`]: `request` should ask for that.
pub async fn exchange(host: &str, request: &[u8]) -> Raw {
    exchange_within(host, request, PATIENCE).await.unwrap_or_else(|| {
        panic!("no end of {:?}", String::from_utf8_lossy(&request[..request.len().min(200)]))
    })
}

/// The same with a limit of its own; `None` when it passes.
pub async fn exchange_within(host: &str, request: &[u8], limit: Duration) -> Option<Raw> {
    let mut stream = TcpStream::connect(host).await.expect("a listener");
    let mut text = Vec::new();
    let conversation = async {
        // The other side may refuse and close before all is sent; what it said still counts.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut text).await;
    };
    timeout(limit, conversation).await.ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Some(Raw { status, text })
}

/// A GET of `target`, sent exactly as it is written here.
pub async fn get(host: &str, target: &str) -> Raw {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(host, request.as_bytes()).await
}
