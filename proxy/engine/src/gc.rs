//! The collector: what no row names any more goes, late and in two phases, however many fills run meanwhile.
//!
//! One run takes the turn, so that one process collects at a time, and then
//! 1. forgets artifacts as the retention of each Remote says, derived documents that are old, and what belongs to
//!    repositories that are retired or to origins that are over;
//! 2. condemns blobs that no row names and nobody announced for the grace period;
//! 3. deletes those condemned for another one: claimed in the database, removed from the blob store, dropped from
//!    the database. A run that dies in between leaves blobs being deleted, and the next one goes on with them;
//! 4. now and then sweeps the blob store for strays, which no row knows; they enter as condemned (RS-115).
//!
//! Every step is bounded, may be repeated, and is judged by the database alone (see
//! [`artifactapi_model::ports::housekeeping`]): its clock, its transactions. What is decided here is order and
//! pace. A process that was stopped after a claim does not act on it when it wakes: another may have deleted the
//! blob meanwhile, and a fill may have put it again.

mod progress;
mod retention;
pub mod room;

use std::{collections::HashSet, sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey, Clock, Digest, Notice, Remote, RepoId, Timestamp,
    failpoint::failpoint,
    ports::{BlobError, BlobStore, Housekeeping, MetadataError, MetadataStore, housekeeping::BlobStates},
    repository::RepoIdentity,
};
use futures_util::{StreamExt as _, stream};
pub use progress::{Numbers, Progress, Report};
use tokio::time::{Instant, sleep};

/// By whose hand rows of the collector change; no replica is called so. What it gives up has not changed upstream, so that
/// nobody has to look again at what was made of it, as after an operator's word.
pub const COLLECTOR: &str = "(collector)";
/// The turn's name.
const TURN: &str = "gc";
/// A claim older than this is not acted upon: it is made anew.
const FRESH: Duration = Duration::from_secs(20);
/// Most blobs that are claimed at a time: who pushes the same bytes meanwhile waits until each of them is removed, and
/// does not wait for ever.
const CLAIMED: usize = 50;
/// Blobs deleted side by side. Each costs the round trips of a deletion and of a commit, one after the other.
const LANES: usize = 8;
/// Most that a dry run counts; it cannot go on after them.
const AT_ONCE: usize = 1_000_000;
/// A grace period that no blob has lived through.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Why a run ended early. What it did until then stays done.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// How a run is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a blob that no row names is kept in each of the two phases, and a repository after it is gone.
    pub grace: Duration,
    /// Change nothing, tell what would be condemned and evicted by size.
    pub dry: bool,
    /// Rows and blobs in one step.
    pub step: usize,
    /// Rest after every removal, in each of [`LANES`], so that a large collection leaves the stores to the clients.
    pub rest: Duration,
    /// Age at which derived documents go; they are made anew when asked for.
    pub derived_age: Duration,
    /// How long a generation of a merged index stays, for the clients that hold it, after it was last found to be
    /// current; that is written down once an hour.
    pub generation_age: Duration,
    /// Whether to walk the whole blob store for strays.
    pub sweep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            grace: Duration::from_secs(24 * 3600),
            dry: false,
            step: 500,
            rest: Duration::from_millis(2),
            derived_age: Duration::from_secs(30 * 24 * 3600),
            // What dnf calls `metadata_expire`, and the hours between two looks.
            generation_age: Duration::from_secs((48 + 2) * 3600),
            sweep: true,
        }
    }
}

/// What a run knows of the configuration. Without it nothing is retired and no retention applies.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// Remotes, with their retention.
    pub remotes: Vec<Remote>,
    /// Other repositories that are there.
    pub others: Vec<RepoId>,
    /// Virtuals, of whose rows all are generations of merged indexes.
    pub virtuals: Vec<RepoIdentity>,
}

/// Collects in one pair of stores.
#[derive(Clone)]
pub struct Collector {
    /// The bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// The rows.
    pub metadata: Arc<dyn MetadataStore>,
    /// The same database.
    pub keeper: Arc<dyn Housekeeping>,
    /// For ages of uses and derived documents, which the engine wrote down by the same clock.
    pub clock: Arc<dyn Clock>,
    /// What has been done by this process.
    pub progress: Arc<Progress>,
}

