//! Making room on a file system that fills up, by what can be had again: the least recently used artifacts of Remotes.
//!
//! A round has the collector's turn. What is garbage already goes first, then artifacts, in bounded batches: their rows
//! are forgotten, whoever keeps them in memory hears of it, and then their bytes go. The grace period, which they do
//! without, is for those who have announced a blob and not named it yet: of these a database that one process has to
//! itself knows exactly ([`Housekeeping::claim_unnamed`]). Whoever reads a body goes on reading it, for a file that is
//! open outlives its name; who has looked its row up and comes too late to open it looks again and fetches it.
//!
//! Never touched: what Locals have, and what suspended Remotes have, which nobody could fetch again. Derived documents
//! stay too, since the generations of a Virtual are promised to clients for a while.
//!
//! [`Housekeeping::claim_unnamed`]: artifactapi_model::ports::Housekeeping::claim_unnamed

use std::time::Duration;

use artifactapi_model::{
    Digest, Notice, Remote,
    ports::{
        Space,
        housekeeping::{Aged, Turn},
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{CLAIMED, COLLECTOR, Collector, GcError, LANES, Options, Report, TURN};

/// Age at which garbage goes when room is short, unless the grace period is shorter: a push that broke off between its
/// last byte and the row that names it has so long to be tried again.
const GARBAGE: Duration = Duration::from_secs(3600);
/// Artifacts given up before it is looked again how much is still missing.
const BATCH: usize = CLAIMED;
/// The part of the floor by which more is given up than is missing, so that not every body begins a round.
const MORE: u64 = 8;
/// The part of the floor that is kept free where giving up everything would not make up for the rest.
const LAST: u64 = 10;
/// Largest part of the file system that one body may claim.
const LARGEST: u64 = 2;
/// Most of a file system that stays free when nobody says otherwise, in bytes.
const USUAL: u64 = 10 << 30;

/// How much of a file system stays free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinFree {
    /// A tenth, at most 10 GiB.
    #[default]
    Usual,
    /// So many hundredths.
    Percent(u8),
    /// So many bytes; 0 for none.
    Bytes(u64),
}

impl MinFree {
    /// In bytes, of a file system of `size` bytes.
    pub fn of(self, size: u64) -> u64 {
        match self {
            MinFree::Usual => (size / 10).min(USUAL),
            MinFree::Percent(percent) => size / 100 * u64::from(percent),
            MinFree::Bytes(bytes) => bytes,
        }
    }
}

/// What is to be free, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// At any time.
    pub floor: u64,
    /// For a body that has just found no room.
    pub wanted: u64,
}

impl Demand {
    /// Whether `space` falls short of it. Without a floor nothing is demanded.
    pub fn exceeds(self, space: Space) -> bool {
        self.floor > 0 && space.free < self.floor.max(self.wanted(space))
    }

    /// Bytes to give up where at most `most` can be. It must help: where all of it would not be enough, others fill the
    /// file system, and what is cached stays until there is hardly any room left.
    pub fn to_give_up(self, space: Space, most: u64) -> u64 {
        if !self.exceeds(space) {
            return 0;
        }
        let more = self.floor / MORE;
        let missing = |goal: u64| goal.saturating_add(more).saturating_sub(space.free);
        let last = self.floor / LAST;
        [self.floor.max(self.wanted(space)), self.floor]
            .into_iter()
            .filter(|goal| space.free < *goal)
            .map(missing)
            .find(|missing| *missing <= most)
            .unwrap_or(if space.free < last { missing(last).min(most) } else { 0 })
    }

    fn wanted(self, space: Space) -> u64 {
        if self.wanted > space.size / LARGEST { 0 } else { self.wanted }
    }
}

/// What was given up and is not free yet: a file that somebody reads takes its room until then, and some file systems
/// free it seconds later. Given up once more, all that is cached would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    bytes: u64,
    /// What was free when it was last looked.
    free: u64,
}

