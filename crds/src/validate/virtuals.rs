//! `Virtual` → [`ValidVirtual`], with its members looked up among the known repositories.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_model::{PackageType, RepoName, policy::Patterns, repository::ReadAccess};
use serde_json::Value;

use super::{identity, patterns};
use crate::{
    FieldError, Virtual,
    error::Errors,
    schema::Kind,
    virtuals::{Reservation, Resolution, VirtualSpec},
};

/// A validated Virtual.
#[derive(Clone, Debug)]
pub struct ValidVirtual {
    /// URL segment.
    pub name: RepoName,
    /// Namespace, also of its members.
    pub namespace: String,
    /// Type, also of its members.
    pub package_type: PackageType,
    /// Members, first come first served.
    pub members: Vec<RepoName>,
    /// How they are combined.
    pub resolution: Resolution,
    /// Names that only one member is asked for.
    pub reserved: Vec<Reserved>,
    /// Who may read.
    pub read: ReadAccess,
}

impl ValidVirtual {
    /// Whether the indexes of its members are made one, of which stores keep generations under an identity of its own.
    pub fn is_merged(&self) -> bool {
        merges(self.package_type, self.resolution)
    }
}

/// Names that only one member is asked for.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The member.
    pub member: RepoName,
    /// Package names; patterns match whole names.
    pub patterns: Patterns,
}

/// What a Virtual must know of another repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its kind.
    pub kind: Kind,
    /// Its type, where its manifest has a valid one.
    pub package_type: Option<PackageType>,
    /// Who may read it.
    pub read: ReadAccess,
    /// Its members, when it is a Virtual.
    pub members: Vec<String>,
}

impl Repository {
    /// Reads what is needed from any manifest, valid or not, so that an error in a member is not reported a
    /// second time as an error of the Virtual.
    pub fn of(kind: Kind, manifest: &Value) -> Self {
        let text = |pointer| manifest.pointer(pointer).and_then(Value::as_str);
        let authenticated = match text("/spec/access/read") {
            Some(read) => read == "authenticated",
            None => manifest.pointer("/spec/auth").is_some_and(|auth| !auth.is_null()),
        };
        let members = manifest.pointer("/spec/members").and_then(Value::as_array);
        Repository {
            kind,
            package_type: PackageType::ALL
                .into_iter()
                .find(|known| Some(known.as_str()) == text("/spec/type")),
            read: if authenticated { ReadAccess::Authenticated } else { ReadAccess::Anonymous },
            members: members.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// The repositories of all namespaces, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repositories(BTreeMap<(String, String), Repository>);

impl Repositories {
    /// Adds a repository.
    pub fn insert(&mut self, namespace: &str, name: &str, repository: Repository) {
        self.0.insert((namespace.to_owned(), name.to_owned()), repository);
    }

    /// The repository `name` of `namespace`.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Repository> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Another namespace that has a repository `name`.
    fn elsewhere(&self, name: &str) -> Option<&str> {
        self.0.keys().find(|(_, other)| other == name).map(|(namespace, _)| namespace.as_str())
    }

    /// Whether `name` is reached from the members of `from`.
    fn reaches(&self, namespace: &str, from: &str, name: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            if next == name {
                return true;
            }
            if seen.insert(next)
                && let Some(repository) = self.get(namespace, next)
            {
                open.extend(repository.members.iter().map(String::as_str));
            }
        }
        false
    }
}

/// Validates a Virtual and its members.
///
/// # Errors
/// Every error, with its field path.
pub fn virtual_repository(manifest: &Virtual, known: &Repositories) -> Result<ValidVirtual, Vec<FieldError>> {
    let mut errors = Errors::default();
    let e = &mut errors;
    let (name, namespace) = identity(&manifest.metadata, e);
    let VirtualSpec { package_type, members, resolution, reserved, access } = &manifest.spec;
    let own_name = name.as_ref().map(RepoName::as_str).unwrap_or_default();
    let resolution = resolution.unwrap_or_else(|| default_resolution(*package_type));
    let is_merged = merges(*package_type, resolution);
    let context = Context { namespace: &namespace, own_name, package_type: *package_type, is_merged, known };
    if members.is_empty() {
        e.push("spec.members", "minItems", "must not be empty");
    }
    let names = context.members(members, e);
    if resolution == Resolution::Union && matches!(package_type, PackageType::Docker | PackageType::Generic) {
        e.push("spec.resolution", "noUnion", "docker and generic have no index to unite: use firstMatch");
    }
    let reserved = reservations(reserved, members, e);
    let read = match access.as_ref().and_then(|access| access.read) {
        Some(read) => read.into(),
        None => context.strictest(members),
    };
    let package_type = *package_type;
    let valid = name.map(|name| ValidVirtual {
        name,
        namespace: namespace.clone(),
        package_type,
        members: names,
        resolution,
        reserved,
        read,
    });
    errors.finish(valid)
}

struct Context<'a> {
    namespace: &'a str,
    own_name: &'a str,
    package_type: PackageType,
    is_merged: bool,
    known: &'a Repositories,
}

impl Context<'_> {
    fn members(&self, members: &[String], errors: &mut Errors) -> Vec<RepoName> {
        let mut names = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let path = format!("spec.members[{index}]");
            if members[..index].contains(member) {
                errors.push(path, "duplicate", "no member may be named twice");
            } else if let Some((rule, message)) = self.objection(member) {
                errors.push(path, rule, message);
            } else {
                names.extend(errors.keep(path, "name", RepoName::try_from(member.as_str())));
            }
        }
        names
    }

    /// Why `member` cannot be one.
    fn objection(&self, member: &str) -> Option<(&'static str, String)> {
        let Some(repository) = self.known.get(self.namespace, member) else {
            let hint = match self.known.elsewhere(member) {
                Some(other) => format!("; there is one in {other:?}, but members are of the same namespace"),
                None => String::new(),
            };
            let message =
                format!("there is no repository {member:?} in namespace {:?}{hint}", self.namespace);
            return Some(("memberMissing", message));
        };
        if repository.kind == Kind::Virtual {
            let message = if self.known.reaches(self.namespace, member, self.own_name) {
                return Some(("cycle", format!("the members of {member:?} lead back to this Virtual")));
            } else {
                format!("{member:?} is a Virtual: name its members here instead")
            };
            return Some(("memberKind", message));
        }
        match repository.package_type {
            Some(other) if other != self.package_type => {
                let message =
                    format!("{member:?} is of type {other}, this Virtual of type {}", self.package_type);
                Some(("memberType", message))
            }
            _ if repository.kind == Kind::Local && self.is_merged => {
                let message = format!(
                    "{member:?} is a Local, which has no index that could be united with others: use resolution \
                     firstMatch"
                );
                Some(("memberUnion", message))
            }
            _ => None,
        }
    }

    /// Authenticated as soon as one member is: a Virtual opens nothing by itself.
    fn strictest(&self, members: &[String]) -> ReadAccess {
        let closed = members.iter().filter_map(|member| self.known.get(self.namespace, member));
        if closed.into_iter().any(|repository| repository.read == ReadAccess::Authenticated) {
            ReadAccess::Authenticated
        } else {
            ReadAccess::Anonymous
        }
    }
}