impl Collector {
    /// One run. Somebody else's turn is no error: the report says that nothing was done.
    ///
    /// # Errors
    /// [`GcError`]; the next run goes on where this one ended.
    pub async fn run_once(
        &self,
        configured: Option<&Configured>,
        options: &Options,
    ) -> Result<Report, GcError> {
        let mut report = Report { dry: options.dry, ..Report::default() };
        let Some(_turn) = self.keeper.take_turn(TURN).await? else { return Ok(report) };
        report.ran = true;
        if let Some(configured) = configured {
            self.retain(configured, options, &mut report).await?;
            self.retire(configured, options, &mut report).await?;
            self.expire_generations(configured, options, &mut report).await?;
        }
        if !options.dry {
            self.expire_derived(options, &mut report).await?;
        }
        failpoint("gc.retention.after");
        self.condemn(options, &mut report).await?;
        if !options.dry {
            self.delete(options, &mut report).await?;
            if options.sweep {
                self.sweep(options, &mut report).await?;
            }
        }
        report.states = self.states().await?;
        Ok(report)
    }

    /// Deletes what a run that died had claimed, so that nobody has to wait for the next one to fetch it again.
    ///
    /// # Errors
    /// [`GcError`].
    pub async fn resume(&self, options: &Options) -> Result<Report, GcError> {
        let mut report = Report::default();
        let Some(_turn) = self.keeper.take_turn(TURN).await? else { return Ok(report) };
        report.ran = true;
        let claimed = self.keeper.blob_states().await?.deleting.count;
        if claimed > 0 {
            // Nothing has been condemned for ever: only what is half deleted is claimed.
            self.delete(&Options { grace: NEVER, ..*options }, &mut report).await?;
        }
        report.states = self.states().await?;
        Ok(report)
    }

    async fn states(&self) -> Result<BlobStates, GcError> {
        let states = self.keeper.blob_states().await?;
        self.progress.note_states(states);
        Ok(states)
    }

    /// Forgets what the retention of each Remote no longer covers.
    async fn retain(
        &self,
        configured: &Configured,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), GcError> {
        for remote in &configured.remotes {
            let evicted = self.retain_of(remote, options).await?;
            if evicted.count > 0 {
                tracing::info!(
                    remote.name = %remote.spec.name, dry = options.dry, artifacts = evicted.count,
                    "retention evicted artifacts"
                );
            }
            report.evicted += evicted.count;
            if !options.dry {
                self.progress.add_evicted(evicted.count);
                report.notices.extend(evicted.notices(remote));
            }
        }
        Ok(())
    }

    async fn retire(
        &self,
        configured: &Configured,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), GcError> {
        if options.dry {
            return Ok(());
        }
        let remotes = configured.remotes.iter().map(|remote| remote.identity.id);
        let present: Vec<RepoId> = remotes.chain(configured.others.iter().copied()).collect();
        self.keeper.retire_others(&present).await?;
        loop {
            let gone = self.keeper.expire_retired(options.grace, options.step).await?;
            report.retired += gone;
            if gone < options.step as u64 {
                return Ok(());
            }
        }
    }

