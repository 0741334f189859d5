//! Holding stored bodies against indexes that were stored later.
//!
//! A package may be fetched before any index that publishes its checksum; it is then kept unverified. And rpm
//! metadata under a simple name must belong to the repomd.xml that clients see. Both are looked at again when
//! an index has been stored since; a body that contradicts its index is fetched anew.

use std::sync::{Arc, atomic::Ordering};

use artifactapi_formats::{IndexUse, Resource};
use artifactapi_model::{
    ArtifactKey, Checksum, Checksums, Hasher, Mutability, Remote,
    digest::Hashed,
    ports::{BlobReader, blobs::MAX_READ},
};

use crate::{Engine, error::FetchError, facts::Effort, fetch::Need, fill::Job, hot::HotEntry, verify};

impl Engine {
    /// Whether a stored index contradicts the stored body of `resource`, which is then no longer trusted.
    pub(crate) async fn contradicted(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        key: &ArtifactKey,
        entry: &Arc<HotEntry>,
        depth: u8,
    ) -> Result<bool, FetchError> {
        let settled = entry.row.verified && entry.row.mutability == Mutability::Immutable;
        if settled || resource.indexes.is_empty() {
            return Ok(false);
        }
        let generation = self.generation.load(Ordering::Acquire);
        if entry.judged.load(Ordering::Acquire) == generation {
            return Ok(false);
        }
        // An index that cannot be read now must not take away what is stored.
        let known =
            Box::pin(self.facts_about(remote, resource, Effort::Held, depth)).await.unwrap_or_default();
        if self.still_agrees(entry, &known.unwrap_or_default().checksums).await? {
            entry.judged.store(generation, Ordering::Release);
            return Ok(false);
        }
        tracing::warn!(key = ?key, blob.digest = %entry.row.digest, "a stored body contradicts its index and is fetched anew");
        if entry.row.mutability == Mutability::Immutable {
            // The pin came from an unverified first sight; the index outranks it.
            self.ports.metadata.unpin(key).await?;
        }
        Ok(true)
    }

    /// Whether a fetched mutable body that contradicts its stored index agrees with upstream's present one:
    /// the repository may have moved on since the index was fetched.
    pub(crate) async fn agrees_with_newer_index(
        self: &Arc<Self>,
        job: &Job,
        hashed: &Hashed,
        reader: &Arc<dyn BlobReader>,
    ) -> bool {
        if job.mutability == Mutability::Immutable || job.resource.indexes.is_empty() {
            return false;
        }
        if self.refresh_indexes(job).await.is_err() {
            return false;
        }
        let known = Box::pin(self.facts_about(&job.remote, &job.resource, Effort::Held, job.depth)).await;
        match known {
            Ok(Some(known)) => verify::check(&known.checksums, hashed, reader).await.is_ok(),
            _ => false,
        }
    }

    /// Asks upstream again for every stored index of `job`'s resource, whatever its age.
    pub(crate) async fn refresh_indexes(self: &Arc<Self>, job: &Job) -> Result<(), FetchError> {
        for index in job.resource.indexes.iter().filter(|index| index.when != IndexUse::HeldPrefix) {
            let Some(entry) = self.held(&job.remote, &index.path).await? else { continue };
            let resource = self.plan_document(&job.remote, &index.path)?;
            let key = Self::key(&job.remote, &resource);
            let need = Need::Whole { depth: job.depth + 1 };
            let refresh = Job::new(&job.remote, &resource, key, resource.mutability, need).replacing(&entry);
            Box::pin(self.fetch(refresh, None, need)).await?;
        }
        Ok(())
    }

    async fn still_agrees(&self, entry: &HotEntry, checksums: &Checksums) -> Result<bool, FetchError> {
        let cheap = |checksum: &Checksum| match checksum {
            Checksum::Sha256(want) => Some(entry.row.digest.0 == *want),
            Checksum::Size(want) => Some(entry.row.size == *want),
            _ => None,
        };
        if checksums.iter().any(|checksum| cheap(checksum) == Some(false)) {
            return Ok(false);
        }
        if checksums.iter().all(|checksum| cheap(checksum).is_some()) {
            return Ok(true);
        }
        let reader = self.reader_of(entry).await?;
        let mut hasher = Hasher::for_checksums(checksums);
        let mut offset = 0;
        while offset < entry.row.size {
            let block = reader.read_at(offset, MAX_READ).await?;
            if block.is_empty() {
                return Ok(false);
            }
            offset += block.len() as u64;
            hasher.update(&block);
        }
        Ok(verify::check(checksums, &hasher.finish(), &reader).await.is_ok())
    }
}
