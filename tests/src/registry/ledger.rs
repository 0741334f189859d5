//! What was acknowledged, and whether it is still there (I2).

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::Image;

/// Kind of an acknowledged object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Blob,
    Manifest,
}

type Acknowledged = BTreeMap<(String, Kind, String), Image>;

/// Everything a client was told is stored, and was not told to delete again.
#[derive(Default)]
pub struct Ledger(Mutex<Acknowledged>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Acknowledged> {
        self.0.lock().expect("no holder panics")
    }

    /// The registry has said 201 to this blob of `image`.
    pub fn blob(&self, image: &Image, digest: &str) {
        self.lock().insert((image.name.clone(), Kind::Blob, digest.to_owned()), image.clone());
    }

    /// The registry has said 201 to this manifest of `image`.
    pub fn manifest(&self, image: &Image, digest: &str) {
        self.lock().insert((image.name.clone(), Kind::Manifest, digest.to_owned()), image.clone());
    }

    /// Somebody is about to delete it.
    pub fn forget(&self, image: &Image, digest: &str) {
        let mut known = self.lock();
        for kind in [Kind::Blob, Kind::Manifest] {
            known.remove(&(image.name.clone(), kind, digest.to_owned()));
        }
    }

    /// How many objects were acknowledged.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads everything at these entry points and compares digests; what is not there or is another one.
    async fn lost(&self, chosen: impl Fn(usize) -> bool) -> Vec<String> {
        let known = self.lock().clone();
        let mut lost = Vec::new();
        for ((_, kind, digest), image) in &known {
            for entry in (0..image.registry.entries()).filter(|entry| chosen(*entry)) {
                let result = match kind {
                    Kind::Blob => image.verify_blob(entry, digest).await.map(drop),
                    Kind::Manifest => image.verify_manifest(entry, digest).await,
                };
                lost.extend(result.err().map(|refused| refused.to_string()));
            }
        }
        lost
    }

    /// Holds that nothing acknowledged is lost, at any entry point.
    ///
    /// # Panics
    /// When something is; shows a few.
    pub async fn assert_kept(&self, when: &str) {
        self.judge(self.lost(|_| true).await, when);
    }

    /// The same at these entry points only: others may be dead.
    ///
    /// # Panics
    /// When something is lost; shows a few.
    pub async fn assert_kept_at(&self, entries: &[usize], when: &str) {
        self.judge(self.lost(|entry| entries.contains(&entry)).await, when);
    }

    fn judge(&self, lost: Vec<String>, when: &str) {
        let few = &lost[..lost.len().min(3)];
        assert!(lost.is_empty(), "{when}: {} of {} acknowledged lost: {few:#?}", lost.len(), self.len());
    }
}

impl Image {
    /// Reads a manifest by its digest and holds it against that.
    ///
    /// # Errors
    /// [`super::Refused`] when it does not come, or is another one (status 200).
    pub async fn verify_manifest(&self, entry: usize, digest: &str) -> Result<(), super::Refused> {
        let request = || format!("GET {} at {entry}", self.path(&format!("manifests/{digest}")));
        let wrong = |status, text: &str| super::Refused { request: request(), status, text: text.to_owned() };
        match self.manifest(entry, digest).await? {
            None => Err(wrong(Some(404), "no such manifest")),
            Some(answer) if super::sha256(&answer.body) == digest => Ok(()),
            Some(_) => Err(wrong(Some(200), "another manifest")),
        }
    }
}
