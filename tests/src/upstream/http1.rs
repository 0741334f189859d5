//! HTTP/1.1 on raw sockets, since a well-made server library cannot be talked into lying about lengths,
//! leaving out the final chunk or resetting in the middle.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Act, Answer, Framing, Recorded, Shared};

/// Longest request head and longest body that is kept.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 1 << 20;

/// How a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed or asked to close: goodbye in order.
    Orderly,
    /// FIN without a goodbye from TLS.
    Cut,
    /// RST.
    Reset,
}

/// Answers requests on `stream` until it ends.
pub(super) async fn serve<S>(stream: &mut S, shared: &Shared) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(stream, &mut buffer).await? {
        let close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let head_only = request.method == "HEAD";
        let answer = shared.answer(request);
        let framing = answer.framing;
        if let Some(end) = write(stream, answer, head_only).await? {
            return Ok(end);
        }
        if close || framing == Framing::Close {
            break;
        }
    }
    stream.shutdown().await?;
    Ok(End::Orderly)
}

/// The next request, or `None` when the peer is done.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<Option<Recorded>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > MAX_HEAD {
            return Err(io::Error::other("request head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = buffer.split_to(end + 4);
    let head = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Recorded {
        method: method.to_owned(),
        target: target.trim_start_matches('/').to_owned(),
        headers,
        body: Bytes::new(),
        version: "1.1",
    };
    let length: usize = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    if length > MAX_BODY || request.header("transfer-encoding").is_some() {
        return Err(io::Error::other("the scripted upstream takes only short bodies of known length"));
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    request.body = buffer.split_to(length).freeze();
    Ok(Some(request))
}

/// Writes `answer`; `Some` when it ended the connection.
async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    answer: Answer,
    head_only: bool,
) -> io::Result<Option<End>> {
    let mut acts = answer.acts.iter().peekable();
    while let Some(Act::Wait(gate)) = acts.next_if(|act| matches!(act, Act::Wait(_))) {
        gate.pass().await;
    }
    stream.write_all(head(&answer).as_bytes()).await?;
    stream.flush().await?;
    let bodiless = head_only || matches!(answer.status, 204 | 304);
    for act in acts.filter(|_| !bodiless) {
        match act {
            Act::Send(bytes) if bytes.is_empty() => {}
            Act::Send(bytes) if answer.framing == Framing::Chunked => {
                stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
                stream.write_all(bytes).await?;
                stream.write_all(b"\r\n").await?;
            }
            Act::Send(bytes) => stream.write_all(bytes).await?,
            Act::Wait(gate) => {
                stream.flush().await?;
                gate.pass().await;
            }
            Act::Pause(time) => {
                stream.flush().await?;
                tokio::time::sleep(*time).await;
            }
            Act::Cut => {
                stream.flush().await?;
                return Ok(Some(End::Cut));
            }
            Act::Reset => {
                stream.flush().await?;
                return Ok(Some(End::Reset));
            }
        }
    }
    if answer.framing == Framing::Chunked && !bodiless {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.flush().await?;
    Ok(None)
}

fn head(answer: &Answer) -> String {
    let reason =
        http::StatusCode::from_u16(answer.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("-");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.framing {
        Framing::Length(_) if matches!(answer.status, 204 | 304) => {}
        Framing::Length(length) => head.push_str(&format!("content-length: {length}\r\n")),
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close => head.push_str("connection: close\r\n"),
    }
    head.push_str("\r\n");
    head
}
