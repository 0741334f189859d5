//! Manifests, tags, referrers and deletions, and what is pulled.

use std::sync::Arc;

use artifactapi_model::{
    Digest, Local,
    oci::{Algorithm, ImageName, OciDigest, Reference, Tag},
    ports::{
        BlobStore, MetadataStore, RegistryStore, UploadStore,
        registry::{Deleted, ImageKey, LinkedBlob, Manifest, NewManifest, NewTag, Put, Referrer, Unlinking},
    },
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    RegistryError,
    bodies::Bodies,
    manifest::{self, MAX_MANIFEST, Parsed},
    push::{key, writable},
};

/// Most entries of one page of tags, images or referrers, whatever a client asks for (RS-68).
pub const MAX_PAGE: usize = 1_000;
/// Tags that one request may set beside the push by digest.
pub const MAX_TAGS: usize = 64;

/// Manifests above this size are read on a thread of their own, in bytes.
const LARGE: usize = 64 << 10;
/// Large manifests that are read and stored at a time: what was read may be many times what came.
const PUSHED: usize = 2;
/// Bytes of annotations after which a page of referrers ends.
const MAX_ANNOTATIONS: u64 = 4 << 20;

/// The registry over its ports.
#[derive(Clone)]
pub struct Registry {
    bodies: Bodies,
    /// Room for the large manifests that are being pushed.
    room: Arc<Semaphore>,
    /// Rows of Locals.
    pub rows: Arc<dyn RegistryStore>,
    /// Announces blobs.
    pub metadata: Arc<dyn MetadataStore>,
    /// Bytes on their way in.
    pub uploads: Arc<dyn UploadStore>,
    /// Bytes that are there.
    pub blobs: Arc<dyn BlobStore>,
}

/// A manifest that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: OciDigest,
    /// The manifest it refers to.
    pub subject: Option<OciDigest>,
    /// Tags that were set by `tags`.
    pub tags: Vec<Tag>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether there are more after the last.
    pub more: bool,
}

impl<T> Page<T> {
    /// Of up to `limit` + 1 entries.
    fn of(mut entries: Vec<T>, limit: usize) -> Self {
        let more = entries.len() > limit && limit > 0;
        entries.truncate(limit);
        Page { entries, more }
    }
}

/// A page's size: what was asked for, within bounds.
fn page_size(asked: Option<u64>) -> usize {
    asked.map_or(MAX_PAGE, |asked| usize::try_from(asked).unwrap_or(MAX_PAGE).min(MAX_PAGE))
}

