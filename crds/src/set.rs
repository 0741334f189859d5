//! Many manifest files → the repositories of one configuration.
//!
//! One bad manifest never costs the others: whatever is sound is loaded, everything else is reported. What
//! becomes of an object that was sound before is the caller's business.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use artifactapi_model::{
    Digest,
    repository::{LocalSpec, RemoteSpec},
};
use serde_json::Value;

use stored::Sound;
pub use stored::Stored;

use crate::{
    FieldError, References,
    manifests::{self, Body, Manifest, ManifestError, ObjectRef, Origin, line_of},
    object::{self, Valid},
    schema::Kind,
    validate::{Repositories, Repository, ValidRobot, ValidVirtual},
};

mod conflicts;
mod stored;
#[cfg(test)]
mod tests;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which document; the line is the field's own where it can be found.
    pub origin: Origin,
    /// Which object; `None` when the document does not say.
    pub object: Option<ObjectRef>,
    /// Field path as `spec.members[2]`; empty for the whole document.
    pub field: String,
    /// Rule that is broken, as in [`FieldError::rule`].
    pub rule: String,
    /// A sentence for the author; never the value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `remotes.yaml:7: Remote default/npm: spec.baseURL: must be … [rule]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{} [{}]", self.message, self.rule)
    }
}

impl std::error::Error for Problem {}

/// What a set of manifests comes to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Sound Remotes, in the order of their documents.
    pub remotes: Vec<Arc<RemoteSpec>>,
    /// Sound Virtuals.
    pub virtuals: Vec<Arc<ValidVirtual>>,
    /// Sound Locals.
    pub locals: Vec<Arc<LocalSpec>>,
    /// Sound Robots.
    pub robots: Vec<Arc<ValidRobot>>,
    /// Everything that is wrong, in the order of documents.
    pub errors: Vec<Problem>,
    /// Where each object of our kinds stands, sound or not: what an object that is no longer loaded is missing
    /// for (broken, or deleted).
    pub origins: BTreeMap<ObjectRef, Origin>,
    /// How many objects were checked; the others are as they were found sound the last time.
    pub checked: usize,
    /// What the next load compares with.
    pub stored: Stored,
}

/// Manifest files, read but not yet validated.
#[derive(Debug, Default)]
pub struct Set {
    custom: Vec<Custom>,
    references: References,
    problems: Vec<(usize, Problem)>,
}

/// A document of one of our kinds.
#[derive(Debug)]
struct Custom {
    /// Place among all documents, by which problems are sorted.
    place: usize,
    origin: Origin,
    text: String,
    object: ObjectRef,
    kind: Kind,
    /// Of its text.
    digest: Digest,
    content: Content,
}

/// What a document says.
#[derive(Debug)]
enum Content {
    /// Read, and not yet checked.
    Read(Value),
    /// Not read: what was found sound before had the same text.
    Known(Sound),
}

impl Custom {
    /// The manifest as it was written.
    fn manifest(&self) -> Cow<'_, Value> {
        match &self.content {
            Content::Read(value) => Cow::Borrowed(value),
            Content::Known(_) => match manifests::read(self.origin.clone(), &self.text).map(|read| read.body)
            {
                Ok(Body::Custom(_, value)) => Cow::Owned(value),
                // It was read before.
                _ => Cow::Owned(Value::Null),
            },
        }
    }

    /// It as a member of Virtuals.
    fn repository(&self) -> Repository {
        match &self.content {
            Content::Read(value) => Repository::of(self.kind, value),
            Content::Known(sound) => sound.repository.clone(),
        }
    }

    fn problem(&self, error: FieldError) -> (usize, Problem) {
        let line = line_of(&self.text, self.origin.line, &error.path);
        let problem = Problem {
            origin: Origin { line, ..self.origin.clone() },
            object: Some(self.object.clone()),
            field: error.path,
            rule: error.rule.into_owned(),
            message: error.message,
        };
        (self.place, problem)
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        Problem {
            origin: error.origin,
            object: error.object,
            field: error.field,
            rule: error.rule.to_owned(),
            message: error.message,
        }
    }
}

impl Set {
    /// Reads and validates `files`, each a name and its text. Files earlier in the list win where two claim the
    /// same name; sort them for a stable outcome.
    pub fn load(files: Vec<(String, String)>) -> Loaded {
        Self::load_over(files, &Stored::default())
    }

