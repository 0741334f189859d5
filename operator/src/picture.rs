//! What the sink holds, as far as anyone must know it: kept in memory from a load on, and followed with every change
//! that is written. What is planned compares with it, so that nothing is written that is there.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_crds::{manifests::ObjectRef, object::named_by, validate::Repository};
use artifactapi_model::{
    Digest, PackageType, RepoName,
    account::{Robot, RobotKey},
};
use artifactapi_stores::postgres::Declared;
use serde_json::Value;

use crate::{
    seen::{Seen, custom_kind},
    sink::{Contents, Delta, Row, StoredRow},
};

/// What is stored.
#[derive(Debug, Default)]
pub struct Picture {
    /// Version of the contents.
    pub version: i64,
    rows: BTreeMap<ObjectRef, Kept>,
    /// Repositories that exist, by namespace and name; `None` where the sink keeps none.
    repositories: Option<BTreeMap<(String, String), BTreeMap<PackageType, String>>>,
    robots: Option<BTreeMap<RobotKey, Robot>>,
    /// Which Remotes name a Secret or ConfigMap.
    users: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    /// Repositories by name, whatever their kind and namespace.
    names: BTreeMap<String, BTreeSet<ObjectRef>>,
    /// Remotes by what they mirror.
    mirrors: BTreeMap<String, BTreeSet<ObjectRef>>,
}

/// A stored object.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its identity in Kubernetes; `None` when people put it there without.
    pub uid: Option<String>,
    generation: Option<i64>,
    digest: Option<Digest>,
    /// What others have to know of it.
    pub facts: Facts,
}

/// Stands among mirrored hosts for the root of `/v2/`.
pub const ROOT: &str = "/";

/// What others have to know of a stored object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// As a Virtual sees it.
    pub repository: Option<Repository>,
    /// Registry hosts it answers for, and [`ROOT`] when it answers root requests.
    pub mirrors: Vec<String>,
    /// Networks beyond the public ones that it may connect to.
    pub networks: Vec<String>,
    /// The proxy by which it goes out, if it names one.
    pub proxy: Option<String>,
    /// Secrets and ConfigMaps it names.
    pub named: Vec<ObjectRef>,
    /// Repositories that a Robot is granted by their whole names, by the path of the field.
    pub granted: BTreeMap<String, String>,
}

impl Facts {
    /// Reads them from a manifest, sound or not.
    pub fn of(object: &ObjectRef, manifest: &Value) -> Self {
        if object.kind == "Robot" {
            return Facts { granted: granted(manifest), ..Facts::default() };
        }
        let Some(kind) = custom_kind(object.kind).filter(|kind| kind.is_repository()) else {
            return Facts::default();
        };
        let texts = |pointer: &str| -> Vec<String> {
            let list = manifest.pointer(pointer).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
        };
        let repository = Some(Repository::of(kind, manifest));
        if object.kind != "Remote" {
            return Facts { repository, ..Facts::default() };
        }
        let mut mirrors = texts("/spec/docker/mirrorFor");
        if manifest.pointer("/spec/docker/rootMirror").and_then(Value::as_bool) == Some(true) {
            mirrors.push(ROOT.to_owned());
        }
        let networks = texts("/spec/egress/allowCIDRs");
        let proxy = manifest.pointer("/spec/egress/proxyURL").and_then(Value::as_str).map(str::to_owned);
        Facts { repository, mirrors, networks, proxy, named: named_by(manifest), granted: BTreeMap::new() }
    }
}

/// Names without a `*` in the grants of a Robot, by their paths.
fn granted(manifest: &Value) -> BTreeMap<String, String> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut granted = BTreeMap::new();
    for (index, grant) in list(manifest.pointer("/spec/grants")).iter().enumerate() {
        for (place, name) in list(grant.get("repositories")).iter().enumerate() {
            if let Some(name) = name.as_str().filter(|name| !name.contains('*')) {
                granted.insert(format!("spec.grants[{index}].repositories[{place}]"), name.to_owned());
            }
        }
    }
    granted
}