impl Owed {
    /// Adds `bytes` that were given up since the last look.
    pub fn give(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// `space` with what is still owed, which is less by what has become free since the last look.
    pub fn with(&mut self, space: Space) -> Space {
        self.bytes = self.bytes.saturating_sub(space.free.saturating_sub(self.free));
        self.free = space.free;
        Space { free: space.free.saturating_add(self.bytes), ..space }
    }
}

/// A round under way.
pub struct Round<'a> {
    collector: &'a Collector,
    _turn: Turn,
}

/// Artifacts that were given up.
#[derive(Debug, Default)]
pub struct Batch {
    /// What they named.
    digests: Vec<Digest>,
    /// What everybody has to be told before the bytes go.
    pub notices: Vec<Notice>,
}

impl Batch {
    /// Whether there was nothing left to give up.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.digests.len()
    }
}

impl Collector {
    /// Begins a round; `None` while somebody collects.
    ///
    /// # Errors
    /// [`GcError`].
    pub async fn begin_round(&self) -> Result<Option<Round<'_>>, GcError> {
        let turn = self.keeper.take_turn(TURN).await?;
        Ok(turn.map(|turn| Round { collector: self, _turn: turn }))
    }
}

impl Round<'_> {
    /// Deletes what nothing names any more; how many bytes.
    ///
    /// # Errors
    /// [`GcError`]; what was done stays done, here and below.
    pub async fn drop_garbage(&self, grace: Duration) -> Result<u64, GcError> {
        let mut report = Report::default();
        let options = |grace| Options { grace, rest: Duration::ZERO, ..Options::default() };
        self.collector.condemn(&options(grace.min(GARBAGE)), &mut report).await?;
        self.collector.delete(&options(Duration::ZERO), &mut report).await?;
        Ok(report.freed)
    }

    /// How many bytes `remotes` have that may go; those that several of them name are counted as often.
    ///
    /// # Errors
    /// [`GcError`].
    pub async fn evictable(&self, remotes: &[Remote]) -> Result<u64, GcError> {
        let mut bytes = 0;
        for remote in remotes.iter().filter(|remote| may_go(remote)) {
            bytes += self.collector.keeper.usage(remote.identity.id, remote.identity.epoch).await?.bytes;
        }
        Ok(bytes)
    }

    /// Forgets the least recently used artifacts of `remotes`: about `bytes` of them, and a bounded number.
    ///
    /// # Errors
    /// [`GcError`].
    pub async fn evict(&self, remotes: &[Remote], bytes: u64) -> Result<Batch, GcError> {
        let mut pages = Vec::new();
        for remote in remotes.iter().filter(|remote| may_go(remote)) {
            let (id, epoch) = (remote.identity.id, remote.identity.epoch);
            pages.push(self.collector.keeper.least_used(id, epoch, BATCH).await?);
        }
        let oldest = oldest(pages, bytes);
        let forgotten =
            oldest.iter().map(|aged| self.collector.metadata.forget_artifact(&aged.key, &aged.digest));
        stream::iter(forgotten.collect::<Vec<_>>()).buffer_unordered(LANES).try_collect::<Vec<()>>().await?;
        self.collector.progress.add_made_room(oldest.len() as u64, 0);
        let notices = oldest.iter().map(|aged| Notice::changed(&aged.key, COLLECTOR)).collect();
        Ok(Batch { digests: oldest.into_iter().map(|aged| aged.digest).collect(), notices })
    }

    /// Deletes the bytes of `batch` that nothing else names; how many.
    ///
    /// # Errors
    /// [`GcError`].
    pub async fn delete(&self, batch: &Batch) -> Result<u64, GcError> {
        let claimed_at = Instant::now();
        let claimed = self.collector.keeper.claim_unnamed(&batch.digests).await?;
        let mut report = Report::default();
        self.collector.delete_claimed(claimed, claimed_at, Duration::ZERO, &mut report).await?;
        self.collector.progress.add_made_room(0, report.freed);
        Ok(report.freed)
    }
}

/// What a suspended Remote has cannot be fetched again.
fn may_go(remote: &Remote) -> bool {
    !remote.spec.suspend
}

