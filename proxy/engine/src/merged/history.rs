//! Earlier generations of an index, for clients that hold it since then. They are rows below the Virtual itself,
//! each naming a stored generation: `-/generation/{digest of the index's path}/{digest of the rules}/{inputs}`. A row's
//! date is when the generation last became current, so that one has been over since the next one's date.
//!
//! That date is also what clients are told as `Last-Modified`, by all replicas the same. No two generations of one index
//! share one, be they made by other rules or in the same second, and the later one has the later date. Still a client
//! may meet them in another order: as another replica lags behind, or rules are others for another account or are set
//! back. So it is the only date by which a client's copy is taken for the current one; no later date is
//! ([`Content::is_dated_exactly`](crate::Content::is_dated_exactly)).
//!
//! A row's last use is when its generation was last found to be current; the collector forgets rows that are unused for
//! long enough ([`crate::gc::Options::generation_age`]), those of rules that are no more among them.
//!
//! Only those made by the same rules count: what is hidden now is not shown by what was once written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_formats::merge::Asked;
use artifactapi_model::{
    ArtifactKey, Digest, Mutability, RepoId, RepoPath, Timestamp,
    ports::metadata::{ArtifactRow, DerivedRow},
    repository::RepoIdentity,
};
use tokio::sync::Mutex;

use super::{Found, Look, Union, answer::Standing, generation::Generation, past::Past};
use crate::{Engine, error::FetchError};

/// How often the database is asked which generations there are.
const PAUSE: Duration = Duration::from_secs(1);

/// Most generations looked through for a file.
const MAX_ROWS: usize = 64;
/// Bytes of generations after which no older one is looked through.
const MAX_READ: u64 = 256 << 20;

/// Steps of the dates that HTTP has.
const DATES: Duration = Duration::from_secs(1);
/// What all rows of generations begin with.
const ROWS: &str = "-/generation/";

/// What rows of generations of one index begin with, whatever rules they are made by.
fn of_index(index: &RepoPath) -> String {
    format!("{ROWS}{}/", &Digest::of(index.as_str().as_bytes()).to_hex()[..16])
}

fn prefix(union: &Union, index: &RepoPath) -> String {
    format!("{}{}/", of_index(index), &union.fingerprint.to_hex()[..16])
}

/// Whether the row at `path` of some repository may be a generation's.
pub(crate) fn is_generation(path: &str) -> bool {
    path.starts_with(ROWS)
}

/// The generations of one index as the database has them: this process's own, those of twins, and earlier ones.
pub(super) struct History {
    /// What the index is called among those in memory.
    key: Digest,
    /// Where their rows are; without it there are none.
    below: Option<(RepoIdentity, String)>,
    /// When they were last read, in milliseconds; 0 when somebody has said since then that there is another.
    read_at: AtomicI64,
    /// Held by the one who reads.
    reading: Mutex<()>,
}

impl History {
    pub(super) fn of(key: Digest, union: &Union, index: &RepoPath) -> Self {
        History {
            key,
            below: union.identity.map(|identity| (identity, prefix(union, index))),
            read_at: AtomicI64::new(0),
            reading: Mutex::default(),
        }
    }

    /// The generation at `path` below `repo` has become current somewhere.
    pub(super) fn heard_of(&self, repo: RepoId, path: &str) {
        if self.below.as_ref().is_some_and(|(of, below)| of.id == repo && path.starts_with(below)) {
            self.read_at.store(0, Relaxed);
        }
    }
}

/// Marks them as unread when it is dropped on the way: by an error, or by a client that leaves.
struct Unread<'h>(Option<&'h AtomicI64>);

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        if let Some(read_at) = self.0 {
            read_at.store(0, Relaxed);
        }
    }
}

impl Engine {
    /// Notes that the generation made of `inputs`, stored as `row`, is the newest. Since when it is.
    pub(super) async fn remember(
        self: &Arc<Self>,
        union: &Union,
        index: &RepoPath,
        inputs: &Digest,
        row: &DerivedRow,
    ) -> Result<Timestamp, FetchError> {
        let now = self.ports.clock.now();
        let Some(identity) = union.identity else { return Ok(now) };
        let prefix = prefix(union, index);
        let key = |path: &str| ArtifactKey { repo: identity.id, epoch: identity.epoch, path: path.into() };
        let current = key(&format!("{prefix}{}", inputs.to_hex()));
        let newest = self.newest(identity, index).await?;
        if let Some((_, since)) = newest.as_ref().filter(|(path, _)| **path == *current.path) {
            self.still_current(union, index, inputs).await;
            return Ok(*since);
        }
        let since = newest.map_or(now, |(_, before)| now.max(before + DATES));
        let artifact = ArtifactRow {
            digest: row.digest,
            size: row.size,
            mutability: Mutability::Mutable,
            headers: Arc::from([]),
            source_url: String::new(),
            verified: true,
            stored_at: since,
            checked_at: now,
            fetch_seq: self.ports.metadata.next_fetch_seq().await?,
        };
        self.ports.metadata.commit_artifact(&current, &artifact).await?;
        // What this index names, a twin is asked for next.
        self.tell_changed(&current);
        self.merged.heard_of(current.repo, &current.path);
        Ok(since)
    }

