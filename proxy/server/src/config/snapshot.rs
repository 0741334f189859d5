//! One immutable state of the configuration, swapped as a whole. Every lookup is one hash, however many
//! repositories there are.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use artifactapi_crds::validate::{Reserved, ValidVirtual};
use artifactapi_engine::merged::Union;
use artifactapi_model::{
    Local, PackageType, Remote, RepoId, RepoName,
    account::Protected,
    repository::{Delivery, ReadAccess, RepoIdentity},
};

use super::owners::Owners;
use crate::telemetry::RepositoryMetrics;

/// What logs, metrics and responses know of a repository, whatever its kind.
#[derive(Debug)]
pub struct Face {
    /// Its name.
    pub name: RepoName,
    /// Its namespace.
    pub namespace: String,
    /// Its package type.
    pub package_type: PackageType,
    /// Who may read.
    pub read: ReadAccess,
    /// Whether shared caches must not keep its answers: it has credentials or is not open to anyone.
    pub is_private: bool,
    /// Whether anyone may write.
    pub anonymous_write: bool,
    /// How bodies reach clients.
    pub delivery: Delivery,
    /// Its counters.
    pub metrics: RepositoryMetrics,
}

impl Face {
    /// As far as rights go.
    pub fn protected(&self) -> Protected<'_> {
        Protected {
            namespace: &self.namespace,
            name: &self.name,
            read: self.read,
            anonymous_write: self.anonymous_write,
        }
    }
}

/// A Remote that is served, with its metrics at hand.
#[derive(Debug)]
pub struct Repository {
    /// What it shares with other kinds.
    pub face: Arc<Face>,
    /// The validated Remote.
    pub remote: Remote,
}

impl Repository {
    /// A repository of `remote`.
    pub fn new(remote: Remote, metrics: RepositoryMetrics) -> Self {
        let spec = &remote.spec;
        let face = Face {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            package_type: spec.package_type,
            read: spec.read,
            is_private: spec.credentials.is_some() || spec.read == ReadAccess::Authenticated,
            anonymous_write: false,
            delivery: spec.delivery,
            metrics,
        };
        Repository { face: Arc::new(face), remote }
    }

    /// Its name.
    pub fn name(&self) -> &RepoName {
        &self.face.name
    }

    /// Its package type.
    pub fn package_type(&self) -> PackageType {
        self.face.package_type
    }
}

/// A Local that is served.
#[derive(Debug)]
pub struct LocalRepository {
    /// What it shares with other kinds.
    pub face: Arc<Face>,
    /// The validated Local.
    pub local: Local,
}

impl LocalRepository {
    /// A repository of `local`.
    pub fn new(local: Local, metrics: RepositoryMetrics) -> Self {
        let spec = &local.spec;
        let face = Face {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            package_type: spec.package_type,
            read: spec.read,
            is_private: spec.read == ReadAccess::Authenticated,
            anonymous_write: spec.anonymous_write,
            delivery: Delivery::Auto,
            metrics,
        };
        LocalRepository { face: Arc::new(face), local }
    }

    /// Its package type.
    pub fn package_type(&self) -> PackageType {
        self.face.package_type
    }
}

/// A Virtual that is served.
pub struct VirtualRepository {
    /// What it shares with other kinds.
    pub face: Arc<Face>,
    /// The validated Virtual.
    pub spec: Arc<ValidVirtual>,
    /// Its members, in their order.
    pub members: Vec<Member>,
    /// Which member has which name.
    pub owners: Arc<Owners>,
    /// Where stores know it by, for the generations of its merged indexes.
    pub identity: Option<RepoIdentity>,
    /// What is merged for those who may see all members.
    pub(super) whole: OnceLock<Arc<Union>>,
    /// The same of each member alone.
    pub(super) single: Vec<OnceLock<Arc<Union>>>,
}

impl std::fmt::Debug for VirtualRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualRepository").field("spec", &self.spec).field("members", &self.members).finish()
    }
}

/// A member of a Virtual.
#[derive(Clone, Debug)]
pub enum Member {
    /// A Remote.
    Remote(Arc<Repository>),
    /// A Local.
    Local(Arc<LocalRepository>),
    /// One that is not served at this moment: what it has is not known, so nobody else has it for sure.
    Missing(RepoName),
}

