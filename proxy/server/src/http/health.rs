//! `/livez` and `/readyz`. Ready means: manifests are loaded, both stores answer, and we are not on our way
//! out. Upstreams do not count: a proxy with a dead upstream still serves what it has.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use artifactapi_model::{
    Digest,
    ports::{BlobStore, MetadataStore},
};
use http::{Response, StatusCode};

use super::{body::ReplyBody, passed::text};

/// Longest wait for a store.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a probe's answer counts, in milliseconds, so that probing costs the same however often it is asked.
const COUNTS_FOR: u64 = 1000;

/// What readiness depends on.
pub struct Health {
    blobs: Arc<dyn BlobStore>,
    metadata: Arc<dyn MetadataStore>,
    began: Instant,
    loaded: AtomicBool,
    leaving: AtomicBool,
    /// Whether a store that does not answer makes the process unfit to serve.
    stores_count: bool,
    /// Milliseconds after `began` when the stores last answered; 0 for never.
    answered: AtomicU64,
}

impl Health {
    /// Not ready yet.
    pub fn new(blobs: Arc<dyn BlobStore>, metadata: Arc<dyn MetadataStore>) -> Self {
        Health {
            blobs,
            metadata,
            began: Instant::now(),
            loaded: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            stores_count: true,
            answered: AtomicU64::new(0),
        }
    }

    /// The same for a replica: it serves its warm set without any store, so that taking it out of service because
    /// the database is away would take all replicas out at once (RS-85). Stores are still reported.
    #[must_use]
    pub fn without_stores(self) -> Self {
        Health { stores_count: false, ..self }
    }

    /// Manifests are loaded.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Relaxed);
    }

    /// Whether the configuration is known.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Relaxed)
    }

    /// No new work, please (RS-119).
    pub fn set_leaving(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Whether we are on our way out.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// The process is alive if it answers at all.
    pub fn livez() -> Response<ReplyBody> {
        text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
    }

    /// 200 when ready, else 503; `verbose` adds a line per check.
    pub async fn readyz(&self, verbose: bool) -> Response<ReplyBody> {
        let is_asked = verbose || (self.stores_count && !self.has_answered_lately());
        let stores = if is_asked { self.probe().await } else { (true, true) };
        let checks = [
            ("manifests", self.loaded.load(Relaxed)),
            ("metadata", stores.0),
            ("blobs", stores.1),
            ("shutdown", !self.is_leaving()),
        ];
        let counts = |name: &str| self.stores_count || !matches!(name, "metadata" | "blobs");
        let ready = checks.iter().all(|(name, ok)| *ok || !counts(name));
        let mut page = String::new();
        for (name, ok) in checks {
            if verbose || !ok {
                let (sign, word) = if ok { ('+', "ok") } else { ('-', "failed") };
                // Writing to a String cannot fail.
                let _ = writeln!(page, "[{sign}]{name} {word}");
            }
        }
        page.push_str(if ready { "ready\n" } else { "not ready\n" });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, "text/plain; charset=utf-8", page)
    }

    fn has_answered_lately(&self) -> bool {
        let answered = self.answered.load(Relaxed);
        answered > 0 && self.now().saturating_sub(answered) < COUNTS_FOR
    }

    async fn probe(&self) -> (bool, bool) {
        let nothing = Digest::of(b"");
        let metadata = tokio::time::timeout(LIMIT, self.metadata.derived(&nothing));
        let blobs = tokio::time::timeout(LIMIT, self.blobs.size(&nothing));
        let (metadata, blobs) = tokio::join!(metadata, blobs);
        let answers = (matches!(metadata, Ok(Ok(_))), matches!(blobs, Ok(Ok(_))));
        if answers == (true, true) {
            self.answered.store(self.now().max(1), Relaxed);
        }
        answers
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
