//! Rows in memory: the test twin of the databases, and the model that random tests hold them against.

mod accounts;
mod housekeeping;
mod observations;
mod registry;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use artifactapi_model::{
    ArtifactKey, Clock, Digest, Epoch, Hold, Holds, Mutability, PackageType, RepoId, RepoName, SystemClock,
    Timestamp,
    ports::metadata::{
        AccessRecord, Announced, ArtifactPage, ArtifactRow, Committed, DerivedRow, MetadataError,
        MetadataStore,
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;

use crate::random::random;

/// A metadata store that forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryMetadata {
    tables: Mutex<Tables>,
    /// Turns that are taken.
    turns: Arc<Mutex<BTreeSet<&'static str>>>,
    calls: AtomicU64,
    down: AtomicBool,
}

/// (repo, epoch, path): the order of a walk over all artifacts.
type Key = (RepoId, Epoch, String);

#[derive(Debug)]
struct Stored {
    row: ArtifactRow,
    used_at: Timestamp,
}

/// The database's own clock.
struct DatabaseClock(Arc<dyn Clock>);

impl Default for DatabaseClock {
    fn default() -> Self {
        DatabaseClock(Arc::new(SystemClock))
    }
}

impl std::fmt::Debug for DatabaseClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.now())
    }
}

#[derive(Debug, Default)]
struct Tables {
    clock: DatabaseClock,
    repositories: BTreeMap<(String, String, PackageType), (RepoIdentity, String)>,
    fetch_seq: i64,
    artifacts: BTreeMap<Key, Stored>,
    ledger: BTreeMap<Key, Digest>,
    /// With the time at which it was made.
    derived: BTreeMap<Digest, (DerivedRow, Timestamp)>,
    blobs: BTreeMap<Digest, housekeeping::Blob>,
    holds: Arc<Holds>,
    /// Repositories that are missing from the configuration, since when.
    retired: BTreeMap<RepoId, Timestamp>,
    secrets: BTreeMap<String, [u8; 32]>,
    signing_keys: BTreeMap<String, String>,
    registry: registry::Rows,
    access_log: Vec<AccessRecord>,
    accounts: accounts::Rows,
    observations: observations::Rows,
}

