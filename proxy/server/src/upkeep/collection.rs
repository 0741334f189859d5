//! Runs the collector in the background: what a run that died left half deleted at once, all of it once a period.
//! What Locals leave over goes first, so that the collector finds what it named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_engine::gc::{Collector, Configured, GcError, Options, Report};
use artifactapi_model::{Local, Notice, Timestamp, ports::Coordinator};
use artifactapi_registry::sweep;

use crate::{App, config::Snapshot};

/// How often the whole blob store is walked for strays; listing a bucket costs a request per thousand objects.
const SWEEP_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// How the background collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How often.
    pub interval: Duration,
    /// How long what nothing names is kept, in each of two phases.
    pub grace: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { interval: Duration::from_secs(3600), grace: Options::default().grace }
    }
}

/// The collector of a running proxy.
pub struct Collection {
    /// Does the work.
    pub collector: Collector,
    /// How.
    pub schedule: Schedule,
    /// Where other replicas listen.
    pub coordinator: Arc<dyn Coordinator>,
    /// When the blob store was last walked here, milliseconds since 1970.
    pub swept: AtomicU64,
}

impl Collection {
    /// Over the stores of `collector`.
    pub fn new(collector: Collector, schedule: Schedule, coordinator: Arc<dyn Coordinator>) -> Self {
        Collection { collector, schedule, coordinator, swept: AtomicU64::new(0) }
    }

    fn options(&self, now: Timestamp) -> Options {
        let last = Timestamp(self.swept.load(Relaxed).cast_signed());
        // Shorter periods are for those who want everything sooner.
        let period = SWEEP_PERIOD.min(self.schedule.grace);
        Options { grace: self.schedule.grace, sweep: now.since(last) >= period, ..Options::default() }
    }

    /// Goes on where a run that died ended: what it was deleting cannot be fetched before.
    pub async fn resume(&self, app: &App) {
        let outcome = self.collector.resume(&self.options(app.clock.now())).await;
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "blobs that were being deleted could not be looked for");
        }
    }

    /// One run.
    pub async fn run(&self, app: &App) {
        // The latest uses count.
        if let Err(error) = app.engine.record_uses().await {
            tracing::warn!(error = %error, "nothing is collected: last uses could not be written down");
            return;
        }
        let now = app.clock.now();
        let options = self.options(now);
        // Before the configuration is known, nothing may be taken for retired.
        let snapshot = app.snapshot.load_full();
        let configured = app.health.is_loaded().then(|| Configured {
            remotes: snapshot.remotes().map(|repository| repository.remote.clone()).collect(),
            others: snapshot.others().collect(),
            virtuals: snapshot.virtuals().filter_map(|repository| repository.identity).collect(),
        });
        self.sweep(app, &snapshot, &options).await;
        let outcome = self.collector.run_once(configured.as_ref(), &options).await;
        if options.sweep && outcome.as_ref().is_ok_and(|report| report.ran) {
            self.swept.store(now.0.cast_unsigned(), Relaxed);
        }
        self.tell(app, outcome).await;
    }

    /// What Locals leave over.
    async fn sweep(&self, app: &App, snapshot: &Snapshot, options: &Options) {
        let locals: Vec<Local> = snapshot.locals().map(|repository| repository.local.clone()).collect();
        let options = sweep::Options { grace: options.grace, step: options.step, strays: options.sweep };
        match app.registry.sweep(&*self.collector.keeper, &locals, &options).await {
            Ok(swept) if swept.ran => tracing::info!("swept Locals: {swept}"),
            Ok(_) => tracing::debug!("another replica is sweeping"),
            Err(error) => {
                tracing::warn!(error = %error, "the sweep of Locals ended early; the next one goes on")
            }
        }
    }

    async fn tell(&self, app: &App, outcome: Result<Report, GcError>) {
        let progress = &self.collector.progress;
        match outcome {
            Ok(report) if report.ran => {
                progress.note_end(true, app.clock.now());
                tell(app, &*self.coordinator, &report.notices).await;
                tracing::info!(
                    evicted = report.evicted,
                    condemned = report.condemned,
                    deleted = report.deleted,
                    size_bytes = report.freed,
                    strays = report.strays,
                    failed = report.failed,
                    "collected: {report}"
                );
            }
            Ok(_) => tracing::debug!("another replica is collecting"),
            Err(error) => {
                progress.note_end(false, app.clock.now());
                tracing::warn!(error = %error, "the collection ended early; the next one goes on");
            }
        }
    }
}

/// Tells all replicas, this one included, what has changed.
pub(super) async fn tell(app: &App, coordinator: &dyn Coordinator, notices: &[Notice]) {
    for notice in notices {
        app.engine.hear(notice);
        // Whoever misses it looks again in a while.
        let _ = coordinator.publish(notice.encode().into()).await;
    }
}
