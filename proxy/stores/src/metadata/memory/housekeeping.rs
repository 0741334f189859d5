//! The collector's side of the rows in memory. Its clock is the machine's, unless a test gave another.

use std::{collections::BTreeSet, time::Duration};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, RepoId, RepoName, Timestamp,
    ports::{
        Housekeeping, MetadataError,
        housekeeping::{Aged, BlobStates, Change, Recorded, Selection, Total, Turn},
    },
};
use async_trait::async_trait;

use super::{Key, MemoryMetadata, Tables, key_from};

/// Where a blob is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Condemned,
    Deleting,
}

/// What is known of a blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    pub(super) size: u64,
    pub(super) state: State,
    /// Last announced while live, else the beginning of the state.
    since: Timestamp,
}

impl Tables {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.0.now()
    }

    /// Says that the blobs are named or about to be; `false`, and nothing done, while one is being deleted.
    pub(super) fn keep(&mut self, blobs: impl Iterator<Item = (Digest, u64)> + Clone) -> bool {
        let deleting = |(digest, _): (Digest, u64)| {
            self.blobs.get(&digest).is_some_and(|blob| blob.state == State::Deleting)
        };
        if blobs.clone().any(deleting) {
            return false;
        }
        let now = self.now();
        for (digest, size) in blobs {
            self.blobs.insert(digest, Blob { size, state: State::Live, since: now });
        }
        true
    }

    /// Digests that some row names.
    pub(super) fn named(&self) -> BTreeSet<Digest> {
        let derived = self.derived.values();
        let derived = derived.flat_map(|(row, _)| [Some(row.digest), row.gzip.map(|(digest, _)| digest)]);
        let artifacts = self.artifacts.values().map(|stored| stored.row.digest);
        artifacts.chain(derived.flatten()).chain(self.registry.named()).collect()
    }

    /// Moves up to `limit` blobs that are `from` for `grace` and that no row names on to `to`.
    fn advance(
        &mut self,
        [from, to]: [State; 2],
        grace: Duration,
        limit: usize,
        dry: bool,
    ) -> Vec<(Digest, u64)> {
        let (named, now) = (self.named(), self.now());
        let holds = self.holds.clone();
        let is_held = |digest: &Digest| to == State::Deleting && holds.has(digest);
        let is_free = |digest: &Digest| !named.contains(digest) && !is_held(digest);
        let is_due = |blob: &Blob| blob.state == from && blob.since + grace <= now;
        let mut moved = Vec::new();
        let meant = self.blobs.iter_mut().filter(|(digest, blob)| is_due(blob) && is_free(digest));
        for (digest, blob) in meant.take(limit) {
            moved.push((*digest, blob.size));
            if !dry {
                *blob = Blob { state: to, since: now, ..*blob };
            }
        }
        moved
    }

    /// Keys of a repository and epoch, least recently used first.
    fn by_use(&self, repo: RepoId, epoch: Epoch) -> Vec<(Timestamp, Key)> {
        let within = self.artifacts.iter().filter(|((r, e, _), _)| (*r, *e) == (repo, epoch));
        let mut found: Vec<_> = within.map(|(key, stored)| (stored.used_at, key.clone())).collect();
        found.sort();
        found
    }
}

fn is_meant((r, e, path): &Key, repo: RepoId, epoch: Epoch, selection: &Selection) -> bool {
    let chosen = match selection {
        Selection::Path(exact) => path == exact,
        Selection::Prefix(prefix) => path.starts_with(prefix),
    };
    (*r, *e) == (repo, epoch) && chosen
}

/// A turn that is given back to the store it came from.
struct Held(std::sync::Arc<std::sync::Mutex<BTreeSet<&'static str>>>, &'static str);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(self.1);
    }
}