impl Picture {
    /// What `contents` hold.
    pub fn of(contents: Contents) -> Self {
        let Contents { version, rows, records } = contents;
        let mut picture = Picture { version, ..Picture::default() };
        for StoredRow { object, uid, generation, digest, document } in rows {
            let manifest = document.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let facts = manifest.map(|manifest| Facts::of(&object, &manifest)).unwrap_or_default();
            picture.keep(object, Kept { uid, generation, digest, facts });
        }
        if let Some(records) = records {
            let robots = records.robots.into_iter().map(|robot| (robot.key.clone(), robot));
            picture.robots = Some(robots.collect());
            picture.repositories = Some(BTreeMap::new());
            records.repositories.iter().for_each(|it| picture.declare(it));
        }
        picture
    }

    fn keep(&mut self, object: ObjectRef, kept: Kept) {
        self.forget(&object);
        for named in &kept.facts.named {
            self.users.entry(named.clone()).or_default().insert(object.clone());
        }
        for mirrored in &kept.facts.mirrors {
            self.mirrors.entry(mirrored.clone()).or_default().insert(object.clone());
        }
        if kept.facts.repository.is_some() {
            self.names.entry(object.name.clone()).or_default().insert(object.clone());
        }
        self.rows.insert(object, kept);
    }

    fn forget(&mut self, object: &ObjectRef) {
        let Some(kept) = self.rows.remove(object) else { return };
        for named in &kept.facts.named {
            remove(&mut self.users, named, object);
        }
        for mirrored in &kept.facts.mirrors {
            remove(&mut self.mirrors, mirrored, object);
        }
        if kept.facts.repository.is_some() {
            remove(&mut self.names, &object.name, object);
        }
    }

    fn declare(&mut self, declared: &Declared) {
        if let Some(repositories) = &mut self.repositories {
            let place = (declared.namespace.clone(), declared.name.to_string());
            let types = repositories.entry(place).or_default();
            types.insert(declared.package_type, declared.base_url.clone());
        }
    }

    /// Follows a change that was written.
    pub fn follow(&mut self, version: i64, delta: &Delta, facts: &BTreeMap<ObjectRef, Facts>) {
        let Delta { upserts, deletes, declare, retire, robots, robots_gone } = delta;
        self.version = version;
        deletes.iter().for_each(|object| self.forget(object));
        for row in upserts {
            let facts = facts.get(&row.object).cloned().unwrap_or_default();
            let kept = Kept {
                uid: Some(row.uid.clone()),
                generation: row.generation,
                digest: Some(row.digest()),
                facts,
            };
            self.keep(row.object.clone(), kept);
        }
        for gone in retire {
            let place = (gone.namespace.clone(), gone.name.to_string());
            if let Some(types) = self.repositories.as_mut().and_then(|all| all.get_mut(&place)) {
                types.remove(&gone.package_type);
            }
        }
        declare.iter().for_each(|it| self.declare(it));
        if let Some(known) = &mut self.robots {
            robots_gone.iter().for_each(|key| drop(known.remove(key)));
            known.extend(robots.iter().map(|robot| (robot.key.clone(), robot.clone())));
        }
    }

    /// The stored object.
    pub fn row(&self, object: &ObjectRef) -> Option<&Kept> {
        self.rows.get(object)
    }

    /// All stored objects.
    pub fn rows(&self) -> impl Iterator<Item = (&ObjectRef, &Kept)> {
        self.rows.iter()
    }

    /// Whether `row` is stored as it is.
    pub fn has(&self, row: &Row) -> bool {
        self.rows.get(&row.object).is_some_and(|kept| {
            kept.uid.as_deref() == Some(&row.uid)
                && kept.generation == row.generation
                && kept.digest == Some(row.digest())
        })
    }

    /// Whether a later generation of an object is stored than was seen.
    pub fn is_ahead_of(&self, seen: &Seen) -> bool {
        let kept = self.rows.get(&seen.object).filter(|kept| kept.uid.as_ref() == Some(&seen.uid));
        kept.is_some_and(|kept| kept.generation > Some(seen.generation))
    }

    /// Stored repositories of a name.
    pub fn called(&self, name: &str) -> impl Iterator<Item = (&ObjectRef, &Kept)> {
        let found = self.names.get(name).into_iter().flatten();
        found.filter_map(|object| Some((object, self.rows.get(object)?)))
    }

    /// Stored Remotes that mirror a host, or the root.
    pub fn mirroring(&self, mirrored: &str) -> impl Iterator<Item = (&ObjectRef, &Kept)> {
        let found = self.mirrors.get(mirrored).into_iter().flatten();
        found.filter_map(|object| Some((object, self.rows.get(object)?)))
    }

