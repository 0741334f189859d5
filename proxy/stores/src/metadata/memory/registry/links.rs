//! Which images have which blobs, and where the bytes are, in memory.

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use artifactapi_model::{
    Digest, RepoId,
    oci::{ImageName, OciDigest},
    ports::{
        MetadataError,
        registry::{BlobLinks, ExpiredLinks, ImageKey, LinkedBlob, Linking, Placements, Unlinking},
        uploads::Place,
    },
};
use async_trait::async_trait;

use super::{
    super::{MemoryMetadata, housekeeping::State},
    is_over,
};

#[async_trait]
impl BlobLinks for MemoryMetadata {
    async fn linked(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        renew: bool,
    ) -> Result<Option<LinkedBlob>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let link = tables.registry.links.get_mut(&(image.clone(), *digest));
        Ok(link.map(|link| {
            if renew {
                link.touched = now;
            }
            LinkedBlob { blob: link.blob, size: link.size }
        }))
    }

    async fn locals_with(&self, digest: &OciDigest, limit: usize) -> Result<Vec<RepoId>, MetadataError> {
        let tables = self.tables()?;
        let with = tables.registry.links.keys().filter(|(_, known)| known == digest);
        let locals: BTreeSet<RepoId> = with.map(|(image, _)| image.repo).collect();
        Ok(locals.into_iter().take(limit).collect())
    }

    async fn mount(
        &self,
        (repo, name): (RepoId, Option<&ImageName>),
        image: &ImageKey,
        digest: &OciDigest,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError> {
        let mut tables = self.tables()?;
        let is_source = |key: &ImageKey| key.repo == repo && name.is_none_or(|name| key.name == *name);
        let mut links = tables.registry.links.iter();
        let source = links.find(|((key, known), _)| known == digest && is_source(key));
        let Some(source) = source.map(|(_, link)| (link.blob, link.size)) else {
            return Ok(Linking::Missing);
        };
        Ok(tables.link(image, digest, source, quota))
    }

    async fn unlink(&self, image: &ImageKey, digest: &OciDigest) -> Result<Unlinking, MetadataError> {
        let mut tables = self.tables()?;
        let key = (image.clone(), *digest);
        if !tables.registry.links.contains_key(&key) {
            return Ok(Unlinking::Unknown);
        }
        if tables.registry.is_named_by_a_manifest(image, digest) {
            return Ok(Unlinking::InUse);
        }
        tables.registry.links.remove(&key);
        Ok(Unlinking::Done)
    }

    async fn expire_links(&self, grace: Duration, limit: usize) -> Result<ExpiredLinks, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.registry;
        let mut loose: Vec<_> = rows
            .links
            .iter()
            .filter(|((image, digest), link)| {
                is_over(link.touched, grace, now) && !rows.is_named_by_a_manifest(image, digest)
            })
            .map(|(key, link)| (link.touched, key.clone()))
            .collect();
        loose.sort();
        loose.truncate(limit);
        for (_, key) in &loose {
            rows.links.remove(key);
        }
        // Which links no manifest names is plain here: there are none to be looked at in vain.
        let dropped = loose.len() as u64;
        Ok(ExpiredLinks { looked_at: dropped, dropped })
    }

    async fn local_usage(&self, repo: RepoId) -> Result<u64, MetadataError> {
        Ok(self.tables()?.registry.usage(repo))
    }
}

#[async_trait]
impl Placements for MemoryMetadata {
    async fn place(&self, digest: &Digest) -> Result<Option<Place>, MetadataError> {
        Ok(self.tables()?.registry.places.get(digest).cloned())
    }

    async fn placed(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64, Place)>, MetadataError> {
        let tables = self.tables()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let placed = tables.registry.places.range((from, Bound::Unbounded)).filter_map(|(digest, place)| {
            let blob = tables.blobs.get(digest).filter(|blob| blob.state == State::Live)?;
            Some((*digest, blob.size, place.clone()))
        });
        Ok(placed.take(limit).collect())
    }

    async fn settled(&self, digest: &Digest, place: &Place) -> Result<bool, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let is_there = tables.registry.places.get(digest) == Some(place);
        if is_there {
            tables.registry.set_place(digest, None, now);
        }
        Ok(is_there)
    }

    async fn retired_places(&self, age: Duration, limit: usize) -> Result<Vec<Place>, MetadataError> {
        let tables = self.tables()?;
        let now = tables.now();
        let mut old: Vec<_> = tables.registry.retired.iter().map(|(place, since)| (*since, place)).collect();
        old.sort();
        let old = old.into_iter().filter(|(since, _)| is_over(*since, age, now));
        Ok(old.take(limit).map(|(_, place)| place.clone()).collect())
    }

    async fn pushed(&self, blobs: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let tables = self.tables()?;
        let is_pushed = |blob: &&Digest| tables.registry.links.values().any(|link| link.blob == **blob);
        Ok(blobs.iter().filter(is_pushed).copied().collect())
    }

    async fn forget_place(&self, place: &Place) -> Result<(), MetadataError> {
        self.tables()?.registry.retired.remove(place);
        Ok(())
    }
}