    /// As [`Set::load`], and refuses changes that an API server would refuse to what is `stored`. Whatever was found
    /// sound then, and names nothing that has changed since, is not checked again: of thousands of objects, one is
    /// edited at a time.
    pub fn load_over(files: Vec<(String, String)>, stored: &Stored) -> Loaded {
        let mut set = Set::default();
        let documents = files.iter().flat_map(|(name, text)| manifests::documents(name, text));
        for (place, (origin, text)) in documents.enumerate() {
            let digest = Digest::of(text.as_bytes());
            if let Some((object, sound)) = stored.written_as(&digest) {
                let (object, kind, content) = (object.clone(), sound.kind, Content::Known(sound.clone()));
                set.custom.push(Custom {
                    place,
                    origin,
                    text: text.to_owned(),
                    object,
                    kind,
                    digest,
                    content,
                });
                continue;
            }
            match manifests::read(origin, text) {
                Ok(manifest) => set.add(place, digest, manifest),
                Err(error) => set.problems.push((place, (*error).into())),
            }
        }
        set.validate(stored)
    }

    fn add(&mut self, place: usize, digest: Digest, manifest: Manifest) {
        let Manifest { origin, text, object, body } = manifest;
        let is_new = match body {
            Body::Custom(kind, value) => {
                let content = Content::Read(value);
                self.custom.push(Custom { place, origin, text, object, kind, digest, content });
                return;
            }
            Body::Secret(secret) => self.references.add_secret(&object.namespace, &object.name, secret),
            Body::ConfigMap(map) => self.references.add_config_map(&object.namespace, &object.name, map),
        };
        if !is_new {
            let problem = Problem {
                origin,
                field: "metadata.name".into(),
                rule: "duplicate".into(),
                message: format!("an earlier document holds this {} already, and is used", object.kind),
                object: Some(object),
            };
            self.problems.push((place, problem));
        }
    }

    fn validate(mut self, stored: &Stored) -> Loaded {
        let mut loaded = Loaded::default();
        let (custom, conflicts) = conflicts::names(std::mem::take(&mut self.custom));
        self.problems.extend(conflicts);
        let mut known = Repositories::default();
        for document in custom.iter().filter(|document| document.kind.is_repository()) {
            known.insert(&document.object.namespace, &document.object.name, document.repository());
        }
        let mut now = Stored::new(std::mem::take(&mut self.references), known, stored);
        let mut sound = Vec::new();
        for document in &custom {
            loaded.origins.insert(document.object.clone(), document.origin.clone());
            if let Content::Known(sound_before) = &document.content
                && now.agrees(stored, sound_before)
            {
                sound.push((document, sound_before.clone()));
                continue;
            }
            loaded.checked += 1;
            match check(document, &now, stored) {
                Ok(found) => sound.push((document, found)),
                Err(errors) => {
                    self.problems.extend(errors.into_iter().map(|error| document.problem(error)));
                }
            }
        }
        self.problems.extend(conflicts::mirrors(&mut sound));
        for (document, found) in sound {
            match &found.valid {
                Valid::Remote(remote) => loaded.remotes.push(remote.clone()),
                Valid::Virtual(virt) => loaded.virtuals.push(virt.clone()),
                Valid::Local(local) => loaded.locals.push(local.clone()),
                Valid::Robot(robot) => loaded.robots.push(robot.clone()),
            }
            now.insert(document.object.clone(), document.digest, found);
        }
        loaded.stored = now;
        // Stable: problems of one document keep the order of their stages.
        self.problems.sort_by_key(|(place, _)| *place);
        loaded.errors = self.problems.into_iter().map(|(_, problem)| problem).collect();
        loaded
    }
}

fn check(document: &Custom, now: &Stored, stored: &Stored) -> Result<Sound, Vec<FieldError>> {
    let uid = |manifest: &Value| manifest.pointer("/metadata/uid").cloned();
    let manifest = document.manifest().into_owned();
    // Deleted and made again between two loads, it is another object, which may be of another type.
    let old = stored.value(&document.object).filter(|old| uid(old) == uid(&manifest));
    let named = object::named_by(&manifest).into();
    let (value, valid) = object::check(document.kind, manifest, old, now.repositories(), now.references())?;
    let repository = document.repository();
    Ok(Sound { kind: document.kind, value: Arc::new(value), valid, repository, named })
}
