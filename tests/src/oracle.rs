//! The oracle client: knows every byte that may be served, asks for them from many sides at once, and keeps a
//! history of what came, on which all verdicts are given.
//!
//! Bodies are compared while they are read and never kept. As long as one agrees with the truth its digest is the
//! truth's; from the first byte that differs on it is hashed, with the part that agreed before it.

mod history;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Client, ClientBuilder, Method, redirect::Policy};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{balancer::BACKEND, fingerprint::of_bytes, http::use_ring};
pub use history::{History, Percentiles};

/// What is kept of a refusal.
const REFUSAL: usize = 400;

/// What one request asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// GET of everything.
    Whole,
    /// GET of these bytes, which lie within the object.
    Part(Range<u64>),
    /// HEAD.
    Head,
}

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The answer that was asked for (200, 206, or the whole where a part was asked for), ended as its framing
    /// announced.
    Complete,
    /// That answer, whose body broke off: the client can tell.
    Broken,
    /// Another status, or no answer at all.
    Failed,
}

/// One line of the history.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the client.
    pub client: usize,
    /// Name of the object.
    pub key: String,
    /// What was asked for.
    pub wanted: Wanted,
    /// When the request was sent.
    pub start: Instant,
    /// When the first byte of its body was there.
    pub first_byte: Option<Instant>,
    /// When the body ended, as it should or not.
    pub end: Instant,
    /// Status code; `None` without an answer.
    pub status: Option<u16>,
    /// Digest of what came, where the whole answer did.
    pub sha256: Option<String>,
    /// Bytes that came.
    pub bytes: u64,
    /// Which backend of a balancer answered.
    pub backend: Option<usize>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether what came is what the object holds: everything, where the outcome is complete, a prefix otherwise.
    pub is_true: bool,
    /// What went wrong.
    pub error: Option<String>,
}

/// An object that is known.
#[derive(Clone)]
struct Truth {
    bytes: Bytes,
    sha256: Arc<str>,
}

/// The oracle: objects by name, and the history.
pub struct Oracle {
    truth: Mutex<BTreeMap<String, Truth>>,
    history: Mutex<Vec<Record>>,
    clients: AtomicUsize,
    begun: AtomicUsize,
    client: Client,
}

impl Oracle {
    /// Knows nothing yet, and gives up a request that takes longer than `patience`.
    ///
    /// # Panics
    /// Never: a client needs nothing of the machine.
    pub fn new(patience: Duration) -> Arc<Self> {
        Self::with(|client| client.timeout(patience))
    }

    /// The same, but gives up a request only when nothing has come for as long as `pause`, however long all of it takes.
    ///
    /// # Panics
    /// Never: a client needs nothing of the machine.
    pub fn new_with_pauses(pause: Duration) -> Arc<Self> {
        Self::with(|client| client.read_timeout(pause))
    }

    fn with(limit: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Arc<Self> {
        use_ring();
        // Each request has a connection of its own, so that none is answered by a backend that has gone.
        let client = Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0);
        let client = limit(client).build().expect("a client needs nothing of the machine");
        Arc::new(Oracle {
            truth: Mutex::default(),
            history: Mutex::default(),
            clients: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            client,
        })
    }

    /// From now on, `key` holds `bytes`.
    pub fn knows(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let sha256 = of_bytes(&bytes).into();
        self.truth().insert(key.to_owned(), Truth { bytes, sha256 });
    }

    /// Takes what `url` answers now as the truth about `key`: for documents that the proxy rewrites.
    ///
    /// # Panics
    /// When no complete answer comes.
    pub async fn learns(&self, key: &str, url: &str) {
        let answer = crate::http::get(url).await;
        assert!(answer.is_ok(), "{url}: {} {}", answer.status, answer.text());
        self.knows(key, answer.body);
    }

    /// The length of `key`.
    ///
    /// # Panics
    /// When it is not known.
    pub fn length(&self, key: &str) -> u64 {
        self.truth_of(key).bytes.len() as u64
    }

    /// A number for one more client.
    pub fn client(&self) -> usize {
        self.clients.fetch_add(1, Relaxed)
    }

    /// Waits until so many answers have had a first byte of a body, whether they have ended or not.
    ///
    /// # Panics
    /// When `limit` passes, or one of the requests has failed.
    pub async fn begun_by(&self, count: usize, limit: Duration) {
        let end = Instant::now() + limit;
        while self.begun.load(Relaxed) < count {
            let history = self.history();
            let failed = history.unsuccessful();
            assert!(
                failed.is_empty(),
                "{} requests failed before all had begun: {:#?}",
                failed.len(),
                failed[0]
            );
            let begun = self.begun.load(Relaxed);
            assert!(Instant::now() < end, "only {begun} of {count} answers have begun after {limit:?}");
            crate::wait::breathe().await;
        }
    }

    /// GET of the whole of `key` at `url`.
    pub async fn get(&self, client: usize, key: &str, url: &str) -> Record {
        self.ask(client, key, url, Wanted::Whole).await
    }

