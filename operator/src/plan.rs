//! The third step of a reconcile, and pure: from verdicts to the one change that makes the sink agree with them.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{PackageType, RepoName, account::RobotKey};
use artifactapi_stores::postgres::Declared;

use crate::{
    picture::{Facts, Kept, Picture},
    secrets::Read,
    sink::Delta,
    validate::{Accepted, Verdict},
};

/// A change, and what others have to know of its objects.
#[derive(Debug, Default)]
pub struct Plan {
    /// The change.
    pub delta: Delta,
    /// Of the objects it adds or replaces.
    pub facts: BTreeMap<ObjectRef, Facts>,
    /// Objects of which others see something new: they are stored now or no more, or as something else.
    pub moved: BTreeSet<ObjectRef>,
}

/// Plans the change that `verdicts` ask for.
pub fn plan(verdicts: &BTreeMap<ObjectRef, Verdict>, picture: &Picture, read: &Read) -> Plan {
    let mut planner =
        Planner { picture, read, plan: Plan::default(), kept: BTreeSet::new(), users: BTreeMap::new() };
    for (object, verdict) in verdicts {
        match verdict {
            Verdict::Accept(accepted) => planner.accept(accepted),
            Verdict::Refuse { outcome: _, withdraw: true } | Verdict::Gone => planner.remove(object),
            Verdict::Refuse { outcome: _, withdraw: false } => {}
        }
    }
    planner.successors();
    planner.references();
    planner.plan
}

struct Planner<'a> {
    picture: &'a Picture,
    read: &'a Read,
    plan: Plan,
    /// Repositories that exist after it, by namespace, name and type.
    kept: BTreeSet<(String, RepoName, PackageType)>,
    /// Secrets and ConfigMaps whose users change: users that go, and users that come.
    users: BTreeMap<ObjectRef, (BTreeSet<ObjectRef>, BTreeSet<ObjectRef>)>,
}

impl Planner<'_> {
    fn accept(&mut self, accepted: &Accepted) {
        // No `..`: what an object brings must not be forgotten here.
        let Accepted { row, facts, declared, robot, status: _ } = accepted;
        let before = self.picture.row(&row.object);
        self.leave(&row.object, before);
        for named in &facts.named {
            self.users.entry(named.clone()).or_default().1.insert(row.object.clone());
        }
        if !self.picture.has(row) {
            self.plan.delta.upserts.push(row.clone());
            self.plan.facts.insert(row.object.clone(), facts.clone());
            if before.is_none_or(|kept| looks_different(&kept.facts, facts)) {
                self.plan.moved.insert(row.object.clone());
            }
        }
        if facts.repository.is_some() {
            let (namespace, name) = (&row.object.namespace, &row.object.name);
            let own = declared.as_ref().map(|declared| declared.package_type);
            self.plan.delta.retire.extend(self.picture.others_at(namespace, name, own));
        }
        if let Some(declared) = declared {
            self.kept.insert((declared.namespace.clone(), declared.name.clone(), declared.package_type));
            if !self.picture.is_declared(declared) {
                self.plan.delta.declare.push(declared.clone());
            }
        }
        if let Some(robot) = robot
            && !self.picture.has_robot(robot)
        {
            self.plan.delta.robots.push(robot.clone());
        }
    }

    /// Its row goes, unless it is not ours.
    fn remove(&mut self, object: &ObjectRef) {
        let Some(kept) = self.picture.row(object).filter(|kept| kept.uid.is_some()) else { return };
        self.leave(object, Some(kept));
        self.plan.delta.deletes.push(object.clone());
        self.plan.moved.insert(object.clone());
        match object.kind {
            "Remote" | "Local" | "Virtual" => {
                let gone = self.picture.others_at(&object.namespace, &object.name, None);
                self.plan.delta.retire.extend(gone);
            }
            "Robot" => {
                if let Ok(name) = RepoName::try_from(object.name.as_str()) {
                    let namespace = object.namespace.clone();
                    self.plan.delta.robots_gone.push(RobotKey { namespace, name });
                }
            }
            _ => {}
        }
    }

    /// What goes with one object stays when another of its name and type takes its place in the same change.
    fn successors(&mut self) {
        let kept = &self.kept;
        let place = |gone: &Declared| (gone.namespace.clone(), gone.name.clone(), gone.package_type);
        self.plan.delta.retire.retain(|gone| !kept.contains(&place(gone)));
    }

    fn leave(&mut self, object: &ObjectRef, kept: Option<&Kept>) {
        for named in kept.into_iter().flat_map(|kept| &kept.facts.named) {
            self.users.entry(named.clone()).or_default().0.insert(object.clone());
        }
    }

    /// Secrets and ConfigMaps are stored as long as a stored Remote names them, and as they were read for one that was
    /// accepted.
    fn references(&mut self) {
        for (named, (gone, come)) in std::mem::take(&mut self.users) {
            let row = self.read.row(&named).filter(|_| !come.is_empty());
            match row {
                Some(row) if !self.picture.has(row) => self.plan.delta.upserts.push(row.clone()),
                Some(_) => {}
                None => {
                    let is_used =
                        !come.is_empty() || self.picture.users(&named).any(|user| !gone.contains(user));
                    let is_ours = self.picture.row(&named).is_some_and(|kept| kept.uid.is_some());
                    if !is_used && is_ours {
                        self.plan.delta.deletes.push(named);
                    }
                }
            }
        }
    }
}

/// Whether Virtuals and other Remotes see a difference.
fn looks_different(before: &Facts, after: &Facts) -> bool {
    let seen = |facts: &Facts| {
        let repository = facts.repository.as_ref();
        let seen = repository.map(|it| (it.kind, it.package_type, it.read, it.members.clone()));
        (seen, facts.mirrors.clone())
    };
    seen(before) != seen(after)
}
