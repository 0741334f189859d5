//! One HTTP/1.1 request passed on to another server, streaming in both directions: what breaks there breaks
//! here, and nothing is held in memory.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    client::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// A body on its way through.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The server answered nothing, and asking another one repeats nothing.
    Untouched(Box<Request<Incoming>>),
    /// The request may have had an effect.
    Broken(hyper::Error),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Untouched(_) => {
                f.write_str("the server takes no connection or closes it without an answer")
            }
            Unanswered::Broken(error) => write!(f, "the server broke off: {error}"),
        }
    }
}

/// A body of this text.
pub(crate) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Passes `request` on to `target` (`host:port`) on a connection of its own; the answer's body is read from
/// there while it is read here.
pub(crate) async fn forward(request: Request<Incoming>, target: &str) -> Result<Response<Body>, Unanswered> {
    let Ok(stream) = TcpStream::connect(target).await else {
        return Err(Unanswered::Untouched(Box::new(request)));
    };
    let _ = stream.set_nodelay(true);
    let Ok((mut sender, connection)) =
        http1::Builder::new().max_buf_size(128 << 10).handshake::<_, Body>(TokioIo::new(stream)).await
    else {
        return Err(Unanswered::Untouched(Box::new(request)));
    };
    let connection = Ended(tokio::spawn(async move { drop(connection.await) }).abort_handle());
    let (mut parts, body) = request.into_parts();
    hop_by_hop(&mut parts.headers);
    // One connection, one request.
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let sent = if body.is_end_stream() && matches!(parts.method, Method::GET | Method::HEAD) {
        // Nothing of it can be lost and nothing is done twice, so that it may be sent again.
        let again = parts.clone();
        let sent = sender.send_request(Request::from_parts(parts, text(Bytes::new()))).await;
        match sent {
            Err(_) => return Err(Unanswered::Untouched(Box::new(Request::from_parts(again, body)))),
            Ok(answer) => answer,
        }
    } else {
        let passed = body.map_err(Into::into).boxed_unsync();
        sender.send_request(Request::from_parts(parts, passed)).await.map_err(Unanswered::Broken)?
    };
    let (mut parts, body) = sent.into_parts();
    hop_by_hop(&mut parts.headers);
    let body = Passing { body, _connection: connection };
    Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}

/// Reads a body to its end and forgets it, so that the answer is not lost with what was not read.
pub(crate) async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Takes away what concerns one connection only.
fn hop_by_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Ends a connection's task.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body whose connection ends with it: a client that leaves is seen to leave.
struct Passing {
    body: Incoming,
    _connection: Ended,
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(context)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves HTTP/1.1 on `listener` until the task that does so is dropped; every request gets what `answer` says.
pub(crate) async fn serve<A>(listener: TcpListener, answer: A)
where
    A: AsyncAnswer,
{
    let answer = Arc::new(answer);
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer.answer(request).await) }
            });
            // A client or a server that goes away is part of the tests.
            let _ = hyper::server::conn::http1::Builder::new()
                .max_buf_size(128 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// What a forwarding server does with each request.
pub(crate) trait AsyncAnswer: Send + Sync + 'static {
    /// The answer to `request`.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}