    /// Asks for `wanted` of `key` at `url`, and keeps the record.
    ///
    /// # Panics
    /// When `key` is not known.
    pub async fn ask(&self, client: usize, key: &str, url: &str, wanted: Wanted) -> Record {
        let truth = self.truth_of(key);
        let record = self.observe(client, key, url, wanted, &truth).await;
        self.history.lock().expect("no holder panics").push(record.clone());
        record
    }

    /// What has been recorded so far.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn history(&self) -> History {
        History::new(self.history.lock().expect("no holder panics").clone())
    }

    /// Takes the history away and begins a new one.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn take_history(&self) -> History {
        History::new(std::mem::take(&mut *self.history.lock().expect("no holder panics")))
    }

    fn truth(&self) -> MutexGuard<'_, BTreeMap<String, Truth>> {
        self.truth.lock().expect("no holder panics")
    }

    fn truth_of(&self, key: &str) -> Truth {
        self.truth().get(key).unwrap_or_else(|| panic!("the oracle does not know {key}")).clone()
    }

    async fn observe(&self, client: usize, key: &str, url: &str, wanted: Wanted, truth: &Truth) -> Record {
        let start = Instant::now();
        let mut record = Record {
            client,
            key: key.to_owned(),
            wanted,
            start,
            first_byte: None,
            end: start,
            status: None,
            sha256: None,
            bytes: 0,
            backend: None,
            outcome: Outcome::Failed,
            is_true: true,
            error: None,
        };
        self.fill(&mut record, url, truth).await;
        record.end = Instant::now();
        record
    }

    async fn fill(&self, record: &mut Record, url: &str, truth: &Truth) {
        let (method, status) = match record.wanted {
            Wanted::Whole => (Method::GET, 200),
            Wanted::Part(_) => (Method::GET, 206),
            Wanted::Head => (Method::HEAD, 200),
        };
        let mut request = self.client.request(method, url);
        let mut expected = truth.bytes.clone();
        if let Wanted::Part(range) = &record.wanted {
            request =
                request.header("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
            let at =
                |offset: u64| usize::try_from(offset).map_or(expected.len(), |at| at.min(expected.len()));
            expected = expected.slice(at(range.start)..at(range.end));
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return record.error = Some(format!("{error:?}")),
        };
        record.status = Some(answer.status().as_u16());
        let backend = answer.headers().get(BACKEND).and_then(|value| value.to_str().ok());
        record.backend = backend.and_then(|number| number.parse().ok());
        // A server may answer a range with the whole (RFC 9110, 14.2).
        let is_whole = matches!(record.wanted, Wanted::Part(_)) && record.status == Some(200);
        if is_whole {
            expected = truth.bytes.clone();
        }
        let is_wanted = is_whole || record.status == Some(status);
        if record.wanted == Wanted::Head {
            let length = answer.headers().get("content-length").and_then(|value| value.to_str().ok());
            record.is_true = !is_wanted || length.is_none_or(|length| length == expected.len().to_string());
            record.outcome = if is_wanted { Outcome::Complete } else { Outcome::Failed };
            return;
        }
        if !is_wanted {
            // What it says is told; it is no answer, so that it has no first byte either.
            let said = answer.bytes().await.unwrap_or_default();
            record.bytes = said.len() as u64;
            record.error = Some(String::from_utf8_lossy(&said[..said.len().min(REFUSAL)]).into_owned());
            return;
        }
        let mut body = Comparison::with(&expected);
        let ended = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    if record.first_byte.is_none() {
                        record.first_byte = Some(Instant::now());
                        self.begun.fetch_add(1, Relaxed);
                    }
                    body.take(&chunk);
                }
                Ok(None) => break true,
                Err(error) => {
                    record.error = Some(format!("{error:?}"));
                    break false;
                }
            }
        };
        record.bytes = body.length;
        record.is_true = body.differs.is_none() && (!ended || body.length == expected.len() as u64);
        record.outcome = if ended { Outcome::Complete } else { Outcome::Broken };
        if ended {
            let whole = (record.wanted == Wanted::Whole && record.is_true).then(|| truth.sha256.to_string());
            record.sha256 = Some(whole.unwrap_or_else(|| body.digest()));
        }
    }
}

/// A body beside the one that is expected.
struct Comparison<'a> {
    expected: &'a [u8],
    length: u64,
    differs: Option<Sha256>,
}

impl<'a> Comparison<'a> {
    fn with(expected: &'a [u8]) -> Self {
        Comparison { expected, length: 0, differs: None }
    }

    fn take(&mut self, chunk: &[u8]) {
        let at = usize::try_from(self.length).unwrap_or(usize::MAX);
        self.length += chunk.len() as u64;
        if let Some(hash) = &mut self.differs {
            hash.update(chunk);
        } else if self.expected.get(at..at.saturating_add(chunk.len())) != Some(chunk) {
            let before = &self.expected[..at.min(self.expected.len())];
            self.differs = Some(Sha256::new().chain_update(before).chain_update(chunk));
        }
    }

    fn digest(self) -> String {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX).min(self.expected.len());
        let hash = self.differs.unwrap_or_else(|| Sha256::new().chain_update(&self.expected[..length]));
        hex::encode(hash.finalize())
    }
}
