//! Manifests from a directory into the configuration in PostgreSQL: what has to change, as a pure function.

use std::collections::BTreeMap;

use artifactapi_crds::{
    manifests::{self, Body},
    set::{Loaded, Set},
};
use artifactapi_model::{RepoName, Sealer, seal::SealError};
use artifactapi_stores::postgres::{Changes, Config, Declared, StoredObject};

use super::database::{self, ConfigError, place_of};

/// Why manifests cannot be applied. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something is wrong with them, or would be with the whole configuration.
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
    /// There are Secrets and no key to seal them.
    #[error("ARTIFACTAPI_ENCRYPTION_KEY is not set, and Secrets are stored only sealed")]
    NoKey,
    /// A Secret cannot be sealed.
    #[error("ARTIFACTAPI_ENCRYPTION_KEY: {0}")]
    Seal(#[from] SealError),
    /// What is stored cannot be opened with this key.
    #[error(transparent)]
    Stored(#[from] ConfigError),
}

/// What will happen to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is new.
    Created(String),
    /// It is there and differs.
    Configured(String),
    /// It is there and the same.
    Unchanged(String),
    /// It goes, since the directory does not have it.
    Pruned(String),
}

type Key = (String, String, String);

fn key_of(object: &StoredObject) -> Key {
    (object.kind.clone(), object.namespace.clone(), object.name.clone())
}

/// What has to change in `config` so that it has the manifests of `files`; `prune` removes what they do not have.
///
/// # Errors
/// [`ApplyError`] when the configuration would not be sound afterwards.
pub fn plan(
    files: &[(String, String)],
    config: &Config,
    sealer: Option<&Sealer>,
    prune: bool,
) -> Result<(Changes, Vec<Step>), ApplyError> {
    let mut wanted: BTreeMap<Key, (String, bool)> = BTreeMap::new();
    for (name, text) in files {
        for manifest in manifests::parse(name, text).into_iter().flatten() {
            let object = &manifest.object;
            let key = (object.kind.to_owned(), object.namespace.clone(), object.name.clone());
            wanted.entry(key).or_insert_with(|| (manifest.to_json(), matches!(manifest.body, Body::Secret(_))));
        }
    }
    if sealer.is_none() && wanted.values().any(|(_, is_secret)| *is_secret) {
        return Err(ApplyError::NoKey);
    }
    let stored: BTreeMap<Key, &StoredObject> =
        config.objects.iter().map(|object| (key_of(object), object)).collect();
    let opened = |object: &StoredObject| match sealer {
        Some(sealer) => database::open(object, sealer),
        None if object.sealed => Err(ConfigError::NoKey(1)),
        None => Ok(object.document.clone()),
    };
    let kept: Vec<&&StoredObject> =
        stored.iter().filter(|(key, _)| !prune && !wanted.contains_key(*key)).map(|(_, object)| object).collect();
    let loaded = check(files, &kept, &opened)?;
    let mut changes = Changes { based_on: Some(config.version), ..Changes::default() };
    let mut steps = Vec::new();
    for (key, (document, is_secret)) in wanted {
        let mut object = StoredObject {
            kind: key.0.clone(),
            namespace: key.1.clone(),
            name: key.2.clone(),
            document,
            sealed: is_secret,
            version: 0,
            uid: None,
            generation: None,
        };
        let place = place_of(&object);
        let before = stored.get(&key);
        if let Some(before) = before
            && before.sealed == is_secret
            && opened(before)? == object.document
        {
            steps.push(Step::Unchanged(place));
            continue;
        }
        if let Some(sealer) = sealer.filter(|_| is_secret) {
            object.document = sealer.seal(&place, object.document.as_bytes())?;
        }
        steps.push(if before.is_some() { Step::Configured(place) } else { Step::Created(place) });
        changes.upserts.push(object);
    }
    for object in config.objects.iter().filter(|_| prune) {
        let key = key_of(object);
        let stays = steps.iter().any(|step| {
            matches!(step, Step::Created(place) | Step::Configured(place) | Step::Unchanged(place)
                if *place == place_of(object))
        });
        if !stays {
            steps.push(Step::Pruned(place_of(object)));
            changes.deletes.push(key);
        }
    }
    changes.repositories = declared(&loaded);
    Ok((changes, steps))
}

/// Loads the directory's files together with what stays of the configuration: all of it must be sound.
fn check(
    files: &[(String, String)],
    kept: &[&&StoredObject],
    opened: &dyn Fn(&StoredObject) -> Result<String, ConfigError>,
) -> Result<Loaded, ApplyError> {
    let mut texts = files.to_vec();
    for object in kept {
        texts.push((place_of(object), opened(object)?));
    }
    let loaded = Set::load(texts);
    if loaded.errors.is_empty() {
        Ok(loaded)
    } else {
        Err(ApplyError::Problems(loaded.errors.iter().map(ToString::to_string).collect()))
    }
}

fn declared(loaded: &Loaded) -> Vec<Declared> {
    let of = |namespace: &str, name: &RepoName, package_type, base_url: &str| Declared {
        namespace: namespace.to_owned(),
        name: name.clone(),
        package_type,
        base_url: base_url.to_owned(),
    };
    let remotes = loaded
        .remotes
        .iter()
        .map(|spec| of(&spec.namespace, &spec.name, spec.package_type, spec.base_url.as_str()));
    let locals = loaded.locals.iter().map(|it| of(&it.namespace, &it.name, it.package_type, ""));
    remotes.chain(locals).collect()
}
