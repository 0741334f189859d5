//! All objects seen, and which of them have to be looked at again. Pure: the watches tell it what they see, in any
//! order and as often as they like.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_crds::{manifests::ObjectRef, schema::Kind};
use serde_json::Value;

use crate::{
    conditions,
    picture::{Facts, remove},
    seen::{Age, Seen, Text, custom_kind},
    upstreams,
};

/// How often in a row Virtuals and Robots wait for others: longer than thousands of Remotes take that come at once.
const PATIENCE: u32 = 64;

/// What a watch saw.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object as it is now.
    Seen(Box<Seen>),
    /// An object is no more.
    Gone(ObjectRef),
    /// All objects of a kind, in one namespace or in all, as a list had them: others are no more.
    Listed {
        /// The kind.
        kind: Kind,
        /// The namespace; `None` for all.
        namespace: Option<String>,
        /// Those there are.
        present: BTreeSet<ObjectRef>,
    },
    /// A Secret or ConfigMap has this version now, or is no more.
    Reference(ObjectRef, Option<String>),
}

/// Which namespaces are watched; `None` for all.
pub type Scope = Option<BTreeSet<String>>;

/// Everything seen.
#[derive(Debug, Default)]
pub struct World {
    scope: Scope,
    objects: BTreeMap<ObjectRef, Seen>,
    /// Who claims a name, the oldest first.
    names: BTreeMap<String, BTreeSet<(Age, ObjectRef)>>,
    /// Remotes by the Secrets and ConfigMaps they name.
    users: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    /// Remotes by what they would mirror.
    mirrors: BTreeMap<String, BTreeSet<ObjectRef>>,
    /// Robots by the names that they are granted.
    granted: BTreeMap<String, BTreeSet<ObjectRef>>,
    /// Virtuals by namespace and name of a member.
    members: BTreeMap<(String, String), BTreeSet<ObjectRef>>,
    /// Versions of Secrets and ConfigMaps when they were last read.
    versions: BTreeMap<ObjectRef, Option<String>>,
    dirty: BTreeSet<ObjectRef>,
    /// How often in a row those waited that are looked at after others.
    passed_over: u32,
    /// Whether a list was complete for the first time lately.
    is_wider: bool,
    /// Lists that were complete once.
    listed: BTreeSet<(Kind, Option<String>)>,
}

impl World {
    /// A world of the namespaces of `scope`, of which nothing was seen yet.
    pub fn new(scope: Scope) -> Self {
        World { scope, ..World::default() }
    }

    /// Whether a namespace is to be watched.
    pub fn wants(&self, namespace: &str) -> bool {
        self.scope.as_ref().is_none_or(|namespaces| namespaces.contains(namespace))
    }

    /// Whether everything in a namespace was seen once: before, nobody knows what is no more.
    pub fn covers(&self, namespace: &str) -> bool {
        let list = self.scope.as_ref().map(|_| namespace.to_owned());
        self.wants(namespace) && Kind::ALL.into_iter().all(|kind| self.listed.contains(&(kind, list.clone())))
    }

    /// Whether everything there is was seen once.
    pub fn is_complete(&self) -> bool {
        let lists = self.scope.as_ref().map_or(1, BTreeSet::len);
        self.listed.len() == Kind::ALL.len() * lists
    }