impl MemoryMetadata {
    /// A store whose grace periods are counted by `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let tables = Tables { clock: DatabaseClock(clock), ..Tables::default() };
        MemoryMetadata { tables: Mutex::new(tables), ..MemoryMetadata::default() }
    }

    /// Calls of the port so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Makes every call fail as if the database were lost, or answer again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Relaxed);
    }

    /// The access log, oldest record first.
    pub fn access_log(&self) -> Vec<AccessRecord> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).access_log.clone()
    }

    /// One call. A poisoned lock means that a test has panicked; the maps are whole all the same.
    fn tables(&self) -> Result<MutexGuard<'_, Tables>, MetadataError> {
        self.calls.fetch_add(1, Relaxed);
        if self.down.load(Relaxed) {
            return Err(MetadataError::Unavailable("it was taken down by a test".into()));
        }
        Ok(self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key_of(key: &ArtifactKey) -> Key {
    (key.repo, key.epoch, key.path.to_string())
}

fn key_from((repo, epoch, path): &Key) -> ArtifactKey {
    ArtifactKey { repo: *repo, epoch: *epoch, path: path.as_str().into() }
}

fn being_deleted(doing: &'static str) -> MetadataError {
    MetadataError::Failed { doing, message: "its blob is being deleted".into() }
}

#[async_trait]
impl MetadataStore for MemoryMetadata {
    async fn ensure_repository(
        &self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
        base_url: &str,
    ) -> Result<RepoIdentity, MetadataError> {
        let mut tables = self.tables()?;
        let next = RepoId(tables.repositories.len() as i64 + 1);
        let slot = (namespace.to_owned(), name.to_string(), package_type);
        let (identity, url) = tables
            .repositories
            .entry(slot)
            .or_insert((RepoIdentity { id: next, epoch: Epoch(1) }, base_url.to_owned()));
        if url != base_url {
            identity.epoch.0 += 1;
            base_url.clone_into(url);
        }
        let identity = *identity;
        tables.retired.remove(&identity.id);
        Ok(identity)
    }

    async fn next_fetch_seq(&self) -> Result<i64, MetadataError> {
        let mut tables = self.tables()?;
        tables.fetch_seq += 1;
        Ok(tables.fetch_seq)
    }

    async fn announce_blob(&self, digest: &Digest, size: u64) -> Result<Announced, MetadataError> {
        let kept = self.tables()?.keep([(*digest, size)].into_iter());
        Ok(if kept { Announced::Kept } else { Announced::BeingDeleted })
    }

    fn hold(&self, digest: &Digest) -> Hold {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).holds.hold(digest)
    }

    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactRow>, MetadataError> {
        Ok(self.tables()?.artifacts.get(&key_of(key)).map(|stored| stored.row.clone()))
    }

    async fn commit_artifact(
        &self,
        key: &ArtifactKey,
        row: &ArtifactRow,
    ) -> Result<Committed, MetadataError> {
        let mut tables = self.tables()?;
        let key = key_of(key);
        if row.mutability == Mutability::Immutable
            && let Some(pinned) = tables.ledger.get(&key).filter(|pinned| **pinned != row.digest)
        {
            return Ok(Committed::Pinned(*pinned));
        }
        if !tables.keep([(row.digest, row.size)].into_iter()) {
            return Err(being_deleted("recording an artifact"));
        }
        if tables.artifacts.get(&key).is_some_and(|stored| stored.row.fetch_seq > row.fetch_seq) {
            return Ok(Committed::Superseded);
        }
        if row.mutability == Mutability::Immutable {
            tables.ledger.insert(key.clone(), row.digest);
        }
        tables.artifacts.insert(key, Stored { row: row.clone(), used_at: row.checked_at });
        Ok(Committed::Stored)
    }

    async fn confirm_artifact(
        &self,
        key: &ArtifactKey,
        digest: &Digest,
        fetch_seq: i64,
        checked_at: Timestamp,
        headers: Option<&[(String, String)]>,
    ) -> Result<bool, MetadataError> {
        let mut tables = self.tables()?;
        let found = tables.artifacts.get_mut(&key_of(key)).map(|stored| &mut stored.row);
        let Some(row) = found.filter(|row| row.fetch_seq <= fetch_seq && row.digest == *digest) else {
            return Ok(false);
        };
        row.fetch_seq = fetch_seq;
        row.checked_at = checked_at;
        if let Some(headers) = headers {
            row.headers = headers.into();
        }
        Ok(true)
    }

    async fn forget_artifact(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), MetadataError> {
        if let Entry::Occupied(entry) = self.tables()?.artifacts.entry(key_of(key))
            && entry.get().row.digest == *digest
        {
            entry.remove();
        }
        Ok(())
    }

    async fn pinned(&self, key: &ArtifactKey) -> Result<Option<Digest>, MetadataError> {
        Ok(self.tables()?.ledger.get(&key_of(key)).copied())
    }

    async fn unpin(&self, key: &ArtifactKey) -> Result<(), MetadataError> {
        self.tables()?.ledger.remove(&key_of(key));
        Ok(())
    }

    async fn paths_with_prefix(
        &self,
        repo: RepoId,
        epoch: Epoch,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, MetadataError> {
        let tables = self.tables()?;
        let mut found: Vec<_> = tables
            .artifacts
            .iter()
            .filter(|((r, e, path), _)| (*r, *e) == (repo, epoch) && path.starts_with(prefix))
            .collect();
        found.sort_by_key(|((_, _, path), stored)| (-stored.row.stored_at.0, path.clone()));
        Ok(found.into_iter().take(limit).map(|((_, _, path), _)| path.clone()).collect())
    }

    async fn derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, MetadataError> {
        Ok(self.tables()?.derived.get(inputs).map(|(row, _)| row.clone()))
    }

    async fn put_derived(
        &self,
        inputs: &Digest,
        row: &DerivedRow,
        now: Timestamp,
    ) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        if !tables.keep(std::iter::once((row.digest, row.size)).chain(row.gzip)) {
            return Err(being_deleted("recording a derived document"));
        }
        tables.derived.entry(*inputs).or_insert_with(|| (row.clone(), now));
        Ok(())
    }

    async fn shared_secret(&self, name: &str) -> Result<[u8; 32], MetadataError> {
        let mut tables = self.tables()?;
        if let Some(secret) = tables.secrets.get(name) {
            return Ok(*secret);
        }
        let secret = random().map_err(|error| MetadataError::Failed {
            doing: "making a secret",
            message: error.to_string(),
        })?;
        tables.secrets.insert(name.to_owned(), secret);
        Ok(secret)
    }

    async fn signing_key(
        &self,
        name: &str,
        candidate: Option<&str>,
    ) -> Result<Option<String>, MetadataError> {
        let mut tables = self.tables()?;
        Ok(match (tables.signing_keys.get(name), candidate) {
            (Some(stored), _) => Some(stored.clone()),
            (None, Some(candidate)) => {
                tables.signing_keys.insert(name.to_owned(), candidate.to_owned());
                Some(candidate.to_owned())
            }
            (None, None) => None,
        })
    }

    async fn touch(&self, uses: &[(ArtifactKey, Timestamp)]) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        for (key, at) in uses {
            if let Some(stored) = tables.artifacts.get_mut(&key_of(key)) {
                stored.used_at = stored.used_at.max(*at);
            }
        }
        Ok(())
    }

    async fn log_access(&self, records: &[AccessRecord]) -> Result<(), MetadataError> {
        self.tables()?.access_log.extend_from_slice(records);
        Ok(())
    }

    async fn expire_access_log(&self, before: Timestamp) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let had = tables.access_log.len();
        tables.access_log.retain(|record| record.at >= before);
        Ok((had - tables.access_log.len()) as u64)
    }

    async fn artifacts_after(
        &self,
        after: Option<&ArtifactKey>,
        limit: usize,
    ) -> Result<ArtifactPage, MetadataError> {
        let from = after.map(key_of).map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables()?;
        let page = tables.artifacts.range((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(key, stored)| (key_from(key), stored.row.clone())).collect())
    }

    async fn referenced(&self, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let named = self.tables()?.named();
        Ok(digests.iter().filter(|digest| named.contains(digest)).copied().collect())
    }

    async fn derived_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, DerivedRow)>, MetadataError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables()?;
        let page = tables.derived.range((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(inputs, (row, _))| (*inputs, row.clone())).collect())
    }

    async fn forget_derived(&self, inputs: &Digest) -> Result<(), MetadataError> {
        self.tables()?.derived.remove(inputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metadata::{accounts_suite, housekeeping_suite, observations_suite, registry_suite, suite};

    #[tokio::test]
    async fn conforms() {
        suite::suite(async || Arc::new(MemoryMetadata::default()) as Arc<dyn MetadataStore>).await;
    }

    #[tokio::test]
    async fn conforms_as_observations() {
        observations_suite::suite(async || {
            let store = Arc::new(MemoryMetadata::default());
            (store.clone() as Arc<dyn MetadataStore>, store as _)
        })
        .await;
    }

    #[tokio::test]
    async fn conforms_as_accounts() {
        accounts_suite::suite(async || Arc::new(MemoryMetadata::default()) as _).await;
    }

    #[tokio::test]
    async fn conforms_as_housekeeping() {
        housekeeping_suite::suite(async || {
            let store = Arc::new(MemoryMetadata::default());
            (store.clone() as Arc<dyn MetadataStore>, store as _)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn takes_at_once_what_nobody_holds() {
        housekeeping_suite::at_once_suite(async || {
            let store = Arc::new(MemoryMetadata::default());
            (store.clone() as Arc<dyn MetadataStore>, store as _)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms_as_a_registry() {
        registry_suite::suite(async || registry_suite::Faces::of(Arc::new(MemoryMetadata::default()))).await;
    }

    #[tokio::test]
    async fn calls_are_counted_and_can_fail() {
        let store = MemoryMetadata::default();
        store.next_fetch_seq().await.unwrap();
        store.set_down(true);
        assert!(matches!(store.next_fetch_seq().await, Err(MetadataError::Unavailable(_))));
        store.set_down(false);
        assert_eq!(store.next_fetch_seq().await.unwrap(), 2);
        assert_eq!(store.calls(), 3);
    }
}
