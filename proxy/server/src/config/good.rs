//! From loaded manifests to what is served: everything sound, and the last good version of what has become unsound,
//! until it is mended or deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use artifactapi_crds::{
    manifests::ObjectRef,
    set::{Loaded, Stored},
    validate::ValidVirtual,
};
use artifactapi_model::{
    Local, Remote, RepoName,
    account::{Robot, RobotKey},
    ports::accounts::Others,
    repository::{Deletion, LocalSpec, RemoteSpec},
};

use super::{
    directory::Unreadable,
    identities::Identities,
    purges::Purges,
    snapshot::{Known, LocalRepository, Member, Repository, Snapshot, VirtualRepository},
};
use crate::App;

/// What is in service, and where it came from.
#[derive(Default)]
pub struct Good {
    remotes: BTreeMap<RepoName, Arc<RemoteSpec>>,
    locals: BTreeMap<RepoName, Arc<LocalSpec>>,
    virtuals: BTreeMap<RepoName, Arc<ValidVirtual>>,
    robots: BTreeMap<RobotKey, Robot>,
    /// The file in which each object of ours was last found, sound or not.
    files: BTreeMap<ObjectRef, String>,
    stored: Stored,
    purges: Purges,
}

/// What is to be in service next.
pub struct Next {
    good: Good,
    problems: usize,
    /// Robots whose manifests are there and cannot be used; `None` when nobody can say which are there.
    unsound_robots: Option<Vec<RobotKey>>,
}

impl Next {
    /// Its Remotes.
    pub fn remotes(&self) -> impl Iterator<Item = &RemoteSpec> {
        self.good.remotes.values().map(|spec| &**spec)
    }

    /// Its Locals.
    pub fn locals(&self) -> impl Iterator<Item = &LocalSpec> {
        self.good.locals.values().map(|spec| &**spec)
    }

    /// Its Virtuals.
    pub fn virtuals(&self) -> impl Iterator<Item = &ValidVirtual> {
        self.good.virtuals.values().map(|spec| &**spec)
    }

    /// Its robots.
    pub fn robots(&self) -> Vec<Robot> {
        self.good.robots.values().cloned().collect()
    }

    /// What becomes of robots that the database has from manifests and [`Next::robots`] has not. One whose manifest was
    /// broken when this process started keeps what it had.
    pub fn other_robots(&self) -> Others<'_> {
        self.unsound_robots.as_deref().map_or(Others::Stay, |but| Others::Go { but })
    }
}

impl Good {
    /// Nothing; `grace` bounds how long a deleted Local that is to be purged is waited for.
    pub fn new(grace: Duration) -> Self {
        Good { purges: Purges::within(grace), ..Good::default() }
    }

    /// The objects that were sound, as the next load compares with them.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// What follows after `loaded`; problems are reported.
    pub fn next(&self, loaded: Loaded, unreadable: &[Unreadable]) -> Next {
        report(&loaded, unreadable);
        let problems = loaded.errors.len() + unreadable.len();
        let has_nameless = loaded.errors.iter().any(|problem| problem.object.is_none());
        let good = self.followed_by(loaded, unreadable);
        let is_unsound = |robot: &RobotKey| !good.robots.contains_key(robot);
        let unsound = good.files.keys().filter_map(robot_of).filter(is_unsound).collect();
        let unsound_robots = (!has_nameless && unreadable.is_empty()).then_some(unsound);
        Next { good, problems, unsound_robots }
    }