#[async_trait]
impl Housekeeping for MemoryMetadata {
    async fn take_turn(&self, name: &'static str) -> Result<Option<Turn>, MetadataError> {
        drop(self.tables()?);
        let free = self.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name);
        Ok(free.then(|| Box::new(Held(self.turns.clone(), name)) as Turn))
    }

    async fn condemn_blobs(
        &self,
        grace: Duration,
        limit: usize,
        dry: bool,
    ) -> Result<Vec<(Digest, u64)>, MetadataError> {
        Ok(self.tables()?.advance([State::Live, State::Condemned], grace, limit, dry))
    }

    async fn claim_blobs(&self, grace: Duration, limit: usize) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let mut tables = self.tables()?;
        let half = tables.blobs.iter().filter(|(_, blob)| blob.state == State::Deleting);
        let mut claimed: Vec<_> = half.map(|(digest, blob)| (*digest, blob.size)).take(limit).collect();
        let left = limit - claimed.len();
        claimed.extend(tables.advance([State::Condemned, State::Deleting], grace, left, false));
        Ok(claimed)
    }

    async fn claim_unnamed(&self, blobs: &[Digest]) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let mut tables = self.tables()?;
        let (named, holds, now) = (tables.named(), tables.holds.clone(), tables.now());
        let mut claimed = Vec::new();
        for digest in blobs.iter().filter(|digest| !named.contains(digest) && !holds.has(digest)) {
            if let Some(blob) = tables.blobs.get_mut(digest).filter(|blob| blob.state != State::Deleting) {
                *blob = Blob { state: State::Deleting, since: now, ..*blob };
                claimed.push((*digest, blob.size));
            }
        }
        Ok(claimed)
    }

    async fn drop_blob(&self, digest: &Digest) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        if tables.blobs.get(digest).is_some_and(|blob| blob.state == State::Deleting) {
            tables.blobs.remove(digest);
            let now = tables.now();
            tables.registry.set_place(digest, None, now);
        }
        Ok(())
    }

    async fn take_up_strays(&self, found: &[(Digest, u64)]) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let (now, mut strays) = (tables.now(), 0);
        for (digest, size) in found {
            if !tables.blobs.contains_key(digest) {
                tables.blobs.insert(*digest, Blob { size: *size, state: State::Condemned, since: now });
                strays += 1;
            }
        }
        Ok(strays)
    }

    async fn blob_states(&self) -> Result<BlobStates, MetadataError> {
        let mut states = BlobStates::default();
        for blob in self.tables()?.blobs.values() {
            let total = match blob.state {
                State::Live => &mut states.live,
                State::Condemned => &mut states.condemned,
                State::Deleting => &mut states.deleting,
            };
            total.count += 1;
            total.bytes += blob.size;
        }
        Ok(states)
    }

    async fn blobs_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let tables = self.tables()?;
        let rows = tables.blobs.range((from, std::ops::Bound::Unbounded));
        let kept = rows.filter(|(_, blob)| blob.state != State::Deleting).take(limit);
        Ok(kept.map(|(digest, blob)| (*digest, blob.size)).collect())
    }

    async fn usage(&self, repo: RepoId, epoch: Epoch) -> Result<Total, MetadataError> {
        let tables = self.tables()?;
        let within = tables.artifacts.iter().filter(|((r, e, _), _)| (*r, *e) == (repo, epoch));
        Ok(within.fold(Total::default(), |total, (_, stored)| Total {
            count: total.count + 1,
            bytes: total.bytes + stored.row.size,
        }))
    }

    async fn expire_unused(
        &self,
        repo: RepoId,
        epoch: Epoch,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ArtifactKey>, MetadataError> {
        let mut tables = self.tables()?;
        let unused = tables.by_use(repo, epoch).into_iter().filter(|(used, _)| *used < before);
        let keys: Vec<Key> = unused.take(limit).map(|(_, key)| key).collect();
        keys.iter().for_each(|key| drop(tables.artifacts.remove(key)));
        Ok(keys.iter().map(key_from).collect())
    }

    async fn least_used(&self, repo: RepoId, epoch: Epoch, limit: usize) -> Result<Vec<Aged>, MetadataError> {
        let tables = self.tables()?;
        let found = tables.by_use(repo, epoch).into_iter().take(limit);
        let aged = found.filter_map(|(used_at, key)| {
            let row = &tables.artifacts.get(&key)?.row;
            Some(Aged { key: key_from(&key), digest: row.digest, size: row.size, used_at })
        });
        Ok(aged.collect())
    }

    async fn recorded(&self, name: &RepoName) -> Result<Vec<Recorded>, MetadataError> {
        let tables = self.tables()?;
        let meant = tables.repositories.iter().filter(|((_, known, _), _)| known == name.as_str());
        let mut found: Vec<_> = meant
            .map(|((namespace, _, package_type), (identity, _))| Recorded {
                namespace: namespace.clone(),
                package_type: *package_type,
                identity: *identity,
                retired: tables.retired.contains_key(&identity.id),
            })
            .collect();
        found.sort_by_key(|recorded| recorded.identity.id);
        Ok(found)
    }

    async fn change(
        &self,
        repo: RepoId,
        epoch: Epoch,
        selection: &Selection,
        change: Change,
    ) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let meant = |key: &Key| is_meant(key, repo, epoch, selection);
        let before = (tables.artifacts.len(), tables.ledger.len());
        let mut refreshed = 0;
        match change {
            Change::Evict => tables.artifacts.retain(|key, _| !meant(key)),
            Change::Unpin => tables.ledger.retain(|key, _| !meant(key)),
            Change::Refresh => {
                for (_, stored) in tables.artifacts.iter_mut().filter(|(key, _)| meant(key)) {
                    stored.row.checked_at = Timestamp(0);
                    refreshed += 1;
                }
            }
        }
        let gone = (before.0 - tables.artifacts.len()) + (before.1 - tables.ledger.len());
        Ok(gone as u64 + refreshed)
    }

    async fn expire_derived(&self, before: Timestamp, limit: usize) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let mut old: Vec<_> = tables.derived.iter().map(|(inputs, (_, made))| (*made, *inputs)).collect();
        old.sort();
        old.retain(|(made, _)| *made < before);
        old.truncate(limit);
        old.iter().for_each(|(_, inputs)| drop(tables.derived.remove(inputs)));
        Ok(old.len() as u64)
    }

    async fn retire_others(&self, present: &[RepoId]) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let all: Vec<RepoId> = tables.repositories.values().map(|(identity, _)| identity.id).collect();
        for repo in all {
            if present.contains(&repo) {
                tables.retired.remove(&repo);
            } else {
                tables.retired.entry(repo).or_insert(now);
            }
        }
        Ok(())
    }

    async fn expire_retired(&self, grace: Duration, limit: usize) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let over: Vec<Key> = tables
            .artifacts
            .keys()
            .filter(|(repo, epoch, _)| {
                let current = tables.repositories.values().find(|(identity, _)| identity.id == *repo);
                current.is_some_and(|(identity, _)| *epoch < identity.epoch)
                    || tables.retired.get(repo).is_some_and(|since| *since + grace <= now)
            })
            .take(limit)
            .cloned()
            .collect();
        over.iter().for_each(|key| drop(tables.artifacts.remove(key)));
        Ok(over.len() as u64)
    }
}
