//! Connections: accepting, their limits, and their end (RS-60, RS-64, RS-65, RS-71, RS-119).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    forwarded::Ends,
    handle::{Connection, handle},
    progress::{self, Counted, Fate, Progress, Watch},
    tls::Tls,
};
use crate::App;

/// Longest time for a request's head, and between two requests of a connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Largest request head, in bytes. Bodies are written in pieces of any size.
const MAX_HEAD: usize = 32 << 10;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams that a client may open and reset before we have looked at them.
const MAX_RESETS: usize = 20;
/// What waits in one HTTP/2 stream to be sent, in bytes.
const SEND_BUFFER: usize = 256 << 10;
/// How often an idle HTTP/2 client is asked whether it is there.
const PING_PERIOD: Duration = Duration::from_secs(20);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening server.
pub struct Server {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    builder: Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    leaving: CancellationToken,
}

impl Server {
    /// A server of `app` for at most `most` connections at a time; more wait in the system's queue.
    pub fn new(app: Arc<App>, tls: Option<Arc<Tls>>, most: usize) -> Arc<Self> {
        Arc::new(Server {
            app,
            tls,
            builder: builder(),
            places: Arc::new(Semaphore::new(most)),
            connections: TaskTracker::new(),
            leaving: CancellationToken::new(),
        })
    }

    /// Accepts connections until [`Server::leave`].
    pub async fn accept(self: &Arc<Self>, listener: TcpListener) {
        loop {
            let next = self.leaving.run_until_cancelled(self.next(&listener)).await;
            match next {
                None => return,
                Some(Ok((stream, peer, place))) => self.spawn(stream, peer, place),
                Some(Err(error)) => {
                    if !is_the_peers(&error) {
                        tracing::warn!(error = %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
        // The semaphore is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, place))
    }

    fn spawn(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Option<OwnedSemaphorePermit>) {
        let server = self.clone();
        self.connections.spawn(async move {
            let _place = place;
            server.app.metrics.connections.inc();
            if let Err(error) = server.serve(stream, peer).await {
                tracing::debug!(client.address = %peer, error = %error, "a connection could not be set up");
            }
            server.app.metrics.connections.dec();
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // A socket of both families shows IPv4 as part of IPv6.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let ends = Ends { peer: plain(peer), local: plain(stream.local_addr()?), tls: self.tls.is_some() };
        let progress: Arc<Progress> = Arc::default();
        let connection = Connection { ends, progress: progress.clone() };
        let stream = Counted::new(stream, progress);
        match &self.tls {
            None => self.converse(stream, connection).await,
            Some(tls) => {
                let handshake = tls.acceptor().accept(stream);
                let stream = tokio::time::timeout(HANDSHAKE_TIME, handshake).await??;
                self.converse(stream, connection).await;
            }
        }
        Ok(())
    }

    /// Serves one connection to its end.
    async fn converse<S>(&self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watch = Watch::new(connection.progress.clone());
        let app = self.app.clone();
        let service = service_fn(move |request| {
            let (app, connection) = (app.clone(), connection.clone());
            async move { Ok::<_, std::convert::Infallible>(handle(app, connection, request).await) }
        });
        let conversation = self.builder.serve_connection(TokioIo::new(stream), service);
        attend(conversation, watch, &self.leaving).await;
    }

    /// Stops accepting, lets every connection end its requests, and waits for that at most `limit`. Returns
    /// how many connections were still at it.
    pub async fn leave(&self, limit: Duration) -> usize {
        self.leaving.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(limit, self.connections.wait()).await;
        self.connections.len()
    }
}

/// Stays with a conversation to its end: by either side, for want of requests or progress, or since we leave.
async fn attend(conversation: impl GracefulConnection, mut watch: Watch, leaving: &CancellationToken) {
    let mut conversation = std::pin::pin!(conversation);
    let mut looks = tokio::time::interval(progress::PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset();
    let mut leaves = false;
    loop {
        tokio::select! {
            // How a conversation ends is the client's affair; requests have their own records.
            _ = conversation.as_mut() => return,
            () = leaving.cancelled(), if !leaves => {
                leaves = true;
                conversation.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => match watch.look() {
                Fate::Stays => {}
                Fate::Leaves => conversation.as_mut().graceful_shutdown(),
                Fate::Closed => return,
            },
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS * 5)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(HEAD_TIME);
    builder
}

/// Errors of one connection that say nothing about the listener.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http2;
    use tokio::time::Instant;

    use super::*;
    use crate::http::{
        body::{ReplyBody, Source},
        progress::Turn,
    };

    /// How long an answer takes that is long under way.
    const SLOW: Duration = Duration::from_secs(600);

    /// A piece of an answer at once, and one after a long time.
    fn slow() -> Source {
        let pieces = stream::iter([Duration::ZERO, SLOW]).then(|pause| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from_static(b"piece"))
        });
        Source::Passed(pieces.boxed(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn rs_64_an_idle_http2_connection_gives_its_place_back_and_a_slow_answer_keeps_it() {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let progress: Arc<Progress> = Arc::default();
        let watch = Watch::new(progress.clone());
        let stream = Counted::new(ours, progress.clone());
        let server = tokio::spawn(async move {
            let service = service_fn(move |_| {
                let body = ReplyBody::new(slow()).holding(Turn::new(progress.clone()));
                async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
            });
            let builder = builder();
            attend(builder.serve_connection(TokioIo::new(stream), service), watch, &CancellationToken::new())
                .await;
        });
        // It answers pings, as every client does.
        let client = http2::handshake(TokioExecutor::new(), TokioIo::new(theirs));
        let (mut requests, connection) = client.await.unwrap();
        let connection = tokio::spawn(connection);
        let began = Instant::now();
        let request = Request::get("http://proxy.test/").body(Empty::<Bytes>::new()).unwrap();
        let answer = requests.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "piecepiece");
        assert!(began.elapsed() >= SLOW);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
        let idle = began.elapsed() - SLOW;
        assert!(idle >= progress::PERIOD * 4 && idle <= progress::PERIOD * 6, "{idle:?}");
    }
}