    /// Stored Remotes that name a Secret or ConfigMap.
    pub fn users(&self, named: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        self.users.get(named).into_iter().flatten()
    }

    /// Whether a repository exists just so.
    pub fn is_declared(&self, declared: &Declared) -> bool {
        let Some(repositories) = &self.repositories else { return true };
        let place = (declared.namespace.clone(), declared.name.to_string());
        repositories.get(&place).and_then(|types| types.get(&declared.package_type))
            == Some(&declared.base_url)
    }

    /// Repositories that exist at a place, but for one type.
    pub fn others_at(&self, namespace: &str, name: &str, but: Option<PackageType>) -> Vec<Declared> {
        let place = (namespace.to_owned(), name.to_owned());
        let types = self.repositories.as_ref().and_then(|all| all.get(&place)).into_iter().flatten();
        let Ok(name) = RepoName::try_from(name) else { return Vec::new() };
        types
            .filter(|(package_type, _)| Some(**package_type) != but)
            .map(|(package_type, base_url)| Declared {
                namespace: namespace.to_owned(),
                name: name.clone(),
                package_type: *package_type,
                base_url: base_url.clone(),
            })
            .collect()
    }

    /// Repositories that exist although no stored object stands for them.
    pub fn strays(&self) -> Vec<Declared> {
        let places = self.repositories.iter().flat_map(BTreeMap::keys);
        let is_stray = |(namespace, name): &&(String, String)| {
            !self.called(name).any(|(object, _)| object.namespace == *namespace)
        };
        places.filter(is_stray).flat_map(|(namespace, name)| self.others_at(namespace, name, None)).collect()
    }

    /// Robots that are recorded although no stored object stands for them.
    pub fn stray_robots(&self) -> Vec<RobotKey> {
        let is_stray = |key: &&RobotKey| {
            let object =
                ObjectRef { kind: "Robot", namespace: key.namespace.clone(), name: key.name.to_string() };
            !self.rows.contains_key(&object)
        };
        self.robots.iter().flat_map(BTreeMap::keys).filter(is_stray).cloned().collect()
    }

    /// Secrets and ConfigMaps of ours that nothing stored names.
    pub fn unused(&self) -> Vec<ObjectRef> {
        let is_unused = |(object, kept): &(&ObjectRef, &Kept)| {
            kept.uid.is_some() && custom_kind(object.kind).is_none() && !self.users.contains_key(*object)
        };
        self.rows.iter().filter(is_unused).map(|(object, _)| object.clone()).collect()
    }

    /// Objects that `now` has otherwise than this, or only one of the two has; with those whose repository or robot is
    /// recorded otherwise.
    pub fn differences(&self, now: &Picture) -> BTreeSet<ObjectRef> {
        let same =
            |a: &Kept, b: &Kept| a.uid == b.uid && a.generation == b.generation && a.digest == b.digest;
        let mut different = BTreeSet::new();
        for object in self.rows.keys().chain(now.rows.keys()) {
            let is_same = match (self.rows.get(object), now.rows.get(object)) {
                (Some(before), Some(now)) => same(before, now),
                _ => false,
            };
            if !is_same {
                different.insert(object.clone());
            }
        }
        let places = |picture: &Picture| picture.repositories.clone().unwrap_or_default();
        let (before, after) = (places(self), places(now));
        for place in before.keys().chain(after.keys()).filter(|place| before.get(*place) != after.get(*place))
        {
            for kind in ["Remote", "Local", "Virtual"] {
                let object = ObjectRef { kind, namespace: place.0.clone(), name: place.1.clone() };
                if now.rows.contains_key(&object) {
                    different.insert(object);
                }
            }
        }
        let robots = |picture: &Picture| picture.robots.clone().unwrap_or_default();
        let (before, after) = (robots(self), robots(now));
        for key in before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)) {
            let (namespace, name) = (key.namespace.clone(), key.name.to_string());
            different.insert(ObjectRef { kind: "Robot", namespace, name });
        }
        different
    }

    /// Whether a robot is recorded just so.
    pub fn has_robot(&self, robot: &Robot) -> bool {
        self.robots.as_ref().is_none_or(|known| known.get(&robot.key) == Some(robot))
    }
}

pub(crate) fn remove<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}
