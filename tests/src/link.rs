//! A link: the wire between two parties as a process of the test's own, which can be slowed down, cut, reset,
//! silenced or taken away at any time, and which counts what goes over it.

pub mod http;
mod pump;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle, Runtime},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Where all links run: a thread of their own, so that a test whose clients keep its threads busy does not make
/// services look slow.
pub(crate) fn thread() -> &'static Handle {
    static THREAD: OnceLock<Runtime> = OnceLock::new();
    let runtime = THREAD.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("links").enable_all().build().expect("a thread")
    });
    runtime.handle()
}

/// A listener on a free port of loopback that is served by [`thread`].
pub(crate) async fn listen() -> TcpListener {
    listen_at((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port on loopback")
}

async fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    thread().spawn(TcpListener::bind(address)).await.expect("no panic")
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What a link does to the bytes that it carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Every byte arrives so much later, in both directions.
    Latency(Duration),
    /// Nobody listens any more. Connections that are open stay open.
    Refuse,
    /// Connections are taken and stay open, and no byte arrives until this ends.
    BlackHole,
    /// Every connection ends in order (FIN on both sides) once it has brought so many more bytes from the target.
    CutAfter(u64),
    /// So many bytes a second at most, for each connection and direction.
    Throttle(u64),
}

/// What went over a link since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Those that are open now.
    pub open: u64,
    /// Bytes to the target.
    pub sent: u64,
    /// Bytes from the target.
    pub received: u64,
}

/// A running link; it ends, with all its connections, when it is dropped.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    place: Mutex<Place>,
}

/// What holds the port.
enum Place {
    /// A task that listens.
    Open(JoinHandle<()>),
    /// A socket that is bound and does not listen: connections are refused, and nobody else gets the port.
    Shut(Option<TcpSocket>),
}

struct Shared {
    target: Mutex<String>,
    /// The fault, and how often it was set.
    fault: watch::Sender<(Fault, u64)>,
    /// How often all connections were reset.
    resets: watch::Sender<u64>,
    connections: AtomicU64,
    open: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Ends all connections when the link is dropped.
    running: Mutex<JoinSet<()>>,
}

impl Link {
    /// A link to `target` (`host:port`) that passes everything.
    ///
    /// # Panics
    /// When no port of loopback is free.
    pub async fn to(target: impl Into<String>) -> Self {
        Self::on(listen().await, target)
    }

    /// The same at an address of this machine; port 0 is any that is free.
    ///
    /// # Errors
    /// When that address is not this machine's, or somebody has the port.
    pub async fn at(address: impl Into<SocketAddr>, target: impl Into<String>) -> io::Result<Self> {
        Ok(Self::on(listen_at(address.into()).await?, target))
    }

    fn on(listener: TcpListener, target: impl Into<String>) -> Self {
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target.into()),
            fault: watch::Sender::new((Fault::Pass, 0)),
            resets: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            running: Mutex::default(),
        });
        let place = Mutex::new(Place::Open(thread().spawn(accept(listener, shared.clone()))));
        Link { address, shared, place }
    }

    /// `127.0.0.1:port`, or the address it was given.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections from now on go to `target`.
    pub fn point_to(&self, target: impl Into<String>) {
        *self.shared.target() = target.into();
    }

    /// Behaves like this from now on, also on connections that are open.
    ///
    /// # Panics
    /// When the port cannot be taken back after [`Fault::Refuse`].
    pub async fn set(&self, fault: Fault) {
        if fault == Fault::Refuse {
            self.shut().await;
        } else {
            self.open();
        }
        self.shared.fault.send_modify(|(now, times)| (*now, *times) = (fault, *times + 1));
    }

    /// Ends every open connection by RST on both sides.
    pub fn reset_all(&self) {
        self.shared.resets.send_modify(|times| *times += 1);
    }

    /// What went over it so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let Shared { connections, open, sent, received, .. } = &*self.shared;
        Counts { connections: of(connections), open: of(open), sent: of(sent), received: of(received) }
    }

    async fn shut(&self) {
        let listening = {
            let mut place = self.place();
            match &*place {
                Place::Shut(_) => return,
                Place::Open(_) => std::mem::replace(&mut *place, Place::Shut(None)),
            }
        };
        if let Place::Open(task) = listening {
            task.abort();
            let _ = task.await;
        }
        let socket = bind(self.address);
        *self.place() = Place::Shut(Some(socket));
    }

    fn open(&self) {
        let mut place = self.place();
        if let Place::Shut(socket) = &mut *place {
            let socket = socket.take().unwrap_or_else(|| bind(self.address));
            let _context = thread().enter();
            let listener = socket.listen(BACKLOG).expect("a port that was kept");
            *place = Place::Open(thread().spawn(accept(listener, self.shared.clone())));
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().expect("no holder panics")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Place::Open(task) = &*self.place() {
            task.abort();
        }
        self.shared.running().abort_all();
    }
}

impl Shared {
    fn target(&self) -> MutexGuard<'_, String> {
        self.target.lock().expect("no holder panics")
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().expect("no holder panics")
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Connections of this port may still be open.
    socket.set_reuseaddr(true).expect("an option that every socket has");
    socket.bind(address).expect("a port that was ours");
    socket
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        shared.connections.fetch_add(1, Relaxed);
        shared.open.fetch_add(1, Relaxed);
        let task = carry(stream, shared.clone());
        let mut running = shared.running();
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Carries one connection to its end.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let open = Open(shared.clone());
    let mut resets = shared.resets.subscribe();
    let Some(mut target) = (tokio::select! {
        target = dial(&shared) => target,
        _ = resets.changed() => None,
    }) else {
        let _ = client.set_zero_linger();
        return;
    };
    let mut client = client;
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let end = tokio::select! {
        end = pump::both(&mut client, &mut target, &shared) => end,
        _ = resets.changed() => pump::End::Reset,
    };
    if end == pump::End::Reset {
        let _ = (client.set_zero_linger(), target.set_zero_linger());
    }
    drop((client, target, open));
}

/// A connection to the target, as soon as anything gets through; `None` when it takes none.
async fn dial(shared: &Shared) -> Option<TcpStream> {
    let mut fault = shared.fault.subscribe();
    fault.wait_for(|(fault, _)| *fault != Fault::BlackHole).await.ok()?;
    let target = shared.target().clone();
    TcpStream::connect(target).await.ok()
}
