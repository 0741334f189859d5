//! Keeps room on the file system of a standalone proxy's data: looks how much there is, and lets what is cached go when
//! it is too little, and at once when a write has met a full disk.

use std::{sync::Arc, time::Duration};

use artifactapi_engine::gc::{
    Collector, GcError,
    room::{Demand, MinFree, Owed, Round},
};
use artifactapi_model::{
    Remote,
    ports::{BlobError, Coordinator, Space},
};
use artifactapi_stores::{FsBlobs, Shortage, SqliteMetadata};
use tokio::time::{Instant, sleep, timeout};

use super::collection::tell;
use crate::App;

/// How often it is looked how much room there is: a disk must not be able to fill up in between.
const LOOK: Duration = Duration::from_secs(1);
/// Rest after a look, however many writes meet a full disk.
const REST: Duration = Duration::from_millis(100);
/// First rest after a round that found too little to give up: what fills the disk may be about to be stored. Each is
/// twice as long as the one before.
const HELPLESS: Duration = Duration::from_secs(1);
/// The longest of them: to find that there is too little costs a walk over all artifacts.
const PATIENT: Duration = Duration::from_secs(60);
/// Somebody is told once they are so long.
const TELLING: Duration = Duration::from_secs(8);

/// How long it is waited for what was given up to be free.
const OWING: Duration = Duration::from_secs(10);
/// Batches in a row that free nothing, as others name the same bytes, after which a round ends.
const VAIN: usize = 2;

/// Keeps room.
pub struct Room {
    /// Lets go.
    pub collector: Collector,
    /// The bytes.
    pub blobs: Arc<FsBlobs>,
    /// The rows, on the same disk.
    pub database: Arc<SqliteMetadata>,
    /// How much stays free.
    pub min_free: MinFree,
    /// How long garbage is kept otherwise.
    pub grace: Duration,
    /// Where others that hold rows in memory listen.
    pub coordinator: Arc<dyn Coordinator>,
}

/// How it stands.
struct Trouble {
    /// What was given up lately, and until when it is waited for.
    owed: (Owed, Instant),
    /// Rest after the next round that finds too little to give up.
    rest: Duration,
    /// No round before.
    until: Instant,
    /// Whether somebody has been told.
    is_told: bool,
}

/// What a round came to.
struct Made {
    artifacts: u64,
    freed: u64,
    /// There was not enough that may go.
    is_helpless: bool,
}

impl Room {
    /// Looks after it for ever.
    pub async fn keep(self, app: &App) {
        let shortage = self.blobs.shortage();
        let mut failing = false;
        let mut trouble = Trouble {
            owed: (Owed::default(), Instant::now()),
            rest: HELPLESS,
            until: Instant::now(),
            is_told: false,
        };
        loop {
            let outcome = self.look(app, &shortage, &mut trouble).await;
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(error = %error, "no room can be made on the disk; it is tried again");
            }
            failing = outcome.is_err();
            sleep(REST).await;
            let _ = timeout(LOOK, shortage.met()).await;
        }
    }

    async fn look(&self, app: &App, shortage: &Shortage, trouble: &mut Trouble) -> Result<(), GcError> {
        let (space, demand) = self.measure(app, shortage.take_wanted()).await?;
        if Instant::now() >= trouble.owed.1 {
            trouble.owed.0 = Owed::default();
        }
        let space = trouble.owed.0.with(space);
        if !demand.exceeds(space) {
            trouble.rest = HELPLESS;
            if std::mem::take(&mut trouble.is_told) {
                tracing::info!(
                    free_bytes = space.free,
                    floor_bytes = demand.floor,
                    "there is room on the disk again"
                );
            }
            return Ok(());
        }
        if Instant::now() < trouble.until {
            return Ok(());
        }
        // Somebody who collects frees something, too.
        let Some(round) = self.collector.begin_round().await? else { return Ok(()) };
        // The latest uses count.
        if let Err(error) = app.engine.record_uses().await {
            tracing::warn!(error = %error, "last uses could not be written down before room is made");
        }
        let began = Instant::now();
        let made = self.make(app, &round, space, demand).await?;
        drop(round);
        trouble.owed.0.give(made.freed);
        trouble.owed.1 = Instant::now() + OWING;
        let after = self.measure(app, 0).await?.0;
        if made.freed > 0 {
            self.database.reserve().await;
            tracing::info!(
                artifacts = made.artifacts,
                size_bytes = made.freed,
                free_bytes = after.free,
                floor_bytes = demand.floor,
                duration_ms = began.elapsed().as_secs_f64() * 1e3,
                "room was made on the disk"
            );
        }
        if made.is_helpless {
            trouble.wait(after, demand);
        }
        Ok(())
    }

    async fn measure(&self, app: &App, wanted: u64) -> Result<(Space, Demand), BlobError> {
        let space = self.blobs.space().await?;
        let floor = self.min_free.of(space.size);
        app.metrics.room.note(space, floor);
        Ok((space, Demand { floor, wanted }))
    }

    /// Gives up garbage, then artifacts, until there is room again or nothing is left. How much goes is decided at the
    /// beginning: a file that somebody still reads takes its room for a while after it has gone.
    async fn make(
        &self,
        app: &App,
        round: &Round<'_>,
        space: Space,
        demand: Demand,
    ) -> Result<Made, GcError> {
        let garbage = round.drop_garbage(self.grace).await?;
        let left = Space { free: space.free.saturating_add(garbage), ..space };
        let mut made = Made { artifacts: 0, freed: garbage, is_helpless: false };
        if !demand.exceeds(left) {
            return Ok(made);
        }
        let snapshot = app.snapshot.load_full();
        let remotes: Vec<Remote> = snapshot.remotes().map(|repository| repository.remote.clone()).collect();
        let evictable = round.evictable(&remotes).await?;
        let missing = demand.to_give_up(left, evictable);
        if missing > 0 {
            tracing::info!(
                free_bytes = left.free,
                floor_bytes = demand.floor,
                missing_bytes = missing,
                cached_bytes = evictable,
                "there is too little room on the disk: what was not asked for longest goes"
            );
        }
        let (mut evicted, mut vain) = (0, 0);
        while evicted < missing && vain < VAIN {
            let batch = round.evict(&remotes, missing - evicted).await?;
            if batch.is_empty() {
                break;
            }
            // Before the bytes go.
            tell(app, &*self.coordinator, &batch.notices).await;
            let freed = round.delete(&batch).await?;
            evicted += freed;
            vain = if freed == 0 { vain + 1 } else { 0 };
            made.artifacts += batch.len() as u64;
        }
        made.freed += evicted;
        made.is_helpless = demand.exceeds(Space { free: left.free.saturating_add(evicted), ..space });
        Ok(made)
    }
}

impl Trouble {
    /// All that may go did not do.
    fn wait(&mut self, space: Space, demand: Demand) {
        let is_low = Demand { wanted: 0, ..demand }.exceeds(space);
        if is_low && self.rest >= TELLING && !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                free_bytes = space.free,
                floor_bytes = demand.floor,
                "there is little room on the disk, and what is cached does not make up for it: let go of what was \
                 pushed or of other files, or make the volume larger"
            );
        }
        self.until = Instant::now() + self.rest;
        self.rest = (self.rest * 2).min(PATIENT);
    }
}
