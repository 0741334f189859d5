//! Manifests and tags, in memory.

use std::{collections::BTreeSet, time::Duration};

use artifactapi_model::{
    RepoId, Timestamp,
    oci::{ImageName, OciDigest, Reference, Tag},
    ports::{
        MetadataError,
        registry::{Deleted, HOLDING_DEPTH, ImageKey, Manifest, Manifests, NewManifest, Put, Referrer},
    },
};
use async_trait::async_trait;

use super::{super::MemoryMetadata, Rows, is_over};

/// A manifest.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// As it was put, without tags.
    new: NewManifest,
    /// Since when neither a tag nor an index holds what was held before.
    unheld: Option<Timestamp>,
}

impl Rows {
    fn of<'a>(&'a self, image: &'a ImageKey) -> impl Iterator<Item = (&'a OciDigest, &'a Row)> {
        let within = self.manifests.iter().filter(move |((known, _), _)| known == image);
        within.map(|((_, digest), row)| (digest, row))
    }

    pub(super) fn is_named_by_a_manifest(&self, image: &ImageKey, blob: &OciDigest) -> bool {
        self.of(image).any(|(_, row)| row.new.blobs.contains(blob))
    }

    fn tags_to(&self, image: &ImageKey, digest: &OciDigest) -> Vec<Tag> {
        let to = self.tags.iter().filter(|((known, _), to)| known == image && *to == digest);
        to.map(|((_, tag), _)| tag.clone()).collect()
    }

    /// A manifest the image has, and the indexes that list it.
    fn holders(&self, image: &ImageKey, digest: &OciDigest) -> BTreeSet<OciDigest> {
        let own = self.manifests.contains_key(&(image.clone(), *digest)).then_some(*digest);
        let mut holders: BTreeSet<OciDigest> = own.into_iter().collect();
        for _ in 0..HOLDING_DEPTH {
            let lists = |row: &Row| row.new.children.iter().any(|child| holders.contains(child));
            let above: Vec<OciDigest> =
                self.of(image).filter(|(_, row)| lists(row)).map(|(digest, _)| *digest).collect();
            holders.extend(above);
        }
        holders
    }

    fn is_held(&self, image: &ImageKey, digest: &OciDigest) -> bool {
        !self.tags_to(image, digest).is_empty()
            || self.of(image).any(|(_, row)| row.new.children.contains(digest))
    }

    /// These lost something that held them.
    fn let_go(&mut self, image: &ImageKey, digests: &[OciDigest], now: Timestamp) {
        for digest in digests {
            let held = self.is_held(image, digest);
            if let Some(row) = self.manifests.get_mut(&(image.clone(), *digest))
                && !held
            {
                row.unheld = row.unheld.or(Some(now));
            }
        }
    }

    fn keep_again(&mut self, image: &ImageKey, digests: &[OciDigest]) {
        for digest in digests {
            if let Some(row) = self.manifests.get_mut(&(image.clone(), *digest)) {
                row.unheld = None;
            }
        }
    }

    fn referrers_to(&self, image: &ImageKey, subject: &OciDigest) -> Vec<OciDigest> {
        let to = self.of(image).filter(|(_, row)| row.new.subject.as_ref() == Some(subject));
        to.map(|(digest, _)| *digest).collect()
    }

    /// Why a manifest cannot be stored.
    fn obstacle(&self, image: &ImageKey, new: &NewManifest) -> Option<Put> {
        let has_blob = |digest: &OciDigest| self.links.contains_key(&(image.clone(), *digest));
        if let Some(missing) = new.blobs.iter().find(|digest| !has_blob(digest)) {
            return Some(Put::MissingBlob(*missing));
        }
        let has_manifest = |digest: &OciDigest| self.manifests.contains_key(&(image.clone(), *digest));
        if let Some(missing) = new.children.iter().find(|digest| !has_manifest(digest)) {
            return Some(Put::MissingManifest(*missing));
        }
        let is_elsewhere = |tag: &Tag| {
            let to = self.tags.get(&(image.clone(), tag.clone()));
            to.is_some_and(|to| *to != new.manifest.digest)
        };
        let fixed = new.tags.iter().find(|new| new.immutable && is_elsewhere(&new.tag));
        fixed.map(|new| Put::Immutable(new.tag.clone()))
    }

    fn put(&mut self, image: &ImageKey, new: &NewManifest, now: Timestamp) {
        let digest = new.manifest.digest;
        for blob in &new.blobs {
            if let Some(link) = self.links.get_mut(&(image.clone(), *blob)) {
                link.touched = now;
            }
        }
        let key = (image.clone(), digest);
        if !self.manifests.contains_key(&key) {
            let new = NewManifest { tags: Vec::new(), ..new.clone() };
            self.manifests.insert(key.clone(), Row { new, unheld: None });
            // What refers to it does so again.
            self.keep_again(image, &self.referrers_to(image, &digest));
        }
        let tags = new.tags.iter().map(|new| (image.clone(), new.tag.clone()));
        let left_behind: Vec<_> = tags.filter_map(|key| self.tags.insert(key, digest)).collect();
        self.keep_again(image, &new.children);
        let held = self.is_held(image, &digest);
        if let Some(row) = self.manifests.get_mut(&key) {
            row.unheld = row.unheld.filter(|_| !held).map(|_| now);
        }
        self.let_go(image, &left_behind, now);
    }

    fn drop_manifest(&mut self, image: &ImageKey, digest: &OciDigest, now: Timestamp) {
        let Some(row) = self.manifests.remove(&(image.clone(), *digest)) else { return };
        self.tags.retain(|(known, _), to| known != image || to != digest);
        self.let_go(image, &row.new.children, now);
        self.let_go(image, &self.referrers_to(image, digest), now);
    }
}

