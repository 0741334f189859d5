//! What the merges of a Virtual see of it. Made once for those who may see all members, who are nearly everybody.

use std::sync::Arc;

use artifactapi_crds::{
    validate::{Reserved, ValidVirtual},
    virtuals::Resolution,
};
use artifactapi_engine::merged::Union;
use artifactapi_formats::merge::Rules;
use artifactapi_model::{Digest, Remote, RepoName};

use super::snapshot::{Member, VirtualRepository, reserved_for};

/// The rules of a Virtual, with its members by their places among those that whoever asks may see.
struct Shown {
    spec: Arc<ValidVirtual>,
    /// Of each member its place among those shown.
    places: Vec<Option<usize>>,
}

impl Rules for Shown {
    fn names_first(&self) -> bool {
        self.spec.resolution == Resolution::FirstMatch
    }

    fn may_have(&self, place: usize, name: &str) -> bool {
        // What belongs to a member that is not shown is nobody's.
        let shown = |member: usize| self.places.get(member).copied().flatten();
        reserved_for(&self.spec, name).is_none_or(|member| shown(member) == Some(place))
    }
}

impl VirtualRepository {
    /// What is merged for somebody who may see the members that `visible` says.
    ///
    /// # Errors
    /// The name of a member that cannot be asked at this moment.
    pub fn union(&self, visible: &[bool]) -> Result<Arc<Union>, RepoName> {
        if !visible.iter().all(|shown| *shown) {
            return self.make(visible).map(Arc::new);
        }
        if let Some(union) = self.whole.get() {
            return Ok(union.clone());
        }
        let union = Arc::new(self.make(visible)?);
        Ok(self.whole.get_or_init(|| union).clone())
    }

    /// What is merged of the member at `place` alone: an index of what it lets clients have.
    ///
    /// # Errors
    /// Its name, when it cannot be asked at this moment.
    pub fn alone(&self, place: usize) -> Result<Arc<Union>, RepoName> {
        let Some(single) = self.single.get(place) else { return self.make(&[]).map(Arc::new) };
        if let Some(union) = single.get() {
            return Ok(union.clone());
        }
        let shown: Vec<_> = (0..self.members.len()).map(|member| member == place).collect();
        let union = Arc::new(self.make(&shown)?);
        Ok(single.get_or_init(|| union).clone())
    }

    fn make(&self, visible: &[bool]) -> Result<Union, RepoName> {
        let mut members = Vec::with_capacity(visible.len());
        let mut places = Vec::with_capacity(visible.len());
        for (member, shown) in self.members.iter().zip(visible) {
            places.push(shown.then_some(members.len()));
            match member {
                _ if !shown => {}
                Member::Remote(remote) => members.push(remote.remote.clone()),
                Member::Missing(name) => return Err(name.clone()),
                // No Local has an index that could be merged yet.
                Member::Local(local) => return Err(local.face.name.clone()),
            }
        }
        let fingerprint = fingerprint(&self.spec, &members);
        let rules = Box::new(Shown { spec: self.spec.clone(), places });
        let (package_type, identity) = (self.face.package_type, self.identity);
        Ok(Union { package_type, identity, members, rules, fingerprint })
    }
}

/// Everything of the configuration that a merge depends on.
fn fingerprint(spec: &ValidVirtual, members: &[Remote]) -> Digest {
    // All of it is named, so that a rule that is added is not forgotten here. Who may read changes which members are
    // shown and no byte; the type is part of what a generation is stored under.
    let ValidVirtual { namespace, name, package_type: _, members: _, resolution, reserved, read: _ } = spec;
    let members: Vec<_> =
        members.iter().map(|member| (&member.spec.name, &member.identity, &member.spec.policy)).collect();
    let reserved: Vec<_> = reserved.iter().map(|Reserved { member, patterns }| (member, patterns)).collect();
    let text = format!("{namespace}/{name} {resolution:?} {members:?} {reserved:?}");
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use artifactapi_formats::merge::merge_of;
    use artifactapi_model::{PackageType, repository::ReadAccess};

    use super::*;

    #[test]
    fn whatever_is_to_be_merged_can_be() {
        for package_type in PackageType::ALL {
            for resolution in [Resolution::FirstMatch, Resolution::Union] {
                let spec = ValidVirtual {
                    name: "v".parse().unwrap(),
                    namespace: "team".into(),
                    package_type,
                    members: vec![],
                    resolution,
                    reserved: vec![],
                    read: ReadAccess::Anonymous,
                };
                let is_system =
                    matches!(package_type, PackageType::Helm | PackageType::Rpm | PackageType::Alpine);
                let is_meant = merge_of(package_type).is_some();
                let is_meant = is_meant && (is_system || resolution == Resolution::Union);
                assert_eq!(spec.is_merged(), is_meant, "{package_type} {resolution:?}");
            }
        }
    }
}
