//! A load balancer as clients of replicas meet one: HTTP/1.1, the next backend for every request. A backend that
//! takes no connection, or closes it without an answer, is passed over where asking another one repeats nothing;
//! an answer that breaks is broken towards the client too.

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::HeaderValue;
use hyper::{Request, Response, body::Incoming};
use reqwest::Client;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::{
    forward::{self, AsyncAnswer, Body, Unanswered},
    http::use_ring,
};

/// The answer's header that tells which backend gave it, by its number.
pub const BACKEND: &str = "x-bench-backend";
/// Longest wait for one answer of a backend's `/readyz`.
const PROBE: Duration = Duration::from_secs(1);
/// So many answers in a row that do not come in time take a backend out (Kubernetes' `failureThreshold`): a machine that
/// stands still for a moment would take out all of them at once.
const LATE: u32 = 3;

/// A running balancer; it ends with its connections when it is dropped.
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    _accepting: Aborting,
}

struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    backends: Vec<Backend>,
    next: usize,
}

struct Backend {
    address: String,
    takes: bool,
    /// How often somebody else than a probe has decided `takes`; what a probe saw before that counts no more.
    decided: u64,
    answered: u64,
    passed_over: u64,
}

impl Balancer {
    /// In front of `backends` (`host:port` each), all of which take requests.
    ///
    /// # Panics
    /// When no port of loopback is free.
    pub async fn start(backends: impl IntoIterator<Item = String>) -> Self {
        let backends = backends.into_iter();
        let backend = |address| Backend { address, takes: true, decided: 0, answered: 0, passed_over: 0 };
        let state = State { backends: backends.map(backend).collect(), next: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let accepting = Aborting(tokio::spawn(forward::serve(listener, Balancing(shared.clone()))));
        Balancer { address, shared, tasks: Mutex::default(), _accepting: accepting }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Root URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts `address` in the place of backend `number`.
    ///
    /// # Panics
    /// When there is no such backend.
    pub fn replace(&self, number: usize, address: impl Into<String>) {
        self.shared.lock().backends[number].address = address.into();
    }

    /// Backend `number` gets no request from now on; what it has begun goes on.
    ///
    /// # Panics
    /// When there is no such backend.
    pub fn take_out(&self, number: usize) {
        self.shared.lock().decide(number, false);
    }

    /// Backend `number` gets requests again.
    ///
    /// # Panics
    /// When there is no such backend.
    pub fn put_in(&self, number: usize) {
        self.shared.lock().decide(number, true);
    }

    /// Whether backend `number` gets requests.
    ///
    /// # Panics
    /// When there is no such backend.
    pub fn is_in(&self, number: usize) -> bool {
        self.shared.lock().backends[number].takes
    }

    /// How many answers each backend gave.
    pub fn answered(&self) -> Vec<u64> {
        self.shared.lock().backends.iter().map(|backend| backend.answered).collect()
    }

    /// How often each backend was passed over since it took no connection or gave no answer.
    pub fn passed_over(&self) -> Vec<u64> {
        self.shared.lock().backends.iter().map(|backend| backend.passed_over).collect()
    }

    /// Looks at `/readyz` of every backend all the time, with such a pause in between, and takes it out and in
    /// accordingly: at once when it says so or takes no connection, after a while when it only does not answer.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn follow_readiness(&self, period: Duration) {
        use_ring();
        let client = Client::builder().no_proxy().timeout(PROBE).pool_max_idle_per_host(0);
        let client = client.build().expect("a client needs nothing of the machine");
        let mut tasks = self.tasks.lock().expect("no holder panics");
        for number in 0..self.shared.lock().backends.len() {
            tasks.spawn(follow(number, period, client.clone(), self.shared.clone()));
        }
    }
}

async fn follow(number: usize, period: Duration, client: Client, shared: Arc<Shared>) {
    let mut late = 0;
    loop {
        let (url, decided) = {
            let backend = &shared.lock().backends[number];
            (format!("http://{}/readyz", backend.address), backend.decided)
        };
        let answer = client.get(url).send().await;
        late = if answer.as_ref().is_err_and(reqwest::Error::is_timeout) { late + 1 } else { 0 };
        if !(1..LATE).contains(&late) {
            let backend = &mut shared.lock().backends[number];
            if backend.decided == decided {
                backend.takes = answer.is_ok_and(|answer| answer.status() == 200);
            }
        }
        tokio::time::sleep(period).await;
    }
}

impl State {
    fn decide(&mut self, number: usize, takes: bool) {
        let backend = &mut self.backends[number];
        backend.takes = takes;
        backend.decided += 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The backends to ask for one request, the best first.
    fn order(&self) -> Vec<(usize, String)> {
        let mut state = self.lock();
        let (count, first) = (state.backends.len(), state.next);
        state.next = first.wrapping_add(1);
        let numbers = (0..count).map(|step| (first.wrapping_add(step)) % count);
        let taking = numbers.filter(|number| state.backends[*number].takes);
        taking.map(|number| (number, state.backends[number].address.clone())).collect()
    }
}

struct Balancing(Arc<Shared>);

impl AsyncAnswer for Balancing {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let Balancing(shared) = self;
        for (number, address) in shared.order() {
            match forward::forward(request, &address).await {
                Ok(mut answer) => {
                    shared.lock().backends[number].answered += 1;
                    answer.headers_mut().insert(BACKEND, HeaderValue::from(number));
                    return answer;
                }
                Err(Unanswered::Untouched(again)) => {
                    shared.lock().backends[number].passed_over += 1;
                    request = *again;
                }
                Err(error @ Unanswered::Broken(_)) => {
                    return refusal(502, &number.to_string(), error.to_string());
                }
            }
        }
        forward::drain(request.into_body()).await;
        refusal(503, "none", "no backend takes requests")
    }
}

fn refusal(status: u16, backend: &str, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let answer = Response::builder().status(status).header(BACKEND, backend);
    answer.body(forward::text(text)).expect("valid headers")
}