    /// Whether something of what there is was seen whole.
    pub fn is_begun(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Whether more is seen since this was asked the last time.
    pub fn is_wider(&mut self) -> bool {
        std::mem::take(&mut self.is_wider)
    }

    /// Takes up what a watch saw.
    pub fn take(&mut self, change: Change) {
        match change {
            Change::Seen(seen) => self.see(*seen),
            Change::Gone(object) => self.forget(&object),
            Change::Listed { kind, namespace, present } => {
                let is_listed = |object: &&ObjectRef| {
                    object.kind == kind.as_str()
                        && namespace.as_ref().is_none_or(|wanted| object.namespace == *wanted)
                };
                let gone: Vec<ObjectRef> = self
                    .objects
                    .keys()
                    .filter(is_listed)
                    .filter(|object| !present.contains(object))
                    .cloned()
                    .collect();
                gone.iter().for_each(|object| self.forget(object));
                self.is_wider |= self.listed.insert((kind, namespace));
            }
            Change::Reference(object, version) => {
                if self.versions.get(&object).is_some_and(|read| *read != version) {
                    self.touch_users(&object);
                }
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        if let Some(before) = self.objects.get_mut(&seen.object)
            && before.is_same(&seen)
        {
            let (was, is) = (before.status.read(), seen.status.read());
            let is_ours = conditions::is_there(&is, &was) && upstreams::is_there(&is, &was);
            before.status = seen.status;
            if !is_ours {
                // Somebody else has written it.
                self.touch(&seen.object);
            }
            return;
        }
        self.forget(&seen.object);
        let object = seen.object.clone();
        if seen.deleting.is_none() {
            self.index(&seen);
        }
        self.objects.insert(object.clone(), seen);
        self.touch(&object);
        self.touch_neighbours(&object);
    }

    fn index(&mut self, seen: &Seen) {
        let object = &seen.object;
        if seen.kind.is_repository() {
            let claim = (seen.age(), object.clone());
            self.names.entry(object.name.clone()).or_default().insert(claim);
        }
        let facts = Facts::of(object, &seen.manifest.read());
        let Facts { repository, mirrors, networks: _, proxy: _, named, granted } = facts;
        for named in named {
            self.users.entry(named).or_default().insert(object.clone());
        }
        for name in granted.into_values() {
            self.granted.entry(name).or_default().insert(object.clone());
        }
        for mirrored in mirrors {
            self.mirrors.entry(mirrored).or_default().insert(object.clone());
        }
        for member in repository.into_iter().flat_map(|it| it.members) {
            let place = (object.namespace.clone(), member);
            self.members.entry(place).or_default().insert(object.clone());
        }
    }

    fn forget(&mut self, object: &ObjectRef) {
        if !self.objects.contains_key(object) {
            return;
        }
        self.touch(object);
        self.touch_neighbours(object);
        let Some(seen) = self.objects.remove(object) else { return };
        remove(&mut self.names, &object.name, &(seen.age(), object.clone()));
        let facts = Facts::of(object, &seen.manifest.read());
        let Facts { repository, mirrors, networks: _, proxy: _, named, granted } = facts;
        granted.into_values().for_each(|name| remove(&mut self.granted, &name, object));
        for named in named {
            remove(&mut self.users, &named, object);
            if !self.users.contains_key(&named) {
                self.versions.remove(&named);
            }
        }
        mirrors.iter().for_each(|mirrored| remove(&mut self.mirrors, mirrored, object));
        for member in repository.into_iter().flat_map(|it| it.members) {
            remove(&mut self.members, &(object.namespace.clone(), member), object);
        }
    }

    /// Has an object looked at again.
    pub fn touch(&mut self, object: &ObjectRef) {
        if custom_kind(object.kind).is_some() {
            self.dirty.insert(object.clone());
        } else {
            self.touch_users(object);
        }
    }

    /// Has those looked at again that depend on whether an object is stored, and as what: who claims the same name or
    /// mirrors the same, Virtuals it is a member of, and Robots it is granted to.
    pub fn touch_neighbours(&mut self, object: &ObjectRef) {
        let mut neighbours: BTreeSet<ObjectRef> = BTreeSet::new();
        if custom_kind(object.kind).is_some_and(Kind::is_repository) {
            let claims = self.names.get(&object.name).into_iter().flatten();
            neighbours.extend(claims.map(|(_, other)| other.clone()));
            let place = (object.namespace.clone(), object.name.clone());
            neighbours.extend(self.members.get(&place).into_iter().flatten().cloned());
            neighbours.extend(self.granted.get(&object.name).into_iter().flatten().cloned());
        }
        if let Some(seen) = self.objects.get(object) {
            for mirrored in Facts::of(object, &seen.manifest.read()).mirrors {
                neighbours.extend(self.mirrors.get(&mirrored).into_iter().flatten().cloned());
            }
        }
        neighbours.remove(object);
        self.dirty.extend(neighbours);
    }

    fn touch_users(&mut self, named: &ObjectRef) {
        self.dirty.extend(self.users.get(named).into_iter().flatten().cloned());
    }

    /// Has everything looked at again.
    pub fn touch_all(&mut self) {
        self.dirty.extend(self.objects.keys().cloned());
    }

    /// Notes which version of a Secret or ConfigMap was read; `None` when there was none.
    pub fn note_read(&mut self, named: &ObjectRef, version: Option<String>) {
        if self.users.contains_key(named) {
            self.versions.insert(named.clone(), version);
        }
    }

    /// The object, if it is there.
    pub fn get(&self, object: &ObjectRef) -> Option<&Seen> {
        self.objects.get(object)
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = &Seen> {
        self.objects.values()
    }

    /// Notes the part of the status that was written for an object, by whom the conditions of `types` belong to.
    pub fn note_status(&mut self, object: &ObjectRef, uid: &str, part: &Value, types: &[&str]) {
        if let Some(seen) = self.objects.get_mut(object).filter(|seen| seen.uid == uid) {
            seen.status = Text::of(&conditions::with(&seen.status.read(), part, types));
        }
    }

    /// The object that has a name: the oldest of those that claim it and are not being deleted.
    pub fn owner(&self, name: &str) -> Option<&ObjectRef> {
        self.names.get(name)?.first().map(|(_, object)| object)
    }

    /// The oldest of those in one namespace.
    pub fn owner_within(&self, name: &str, namespace: &str) -> Option<&ObjectRef> {
        let mut claims = self.names.get(name)?.iter().map(|(_, object)| object);
        claims.find(|object| object.namespace == namespace)
    }

    /// How many objects wait to be looked at.
    pub fn waiting(&self) -> usize {
        self.dirty.len()
    }

    /// Takes up to `limit` objects that wait: first those that only go, then Remotes and Locals, the oldest first;
    /// Virtuals when these are all stored, and Robots last. They have a turn all the same when others never end.
    pub fn next(&mut self, limit: usize) -> Vec<ObjectRef> {
        let mut waiting: Vec<(u8, Option<Age>, ObjectRef)> = self
            .dirty
            .iter()
            .map(|object| {
                let seen = self.objects.get(object);
                (self.phase(object), seen.map(Seen::age), object.clone())
            })
            .collect();
        waiting.sort_unstable();
        let Some(mut first) = waiting.first().map(|(phase, _, _)| (*phase).max(1)) else { return Vec::new() };
        let last = waiting.last().map_or(first, |(phase, _, _)| *phase);
        self.passed_over = if last > first { self.passed_over + 1 } else { 0 };
        if self.passed_over > PATIENCE {
            (self.passed_over, first) = (0, last);
            waiting.retain(|(phase, _, _)| *phase == last);
        }
        let batch: Vec<ObjectRef> = waiting
            .into_iter()
            .filter(|(phase, _, _)| *phase <= first)
            .map(|(_, _, object)| object)
            .take(limit)
            .collect();
        for object in &batch {
            self.dirty.remove(object);
        }
        batch
    }

    fn phase(&self, object: &ObjectRef) -> u8 {
        let Some(seen) = self.objects.get(object) else { return 0 };
        if seen.deleting.is_some() {
            return 0;
        }
        match seen.kind {
            Kind::Robot => 3,
            _ if self.owner(&object.name) != Some(object) => 0,
            Kind::Virtual => 2,
            Kind::Remote | Kind::Local => 1,
        }
    }
}
