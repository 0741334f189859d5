//! What one load found, for the next one.

use std::{collections::BTreeMap, sync::Arc};

use artifactapi_model::Digest;
use serde_json::Value;

use crate::{
    References,
    manifests::ObjectRef,
    object::{Valid, named_by},
    validate::Repositories,
};

/// The objects that were sound at the last load, as a cluster would have stored them. Transition rules (a type
/// never changes) compare with them, and what has not changed is not checked again.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    values: BTreeMap<ObjectRef, Entry>,
    /// What they referred to.
    references: Arc<References>,
    /// What was among the members of Virtuals.
    repositories: Arc<Repositories>,
}

#[derive(Clone, Debug)]
enum Entry {
    /// Sound then.
    Sound(Sound),
    /// Sound at an earlier load: a later version is compared with it, and nothing more.
    Earlier(Arc<Value>),
}

/// An object that is sound.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    /// With its defaults.
    pub(super) value: Arc<Value>,
    /// Of the text it was written as.
    pub(super) digest: Digest,
    /// What it comes to.
    pub(super) valid: Valid,
}

impl Stored {
    /// Nothing yet, among these.
    pub(super) fn new(references: References, repositories: Repositories) -> Self {
        Stored {
            values: BTreeMap::new(),
            references: Arc::new(references),
            repositories: Arc::new(repositories),
        }
    }

    /// What objects of this load may refer to.
    pub(super) fn references(&self) -> &References {
        &self.references
    }

    /// What may be a member.
    pub(super) fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// `object` as a cluster would have stored it.
    pub(super) fn value(&self, object: &ObjectRef) -> Option<&Value> {
        self.values.get(object).map(|entry| match entry {
            Entry::Sound(Sound { value, .. }) | Entry::Earlier(value) => &**value,
        })
    }

    /// Takes up an object of this load.
    pub(super) fn insert(&mut self, object: ObjectRef, sound: Sound) {
        self.values.insert(object, Entry::Sound(sound));
    }

    /// What `object` came to at the load `before`, if it would come to the same now: its text (of this `digest`) is
    /// the same, and so is what it names. `manifest` is that text, read.
    pub(super) fn still(
        &self,
        before: &Stored,
        object: &ObjectRef,
        digest: &Digest,
        manifest: &Value,
    ) -> Option<Sound> {
        let Some(Entry::Sound(sound)) = before.values.get(object) else { return None };
        let names_the_same = || match &sound.valid {
            Valid::Remote(_) => {
                named_by(manifest).iter().all(|named| self.references.agrees(&before.references, named))
            }
            // Its members, and theirs.
            Valid::Virtual(_) => self.repositories == before.repositories,
            Valid::Local(_) | Valid::Robot(_) => true,
        };
        (sound.digest == *digest && names_the_same()).then(|| sound.clone())
    }

    /// Takes `object` over from an earlier load unless this one has it: an object that has become unsound is
    /// still what its next version is compared with, or else a refused change would pass at the second try.
    pub fn keep(&mut self, earlier: &Stored, object: &ObjectRef) {
        if self.values.contains_key(object) {
            return;
        }
        if let Some(Entry::Sound(Sound { value, .. }) | Entry::Earlier(value)) = earlier.values.get(object) {
            self.values.insert(object.clone(), Entry::Earlier(value.clone()));
        }
    }
}
