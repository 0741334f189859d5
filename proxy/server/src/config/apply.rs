//! Manifests from a directory into the configuration in PostgreSQL: what has to change, as a pure function.

use std::collections::BTreeMap;

use artifactapi_crds::{
    manifests::{self, Body},
    set::{Loaded, Set},
};
use artifactapi_model::{RepoName, Sealer, seal::SealError};
use artifactapi_stores::postgres::{Changes, Config, Declared, StoredObject};

use super::database::{self, ConfigError};

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
            wanted
                .entry(key)
                .or_insert_with(|| (manifest.to_json(), matches!(manifest.body, Body::Secret(_))));
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
    refuse_owned(&wanted, &stored)?;
    // What belongs to Kubernetes stays, whatever the directory has.
    let is_wanted = |object: &&StoredObject| wanted.contains_key(&key_of(object));
    let (_, others): (Vec<&StoredObject>, Vec<&StoredObject>) = config.objects.iter().partition(is_wanted);
    let (pruned, kept): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|object| prune && object.uid.is_none());
    let loaded = check(files, config, &kept, &opened)?;
    let mut changes = Changes { based_on: Some(config.mark.version), ..Changes::default() };
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
        let place = object.place();
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
    for object in pruned {
        steps.push(Step::Pruned(object.place()));
        changes.deletes.push(key_of(object));
    }
    changes.repositories = declared(&loaded);
    changes.robots = loaded.robots.iter().map(|robot| robot.account()).collect();
    Ok((changes, steps))
}

