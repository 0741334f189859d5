//! The answerer's side of the peer port.

use std::{convert::Infallible, sync::Arc, time::Duration};

use artifactapi_engine::Engine;
use artifactapi_model::ports::{Part, Parts};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    code::{PeerKey, Question},
    frames,
};

/// Scheme of the `Authorization` header.
pub(super) const SCHEME: &str = "Artifactapi-Peer ";
/// Twins' connections at the same time.
const MAX_CONNECTIONS: usize = 1024;
/// Longest wait for a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves the fills of `engine` on `listener` until `stop`.
pub async fn serve(engine: Arc<Engine>, key: PeerKey, listener: TcpListener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = stop.run_until_cancelled(listener.accept()).await;
        let stream = match accepted {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(error = %error, "a twin's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (engine, key) = (engine.clone(), key.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&engine, &key, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = stream.set_nodelay(true);
            // Twins come and go; what one did wrong is in its own log.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_LIMIT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

fn answer(engine: &Arc<Engine>, key: &PeerKey, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let code =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix(SCHEME));
    if !code.is_some_and(|code| key.is_of_question(query, code)) {
        return status(StatusCode::UNAUTHORIZED);
    }
    if request.method() != Method::GET || request.uri().path() != "/fill" {
        return status(StatusCode::NOT_FOUND);
    }
    let Some(question) = Question::of_query(query) else { return status(StatusCode::BAD_REQUEST) };
    match engine.lend(&question.key) {
        Some(parts) => {
            let body = StreamBody::new(signed(parts, key.clone(), question.nonce)).boxed_unsync();
            Response::new(body)
        }
        None => status(StatusCode::NOT_FOUND),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// `parts` as frames, with our code before what is said of the body and before how it ended.
fn signed(
    parts: Parts,
    key: PeerKey,
    nonce: String,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    let mut head = Bytes::new();
    let parts = parts.map(move |part| match part {
        Ok(Part::Head(bytes)) => {
            head = bytes.clone();
            let code = key.of_answer(&nonce, &bytes, b"");
            Some(Part::Head([code.as_ref(), &bytes].concat().into()))
        }
        Ok(Part::Data(bytes)) => Some(Part::Data(bytes)),
        Ok(Part::End(bytes)) => {
            let code = key.of_answer(&nonce, &head, &bytes);
            Some(Part::End([code.as_ref(), &bytes].concat().into()))
        }
        Err(_) => None,
    });
    let parts = parts.take_while(|part| std::future::ready(part.is_some()));
    parts.flat_map(|part| {
        let frames = part.map(|part| frames::encode(&part)).into_iter().flatten();
        futures_util::stream::iter(
            frames.filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
        )
    })
}
