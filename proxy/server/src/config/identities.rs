//! Where stores know repositories by. Their name alone does not say it: rows of a name that served another type, or
//! another namespace, may be there beside the one that is meant, and what is pushed under one of those is lost.

use std::collections::HashMap;

use artifactapi_model::{PackageType, RepoName, repository::RepoIdentity};
use artifactapi_stores::postgres::Declared;

/// Identities of repositories by namespace, name and type, as stores tell them apart.
#[derive(Debug, Default)]
pub(super) struct Identities(HashMap<(String, RepoName, PackageType), RepoIdentity>);

impl Identities {
    /// Those of the rows of a configuration.
    pub(super) fn of(rows: Vec<(Declared, RepoIdentity)>) -> Self {
        let place = |declared: Declared| (declared.namespace, declared.name, declared.package_type);
        Identities(rows.into_iter().map(|(declared, identity)| (place(declared), identity)).collect())
    }

    /// Adds one.
    pub(super) fn insert(
        &mut self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
        identity: RepoIdentity,
    ) {
        self.0.insert((namespace.to_owned(), name.clone(), package_type), identity);
    }

    /// That of one repository.
    pub(super) fn get(
        &self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
    ) -> Option<RepoIdentity> {
        self.0.get(&(namespace.to_owned(), name.clone(), package_type)).copied()
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{Epoch, RepoId};

    use super::*;

    #[test]
    fn rows_of_one_name_are_told_apart() {
        let name: RepoName = "charts".parse().unwrap();
        let of = |id| RepoIdentity { id: RepoId(id), epoch: Epoch(1) };
        let row = |id, namespace: &str, package_type| {
            let declared = Declared {
                namespace: namespace.to_owned(),
                name: name.clone(),
                package_type,
                base_url: String::new(),
            };
            (declared, of(id))
        };
        let (docker, helm) = (PackageType::Docker, PackageType::Helm);
        let mut identities =
            Identities::of(vec![row(1, "a", docker), row(2, "a", helm), row(3, "b", docker)]);
        identities.insert("b", &name, helm, of(4));
        let found = |namespace, package_type| identities.get(namespace, &name, package_type);
        assert_eq!(found("a", docker), Some(of(1)));
        assert_eq!(found("a", helm), Some(of(2)));
        assert_eq!(found("b", docker), Some(of(3)));
        assert_eq!(found("b", helm), Some(of(4)));
        assert_eq!(found("a", PackageType::Npm), None, "nothing of another type stands in for it");
    }
}
