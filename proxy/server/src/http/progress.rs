//! Whether a client still asks for something, and takes what it asked for (RS-64).
//!
//! A connection counts what it has written and which requests are open; bodies say when it is the client's turn to
//! make room. A watcher looks every few seconds and needs no clock on the path itself.

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
/// Looks without a request after which it is asked to leave, and without progress after which it is closed: 60 s.
const PATIENCE: u32 = 4;
/// Fewer bytes than this in a period are no progress; pings alone come to less.
const LEAST: u64 = 1024;

/// What one connection is doing.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    blocked: AtomicBool,
    waiting_for_client: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Those whose answer has not ended.
    open: AtomicUsize,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Stays,
    /// Its client has asked for nothing for 60 s: it is to end once all that was answered is sent.
    Leaves,
    /// It has sent no request within a period, or its client has taken nothing for 60 s, or has been asked to leave
    /// and has not.
    Closed,
}

/// Watches one connection from outside.
#[derive(Debug)]
pub struct Watch {
    progress: Arc<Progress>,
    written: u64,
    requests: u64,
    still: u32,
    idle: u32,
    leaves: bool,
}

impl Watch {
    /// Begins to watch.
    pub fn new(progress: Arc<Progress>) -> Self {
        Watch { progress, written: 0, requests: 0, still: 0, idle: 0, leaves: false }
    }

    /// One look; call it every [`PERIOD`].
    pub fn look(&mut self) -> Fate {
        let progress = &self.progress;
        let requests = progress.requests.load(Relaxed);
        if requests == 0 {
            return Fate::Closed;
        }
        let is_idle = requests == self.requests && progress.open.load(Relaxed) == 0;
        let written = progress.written.load(Relaxed);
        let takes_nothing = written.saturating_sub(self.written) < LEAST;
        // What has been answered may still be on its way; who leaves has 60 s without progress for that, like others.
        let waits = progress.blocked.load(Relaxed)
            || progress.waiting_for_client.load(Relaxed) > 0
            || self.leaves && is_idle;
        self.still = if waits && takes_nothing { self.still + 1 } else { 0 };
        self.idle = if is_idle { self.idle + 1 } else { 0 };
        (self.written, self.requests) = (written, requests);
        if self.still >= PATIENCE {
            return Fate::Closed;
        }
        // The first of them does not say for how long.
        if self.idle > PATIENCE && !std::mem::replace(&mut self.leaves, true) {
            return Fate::Leaves;
        }
        Fate::Stays
    }
}

/// Held by a request, and then by its answer's body: it is open for as long. Says whose turn it is.
#[derive(Debug)]
pub struct Turn {
    progress: Arc<Progress>,
    clients: bool,
}

impl Turn {
    /// A request has begun; the turn is ours.
    pub fn new(progress: Arc<Progress>) -> Self {
        progress.requests.fetch_add(1, Relaxed);
        progress.open.fetch_add(1, Relaxed);
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
        self.progress.open.fetch_sub(1, Relaxed);
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

    /// Fates of the next looks up to the last, without those that let it stay.
    fn fates(watch: &mut Watch) -> Vec<(u32, Fate)> {
        let mut looks = (1..=20).map(|look| (look, watch.look())).filter(|(_, fate)| *fate != Fate::Stays);
        let mut fates = Vec::new();
        for (look, fate) in &mut looks {
            fates.push((look, fate));
            if fate == Fate::Closed {
                break;
            }
        }
        fates
    }

    #[test]
    fn rs_64_a_connection_without_a_request_is_closed() {
        assert_eq!(Watch::new(Arc::default()).look(), Fate::Closed);
    }

    #[test]
    fn rs_64_an_idle_connection_is_asked_to_leave_and_closed_if_it_does_not() {
        let progress = Arc::new(Progress::default());
        let mut watch = Watch::new(progress.clone());
        let request = Turn::new(progress.clone());
        assert_eq!(fates(&mut watch), [], "a long upload, or an upstream that takes its time");
        drop(request);
        for _ in 0..10 {
            drop(Turn::new(progress.clone()));
            assert_eq!(watch.look(), Fate::Stays, "one request in each period is enough");
        }
        // Another answers what keeps it alive, which is written too.
        progress.written.fetch_add(17, Relaxed);
        assert_eq!(fates(&mut watch), [(PATIENCE + 1, Fate::Leaves), (2 * PATIENCE + 1, Fate::Closed)]);
    }

    #[test]
    fn rs_64_an_answer_that_is_still_on_its_way_is_not_cut_off() {
        let progress = Arc::new(Progress::default());
        drop(Turn::new(progress.clone()));
        let mut watch = Watch::new(progress.clone());
        let slow = (1..=50).map(|_| {
            progress.written.fetch_add(LEAST, Relaxed);
            watch.look()
        });
        let fates: Vec<_> = slow.filter(|fate| *fate != Fate::Stays).collect();
        assert_eq!(fates, [Fate::Leaves], "nothing new is wanted, what is buffered is sent to its end");
    }

    #[tokio::test]
    async fn rs_64_a_client_that_takes_nothing_is_let_go_of() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let progress = Arc::new(Progress::default());
        let _request = Turn::new(progress.clone());
        let mut stream = Counted::new(ours, progress.clone());
        let mut watch = Watch::new(progress);
        assert_eq!(fates(&mut watch), [], "it waits for us");
        stream.write_all(&[0; 4096]).await.unwrap();
        let more = tokio::spawn(async move { stream.write_all(&[0; 8192]).await.map(|()| stream) });
        tokio::task::yield_now().await;
        assert_eq!(watch.look(), Fate::Stays, "it has just moved");
        assert_eq!(fates(&mut watch), [(PATIENCE, Fate::Closed)]);
        theirs.read_exact(&mut [0; 12288]).await.unwrap();
        more.await.unwrap().unwrap();
        assert_eq!(fates(&mut watch), []);
    }

    #[test]
    fn rs_64_a_stream_without_window_is_let_go_of_and_a_slow_upstream_is_waited_for() {
        let progress = Arc::new(Progress::default());
        let mut turn = Turn::new(progress.clone());
        let mut watch = Watch::new(progress);
        assert_eq!(fates(&mut watch), []);
        turn.give();
        assert_eq!(fates(&mut watch), [(PATIENCE, Fate::Closed)]);
        turn.take();
        assert_eq!(fates(&mut watch), []);
    }
}
