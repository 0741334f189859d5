//! The plain model: what each image has.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_model::oci::{OciDigest, Tag};
use bytes::Bytes;

/// A manifest as the model knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) body: Bytes,
    pub(crate) media_type: &'static str,
    pub(crate) blobs: Vec<OciDigest>,
    pub(crate) children: Vec<OciDigest>,
    pub(crate) subject: Option<OciDigest>,
    /// It was held once, and is so no more.
    pub(crate) unheld: bool,
}

/// One image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// Digests of blobs, as they were named, and the body behind.
    pub(crate) blobs: BTreeMap<OciDigest, usize>,
    pub(crate) manifests: BTreeMap<OciDigest, Known>,
    pub(crate) tags: BTreeMap<Tag, OciDigest>,
}

impl Image {
    pub(crate) fn nth(&self, n: usize) -> Option<OciDigest> {
        let count = self.manifests.len();
        (count > 0).then(|| *self.manifests.keys().nth(n % count).unwrap())
    }

    fn is_held(&self, digest: &OciDigest) -> bool {
        self.tags.values().any(|tagged| tagged == digest)
            || self.manifests.values().any(|known| known.children.contains(digest))
    }

    fn let_go(&mut self, digest: &OciDigest) {
        if !self.is_held(digest)
            && let Some(known) = self.manifests.get_mut(digest)
        {
            known.unheld = true;
        }
    }

    /// Whether everything it names is there.
    pub(crate) fn takes(&self, new: &Known) -> bool {
        new.blobs.iter().all(|blob| self.blobs.contains_key(blob))
            && new.children.iter().all(|child| self.manifests.contains_key(child))
    }

    pub(crate) fn put(&mut self, digest: OciDigest, new: Known, tag: Option<Tag>) {
        let children = new.children.clone();
        self.manifests.entry(digest).or_insert(new);
        for child in children {
            if let Some(known) = self.manifests.get_mut(&child) {
                known.unheld = false;
            }
        }
        if let Some(tag) = tag {
            self.tag(tag, digest);
        }
    }

    pub(crate) fn tag(&mut self, tag: Tag, digest: OciDigest) {
        let before = self.tags.insert(tag, digest);
        if let Some(known) = self.manifests.get_mut(&digest) {
            known.unheld = false;
        }
        if let Some(before) = before.filter(|before| *before != digest) {
            self.let_go(&before);
        }
    }

    pub(crate) fn delete_tag(&mut self, tag: &Tag) -> bool {
        let Some(digest) = self.tags.remove(tag) else { return false };
        self.let_go(&digest);
        true
    }

    pub(crate) fn delete_manifest(&mut self, digest: &OciDigest) -> bool {
        let Some(gone) = self.manifests.remove(digest) else { return false };
        self.tags.retain(|_, tagged| tagged != digest);
        for child in &gone.children {
            self.let_go(child);
        }
        let referrers: Vec<OciDigest> = self
            .manifests
            .iter()
            .filter(|(_, known)| known.subject == Some(*digest))
            .map(|(digest, _)| *digest)
            .collect();
        for referrer in referrers {
            self.let_go(&referrer);
        }
        true
    }

    pub(crate) fn uses(&self, blob: &OciDigest) -> bool {
        self.manifests.values().any(|known| known.blobs.contains(blob))
    }

    /// What a sweep without grace does to links.
    pub(crate) fn drop_unused(&mut self) {
        let used: BTreeSet<OciDigest> =
            self.manifests.values().flat_map(|known| known.blobs.iter().copied()).collect();
        self.blobs.retain(|digest, _| used.contains(digest));
    }

    /// What an expiry without delay does to manifests; what it lets go goes too.
    pub(crate) fn expire(&mut self) {
        while let Some(digest) =
            self.manifests.iter().find(|(_, known)| known.unheld).map(|(digest, _)| *digest)
        {
            self.delete_manifest(&digest);
        }
    }
}