fn reservations(reserved: &[Reservation], members: &[String], errors: &mut Errors) -> Vec<Reserved> {
    let mut valid = Vec::with_capacity(reserved.len());
    for (index, Reservation { member, patterns }) in reserved.iter().enumerate() {
        let path = format!("spec.reserved[{index}].member");
        if reserved[..index].iter().any(|earlier| earlier.member == *member) {
            errors.push(path, "duplicate", "has an entry already: put all patterns into one");
        } else if !members.contains(member) {
            errors.push(path, "reservedMember", "must be one of members");
        } else if let Some(member) = errors.keep(path, "name", RepoName::try_from(member.as_str())) {
            let path = format!("spec.reserved[{index}].patterns");
            valid.push(Reserved { member, patterns: patterns::whole(&path, patterns, errors) });
        }
    }
    valid
}

/// Whether the indexes of a Virtual's members are made one. Those of whole systems are in either resolution: a name that
/// belongs to one member is then a rule of the merge.
fn merges(package_type: PackageType, resolution: Resolution) -> bool {
    match package_type {
        PackageType::Helm | PackageType::Rpm | PackageType::Alpine => true,
        // Refused by itself, whoever the members are.
        PackageType::Generic | PackageType::Docker => false,
        PackageType::Pypi
        | PackageType::Npm
        | PackageType::Puppet
        | PackageType::Terraform
        | PackageType::Goproxy => resolution == Resolution::Union,
    }
}

/// The type's own way. Where a name decides what runs on somebody's machine (pypi, npm, goproxy …), one member
/// owns it, or a stranger could publish a higher version; system repositories are meant to be united.
fn default_resolution(package_type: PackageType) -> Resolution {
    match package_type {
        PackageType::Helm | PackageType::Rpm | PackageType::Alpine => Resolution::Union,
        PackageType::Generic
        | PackageType::Docker
        | PackageType::Pypi
        | PackageType::Npm
        | PackageType::Puppet
        | PackageType::Terraform
        | PackageType::Goproxy => Resolution::FirstMatch,
    }
}
