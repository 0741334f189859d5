//! What Locals leave over: sessions nobody goes on with, manifests no tag holds any more, links no manifest needs,
//! bodies that are not in their own place yet, and bytes no session knows.
//!
//! The collector of blobs takes what is no longer linked. Every step is bounded and may be repeated; one process at
//! a time does it, since two would only get in each other's way.

use std::{fmt, time::Duration};

use artifactapi_model::{
    Digest, Local, RepoId,
    failpoint::failpoint,
    ports::{BlobError, Housekeeping, MetadataError, RegistryStore, Stored},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::Registry;

/// Rows deleted in one step of a purge.
pub const STEP: usize = 500;
/// The turn's name.
const TURN: &str = "registry";
/// Longest time for which a body stays in the place it had: readers that were sent there have gone on by then.
const OLD_PLACE: Duration = Duration::from_secs(3600);

/// Manifests that expire in one transaction.
const AT_A_TIME: usize = 10;

/// Items dealt with side by side: each costs round trips to the blob store and a commit, one after the other, and what
/// pushers leave must not grow faster than it goes.
const LANES: usize = 8;

/// Why a sweep ended early. What it did until then stays done.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// How a sweep is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a link no manifest needs, a session nobody writes to, one that was closed, and bytes that no session
    /// knows are kept.
    pub grace: Duration,
    /// Rows in one step.
    pub step: usize,
    /// Whether to list all uploads for those that no session knows.
    pub strays: bool,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whether it was this process's turn.
    pub ran: bool,
    /// Manifests that nothing held.
    pub manifests: u64,
    /// Links.
    pub links: u64,
    /// Sessions.
    pub uploads: u64,
    /// Bodies brought to their own place.
    pub settled: u64,
    /// Bodies removed from the place they had before.
    pub places: u64,
    /// Uploads that no session knew.
    pub strays: u64,
    /// What could not be done, and is tried again the next time.
    pub failed: u64,
}

impl Swept {
    /// Of one item that could not be done.
    const FAILED: Swept =
        Swept { ran: false, manifests: 0, links: 0, uploads: 0, settled: 0, places: 0, strays: 0, failed: 1 };

    /// Adds the numbers of `other`.
    fn add(&mut self, other: Swept) {
        self.manifests += other.manifests;
        self.links += other.links;
        self.uploads += other.uploads;
        self.settled += other.settled;
        self.places += other.places;
        self.strays += other.strays;
        self.failed += other.failed;
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} manifests, {} links, {} uploads and {} strays dropped; {} bodies settled, {} old places removed, \
             {} failed",
            self.manifests, self.links, self.uploads, self.strays, self.settled, self.places, self.failed
        )
    }
}