/// Objects that the operator made are changed where they come from.
fn refuse_owned(
    wanted: &BTreeMap<Key, (String, bool)>,
    stored: &BTreeMap<Key, &StoredObject>,
) -> Result<(), ApplyError> {
    let owned = wanted.keys().filter_map(|key| stored.get(key)).filter(|object| object.uid.is_some());
    let problems: Vec<String> = owned
        .map(|object| {
            format!(
                "{} belongs to Kubernetes: change it there with kubectl, or delete it there and apply again",
                object.place()
            )
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(ApplyError::Problems(problems)) }
}

/// Loads the directory's files together with what stays of the configuration: all of it must be sound, and no
/// object may change what never changes.
fn check(
    files: &[(String, String)],
    config: &Config,
    kept: &[&StoredObject],
    opened: &dyn Fn(&StoredObject) -> Result<String, ConfigError>,
) -> Result<Loaded, ApplyError> {
    let text = |object: &StoredObject| Ok::<_, ConfigError>((object.place(), opened(object)?));
    let before: Vec<_> = config.objects.iter().map(text).collect::<Result<_, _>>()?;
    let before = Set::load(before).stored;
    let mut texts = files.to_vec();
    for object in kept {
        texts.push(text(object)?);
    }
    let loaded = Set::load_over(texts, &before);
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
    // The others have nothing of their own that stores would keep.
    let united = loaded.virtuals.iter().filter(|spec| spec.is_merged());
    let united = united.map(|it| of(&it.namespace, &it.name, it.package_type, ""));
    remotes.chain(locals).chain(united).collect()
}

#[cfg(test)]
mod tests {
    use artifactapi_stores::postgres::ConfigMark;

    use super::*;

    const KEY: &str = "a key of at least thirty-two characters";

    fn remote(name: &str, url: &str, more: &str) -> String {
        format!(
            "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {{name: {name}}}\n\
             spec: {{type: npm, baseURL: \"{url}\"{more}}}\n"
        )
    }

    const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: canary}\n";

    fn files(texts: &[&str]) -> Vec<(String, String)> {
        texts.iter().enumerate().map(|(n, text)| (format!("{n}.yaml"), (*text).to_owned())).collect()
    }

    fn empty() -> Config {
        Config { mark: ConfigMark::default(), objects: Vec::new(), repositories: Vec::new() }
    }

    fn after(config: &Config, changes: &Changes) -> Config {
        let mut objects: BTreeMap<Key, StoredObject> =
            config.objects.iter().map(|object| (key_of(object), object.clone())).collect();
        objects.extend(changes.upserts.iter().map(|object| (key_of(object), object.clone())));
        changes.deletes.iter().for_each(|key| drop(objects.remove(key)));
        Config {
            mark: ConfigMark { version: config.mark.version + 1, ..config.mark.clone() },
            objects: objects.into_values().collect(),
            repositories: Vec::new(),
        }
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let sealer = Sealer::new(KEY).unwrap();
        let with_auth = remote("a", "https://a.test/", ", auth: {secretRef: {name: s}}");
        let manifests = files(&[&with_auth, SECRET, &remote("b", "https://b.test/", "")]);
        let (changes, steps) = plan(&manifests, &empty(), Some(&sealer), false).unwrap();
        assert!(steps.iter().all(|step| matches!(step, Step::Created(_))), "{steps:?}");
        assert_eq!((changes.upserts.len(), changes.repositories.len()), (3, 2));
        let stored = format!("{changes:?}");
        assert!(!stored.contains("canary"), "{stored}");
        let config = after(&empty(), &changes);
        let (changes, steps) = plan(&manifests, &config, Some(&sealer), true).unwrap();
        assert!(steps.iter().all(|step| matches!(step, Step::Unchanged(_))), "{steps:?}");
        assert!(changes.upserts.is_empty() && changes.deletes.is_empty());

        let fewer = files(&[&remote("b", "https://new.test/", "")]);
        let (changes, _) = plan(&fewer, &config, Some(&sealer), false).unwrap();
        assert_eq!((changes.upserts.len(), changes.repositories.len()), (1, 2), "the rest stays");
        let (changes, steps) = plan(&fewer, &config, Some(&sealer), true).unwrap();
        assert_eq!(changes.deletes.len(), 2);
        assert!(steps.contains(&Step::Pruned("Secret default/s".into())), "{steps:?}");
    }

    #[test]
    fn rs_135_what_belongs_to_kubernetes_is_neither_changed_nor_pruned() {
        let manifests = files(&[&remote("a", "https://a.test/", ""), &remote("b", "https://b.test/", "")]);
        let (changes, _) = plan(&manifests, &empty(), None, false).unwrap();
        let mut config = after(&empty(), &changes);
        config.objects[0].uid = Some("0-1".into());
        let error = plan(&manifests, &config, None, false).unwrap_err().to_string();
        assert!(error.contains("Remote default/a belongs to Kubernetes"), "{error}");
        let (changes, steps) = plan(&files(&[]), &config, None, true).unwrap();
        assert_eq!(steps, [Step::Pruned("Remote default/b".into())]);
        assert_eq!(changes.repositories.len(), 1, "it goes on existing");
    }

    #[test]
    fn nothing_is_applied_that_would_not_be_sound() {
        let sealer = Sealer::new(KEY).unwrap();
        let one = files(&[&remote("a", "https://a.test/", "")]);
        let (changes, _) = plan(&one, &empty(), None, false).unwrap();
        let config = after(&empty(), &changes);
        let generic = remote("a", "https://a.test/", "").replace("npm", "generic");
        let broken = remote("c", "ftp://x", "");
        for bad in [generic.as_str(), &broken, "kind: ["] {
            let error = plan(&files(&[bad]), &config, Some(&sealer), false).unwrap_err();
            assert!(
                matches!(&error, ApplyError::Problems(problems) if !problems.is_empty()),
                "{bad}: {error}"
            );
        }
        assert!(matches!(plan(&files(&[SECRET]), &config, None, false), Err(ApplyError::NoKey)));
        let (changes, _) = plan(&files(&[SECRET]), &config, Some(&sealer), false).unwrap();
        let config = after(&config, &changes);
        let other = Sealer::new("another key, as long as it has to be").unwrap();
        let error = plan(&one, &config, Some(&other), false).unwrap_err().to_string();
        assert!(
            error.contains("ARTIFACTAPI_ENCRYPTION_KEY") && error.contains("Secret default/s"),
            "{error}"
        );
    }
}
