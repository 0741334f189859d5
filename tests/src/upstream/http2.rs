//! HTTP/2 over TLS by hyper: the same acts, where a cut or a reset is a RST_STREAM.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Act, Answer, Framing, Recorded, Shared};

/// Time for a connection to write what it holds.
const FLUSH: Duration = Duration::from_millis(5);
const MAX_BODY: usize = 1 << 20;

/// Answers requests on `stream` until it ends.
pub(super) async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(respond(request, &shared).await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A peer that goes away is part of the tests.
    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: Request<Incoming>, shared: &Shared) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    let (parts, body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let recorded = Recorded {
        method: parts.method.to_string(),
        target: target.trim_start_matches('/').to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: Limited::new(body, MAX_BODY).collect().await.map(|b| b.to_bytes()).unwrap_or_default(),
        version: "2",
    };
    let head_only = recorded.method == "HEAD";
    let mut answer = shared.answer(recorded);
    while let Some(Act::Wait(gate)) = answer.acts.first().cloned() {
        gate.pass().await;
        answer.acts.remove(0);
    }
    response(answer, head_only)
}

fn response(answer: Answer, head_only: bool) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let bodiless = head_only || matches!(answer.status, 204 | 304);
    if let Framing::Length(length) = answer.framing
        && answer.status != 304
    {
        builder = builder.header("content-length", length);
    }
    let acts = if bodiless { Vec::new() } else { answer.acts };
    let frames = stream::unfold(acts.into_iter(), |mut acts| async move {
        loop {
            match acts.next()? {
                Act::Send(bytes) => return Some((Ok(Frame::data(bytes)), acts)),
                Act::Wait(gate) => gate.pass().await,
                Act::Pause(time) => tokio::time::sleep(time).await,
                Act::Cut | Act::Reset => {
                    // A reset throws away what is not yet written: let the connection write first.
                    tokio::time::sleep(FLUSH).await;
                    return Some((Err(io::Error::other("as scripted")), acts));
                }
            }
        }
    });
    builder.body(StreamBody::new(frames).boxed_unsync()).expect("scripts hold valid headers")
}