impl Registry {
    /// One sweep over what `locals` and all others left.
    ///
    /// # Errors
    /// [`SweepError`]; the next sweep goes on where this one ended.
    pub async fn sweep(
        &self,
        keeper: &dyn Housekeeping,
        locals: &[Local],
        options: &Options,
    ) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        let Some(_turn) = keeper.take_turn(TURN).await? else { return Ok(swept) };
        swept.ran = true;
        for local in locals {
            let Some(age) = local.spec.untagged_ttl else { continue };
            let repo = local.identity.id;
            // Whoever pushes to these images meanwhile waits: few at a time.
            let few = Options { step: options.step.min(AT_A_TIME), ..*options };
            swept.manifests += all(&few, || self.rows.expire_manifests(repo, age, few.step)).await?;
        }
        swept.links = self.expire_links(options).await?;
        self.end_uploads(options, &mut swept).await?;
        self.settle(options, &mut swept).await?;
        self.remove_places(options, &mut swept).await?;
        if options.strays {
            self.drop_strays(options, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn expire_links(&self, options: &Options) -> Result<u64, SweepError> {
        let mut count = 0;
        loop {
            let expired = self.rows.expire_links(options.grace, options.step).await?;
            count += expired.dropped;
            if expired.looked_at < options.step as u64 {
                return Ok(count);
            }
        }
    }

    async fn end_uploads(&self, options: &Options, swept: &mut Swept) -> Result<(), SweepError> {
        loop {
            let ended = self.rows.ended_uploads(options.grace, options.step).await?;
            let found = ended.len();
            let done = each(ended, async |upload| {
                let discarded = self.uploads.discard(&upload.id, &upload.stored, upload.placed).await;
                if !is_done("the bytes of an upload cannot be dropped", discarded) {
                    return Ok(Swept::FAILED);
                }
                self.rows.forget_upload(&upload.id).await?;
                Ok(Swept { uploads: 1, ..Swept::default() })
            });
            let done = done.await?;
            swept.add(done);
            // Those that failed would come again.
            if found < options.step || done.failed > 0 {
                return Ok(());
            }
        }
    }

    /// Brings bodies from where they were put together to their own place.
    async fn settle(&self, options: &Options, swept: &mut Swept) -> Result<(), SweepError> {
        let mut after: Option<Digest> = None;
        loop {
            let placed = self.rows.placed(after.as_ref(), options.step).await?;
            after = placed.last().map(|(digest, ..)| *digest).filter(|_| placed.len() == options.step);
            let done = each(placed, async |(digest, size, place)| {
                let settled = self.uploads.settle(&place, &digest, size).await;
                let is_there = *settled.as_ref().unwrap_or(&false);
                if !is_done("a pushed body cannot be brought to its own place", settled) {
                    return Ok(Swept::FAILED);
                }
                if !is_there {
                    return Ok(Swept::default());
                }
                failpoint("registry.settle.after_copy");
                let settled = u64::from(self.rows.settled(&digest, &place).await?);
                Ok(Swept { settled, ..Swept::default() })
            });
            swept.add(done.await?);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn remove_places(&self, options: &Options, swept: &mut Swept) -> Result<(), SweepError> {
        let age = OLD_PLACE.min(options.grace);
        loop {
            let places = self.rows.retired_places(age, options.step).await?;
            let found = places.len();
            let done = each(places, async |place| {
                if !is_done(
                    "the old place of a body cannot be removed",
                    self.uploads.remove_place(&place).await,
                ) {
                    return Ok(Swept::FAILED);
                }
                self.rows.forget_place(&place).await?;
                Ok(Swept { places: 1, ..Swept::default() })
            });
            let done = done.await?;
            swept.add(done);
            if found < options.step || done.failed > 0 {
                return Ok(());
            }
        }
    }

    async fn drop_strays(&self, options: &Options, swept: &mut Swept) -> Result<(), SweepError> {
        let mut after = None;
        loop {
            let found = self.uploads.list(after.as_ref(), options.grace, options.step).await?;
            let known = self.rows.known_uploads(&found).await?;
            for id in found.iter().filter(|id| !known.contains(id)) {
                let discarded = self.uploads.discard(id, &Stored::default(), false).await;
                let is_done = is_done("a stray upload cannot be dropped", discarded);
                swept.strays += u64::from(is_done);
                swept.failed += u64::from(!is_done);
            }
            if found.len() < options.step {
                return Ok(());
            }
            after = found.last().cloned();
        }
    }
}

/// Does `work` for each of `items`, [`LANES`] of them at a time, and adds up what came of it.
async fn each<T, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<Swept, MetadataError>
where
    F: Future<Output = Result<Swept, MetadataError>>,
{
    let add = async |mut sum: Swept, one: Swept| {
        sum.add(one);
        Ok(sum)
    };
    stream::iter(items.into_iter().map(work)).buffer_unordered(LANES).try_fold(Swept::default(), add).await
}

/// Whether it was done. What one item failed at is logged, and keeps nobody from the next one.
fn is_done<T>(what: &'static str, result: Result<T, BlobError>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "{what}; the next sweep tries again");
            false
        }
    }
}

/// Deletes all rows of a Local: what was pushed to it is gone, at once for clients, in time for the blob store.
///
/// # Errors
/// The database's; what was deleted by then stays so, and the next call goes on.
pub async fn purge(rows: &dyn RegistryStore, repo: RepoId) -> Result<u64, MetadataError> {
    let mut count = 0;
    loop {
        // One step deletes rows of one kind.
        let gone = rows.purge_local(repo, STEP).await?;
        count += gone;
        if gone == 0 {
            return Ok(count);
        }
    }
}

/// Repeats a bounded step until it finds less than it may take.
async fn all<F: Future<Output = Result<u64, MetadataError>>>(
    options: &Options,
    mut step: impl FnMut() -> F,
) -> Result<u64, MetadataError> {
    let mut count = 0;
    loop {
        let done = step().await?;
        count += done;
        if done < options.step as u64 {
            return Ok(count);
        }
    }
}
