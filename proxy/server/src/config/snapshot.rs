//! One immutable state of the configuration, swapped as a whole. Every lookup is one hash, however many
//! repositories there are.

use std::{collections::HashMap, sync::Arc};

use artifactapi_model::{PackageType, Remote, RepoName, account::Protected, repository::ReadAccess};

use crate::telemetry::RepositoryMetrics;

/// A Remote that is served, with its metrics at hand.
#[derive(Debug)]
pub struct Repository {
    /// The validated Remote.
    pub remote: Remote,
    /// Its counters.
    pub metrics: RepositoryMetrics,
    /// Whether shared caches must not keep its answers: it has credentials or is not open to anyone.
    pub is_private: bool,
}

impl Repository {
    /// A repository of `remote`.
    pub fn new(remote: Remote, metrics: RepositoryMetrics) -> Self {
        let spec = &remote.spec;
        let is_private = spec.credentials.is_some() || spec.read == ReadAccess::Authenticated;
        Repository { remote, metrics, is_private }
    }

    /// Its name.
    pub fn name(&self) -> &RepoName {
        &self.remote.spec.name
    }

    /// Its package type.
    pub fn package_type(&self) -> PackageType {
        self.remote.spec.package_type
    }

    /// As far as rights go.
    pub fn protected(&self) -> Protected<'_> {
        let spec = &self.remote.spec;
        Protected { namespace: &spec.namespace, name: &spec.name, read: spec.read, anonymous_write: false }
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Known {
    /// A Remote.
    Remote(Arc<Repository>),
    /// A Virtual, not served yet.
    Virtual(PackageType),
    /// A Local, not served yet.
    Local(PackageType),
}

/// All repositories of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    repositories: HashMap<RepoName, Known>,
    mirrors: HashMap<String, Arc<Repository>>,
    root_mirror: Option<Arc<Repository>>,
    registry_asks: bool,
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
            Known::Virtual(_) => false,
            Known::Local(package_type) => *package_type == PackageType::Docker,
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

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.repositories.len()
    }

    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty()
    }
}
