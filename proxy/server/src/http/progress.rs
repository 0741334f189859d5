//! Whether a client still takes what it asked for (RS-64).
//!
//! A connection counts what it has written; bodies say when it is the client's turn to make room. A watcher
//! looks every few seconds and needs no clock on the path itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection is looked at.
pub const PERIOD: Duration = Duration::from_secs(15);
/// Looks without progress after which it is closed: 60 s.
const PATIENCE: u32 = 4;
/// Fewer bytes than this in a period are no progress; pings alone come to less.
const LEAST: u64 = 1024;

/// What one connection is doing.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    blocked: AtomicBool,
    waiting_for_client: AtomicUsize,
    requests: AtomicU64,
}

impl Progress {
    /// Counts a request.
    pub fn begin_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }
}

/// Watches one connection from outside.
#[derive(Debug)]
pub struct Watch {
    progress: Arc<Progress>,
    written: u64,
    still: u32,
}

impl Watch {
    /// Begins to watch.
    pub fn new(progress: Arc<Progress>) -> Self {
        Watch { progress, written: 0, still: 0 }
    }

    /// One look; call it every [`PERIOD`]. `true`: the connection has sent no request within a period, or its
    /// client has taken nothing for 60 s, and should be closed.
    pub fn is_stuck(&mut self) -> bool {
        let progress = &self.progress;
        if progress.requests.load(Relaxed) == 0 {
            return true;
        }
        let written = progress.written.load(Relaxed);
        let waits = progress.blocked.load(Relaxed) || progress.waiting_for_client.load(Relaxed) > 0;
        if waits && written.saturating_sub(self.written) < LEAST {
            self.still += 1;
        } else {
            self.still = 0;
        }
        self.written = written;
        self.still >= PATIENCE
    }
}

/// Held by a body; says whose turn it is.
#[derive(Debug)]
pub struct Turn {
    progress: Arc<Progress>,
    clients: bool,
}

impl Turn {
    /// It is ours.
    pub fn new(progress: Arc<Progress>) -> Self {
        Turn { progress, clients: false }
    }

    /// A block was handed over: the client's.
    pub fn give(&mut self) {
        if !std::mem::replace(&mut self.clients, true) {
            self.progress.waiting_for_client.fetch_add(1, Relaxed);
        }
    }

    /// The next block is asked for: ours.
    pub fn take(&mut self) {
        if std::mem::replace(&mut self.clients, false) {
            self.progress.waiting_for_client.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.take();
    }
}

/// A connection whose writes are counted.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Counted<S> {
    /// Wraps `stream`.
    pub fn new(stream: S, progress: Arc<Progress>) -> Self {
        Counted { stream, progress }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(count)) => {
                self.progress.written.fetch_add(*count as u64, Relaxed);
                self.progress.blocked.store(false, Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.progress.blocked.store(true, Relaxed),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn looks_until_stuck(watch: &mut Watch) -> Option<u32> {
        (1..=20).find(|_| watch.is_stuck())
    }

    #[test]
    fn rs_64_a_connection_without_a_request_is_closed() {
        assert!(Watch::new(Arc::default()).is_stuck());
    }

    #[tokio::test]
    async fn rs_64_a_client_that_takes_nothing_is_let_go_of() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let progress = Arc::new(Progress::default());
        progress.begin_request();
        let mut stream = Counted::new(ours, progress.clone());
        let mut watch = Watch::new(progress);
        assert_eq!(looks_until_stuck(&mut watch), None, "an idle connection is none of its business");
        stream.write_all(&[0; 4096]).await.unwrap();
        let more = tokio::spawn(async move { stream.write_all(&[0; 8192]).await.map(|()| stream) });
        tokio::task::yield_now().await;
        assert!(!watch.is_stuck(), "it has just moved");
        assert_eq!(looks_until_stuck(&mut watch), Some(PATIENCE));
        theirs.read_exact(&mut [0; 12288]).await.unwrap();
        more.await.unwrap().unwrap();
        assert_eq!(looks_until_stuck(&mut watch), None);
    }

    #[test]
    fn rs_64_a_stream_without_window_is_let_go_of_and_a_slow_upstream_is_waited_for() {
        let progress = Arc::new(Progress::default());
        progress.begin_request();
        let mut turn = Turn::new(progress.clone());
        let mut watch = Watch::new(progress);
        assert_eq!(looks_until_stuck(&mut watch), None);
        turn.give();
        assert_eq!(looks_until_stuck(&mut watch), Some(PATIENCE));
        turn.take();
        assert_eq!(looks_until_stuck(&mut watch), None);
    }
}
