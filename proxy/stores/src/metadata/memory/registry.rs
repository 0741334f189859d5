//! Rows of Locals of type docker, in memory: plain maps, and the rules in the plainest words.

mod links;
mod manifests;
mod uploads;

use std::{collections::BTreeMap, time::Duration};

use artifactapi_model::{
    Digest, RepoId, Timestamp,
    oci::{OciDigest, Tag},
    ports::{
        registry::{ImageKey, Linking},
        uploads::{Place, UploadId},
    },
};

use super::Tables;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    uploads: BTreeMap<UploadId, uploads::Upload>,
    links: BTreeMap<(ImageKey, OciDigest), Link>,
    places: BTreeMap<Digest, Place>,
    retired: BTreeMap<Place, Timestamp>,
    manifests: BTreeMap<(ImageKey, OciDigest), manifests::Row>,
    tags: BTreeMap<(ImageKey, Tag), OciDigest>,
}

/// A blob that an image has.
#[derive(Clone, Debug)]
struct Link {
    blob: Digest,
    size: u64,
    touched: Timestamp,
}

impl Rows {
    /// Blobs that some image has.
    pub(super) fn named(&self) -> impl Iterator<Item = Digest> {
        self.links.values().map(|link| link.blob)
    }

    /// Bytes of all blobs of a Local, each counted once.
    fn usage(&self, repo: RepoId) -> u64 {
        let within = self.links.iter().filter(|((image, _), _)| image.repo == repo);
        let blobs: BTreeMap<Digest, u64> = within.map(|(_, link)| (link.blob, link.size)).collect();
        blobs.values().sum()
    }

    fn has_blob(&self, repo: RepoId, blob: &Digest) -> bool {
        self.links.iter().any(|((image, _), link)| image.repo == repo && link.blob == *blob)
    }

    /// Gives a blob another place, or none; the old one is to be removed.
    pub(super) fn set_place(&mut self, blob: &Digest, place: Option<Place>, now: Timestamp) {
        if let Some(place) = &place {
            self.retired.remove(place);
        }
        let old = match place.clone() {
            Some(place) => self.places.insert(*blob, place),
            None => self.places.remove(blob),
        };
        if let Some(old) = old.filter(|old| Some(old) != place.as_ref()) {
            self.retired.insert(old, now);
        }
    }
}

impl Tables {
    /// Gives an image a blob.
    fn link(
        &mut self,
        image: &ImageKey,
        digest: &OciDigest,
        (blob, size): (Digest, u64),
        quota: Option<u64>,
    ) -> Linking {
        let is_new = !self.registry.has_blob(image.repo, &blob);
        let used = self.registry.usage(image.repo);
        if is_new && quota.is_some_and(|quota| used.saturating_add(size) > quota) {
            return Linking::OverQuota;
        }
        if !self.keep(std::iter::once((blob, size))) {
            return Linking::BeingDeleted;
        }
        let link = Link { blob, size, touched: self.now() };
        self.registry.links.insert((image.clone(), *digest), link);
        Linking::Linked
    }
}

/// Whether `since` is at least `age` ago.
fn is_over(since: Timestamp, age: Duration, now: Timestamp) -> bool {
    since + age <= now
}