    /// Puts `next` in service. `identities` says where stores know its repositories by; one that is missing there is not
    /// served.
    pub(super) fn take_up(&mut self, app: &Arc<App>, next: Next, identities: &Identities) {
        let Next { good, problems, unsound_robots: _ } = next;
        let mut snapshot = Snapshot::default();
        for spec in good.remotes.values() {
            let (name, package_type) = (&spec.name, spec.package_type);
            let Some(identity) = identities.get(&spec.namespace, name, package_type) else {
                tracing::error!(remote.name = %name, "the database has no repository for it, so it is not served");
                continue;
            };
            let remote = Remote { identity, spec: spec.clone() };
            let repository = Repository::new(remote, app.metrics.repository(name, package_type));
            snapshot.add(name.clone(), Known::Remote(Arc::new(repository)));
        }
        for spec in good.locals.values() {
            let (name, package_type) = (&spec.name, spec.package_type);
            let Some(identity) = identities.get(&spec.namespace, name, package_type) else {
                tracing::error!(local.name = %name, "the database has no repository for it, so it is not served");
                continue;
            };
            self.purges.back(identity.id);
            let local = Local { identity, spec: spec.clone() };
            let repository = LocalRepository::new(local, app.metrics.repository(name, package_type));
            snapshot.add(name.clone(), Known::Local(Arc::new(repository)));
        }
        let before = app.snapshot.load();
        for spec in good.virtuals.values() {
            let members = spec.members.iter().map(|name| Member::of(name, spec, &snapshot)).collect();
            let metrics = app.metrics.repository(&spec.name, spec.package_type);
            let identity = identities.get(&spec.namespace, &spec.name, spec.package_type);
            let repository = VirtualRepository::new(spec.clone(), members, identity, metrics).after(&before);
            snapshot.add(spec.name.clone(), Known::Virtual(Arc::new(repository)));
        }
        for gone in self.remotes.values().filter(|spec| !good.remotes.contains_key(&spec.name)) {
            app.metrics.forget(&gone.name, gone.package_type);
        }
        for gone in self.virtuals.values().filter(|spec| !good.virtuals.contains_key(&spec.name)) {
            app.metrics.forget(&gone.name, gone.package_type);
        }
        for gone in self.locals.values().filter(|spec| !good.locals.contains_key(&spec.name)) {
            app.metrics.forget(&gone.name, gone.package_type);
            if let Some(Known::Local(repository)) = before.get(gone.name.as_str())
                && gone.deletion == Deletion::Purge
            {
                self.purges.gone(&app.registry.rows, repository.local.clone());
            }
        }
        drop(before);
        app.metrics.repositories.set(i64::try_from(snapshot.len()).unwrap_or(i64::MAX));
        app.metrics.manifest_problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
        tracing::info!(repositories = snapshot.len(), problems, "manifests are loaded");
        app.snapshot.store(Arc::new(snapshot));
        app.gate.doubt_all();
        app.health.set_loaded();
        let purges = std::mem::take(&mut self.purges);
        *self = Good { purges, ..good };
    }

    /// What is in service after `loaded`: everything sound, and the last good version of what is there but
    /// unsound. An object in a file that cannot be read, or has a document nobody can name, counts as there.
    fn followed_by(&self, mut loaded: Loaded, unreadable: &[Unreadable]) -> Good {
        let nameless = loaded.errors.iter().filter(|problem| problem.object.is_none());
        let dark: BTreeSet<&str> = nameless
            .map(|problem| problem.origin.file.as_str())
            .chain(unreadable.iter().map(|bad| bad.file.as_str()))
            .collect();
        let mut files: BTreeMap<ObjectRef, String> =
            loaded.origins.iter().map(|(object, origin)| (object.clone(), origin.file.clone())).collect();
        for (object, file) in self.files.iter().filter(|(_, file)| dark.contains(file.as_str())) {
            files.entry(object.clone()).or_insert_with(|| file.clone());
        }
        let mut remotes: BTreeMap<RepoName, Arc<RemoteSpec>> =
            std::mem::take(&mut loaded.remotes).into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let mut locals: BTreeMap<RepoName, Arc<LocalSpec>> =
            std::mem::take(&mut loaded.locals).into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let mut virtuals: BTreeMap<RepoName, Arc<ValidVirtual>> =
            std::mem::take(&mut loaded.virtuals).into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let mut robots: BTreeMap<RobotKey, Robot> = loaded
            .robots
            .iter()
            .map(|robot| robot.account())
            .map(|robot| (robot.key.clone(), robot))
            .collect();
        for object in files.keys() {
            if let Some(last) = robot_of(object).and_then(|key| self.robots.get(&key)) {
                robots.entry(last.key.clone()).or_insert_with(|| last.clone());
            }
            loaded.stored.keep(&self.stored, object);
            let last = self.remotes.get(object.name.as_str()).filter(|_| object.kind == "Remote");
            if let Some(last) = last.filter(|last| last.namespace == object.namespace)
                && !remotes.contains_key(&last.name)
            {
                tracing::warn!(remote.name = %last.name, "its last good version stays in service");
                remotes.insert(last.name.clone(), last.clone());
            }
            let last = self.locals.get(object.name.as_str()).filter(|_| object.kind == "Local");
            if let Some(last) = last.filter(|last| last.namespace == object.namespace)
                && !locals.contains_key(&last.name)
            {
                tracing::warn!(local.name = %last.name, "its last good version stays in service");
                locals.insert(last.name.clone(), last.clone());
            }
            let last = self.virtuals.get(object.name.as_str()).filter(|_| object.kind == "Virtual");
            if let Some(last) = last.filter(|last| last.namespace == object.namespace)
                && !virtuals.contains_key(&last.name)
            {
                tracing::warn!(virtual.name = %last.name, "its last good version stays in service");
                virtuals.insert(last.name.clone(), last.clone());
            }
        }
        let stored = loaded.stored;
        Good { remotes, locals, virtuals, robots, files, stored, purges: Purges::default() }
    }
}

