//! What one load found, for the next one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use artifactapi_model::Digest;
use serde_json::Value;

use crate::{
    References,
    manifests::ObjectRef,
    object::Valid,
    schema::Kind,
    validate::{Repositories, Repository},
};

/// The objects that were sound at the last load, as a cluster would have stored them. Transition rules (a type
/// never changes) compare with them, and what has not changed is not checked again.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    values: BTreeMap<ObjectRef, Entry>,
    /// Those that are sound, by the digests of their texts.
    texts: HashMap<Digest, ObjectRef>,
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
    pub(super) kind: Kind,
    /// With its defaults.
    pub(super) value: Arc<Value>,
    /// What it comes to.
    pub(super) valid: Valid,
    /// It as a member of Virtuals.
    pub(super) repository: Repository,
    /// The Secrets and ConfigMaps that it names.
    pub(super) named: Arc<[ObjectRef]>,
}

impl Stored {
    /// Nothing yet, among these, after the load `before`.
    pub(super) fn new(references: References, repositories: Repositories, before: &Stored) -> Self {
        // Compared once, and not for every Virtual.
        let repositories = if repositories == *before.repositories {
            before.repositories.clone()
        } else {
            Arc::new(repositories)
        };
        Stored { references: Arc::new(references), repositories, ..Stored::default() }
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

    /// Takes up an object of this load, which was written as a text of this `digest`.
    pub(super) fn insert(&mut self, object: ObjectRef, digest: Digest, sound: Sound) {
        self.texts.insert(digest, object.clone());
        self.values.insert(object, Entry::Sound(sound));
    }

    /// The object that was written as a text of this `digest`.
    pub(super) fn written_as(&self, digest: &Digest) -> Option<(&ObjectRef, &Sound)> {
        let object = self.texts.get(digest)?;
        match self.values.get(object)? {
            Entry::Sound(sound) => Some((object, sound)),
            Entry::Earlier(_) => None,
        }
    }

    /// Whether an object that was `sound` at the load `before`, and has the same text now, comes to the same: what it
    /// names has not changed.
    pub(super) fn agrees(&self, before: &Stored, sound: &Sound) -> bool {
        match sound.kind {
            Kind::Remote => sound.named.iter().all(|named| self.references.agrees(&before.references, named)),
            // Its members, and theirs.
            Kind::Virtual => Arc::ptr_eq(&self.repositories, &before.repositories),
            Kind::Local | Kind::Robot => true,
        }
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