impl Member {
    /// The member of `spec` called `name`, as far as `snapshot` has it: a repository of that name in another
    /// namespace is somebody else's.
    pub fn of(name: &RepoName, spec: &ValidVirtual, snapshot: &Snapshot) -> Self {
        let member = match snapshot.get(name.as_str()) {
            Some(Known::Remote(repository)) => Member::Remote(repository.clone()),
            Some(Known::Local(repository)) => Member::Local(repository.clone()),
            Some(Known::Virtual(_)) | None => return Member::Missing(name.clone()),
        };
        let fits = member
            .face()
            .is_some_and(|face| face.namespace == spec.namespace && face.package_type == spec.package_type);
        if fits { member } else { Member::Missing(name.clone()) }
    }

    /// What it shares with other kinds; `None` when it is missing.
    pub fn face(&self) -> Option<&Arc<Face>> {
        match self {
            Member::Remote(repository) => Some(&repository.face),
            Member::Local(repository) => Some(&repository.face),
            Member::Missing(_) => None,
        }
    }
}

impl VirtualRepository {
    /// A repository of `spec` over `members`, which are in its order.
    pub fn new(
        spec: Arc<ValidVirtual>,
        members: Vec<Member>,
        identity: Option<RepoIdentity>,
        metrics: RepositoryMetrics,
    ) -> Self {
        let is_closed = spec.read == ReadAccess::Authenticated;
        let has_private = || members.iter().filter_map(Member::face).any(|face| face.is_private);
        let face = Face {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            package_type: spec.package_type,
            read: spec.read,
            is_private: is_closed || has_private(),
            anonymous_write: false,
            delivery: Delivery::Auto,
            metrics,
        };
        let single = members.iter().map(|_| OnceLock::new()).collect();
        VirtualRepository {
            face: Arc::new(face),
            spec,
            members,
            owners: Arc::default(),
            identity,
            whole: OnceLock::new(),
            single,
        }
    }

    /// The same with what it remembered in the snapshot `before`, where nothing that matters has changed since.
    #[must_use]
    pub fn after(self, before: &Snapshot) -> Self {
        match before.get(self.face.name.as_str()) {
            Some(Known::Virtual(last)) if last.decides_as(&self) => {
                VirtualRepository { owners: last.owners.clone(), ..self }
            }
            _ => self,
        }
    }

    /// Whether both find the same owners.
    fn decides_as(&self, other: &VirtualRepository) -> bool {
        let of = |repository: &VirtualRepository| {
            let members = repository.members.iter().map(|member| match member {
                Member::Remote(remote) => {
                    format!("{:?} {:?}", remote.remote.identity, remote.remote.spec.policy)
                }
                Member::Local(local) => format!("{:?}", local.local.identity),
                Member::Missing(name) => name.to_string(),
            });
            (members.collect::<Vec<_>>(), format!("{:?}", repository.spec.reserved))
        };
        of(self) == of(other)
    }

    /// Whether its indexes are merged, rather than one member's.
    pub fn is_merged(&self) -> bool {
        self.spec.is_merged()
    }

    /// The only member, by its place, that may be asked about `name`; `None` when any may.
    pub fn reserved(&self, name: &str) -> Option<usize> {
        reserved_for(&self.spec, name)
    }
}

/// The only member of a Virtual of `spec`, by its place, that may be asked about `name`; `None` when any may.
pub(super) fn reserved_for(spec: &ValidVirtual, name: &str) -> Option<usize> {
    let spellings = artifactapi_formats::subject::spellings(spec.package_type, name);
    let is_meant =
        |reserved: &&Reserved| spellings.iter().any(|spelling| reserved.patterns.matches(spelling));
    let reserved = spec.reserved.iter().find(is_meant)?;
    spec.members.iter().position(|member| *member == reserved.member)
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Known {
    /// A Remote.
    Remote(Arc<Repository>),
    /// A Virtual.
    Virtual(Arc<VirtualRepository>),
    /// A Local.
    Local(Arc<LocalRepository>),
}

/// All repositories of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    repositories: HashMap<RepoName, Known>,
    mirrors: HashMap<String, Arc<Repository>>,
    root_mirror: Option<Arc<Repository>>,
    registry_asks: bool,
    locals: HashMap<RepoId, Arc<LocalRepository>>,
}