/// Which robot `object` is, if it is one.
fn robot_of(object: &ObjectRef) -> Option<RobotKey> {
    let name = RepoName::try_from(object.name.as_str()).ok().filter(|_| object.kind == "Robot")?;
    Some(RobotKey { namespace: object.namespace.clone(), name })
}

fn report(loaded: &Loaded, unreadable: &[Unreadable]) {
    for problem in &loaded.errors {
        tracing::error!(
            manifest.file = %problem.origin,
            manifest.field = problem.field,
            manifest.rule = problem.rule,
            problem = %problem,
            "a manifest cannot be used as it stands"
        );
    }
    for bad in unreadable {
        tracing::error!(manifest.file = bad.file, problem = bad.reason, "a manifest file cannot be used");
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_crds::set::Set;

    use super::*;

    fn remote(name: &str, package_type: &str) -> String {
        format!(
            "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {{name: {name}}}\n\
             spec: {{type: {package_type}, baseURL: \"https://{name}.test/\"}}\n"
        )
    }

    fn follow(good: &Good, files: &[(&str, &str)], unreadable: &[&str]) -> Good {
        let texts = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let unreadable: Vec<_> =
            unreadable.iter().map(|file| Unreadable { file: (*file).into(), reason: "x".into() }).collect();
        good.followed_by(Set::load_over(texts, &good.stored), &unreadable)
    }

    fn served(good: &Good) -> Vec<String> {
        good.remotes.values().map(|spec| format!("{} {}", spec.name, spec.package_type)).collect()
    }

    fn both() -> Good {
        follow(&Good::default(), &[("a.yaml", &remote("a", "npm")), ("b.yaml", &remote("b", "pypi"))], &[])
    }

    #[test]
    fn rs_132_the_last_good_version_outlives_every_kind_of_mistake() {
        let b = remote("b", "pypi");
        let wrong_field = remote("a", "npm").replace("baseURL", "baseUrl");
        for broken in [wrong_field.as_str(), "kind: [", "kind: Nonsense\n", "a: b: c"] {
            let good = follow(&both(), &[("a.yaml", broken), ("b.yaml", &b)], &[]);
            assert_eq!(served(&good), ["a npm", "b pypi"], "{broken}");
            // And goes on doing so when something else changes.
            let good = follow(&good, &[("a.yaml", broken)], &[]);
            assert_eq!(served(&good), ["a npm"], "{broken}");
        }
        let good = follow(&both(), &[("b.yaml", &b)], &["a.yaml"]);
        assert_eq!(served(&good), ["a npm", "b pypi"]);
    }

    #[test]
    fn a_deleted_object_is_gone() {
        let good = follow(&both(), &[("b.yaml", &remote("b", "pypi"))], &[]);
        assert_eq!(served(&good), ["b pypi"]);
        let good = follow(&good, &[("b.yaml", "# nothing left\n")], &[]);
        assert!(served(&good).is_empty());
    }

    #[test]
    fn a_type_does_not_change_by_asking_twice() {
        let changed = remote("a", "generic");
        let mut good = both();
        for _ in 0..3 {
            good = follow(&good, &[("a.yaml", &changed)], &[]);
            assert_eq!(served(&good), ["a npm"]);
        }
        good = follow(&good, &[], &[]);
        assert_eq!(served(&follow(&good, &[("a.yaml", &changed)], &[])), ["a generic"]);
    }

    #[test]
    fn a_mended_object_takes_over() {
        let good = follow(&both(), &[("a.yaml", "kind: [")], &[]);
        let mended = remote("a", "npm").replace("a.test", "new.test");
        let good = follow(&good, &[("a.yaml", &mended)], &[]);
        assert_eq!(good.remotes["a"].base_url.as_str(), "https://new.test/");
    }
}
