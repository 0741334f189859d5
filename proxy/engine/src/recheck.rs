//! Holding stored bodies against indexes that were stored later.
//!
//! A package may be fetched before any index that publishes its checksum; it is then kept unverified. And rpm
//! metadata under a simple name must belong to the repomd.xml that clients see. Both are looked at again when
//! an index has been stored since; a body that contradicts its index is fetched anew.

use std::sync::{Arc, atomic::Ordering};

use artifactapi_formats::Resource;
use artifactapi_model::{
    ArtifactKey, Checksum, Checksums, Hasher, Mutability, Remote, ports::blobs::MAX_READ,
};

use crate::{Engine, error::FetchError, hot::HotEntry, verify};

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
        if entry.judged.swap(generation, Ordering::AcqRel) == generation {
            return Ok(false);
        }
        // An index that cannot be read now must not take away what is stored.
        let Ok(Some(known)) = Box::pin(self.facts_about(remote, resource, depth)).await else {
            return Ok(false);
        };
        if self.still_agrees(entry, &known.checksums).await? {
            return Ok(false);
        }
        tracing::warn!(key = ?key, blob.digest = %entry.row.digest, "a stored body contradicts its index and is fetched anew");
        if entry.row.mutability == Mutability::Immutable {
            // The pin came from an unverified first sight; the index outranks it.
            self.ports.metadata.unpin(key).await?;
        }
        Ok(true)
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