impl Registry {
    /// A registry over its ports.
    pub fn new(
        rows: Arc<dyn RegistryStore>,
        metadata: Arc<dyn MetadataStore>,
        uploads: Arc<dyn UploadStore>,
        blobs: Arc<dyn BlobStore>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(PUSHED));
        Registry { bodies: Bodies::default(), room, rows, metadata, uploads, blobs }
    }

    /// The blob an image calls `digest`. `renew`: the client will rely on the answer.
    ///
    /// # Errors
    /// [`RegistryError::BlobUnknown`], or the database's.
    pub async fn blob(
        &self,
        local: &Local,
        name: &ImageName,
        digest: &OciDigest,
        renew: bool,
    ) -> Result<LinkedBlob, RegistryError> {
        let found = self.rows.linked(&key(local, name), digest, renew).await?;
        let found = found.ok_or(RegistryError::BlobUnknown(*digest))?;
        if renew && self.is_lost(&found.blob).await {
            return Err(RegistryError::BlobUnknown(*digest));
        }
        Ok(found)
    }

    /// Whether the bytes of a blob are gone: it is to be pushed again, which a client does once it hears that it is not
    /// there. A store that does not answer says nothing of the kind.
    pub(crate) async fn is_lost(&self, blob: &Digest) -> bool {
        matches!(self.blobs.size(blob).await, Ok(None))
    }

    /// Takes a blob from an image; effective at once.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn delete_blob(
        &self,
        local: &Local,
        name: &ImageName,
        digest: &OciDigest,
    ) -> Result<(), RegistryError> {
        deletable(local)?;
        match self.rows.unlink(&key(local, name), digest).await? {
            Unlinking::Done => Ok(()),
            Unlinking::Unknown => Err(RegistryError::BlobUnknown(*digest)),
            Unlinking::InUse => Err(RegistryError::BlobInUse(*digest)),
        }
    }

    /// The manifest that `reference` names. `renew`: the client will rely on the answer.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`], or the database's.
    pub async fn manifest(
        &self,
        local: &Local,
        name: &ImageName,
        reference: &Reference,
        renew: bool,
    ) -> Result<Manifest, RegistryError> {
        let found = self.rows.manifest(&key(local, name), reference, renew).await?;
        let mut found = found.ok_or(RegistryError::ManifestUnknown)?;
        found.body = self.bodies.share(found.digest, found.body)?;
        // Databases look too, and have no such manifest then. This is for stores that do not.
        if OciDigest::of(found.digest.algorithm(), &found.body) != found.digest {
            tracing::error!(manifest.digest = %found.digest, "a stored manifest is damaged, and not served");
            return Err(RegistryError::Busy("the stored manifest is damaged"));
        }
        Ok(found)
    }

    /// Stores a manifest under `reference`, and tags it with `tags` too.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing was changed.
    pub async fn put_manifest(
        &self,
        local: &Local,
        name: &ImageName,
        reference: &Reference,
        tags: &[Tag],
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Stored, RegistryError> {
        writable(local)?;
        if body.len() > MAX_MANIFEST {
            return Err(RegistryError::TooLarge { what: "a manifest", limit: MAX_MANIFEST as u64 });
        }
        let digest = match reference {
            Reference::Tag(_) => OciDigest::of(Algorithm::Sha256, &body),
            Reference::Digest(wanted) => {
                let got = OciDigest::of(wanted.algorithm(), &body);
                if got != *wanted {
                    return Err(RegistryError::mismatch(*wanted, got));
                }
                got
            }
        };
        let (parsed, room) = self.parse(body.clone(), content_type).await?;
        let mut all: Vec<&Tag> = tags.iter().collect();
        if let Reference::Tag(tag) = reference {
            all.push(tag);
        }
        all.sort_unstable();
        all.dedup();
        let immutable = |tag: &Tag| local.spec.immutable_tags.matches(tag.as_str());
        let new = NewManifest {
            manifest: Manifest { digest, media_type: parsed.media_type, body },
            artifact_type: parsed.artifact_type,
            annotations: parsed.annotations,
            subject: parsed.subject,
            blobs: parsed.blobs,
            children: parsed.children,
            tags: all.into_iter().map(|tag| NewTag { tag: tag.clone(), immutable: immutable(tag) }).collect(),
        };
        let (rows, image, subject) = (self.rows.clone(), key(local, name), new.subject);
        // In a task of its own: what was read keeps its room until it is stored, also when the client is gone before.
        let put = tokio::spawn(async move {
            let _room = room;
            rows.put_manifest(&image, &new).await
        });
        match put.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))? {
            Put::Stored => Ok(Stored { digest, subject, tags: tags.to_vec() }),
            Put::MissingBlob(digest) => Err(RegistryError::ManifestBlobUnknown(digest)),
            Put::MissingManifest(digest) => Err(RegistryError::ManifestChildUnknown(digest)),
            Put::Immutable(tag) => Err(RegistryError::ImmutableTag(tag)),
        }
    }

    /// Reads a manifest. A large one takes longer than other requests should wait, and needs room for as long as what was
    /// read is held.
    async fn parse(
        &self,
        body: Bytes,
        content_type: Option<&str>,
    ) -> Result<(Parsed, Option<OwnedSemaphorePermit>), RegistryError> {
        if body.len() <= LARGE {
            return Ok((manifest::parse(&body, content_type)?, None));
        }
        let room = self.room.clone().acquire_owned().await.ok();
        let content_type = content_type.map(str::to_owned);
        let read = move || Ok((manifest::parse(&body, content_type.as_deref())?, room));
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Deletes a tag, or a manifest with its tags; effective at once.
    ///
    /// What an immutable tag points to stays whole: neither is its manifest deleted nor what that lists. Other indexes
    /// keep nobody from it, since clients delete what an index lists before the index. A tag that is set to such an
    /// index at the same moment may come too late to be seen; one that is set to the manifest itself may not.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing was changed.
    pub async fn delete_manifest(
        &self,
        local: &Local,
        name: &ImageName,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        deletable(local)?;
        let image = key(local, name);
        let immutable = |tag: &Tag| local.spec.immutable_tags.matches(tag.as_str());
        let digest = match reference {
            Reference::Tag(tag) if immutable(tag) => return Err(RegistryError::ImmutableTag(tag.clone())),
            Reference::Tag(tag) => {
                return match self.rows.delete_tag(&image, tag).await? {
                    Deleted::Done => Ok(()),
                    Deleted::Unknown | Deleted::Tagged(_) => Err(RegistryError::ManifestUnknown),
                };
            }
            Reference::Digest(digest) => digest,
        };
        // A tag may be set between the two; then the new one is looked at as well.
        for _ in 0..8 {
            let tags = self.rows.tags_of(&image, digest).await?;
            let fixed = match tags.iter().find(|tag| immutable(tag)) {
                Some(tag) => Some(tag.clone()),
                None => self.holding_tag(&image, digest, &immutable).await?,
            };
            if let Some(tag) = fixed {
                return Err(RegistryError::ImmutableTag(tag));
            }
            match self.rows.delete_manifest(&image, digest, &tags).await? {
                Deleted::Done => return Ok(()),
                Deleted::Unknown => return Err(RegistryError::ManifestUnknown),
                Deleted::Tagged(_) => {}
            }
        }
        Err(RegistryError::Busy("the manifest is being tagged"))
    }

    /// The first of the tags `is_meant` that hold a manifest, itself or by an index.
    async fn holding_tag(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        is_meant: impl Fn(&Tag) -> bool,
    ) -> Result<Option<Tag>, RegistryError> {
        let mut after: Option<Tag> = None;
        loop {
            let page = self.rows.holding_tags(image, digest, after.as_ref(), MAX_PAGE).await?;
            if let Some(tag) = page.iter().find(|tag| is_meant(tag)) {
                return Ok(Some(tag.clone()));
            }
            after = page.into_iter().next_back();
            if after.is_none() {
                return Ok(None);
            }
        }
    }

    /// A page of tags in the order of their bytes, after `last`.
    ///
    /// # Errors
    /// [`RegistryError::NameUnknown`], or the database's.
    pub async fn tags(
        &self,
        local: &Local,
        name: &ImageName,
        last: Option<&str>,
        asked: Option<u64>,
    ) -> Result<Page<Tag>, RegistryError> {
        let limit = page_size(asked);
        let found = self.rows.tags(&key(local, name), last, limit + 1).await?;
        Ok(Page::of(found.ok_or(RegistryError::NameUnknown)?, limit))
    }

    /// A page of the manifests that refer to `subject`, after `last`.
    ///
    /// # Errors
    /// The database's.
    pub async fn referrers(
        &self,
        local: &Local,
        name: &ImageName,
        subject: &OciDigest,
        artifact_type: Option<&str>,
        last: Option<&OciDigest>,
    ) -> Result<Page<Referrer>, RegistryError> {
        let image = key(local, name);
        let mut page = Page { entries: Vec::new(), more: true };
        // Annotations may be large: a few at a time, until there are many bytes of them.
        let (mut bytes, mut step) = (0, 8);
        while page.more && bytes < MAX_ANNOTATIONS && page.entries.len() < MAX_PAGE {
            let after = page.entries.last().map(|entry: &Referrer| entry.digest);
            let after = after.as_ref().or(last);
            step = step.min(MAX_PAGE - page.entries.len());
            let found = self.rows.referrers(&image, subject, artifact_type, after, step).await?;
            page.more = found.len() == step;
            bytes += found.iter().map(weight).sum::<u64>();
            page.entries.extend(found);
            let average = bytes / (page.entries.len() as u64).max(1);
            step = usize::try_from(MAX_ANNOTATIONS / 4 / average.max(1)).unwrap_or(MAX_PAGE).clamp(8, 250);
        }
        Ok(page)
    }

    /// A page of `{local}/{image}` over `locals`, which are in the order of their names, after `last`.
    ///
    /// # Errors
    /// The database's.
    pub async fn catalog(
        &self,
        locals: &[&Local],
        last: Option<&str>,
        asked: Option<u64>,
    ) -> Result<Page<String>, RegistryError> {
        let limit = page_size(asked);
        let (first, after) = match last.map(|last| last.split_once('/').unwrap_or((last, ""))) {
            Some((local, image)) => (local, Some(image)),
            None => ("", None),
        };
        let mut names = Vec::new();
        for local in locals.iter().filter(|local| local.spec.name.as_str() >= first) {
            let name = &local.spec.name;
            let after = after.filter(|after| name.as_str() == first && !after.is_empty());
            let images = self.rows.images(local.identity.id, after, limit + 1 - names.len()).await?;
            names.extend(images.iter().map(|image| format!("{name}/{image}")));
            if names.len() > limit {
                break;
            }
        }
        Ok(Page::of(names, limit))
    }
}

/// Bytes of the annotations of one entry.
fn weight(referrer: &Referrer) -> u64 {
    referrer.annotations.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

/// # Errors
/// [`RegistryError::ReadOnly`], [`RegistryError::NoDeletes`].
fn deletable(local: &Local) -> Result<(), RegistryError> {
    writable(local)?;
    if local.spec.allow_deletes { Ok(()) } else { Err(RegistryError::NoDeletes) }
}

#[cfg(test)]
mod tests;
