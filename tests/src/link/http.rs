//! A link that understands HTTP/1.1, for an object store: counts requests, and tells a share of them to slow down.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hyper::{Request, Response, body::Incoming};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use crate::forward::{self, AsyncAnswer, Body};

/// What S3 says when it is asked too much.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// A running HTTP link; it ends with its connections when it is dropped.
pub struct HttpLink {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: String,
    /// Of 100 requests, and with which seed.
    refused: Mutex<(u64, u64)>,
    number: AtomicU64,
    slowed: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
}

impl HttpLink {
    /// A link to `target` (`host:port`) that refuses nothing.
    ///
    /// # Panics
    /// When no port of loopback is free.
    pub async fn to(target: impl Into<String>) -> Self {
        let listener = super::listen().await;
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            target: target.into(),
            refused: Mutex::default(),
            number: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            requests: Mutex::default(),
        });
        let accepting = super::thread().spawn(forward::serve(listener, Slowing(shared.clone())));
        HttpLink { address, shared, accepting }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on `percent` of 100 requests get 503 SlowDown; which ones, depends on `seed` and their number only.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn slow_down(&self, percent: u64, seed: u64) {
        *self.shared.refused.lock().expect("no holder panics") = (percent, seed);
    }

    /// How many requests were told to slow down.
    pub fn slowed(&self) -> u64 {
        self.shared.slowed.load(Relaxed)
    }

    /// How many requests came, by method.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.shared.requests.lock().expect("no holder panics").clone()
    }
}

impl Drop for HttpLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Whether request `number` is among the `percent` of 100 that are refused.
pub fn is_refused(percent: u64, seed: u64, number: u64) -> bool {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(number.to_be_bytes()).finalize();
    u64::from(u16::from_be_bytes([digest[0], digest[1]])) * 100 < percent << 16
}

struct Slowing(Arc<Shared>);

impl AsyncAnswer for Slowing {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Slowing(shared) = self;
        let method = request.method().to_string();
        *shared.requests.lock().expect("no holder panics").entry(method).or_default() += 1;
        let number = shared.number.fetch_add(1, Relaxed);
        let (percent, seed) = *shared.refused.lock().expect("no holder panics");
        if is_refused(percent, seed, number) {
            shared.slowed.fetch_add(1, Relaxed);
            forward::drain(request.into_body()).await;
            return refusal(503, SLOW_DOWN);
        }
        match forward::forward(request, &shared.target).await {
            Ok(answer) => answer,
            Err(error) => refusal(502, error.to_string()),
        }
    }
}

fn refusal(status: u16, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/xml");
    answer.body(forward::text(body)).expect("valid headers")
}