impl Snapshot {
    /// Adds what `name` stands for; a name that is taken stays as it is. A registry host or the root belongs
    /// to the first Remote that claims it.
    pub fn add(&mut self, name: RepoName, known: Known) {
        if self.repositories.contains_key(&name) {
            return;
        }
        self.registry_asks |= match &known {
            Known::Remote(repository) => {
                let is_closed = repository.remote.spec.read == ReadAccess::Authenticated;
                is_closed && repository.package_type() == PackageType::Docker
            }
            Known::Virtual(repository) => {
                let face = &repository.face;
                face.read == ReadAccess::Authenticated && face.package_type == PackageType::Docker
            }
            Known::Local(repository) => {
                let face = &repository.face;
                let is_open = face.anonymous_write && face.read == ReadAccess::Anonymous;
                !is_open && face.package_type == PackageType::Docker
            }
        };
        if let Known::Remote(repository) = &known {
            let docker = &repository.remote.spec.docker;
            for host in &docker.mirror_for {
                self.mirrors.entry(host.clone()).or_insert_with(|| repository.clone());
            }
            if docker.root_mirror {
                self.root_mirror.get_or_insert_with(|| repository.clone());
            }
        }
        if let Known::Local(repository) = &known {
            self.locals.insert(repository.local.identity.id, repository.clone());
        }
        self.repositories.insert(name, known);
    }

    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Option<&Known> {
        self.repositories.get(name)
    }

    /// The Remote called `name`.
    pub fn remote(&self, name: &str) -> Option<&Arc<Repository>> {
        match self.get(name)? {
            Known::Remote(repository) => Some(repository),
            Known::Virtual(_) | Known::Local(_) => None,
        }
    }

    /// The Remote that stands in for the registry at `host` (`docker.mirrorFor`). A closed lookup: a host that
    /// nobody configured leads nowhere.
    pub fn mirror_for(&self, host: &str) -> Option<&Arc<Repository>> {
        match self.mirrors.get(host) {
            Some(repository) => Some(repository),
            None => self.mirrors.get(host.to_ascii_lowercase().as_str()),
        }
    }

    /// The Remote that answers root requests (`docker.rootMirror`).
    pub fn root_mirror(&self) -> Option<&Arc<Repository>> {
        self.root_mirror.as_ref()
    }

    /// Whether something below `/v2/` is not open to everyone. Clients decide by the answer to `/v2/` alone whether they
    /// ever show who they are.
    pub fn registry_asks(&self) -> bool {
        self.registry_asks
    }

    /// All Remotes, in no order.
    pub fn remotes(&self) -> impl Iterator<Item = &Arc<Repository>> {
        self.repositories.values().filter_map(|known| match known {
            Known::Remote(repository) => Some(repository),
            Known::Virtual(_) | Known::Local(_) => None,
        })
    }

    /// All Virtuals, in no order.
    pub fn virtuals(&self) -> impl Iterator<Item = &Arc<VirtualRepository>> {
        self.repositories.values().filter_map(|known| match known {
            Known::Virtual(repository) => Some(repository),
            Known::Remote(_) | Known::Local(_) => None,
        })
    }

    /// Where stores know Locals and Virtuals by, in no order.
    pub fn others(&self) -> impl Iterator<Item = RepoId> {
        let united = self.virtuals().filter_map(|repository| repository.identity);
        self.locals().map(|it| it.local.identity.id).chain(united.map(|identity| identity.id))
    }

    /// All Locals, in no order.
    pub fn locals(&self) -> impl Iterator<Item = &Arc<LocalRepository>> {
        self.locals.values()
    }

    /// The Local of a row.
    pub fn local(&self, repo: RepoId) -> Option<&Arc<LocalRepository>> {
        self.locals.get(&repo)
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.repositories.len()
    }

    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty()
    }
}