    /// Forgets generations of merged indexes that have not been current for long, whatever rules they were made by.
    async fn expire_generations(
        &self,
        configured: &Configured,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), GcError> {
        let before = before(self.clock.now(), options.generation_age);
        for RepoIdentity { id, epoch } in configured.virtuals.iter().filter(|_| !options.dry) {
            loop {
                let gone = self.keeper.expire_unused(*id, *epoch, before, options.step).await?.len();
                report.generations += gone as u64;
                if gone < options.step {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn expire_derived(&self, options: &Options, report: &mut Report) -> Result<(), GcError> {
        let before = before(self.clock.now(), options.derived_age);
        loop {
            let gone = self.keeper.expire_derived(before, options.step).await?;
            report.derived += gone;
            if gone < options.step as u64 {
                return Ok(());
            }
        }
    }

    async fn condemn(&self, options: &Options, report: &mut Report) -> Result<(), GcError> {
        // A dry run finds the same ones again each time: it asks once.
        let step = if options.dry { AT_ONCE } else { options.step };
        loop {
            let condemned = self.keeper.condemn_blobs(options.grace, step, options.dry).await?;
            failpoint("gc.condemn.after");
            report.condemned += condemned.len() as u64;
            report.condemned_bytes += condemned.iter().map(|(_, size)| size).sum::<u64>();
            // Some that were found may have been announced meanwhile, so a short step is not the last one.
            if options.dry || condemned.is_empty() {
                return Ok(());
            }
            self.progress.add_condemned(condemned.len() as u64);
        }
    }

    async fn delete(&self, options: &Options, report: &mut Report) -> Result<(), GcError> {
        let mut failed: HashSet<Digest> = HashSet::new();
        loop {
            let claimed_at = Instant::now();
            let claimed = self.keeper.claim_blobs(options.grace, options.step.min(CLAIMED)).await?;
            failpoint("gc.claim.after");
            let todo = claimed.into_iter().filter(|(digest, _)| !failed.contains(digest)).collect();
            let (progressed, refused) = self.delete_claimed(todo, claimed_at, options.rest, report).await?;
            report.failed += refused.len() as u64;
            failed.extend(refused);
            if !progressed {
                return Ok(());
            }
        }
    }

    /// Deletes blobs that were claimed at `claimed_at`: whether anything became of them, and those that stay for now.
    async fn delete_claimed(
        &self,
        claimed: Vec<(Digest, u64)>,
        claimed_at: Instant,
        rest: Duration,
        report: &mut Report,
    ) -> Result<(bool, Vec<Digest>), GcError> {
        let todo: Vec<_> = claimed.into_iter().map(|blob| self.delete_one(blob, claimed_at, rest)).collect();
        let mut ended = stream::iter(todo).buffer_unordered(LANES);
        let (mut refused, mut progressed) = (Vec::new(), false);
        while let Some(end) = ended.next().await {
            match end? {
                Ended::Deleted(size) => {
                    progressed = true;
                    report.deleted += 1;
                    report.freed += size;
                }
                Ended::Refused(digest) => refused.push(digest),
                Ended::Stale => progressed = true,
            }
        }
        Ok((progressed, refused))
    }

    /// Deletes one blob that was claimed at `claimed_at`.
    async fn delete_one(
        &self,
        (digest, size): (Digest, u64),
        claimed_at: Instant,
        rest: Duration,
    ) -> Result<Ended, GcError> {
        if claimed_at.elapsed() > FRESH {
            return Ok(Ended::Stale);
        }
        if let Err(error) = self.blobs.remove(&digest).await {
            tracing::warn!(blob.digest = %digest, error = %error, "a blob could not be deleted yet");
            return Ok(Ended::Refused(digest));
        }
        failpoint("gc.remove.after");
        self.keeper.drop_blob(&digest).await?;
        failpoint("gc.drop.after");
        self.progress.add_deleted(size);
        sleep(rest).await;
        Ok(Ended::Deleted(size))
    }

    async fn sweep(&self, options: &Options, report: &mut Report) -> Result<(), GcError> {
        let mut after = None;
        loop {
            let page = self.blobs.list(after, options.step).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let strays = self.keeper.take_up_strays(&page).await?;
            failpoint("gc.stray.after");
            report.strays += strays;
            self.progress.add_strays(strays);
            sleep(options.rest).await;
        }
    }
}

/// How the deletion of one blob ended.
enum Ended {
    /// So many bytes are gone.
    Deleted(u64),
    /// The blob store would not.
    Refused(Digest),
    /// The claim is too old to be acted upon.
    Stale,
}

/// The moment `age` before `now`.
fn before(now: Timestamp, age: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// What a Remote's retention took.
#[derive(Debug, Default)]
struct Evicted {
    count: u64,
    /// The first of them; not all when there are many.
    keys: Vec<ArtifactKey>,
}

impl Evicted {
    /// More are told as one.
    const TOLD: usize = 200;

    fn add(&mut self, key: ArtifactKey) {
        self.count += 1;
        if self.keys.len() <= Self::TOLD {
            self.keys.push(key);
        }
    }

    /// What replicas have to hear. Nobody has heard of it yet, this process included.
    fn notices(self, remote: &Remote) -> Vec<Notice> {
        if self.keys.len() > Self::TOLD {
            let (repo, epoch) = (remote.identity.id.0, remote.identity.epoch.0);
            return vec![Notice::ChangedBelow { repo, epoch, prefix: String::new() }];
        }
        self.keys.iter().map(|key| Notice::changed(key, COLLECTOR)).collect()
    }
}