    /// Notes that the generation made of `inputs` is served as the current one: from now on it has all of its time.
    pub(super) async fn still_current(&self, union: &Union, index: &RepoPath, inputs: &Digest) {
        let Some(RepoIdentity { id: repo, epoch }) = union.identity else { return };
        let path = format!("{}{}", prefix(union, index), inputs.to_hex()).into();
        let uses = [(ArtifactKey { repo, epoch, path }, self.ports.clock.now())];
        if let Err(error) = self.ports.metadata.touch(&uses).await {
            tracing::debug!(%error, "the use of a merged index could not be written down");
        }
    }

    /// The row of the generation of the index at `index` that became current last, by whatever rules, and when.
    async fn newest(
        &self,
        identity: RepoIdentity,
        index: &RepoPath,
    ) -> Result<Option<(String, Timestamp)>, FetchError> {
        let RepoIdentity { id, epoch } = identity;
        let paths = self.ports.metadata.paths_with_prefix(id, epoch, &of_index(index), 1).await?;
        let Some(path) = paths.into_iter().next() else { return Ok(None) };
        let key = ArtifactKey { repo: id, epoch, path: path.as_str().into() };
        Ok(self.ports.metadata.artifact(&key).await?.map(|row| (path, row.stored_at)))
    }

    /// The generations whose rows begin with `prefix`, newest first, at most `limit`.
    async fn rows(
        &self,
        identity: RepoIdentity,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Digest>, FetchError> {
        let RepoIdentity { id, epoch } = identity;
        let paths = self.ports.metadata.paths_with_prefix(id, epoch, prefix, limit).await?;
        let inputs = paths.iter().filter_map(|path| path.strip_prefix(prefix)?.parse::<Digest>().ok());
        Ok(inputs.collect())
    }

    /// The generation of the index at `index` that became current last, if it can be read.
    pub(super) async fn last_generation(
        self: &Arc<Self>,
        union: &Union,
        index: &RepoPath,
    ) -> Result<Option<Arc<Generation>>, FetchError> {
        let Some(identity) = union.identity else { return Ok(None) };
        match self.rows(identity, &prefix(union, index), 1).await?.first() {
            Some(inputs) => self.stored_generation(inputs).await,
            None => Ok(None),
        }
    }

    /// What a generation that is not current here has for `asked`; `base` is the current one. The database is asked which
    /// there are when none of those that are known has it, at most once in [`PAUSE`] unless there is another: whoever asks
    /// for what nobody has, however often, costs no more.
    pub(super) async fn in_history(
        self: &Arc<Self>,
        look: &Look,
        asked: &Asked,
        history: &History,
        base: Option<Digest>,
        standing: Option<Standing>,
    ) -> Result<Option<Found>, FetchError> {
        let Some((identity, prefix)) = &history.below else { return Ok(None) };
        let before = self.merged.past.get(&history.key);
        if let Some(found) = self.in_past(look, asked, before.as_deref(), standing).await? {
            return Ok(Some(found));
        }
        let _reading = history.reading.lock().await;
        let mut known = self.merged.past.get(&history.key);
        let now = self.ports.clock.now();
        let is_due = now.since(Timestamp(history.read_at.load(Relaxed))) >= PAUSE;
        let mut unread = Unread(None);
        let rows = match &known {
            _ if is_due => {
                // Before the question: what is said meanwhile is not in the answer.
                history.read_at.store(now.0, Relaxed);
                unread.0 = Some(&history.read_at);
                Some(self.rows(*identity, prefix, MAX_ROWS).await?)
            }
            // What the one before it had is missing.
            Some(known) if !known.is_of(base) => Some(known.rows().to_vec()),
            _ => None,
        };
        if let Some(rows) = rows.filter(|rows| known.as_ref().is_none_or(|it| !it.is(base, rows))) {
            let past = Arc::new(self.past(known.as_deref(), base, rows).await?);
            self.merged.past.insert(history.key, past.clone());
            known = Some(past);
        }
        unread.0 = None;
        // Others may have read while this one waited.
        match (known, before) {
            (Some(known), Some(before)) if Arc::ptr_eq(&known, &before) => Ok(None),
            (known, _) => self.in_past(look, asked, known.as_deref(), standing).await,
        }
    }

    /// What one of the generations of `past` has for `asked`.
    async fn in_past(
        self: &Arc<Self>,
        look: &Look,
        asked: &Asked,
        past: Option<&Past>,
        standing: Option<Standing>,
    ) -> Result<Option<Found>, FetchError> {
        let Some(past) = past else { return Ok(None) };
        for inputs in past.with(asked.path.as_str(), asked.beside.as_deref()) {
            let turn = self.derivations.turn(&inputs);
            let _turn = turn.lock().await;
            let Some(generation) = self.stored_generation(&inputs).await? else { continue };
            if let Some(found) = self.in_other(&look.union, asked, &generation, standing) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What the generations `rows` have that `base` has not, as far as `before` does not know it.
    async fn past(
        self: &Arc<Self>,
        before: Option<&Past>,
        base: Option<Digest>,
        rows: Vec<Digest>,
    ) -> Result<Past, FetchError> {
        let mut past = Past::after(before, base, rows);
        let current = match &base {
            Some(base) => self.stored_generation(base).await?,
            None => None,
        };
        let mut read = 0;
        for inputs in past.missing(before) {
            let Some(generation) = self.stored_generation(&inputs).await? else { continue };
            read += generation.bytes();
            let current = current.clone();
            let add = move || {
                past.add(inputs, &generation, current.as_deref());
                past
            };
            past = tokio::task::spawn_blocking(add).await.map_err(|_| FetchError::Abandoned)?;
            if read >= MAX_READ {
                break;
            }
        }
        Ok(past)
    }
}