#[async_trait]
impl Manifests for MemoryMetadata {
    async fn put_manifest(&self, image: &ImageKey, new: &NewManifest) -> Result<Put, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        if let Some(obstacle) = tables.registry.obstacle(image, new) {
            return Ok(obstacle);
        }
        tables.registry.put(image, new, now);
        Ok(Put::Stored)
    }

    async fn manifest(
        &self,
        image: &ImageKey,
        reference: &Reference,
        renew: bool,
    ) -> Result<Option<Manifest>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => tables.registry.tags.get(&(image.clone(), tag.clone())).copied(),
        };
        let row = digest.and_then(|digest| tables.registry.manifests.get_mut(&(image.clone(), digest)));
        Ok(row.map(|row| {
            if renew {
                row.unheld = row.unheld.map(|_| now);
            }
            row.new.manifest.clone()
        }))
    }

    async fn tags(
        &self,
        image: &ImageKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, MetadataError> {
        let tables = self.tables()?;
        let rows = &tables.registry;
        let tags = || rows.tags.keys().filter(|(known, _)| known == image).map(|(_, tag)| tag);
        if tags().next().is_none() && rows.of(image).next().is_none() {
            return Ok(None);
        }
        let later = tags().filter(|tag| after.is_none_or(|after| tag.as_str() > after));
        Ok(Some(later.take(limit).cloned().collect()))
    }

    async fn tags_of(&self, image: &ImageKey, digest: &OciDigest) -> Result<Vec<Tag>, MetadataError> {
        Ok(self.tables()?.registry.tags_to(image, digest))
    }

    async fn holding_tags(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, MetadataError> {
        let tables = self.tables()?;
        let rows = &tables.registry;
        let holders = rows.holders(image, digest);
        let to = rows.tags.iter().filter(|((known, _), to)| known == image && holders.contains(to));
        let later = to.map(|((_, tag), _)| tag).filter(|tag| after.is_none_or(|after| *tag > after));
        Ok(later.take(limit).cloned().collect())
    }

    async fn delete_tag(&self, image: &ImageKey, tag: &Tag) -> Result<Deleted, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let Some(digest) = tables.registry.tags.remove(&(image.clone(), tag.clone())) else {
            return Ok(Deleted::Unknown);
        };
        tables.registry.let_go(image, &[digest], now);
        Ok(Deleted::Done)
    }

    async fn delete_manifest(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        tags: &[Tag],
    ) -> Result<Deleted, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.registry;
        if !rows.manifests.contains_key(&(image.clone(), *digest)) {
            return Ok(Deleted::Unknown);
        }
        if let Some(other) = rows.tags_to(image, digest).into_iter().find(|tag| !tags.contains(tag)) {
            return Ok(Deleted::Tagged(other));
        }
        rows.drop_manifest(image, digest, now);
        Ok(Deleted::Done)
    }

    async fn referrers(
        &self,
        image: &ImageKey,
        subject: &OciDigest,
        artifact_type: Option<&str>,
        after: Option<&OciDigest>,
        limit: usize,
    ) -> Result<Vec<Referrer>, MetadataError> {
        let tables = self.tables()?;
        let is_meant = |new: &NewManifest| {
            new.subject.as_ref() == Some(subject)
                && artifact_type.is_none_or(|wanted| new.artifact_type.as_deref() == Some(wanted))
        };
        let later = tables.registry.of(image).filter(|(digest, _)| after.is_none_or(|after| *digest > after));
        let found = later.filter(|(_, row)| is_meant(&row.new)).take(limit);
        let referrer = |new: &NewManifest| Referrer {
            digest: new.manifest.digest,
            media_type: new.manifest.media_type.clone(),
            size: new.manifest.body.len() as u64,
            artifact_type: new.artifact_type.clone(),
            annotations: new.annotations.clone(),
        };
        Ok(found.map(|(_, row)| referrer(&row.new)).collect())
    }

    async fn images(
        &self,
        repo: RepoId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ImageName>, MetadataError> {
        let tables = self.tables()?;
        let within = tables.registry.manifests.keys().filter(|(image, _)| image.repo == repo);
        let names: BTreeSet<&ImageName> = within.map(|(image, _)| &image.name).collect();
        let later = names.into_iter().filter(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(later.take(limit).cloned().collect())
    }

    async fn expire_manifests(
        &self,
        repo: RepoId,
        age: Duration,
        limit: usize,
    ) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.registry;
        let within = rows.manifests.iter().filter(|((image, _), _)| image.repo == repo);
        let mut old: Vec<_> = within
            .filter_map(|(key, row)| row.unheld.map(|since| (since, key.clone())))
            .filter(|(since, _)| is_over(*since, age, now))
            .collect();
        old.sort();
        old.truncate(limit);
        old.iter().for_each(|(_, (image, digest))| rows.drop_manifest(image, digest, now));
        Ok(old.len() as u64)
    }

    async fn purge_local(&self, repo: RepoId, limit: usize) -> Result<u64, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.registry;
        let sessions = rows.uploads.values_mut().filter(|upload| upload.is_of(repo));
        let ended = sessions.filter_map(|upload| upload.end().then_some(())).take(limit).count();
        if ended > 0 {
            return Ok(ended as u64);
        }
        let tags = rows.tags.keys().filter(|(image, _)| image.repo == repo);
        let tags: Vec<_> = tags.take(limit).cloned().collect();
        for key in &tags {
            rows.tags.remove(key);
        }
        if !tags.is_empty() {
            return Ok(tags.len() as u64);
        }
        let manifests = rows.manifests.keys().filter(|(image, _)| image.repo == repo);
        let manifests: Vec<_> = manifests.take(limit).cloned().collect();
        manifests.iter().for_each(|(image, digest)| rows.drop_manifest(image, digest, now));
        if !manifests.is_empty() {
            return Ok(manifests.len() as u64);
        }
        let links = rows.links.keys().filter(|(image, _)| image.repo == repo);
        let links: Vec<_> = links.take(limit).cloned().collect();
        for key in &links {
            rows.links.remove(key);
        }
        Ok(links.len() as u64)
    }
}
