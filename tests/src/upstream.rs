//! The scripted upstream: serves a tree as a good server does, counts and records what it is asked, and
//! misbehaves per path on request. HTTP/1.1 in the clear or over TLS, HTTP/2 over TLS.
//!
//! Paths are given without the leading slash, percent-encoded as they go over the wire. A request for a path that
//! is not there under its own spelling gets the one that it means after decoding.

mod answer;
mod behaviour;
mod gate;
mod guard;
mod http1;
mod http2;
mod record;
pub mod tls;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::HashMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedMutexGuard,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::wait;

pub use answer::{Act, Answer, Framing};
pub use behaviour::{Behaviour, Handler, gzip, spoiled};
pub use gate::Gate;
pub use guard::{Guard, TOKEN_PATH, TokenGuard};
pub use record::Recorded;
pub use tls::Authority;
pub use tree::{Entry, Tree};

/// How an upstream speaks.
#[derive(Clone)]
enum Wire {
    Plain,
    Tls(Arc<ServerConfig>),
    Http2(Arc<ServerConfig>),
}

/// A running upstream; it stops when it is dropped.
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    wire: Wire,
    ca_pem: Option<String>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Held while it has an address that others of this process want too.
    turn: Option<OwnedMutexGuard<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    versions: HashMap<String, u64>,
    scripts: HashMap<String, (Behaviour, usize)>,
    everywhere: Option<Behaviour>,
    guard: Option<Guard>,
    requests: Vec<Recorded>,
}

impl Upstream {
    /// HTTP/1.1 without TLS.
    pub async fn start() -> Self {
        Self::listen(Wire::Plain, None).await
    }

    /// HTTP/1.1 over TLS, with a certificate of `authority`.
    pub async fn start_tls(authority: &Authority) -> Self {
        Self::listen(Wire::Tls(authority.server("http/1.1")), Some(authority.ca_pem())).await
    }

    /// HTTP/2 over TLS, with a certificate of `authority`.
    pub async fn start_http2(authority: &Authority) -> Self {
        Self::listen(Wire::Http2(authority.server("h2")), Some(authority.ca_pem())).await
    }

    /// HTTP/1.1 without TLS on the scheme's own port, at an address of loopback that nobody else is likely to
    /// use, which is the same each time: names of packages have it in them. Who comes while another one of this process
    /// is there waits for its end. `None` where that port is not ours to take.
    pub async fn start_on_port_80() -> Option<Self> {
        /// Longest time until the one before has let go of the port.
        const ENDING: Duration = Duration::from_secs(10);
        static TURN: LazyLock<Arc<tokio::sync::Mutex<()>>> = LazyLock::new(Arc::default);
        let turn = TURN.clone().lock_owned().await;
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + (a ^ b), c, d);
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind((address, 80)).await {
                Ok(listener) => break listener,
                // The one before is gone, and its task is about to see that.
                Err(e) if e.kind() == ErrorKind::AddrInUse && began.elapsed() < ENDING => {
                    wait::breathe().await;
                }
                Err(_) => return None,
            }
        };
        let mut upstream = Self::on_listener(listener, Wire::Plain, None);
        upstream.turn = Some(turn);
        Some(upstream)
    }

    /// HTTP/1.1 without TLS at an address of this machine that others than its own processes reach.
    ///
    /// # Panics
    /// When the machine has no such address.
    pub async fn start_at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("an address of this machine");
        Self::on_listener(listener, Wire::Plain, None)
    }

    async fn listen(wire: Wire, ca_pem: Option<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        Self::on_listener(listener, wire, ca_pem)
    }

    fn on_listener(listener: TcpListener, wire: Wire, ca_pem: Option<String>) -> Self {
        let address = listener.local_addr().expect("a bound address");
        let upstream = Upstream {
            shared: Arc::default(),
            address,
            wire,
            ca_pem,
            accepting: Mutex::default(),
            turn: None,
        };
        upstream.accept_on(listener);
        upstream
    }

    fn accept_on(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, self.wire.clone(), self.shared.clone()));
        *self.accepting.lock().expect("no holder panics") = Some(task);
    }

    /// Root URL, with a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if matches!(self.wire, Wire::Plain) { "http" } else { "https" };
        format!("{scheme}://{}/", self.address)
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The authority's certificate, when it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Adds or replaces a file. Its Last-Modified moves forward with every version.
    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) -> &Self {
        self.put_with(path, bytes, &[])
    }

    /// Adds or replaces a file with headers of its own.
    pub fn put_with(&self, path: &str, bytes: impl Into<Bytes>, headers: &[(&str, &str)]) -> &Self {
        let mut state = self.shared.lock();
        let version = state.versions.entry(path.to_owned()).or_default();
        *version += 1;
        let mut entry = Entry::new(path, bytes.into(), *version);
        entry.headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        state.entries.insert(path.to_owned(), entry);
        drop(state);
        self
    }

    /// Adds every file of `tree`.
    pub fn put_tree(&self, tree: &Tree) -> &Self {
        tree.0.iter().for_each(|(path, bytes)| {
            self.put(path, bytes.clone());
        });
        self
    }

    /// Takes a file away.
    pub fn remove(&self, path: &str) -> &Self {
        self.shared.lock().entries.remove(path);
        self
    }

    /// Lets `path` behave like this from now on.
    pub fn script(&self, path: &str, behaviour: Behaviour) -> &Self {
        self.shared.lock().scripts.insert(path.to_owned(), (behaviour, 0));
        self
    }

    /// Lets every path without a script of its own behave like this from now on.
    pub fn script_all(&self, behaviour: Behaviour) -> &Self {
        self.shared.lock().everywhere = Some(behaviour);
        self
    }

    /// Forgets all scripts.
    pub fn behave(&self) -> &Self {
        let mut state = self.shared.lock();
        state.scripts.clear();
        state.everywhere = None;
        drop(state);
        self
    }

    /// Asks for credentials from now on.
    pub fn guard(&self, guard: Guard) -> &Self {
        self.shared.lock().guard = Some(guard);
        self
    }

    /// How many requests for `path` came, whatever their method. With a query when `path` has one.
    pub fn hits(&self, path: &str) -> usize {
        self.count(|request| is_for(request, path))
    }

    /// The same for one method.
    pub fn hits_by(&self, method: &str, path: &str) -> usize {
        self.count(|request| request.method == method && is_for(request, path))
    }

    fn count(&self, wanted: impl Fn(&Recorded) -> bool) -> usize {
        self.shared.lock().requests.iter().filter(|request| wanted(request)).count()
    }

    /// Everything that was asked, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// Stops listening and drops all connections: the upstream is switched off.
    pub async fn off(&self) {
        let task = self.accepting.lock().expect("no holder panics").take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens on the same port again.
    ///
    /// # Panics
    /// When somebody took the port.
    pub async fn on(&self) {
        self.accept_on(TcpListener::bind(self.address).await.expect("the port is still ours"));
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().expect("no holder panics").take() {
            task.abort();
        }
    }
}