/// Of the first [`BATCH`] artifacts of each Remote, oldest first, those that are the oldest of all: as many as make up
/// `bytes`, and no more than a batch.
fn oldest(pages: Vec<Vec<Aged>>, bytes: u64) -> Vec<Aged> {
    let mut all: Vec<Aged> = pages.into_iter().flatten().collect();
    all.sort_by(|one, other| (one.used_at, &one.key.path).cmp(&(other.used_at, &other.key.path)));
    // The first of all that are left of any page are among its first, so that a batch of them has none too young.
    all.truncate(BATCH);
    let mut taken = 0;
    let goes = all.iter().take_while(|aged| {
        let goes = taken < bytes;
        taken += aged.size;
        goes
    });
    let count = goes.count();
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{ArtifactKey, Epoch, RepoId, Timestamp};

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_tenth_stays_free_and_of_large_disks_less() {
        for (min_free, size, want) in [
            (MinFree::Usual, 20 * GIB, 2 * GIB),
            (MinFree::Usual, 1000 * GIB, 10 * GIB),
            (MinFree::Usual, 0, 0),
            (MinFree::Percent(25), 100 * GIB, 25 * GIB),
            (MinFree::Bytes(5), GIB, 5),
            (MinFree::Bytes(0), GIB, 0),
        ] {
            assert_eq!(min_free.of(size), want, "{min_free:?} of {size}");
        }
    }

    #[test]
    fn as_much_is_given_up_as_has_to_be_and_as_helps() {
        // Of 1000 bytes 80 stay free, 10 more are given up, and 8 where nothing helps.
        for (free, wanted, most, want, case) in [
            (80, 0, 900, 0, "enough is free"),
            (79, 0, 900, 11, "a little more than is missing"),
            (0, 0, 900, 90, "all of it"),
            (50, 0, 40, 40, "what can go is just enough"),
            (50, 0, 39, 0, "it would not help"),
            (8, 0, 39, 0, "nor here"),
            (7, 0, 39, 11, "hardly anything is left"),
            (0, 0, 5, 5, "no more than there is"),
            (300, 400, 900, 110, "a body had no room"),
            (400, 400, 900, 0, "it has room by now"),
            (300, 501, 900, 0, "a body that would take it all"),
            (300, 400, 109, 0, "the body could not be helped"),
            (50, 400, 109, 40, "but the floor can"),
        ] {
            let demand = Demand { floor: 80, wanted };
            assert_eq!(demand.to_give_up(Space { free, size: 1000 }, most), want, "{case}");
        }
        let off = Demand { floor: 0, wanted: 100 };
        assert_eq!(off.to_give_up(Space { free: 0, size: 1000 }, 900), 0, "it is turned off");
    }

    #[test]
    fn what_is_owed_is_not_given_up_twice() {
        let space = |free| Space { free, size: 1000 };
        let mut owed = Owed::default();
        assert_eq!(owed.with(space(60)), space(60));
        owed.give(50);
        for (free, want) in [(60, 110), (70, 110), (65, 105), (100, 105), (120, 120)] {
            assert_eq!(owed.with(space(free)), space(want), "{free}");
        }
    }

    fn aged(repo: i64, path: &str, used_at: i64, size: u64) -> Aged {
        let key = ArtifactKey { repo: RepoId(repo), epoch: Epoch(1), path: path.into() };
        Aged { key, digest: Digest::of(path.as_bytes()), size, used_at: Timestamp(used_at) }
    }

    #[test]
    fn the_oldest_of_all_remotes_go() {
        let pages = || {
            vec![
                vec![aged(1, "a", 10, 4), aged(1, "d", 40, 4)],
                vec![],
                vec![aged(2, "b", 20, 4), aged(2, "c", 30, 4), aged(2, "e", 50, 4)],
            ]
        };
        for (bytes, want) in
            [(0, ""), (1, "a"), (4, "a"), (5, "ab"), (12, "abc"), (13, "abcd"), (99, "abcde")]
        {
            let paths: String = oldest(pages(), bytes).iter().map(|aged| &*aged.key.path).collect();
            assert_eq!(paths, want, "{bytes} bytes");
        }
        let many = (0..2 * BATCH as i64).map(|n| aged(1, &n.to_string(), n, 1)).collect();
        assert_eq!(oldest(vec![many], u64::MAX).len(), BATCH, "a batch is bounded");
    }
}
