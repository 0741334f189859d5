//! One record per request: counted, written as a line, stored as a row.
//!
//! A request only fills in its record and puts it, when the answer's last byte is gone, into a bounded
//! lock-free queue. A task takes them out a few times a second. The database gets at most
//! [`MAX_ROWS`] rows at a time; what it cannot take is counted and dropped, never waited for.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use artifactapi_engine::CacheOutcome;
use artifactapi_model::{
    Timestamp,
    account::Robot,
    ports::{MetadataStore, metadata::AccessRecord},
};
use crossbeam_queue::ArrayQueue;
use http::{Method, Uri};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Metrics, access_line, logs::LogSink};
use crate::{config::Face, http::request_id::RequestId};

/// Records waiting to be taken out.
const QUEUE: usize = 32_768;
/// How often they are.
const PERIOD: Duration = Duration::from_millis(250);
/// Rows per statement.
const BATCH: usize = 500;
/// Rows per period; more than a small database takes without hurting the rest.
const MAX_ROWS: usize = 1_000;
/// Batches on their way to the database.
const BATCHES: usize = 8;

/// What became of a request, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the first six are the engine's, the others say what they are")]
pub enum Outcome {
    Hit,
    Miss,
    Collapsed,
    Revalidated,
    Stale,
    Bypass,
    /// Answered without store or upstream.
    Answer,
    /// Upstream does not have it, or nothing here has that name.
    NotFound,
    /// The request is refused: policy, form, method, or who asks.
    Refused,
    /// It failed: upstream, storage, overload.
    Error,
    /// The client left before there was an answer.
    Aborted,
}

impl Outcome {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Outcome; 11] = [
        Outcome::Hit,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Revalidated,
        Outcome::Stale,
        Outcome::Bypass,
        Outcome::Answer,
        Outcome::NotFound,
        Outcome::Refused,
        Outcome::Error,
        Outcome::Aborted,
    ];

    /// The word in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Revalidated => "revalidated",
            Outcome::Stale => "stale",
            Outcome::Bypass => "bypass",
            Outcome::Answer => "answer",
            Outcome::NotFound => "not_found",
            Outcome::Refused => "refused",
            Outcome::Error => "error",
            Outcome::Aborted => "aborted",
        }
    }
}

impl From<CacheOutcome> for Outcome {
    fn from(outcome: CacheOutcome) -> Self {
        match outcome {
            CacheOutcome::Hit => Outcome::Hit,
            CacheOutcome::Miss => Outcome::Miss,
            CacheOutcome::Collapsed => Outcome::Collapsed,
            CacheOutcome::Revalidated => Outcome::Revalidated,
            CacheOutcome::Stale => Outcome::Stale,
            CacheOutcome::Bypass => Outcome::Bypass,
        }
    }
}

/// What is known of a request.
#[derive(Debug)]
pub struct Entry {
    /// When it came.
    pub at: Timestamp,
    /// The same for measuring.
    pub began: Instant,
    /// From its head to the last byte of its answer.
    pub duration: Duration,
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub client: IpAddr,
    /// Method.
    pub method: Method,
    /// Target as sent.
    pub target: Uri,
    /// Canonical path in the repository (with query), once it is known.
    pub canonical: Option<Arc<str>>,
    /// Repository, once it is known.
    pub repository: Option<Arc<Face>>,
    /// Whose request it is, where that was asked.
    pub robot: Option<Arc<Robot>>,
    /// What became of it.
    pub outcome: Outcome,
    /// Status sent.
    pub status: u16,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// Whether the answer was handed over whole.
    pub complete: bool,
}

impl Entry {
    /// Path in the repository without query: canonical where it got that far, else as sent.
    pub fn path(&self) -> &str {
        match &self.canonical {
            Some(path) => path.split_once('?').map_or(path, |(path, _)| path),
            None => self.target.path(),
        }
    }

    fn row(&self) -> AccessRecord {
        AccessRecord {
            at: self.at + self.duration,
            repository: self.repository.as_ref().map_or_else(String::new, |repo| repo.name.to_string()),
            method: self.method.to_string(),
            path: self.path().to_owned(),
            status: self.status,
            outcome: self.outcome.as_str().to_owned(),
            bytes: self.bytes,
            duration_us: u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX),
            client: self.client.to_string(),
        }
    }
}

/// A request's record while it is under way. It is closed by being dropped, with its answer's body.
pub struct Record {
    entry: Option<Box<Entry>>,
    log: Arc<AccessLog>,
}

impl Record {
    /// The entry to fill in.
    pub fn entry(&mut self) -> Option<&mut Entry> {
        self.entry.as_deref_mut()
    }

    /// The request's id, for messages.
    pub fn id(&self) -> Option<&RequestId> {
        self.entry.as_deref().map(|entry| &entry.id)
    }
}

#[cfg(test)]
impl Record {
    /// One that nobody reads.
    pub fn unread() -> Self {
        Record { entry: None, log: AccessLog::new(Arc::new(Metrics::new())) }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.close(entry);
        }
    }
}

/// Takes closed records.
pub struct AccessLog {
    queue: ArrayQueue<Box<Entry>>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// An empty log that counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(AccessLog { queue: ArrayQueue::new(QUEUE), metrics })
    }

    /// Begins a record.
    pub fn open(self: &Arc<Self>, entry: Entry) -> Record {
        Record { entry: Some(Box::new(entry)), log: self.clone() }
    }

    fn close(&self, mut entry: Box<Entry>) {
        entry.duration = entry.began.elapsed();
        let metrics = entry.repository.as_ref().map_or(&self.metrics.nameless, |repo| &repo.metrics);
        metrics.observe(entry.outcome, entry.bytes, entry.duration);
        if self.queue.push(entry).is_err() {
            self.metrics.access_dropped.inc();
            self.metrics.lines_dropped.inc();
        }
    }

    #[expect(clippy::vec_box, reason = "they come boxed out of the queue")]
    fn take(&self) -> Vec<Box<Entry>> {
        let waiting = self.queue.len();
        std::iter::from_fn(|| self.queue.pop()).take(waiting).collect()
    }

    fn write_out(&self, sink: &LogSink, json: bool, rows: &mpsc::Sender<Vec<AccessRecord>>) {
        let entries = self.take();
        let mut lines = Vec::with_capacity(entries.len() * 320);
        for entry in &entries {
            access_line::write(&mut lines, entry, json);
        }
        sink.send(lines);
        let kept = entries.len().min(MAX_ROWS);
        self.metrics.access_dropped.inc_by((entries.len() - kept) as u64);
        for batch in entries[..kept].chunks(BATCH) {
            let records = batch.iter().map(|entry| entry.row()).collect();
            if rows.try_send(records).is_err() {
                self.metrics.access_dropped.inc_by(batch.len() as u64);
            }
        }
    }

    /// Writes lines and rows until `stop`, then what is left.
    pub async fn run(
        self: Arc<Self>,
        sink: LogSink,
        json: bool,
        metadata: Arc<dyn MetadataStore>,
        stop: CancellationToken,
    ) {
        let (rows, mut batches) = mpsc::channel::<Vec<AccessRecord>>(BATCHES);
        let log = self.clone();
        let writer = tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                if let Err(error) = metadata.log_access(&batch).await {
                    log.metrics.access_dropped.inc_by(batch.len() as u64);
                    tracing::warn!(error = %error, rows = batch.len(), "access records were lost");
                }
            }
        });
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.write_out(&sink, json, &rows),
                () = stop.cancelled() => break,
            }
        }
        self.write_out(&sink, json, &rows);
        drop(rows);
        let _ = writer.await;
    }
}