fn is_for(request: &Recorded, path: &str) -> bool {
    if path.contains('?') { request.target == path } else { request.path() == path }
}

/// `path` without its percent-encoding, where that is text.
fn decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(path))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Records `request` and says what it gets.
    fn answer(&self, request: Recorded) -> Answer {
        let mut state = self.lock();
        state.requests.push(request.clone());
        if let Some(refusal) = state.guard.as_ref().and_then(|guard| guard.refuse(&request)) {
            return refusal;
        }
        let State { entries, scripts, everywhere, guard, .. } = &mut *state;
        let decoded = decoded(request.path());
        let spellings = [&request.target[..], request.path(), &decoded];
        let entry = spellings.iter().find_map(|path| entries.get(*path));
        let scripted = spellings.into_iter().find(|path| scripts.contains_key(*path));
        let answer = match (scripted.and_then(|path| scripts.get_mut(path)), everywhere) {
            (Some((behaviour, met)), _) => {
                *met += 1;
                behaviour.answer(&request, entry, *met - 1)
            }
            (None, _) if guard.is_some() && request.path() == TOKEN_PATH => guard::hand_out(&request),
            (None, Some(behaviour)) => behaviour.answer(&request, entry, 0),
            (None, None) => Behaviour::Serve.answer(&request, entry, 0),
        };
        drop(state);
        if request.method == "HEAD" { answer.headless() } else { answer }
    }
}

async fn accept(listener: TcpListener, wire: Wire, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, wire.clone(), shared.clone()));
    }
}

async fn connection(mut stream: TcpStream, wire: Wire, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match wire {
        Wire::Plain => {
            let end = http1::serve(&mut stream, &shared).await;
            finish(stream, end.ok());
        }
        Wire::Tls(config) => {
            let Ok(mut secured) = TlsAcceptor::from(config).accept(stream).await else { return };
            let end = http1::serve(&mut secured, &shared).await;
            finish(secured.into_inner().0, end.ok());
        }
        Wire::Http2(config) => {
            let Ok(secured) = TlsAcceptor::from(config).accept(stream).await else { return };
            http2::serve(secured, shared).await;
        }
    }
}

/// Closes the socket as the script said.
fn finish(stream: TcpStream, end: Option<http1::End>) {
    if end == Some(http1::End::Reset) {
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}
