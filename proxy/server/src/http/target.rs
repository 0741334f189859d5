//! Which repository a route means: a lookup in the snapshot, by name or by what a mirror stands in for. Pure.

use std::sync::Arc;

use artifactapi_formats::docker;
use artifactapi_model::{PackageType, RepoName};
use http::StatusCode;

use super::{
    errors::Refused,
    route::{Below, Registry},
};
use crate::config::{Face, LocalRepository, Repository, Snapshot, VirtualRepository, snapshot::Known};

/// A request below one repository.
#[derive(Debug)]
pub struct Target<'a> {
    /// The Remote that is asked.
    pub repository: Arc<Repository>,
    /// The repository that the client asked: the same, or a Virtual that it is a member of.
    pub face: Arc<Face>,
    /// Raw path below it.
    pub path: &'a str,
    /// Raw query.
    pub query: &'a str,
    /// Public path of the repository, with both slashes.
    pub prefix: String,
    /// The registry host it was asked to stand in for, to be named in the answer (`OCI-Namespace`).
    pub namespace: Option<String>,
}

impl Target<'_> {
    /// What a registry client calls what it asks for: the image, in the repository where we have it.
    pub fn scope(&self) -> String {
        scope(&self.face.name, self.path)
    }
}

/// What a registry client calls what is at `path` of the repository `name`.
pub fn scope(name: &RepoName, path: &str) -> String {
    let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    match ends.iter().filter_map(|end| path.rfind(end)).max() {
        Some(end) => format!("{name}/{}", &path[..end]),
        None => name.to_string(),
    }
}

/// Finds the Remote of `/api/v1/remote/{name}/{path}`.
///
/// # Errors
/// 404 for names that stand for nothing or for something else.
pub fn remote<'a>(snapshot: &Snapshot, below: &Below<'a>) -> Result<Target<'a>, Refused> {
    let name = below.name;
    let repository = match snapshot.get(name) {
        Some(Known::Remote(repository)) => repository,
        Some(known) => return Err(elsewhere(name, known)),
        None => return Err(unknown(name)),
    };
    if repository.package_type() == PackageType::Docker {
        return Err(below_v2(name));
    }
    let prefix = format!("/api/v1/remote/{name}/");
    Ok(Target {
        repository: repository.clone(),
        face: repository.face.clone(),
        path: below.path,
        query: below.query,
        prefix,
        namespace: None,
    })
}

/// Finds the Virtual of `/api/v1/virtual/{name}/{path}`.
///
/// # Errors
/// 404 for names that stand for nothing or for something else.
pub fn united(snapshot: &Snapshot, below: &Below<'_>) -> Result<Arc<VirtualRepository>, Refused> {
    match snapshot.get(below.name) {
        Some(Known::Virtual(repository)) if repository.face.package_type == PackageType::Docker => {
            Err(below_v2(below.name))
        }
        Some(Known::Virtual(repository)) => Ok(repository.clone()),
        Some(Known::Remote(_)) => Err(Refused::not_found(format!("{} is a Remote, no Virtual", below.name))),
        Some(known @ Known::Local(_)) => Err(elsewhere(below.name, known)),
        None => Err(unknown(below.name)),
    }
}

/// The answer to `/api/v1/local/…`.
pub fn not_served_yet(snapshot: &Snapshot, kind: &'static str, below: &Below<'_>) -> Refused {
    match (kind, snapshot.get(below.name)) {
        ("local", Some(known @ Known::Local(_))) => elsewhere(below.name, known),
        (_, Some(known @ Known::Virtual(_))) => elsewhere(below.name, known),
        (_, Some(Known::Remote(_))) => Refused::not_found(format!("{} is a Remote, no {kind}", below.name)),
        _ => unknown(below.name),
    }
}

/// What a path of the registry API leads to.
#[derive(Debug)]
pub enum RegistryTarget<'a> {
    /// `/v2/{name}/`: whether there is such a registry.
    Ping(Arc<Face>),
    /// A path below a repository.
    Below(Target<'a>),
    /// A path below a Local of type docker.
    Local(Arc<LocalRepository>, &'a str),
    /// A path below a Virtual of type docker.
    Virtual(Arc<VirtualRepository>, &'a str),
    /// `/v2/_catalog`: the images of all Locals.
    Catalog,
}

/// Finds the docker repository of a registry path, in this order:
///
/// 1. `ns` names a registry that some Remote mirrors: that Remote, with the whole path (containerd's mirror
///    requests). It wins over a repository whose name happens to be the image's first segment, or else whoever
///    may name a repository `library` could answer for Docker Hub's. Where the first segment is that very
///    Remote's name, it is the prefix of an `override_path` and no part of the image's name.
/// 2. `ns` names a registry that nobody mirrors: there is nothing here, whatever the first segment is. A node asks
///    for all of its images here, and whoever may name a repository `cilium` must not answer for quay.io/cilium.
///    Only a name of our own, by `is_ours`, is as good as none: that is what the node knows us by. And behind the
///    name of a Remote of Docker Hub an image of two segments is no other registry's.
/// 3. The first segment names a docker Remote, Local or Virtual.
/// 4. The root mirror, with the whole path (dockerd's `registry-mirrors`, which send no `ns`).
///
/// # Errors
/// 404 otherwise: a client's `ns` never becomes a host to ask.
pub fn registry<'a>(
    snapshot: &Snapshot,
    request: &Registry<'a>,
    is_ours: impl FnOnce(&str) -> bool,
) -> Result<RegistryTarget<'a>, Refused> {
    let (name, below) = request.split_name();
    let namespace = match request.ns.map(decoded) {
        None => None,
        Some(host) => match snapshot.mirror_for(&host) {
            Some(repository) if repository.name().as_str() != name => {
                return Ok(at_root(repository, request, Some(host)));
            }
            Some(_) => Some(host),
            None if is_ours(&host) => None,
            None if is_behind_its_name(snapshot.get(name), &host, below) => Some(host),
            None => return Err(not_mirrored(&host)),
        },
    };
    match snapshot.get(name) {
        Some(Known::Remote(repository)) if repository.package_type() == PackageType::Docker => {
            if below.is_empty() {
                return Ok(RegistryTarget::Ping(repository.face.clone()));
            }
            let prefix = format!("/v2/{name}/");
            let (repository, query) = (repository.clone(), request.query);
            let face = repository.face.clone();
            Ok(RegistryTarget::Below(Target { repository, face, path: below, query, prefix, namespace }))
        }
        Some(Known::Local(repository)) if repository.package_type() == PackageType::Docker => {
            if below.is_empty() {
                return Ok(RegistryTarget::Ping(repository.face.clone()));
            }
            Ok(RegistryTarget::Local(repository.clone(), below))
        }
        Some(Known::Virtual(repository)) if repository.face.package_type == PackageType::Docker => {
            if below.is_empty() {
                return Ok(RegistryTarget::Ping(repository.face.clone()));
            }
            Ok(RegistryTarget::Virtual(repository.clone(), below))
        }
        // No repository can be called so.
        None if name == "_catalog" && below.is_empty() => Ok(RegistryTarget::Catalog),
        known => match (snapshot.root_mirror(), known) {
            (Some(repository), _) => Ok(at_root(repository, request, None)),
            (None, Some(Known::Remote(repository))) => Err(Refused::not_found(format!(
                "{name} is a {} repository; it is served below /api/v1/remote/{name}/",
                repository.package_type()
            ))),
            (None, Some(known)) => Err(elsewhere(name, known)),
            (None, None) => Err(unknown(name)),
        },
    }
}

fn at_root<'a>(
    repository: &Arc<Repository>,
    request: &Registry<'a>,
    namespace: Option<String>,
) -> RegistryTarget<'a> {
    RegistryTarget::Below(Target {
        repository: repository.clone(),
        face: repository.face.clone(),
        path: request.path,
        query: request.query,
        prefix: "/v2/".to_owned(),
        namespace,
    })
}

/// `host:port` with its colons and brackets escaped or not. Anything else that is escaped is in no lookup.
fn decoded(ns: &str) -> String {
    let escaped = [("%3A", ":"), ("%3a", ":"), ("%5B", "["), ("%5b", "["), ("%5D", "]"), ("%5d", "]")];
    escaped.into_iter().fold(ns.to_owned(), |text, (code, sign)| text.replace(code, sign))
}

fn is_behind_its_name(known: Option<&Known>, ns: &str, below: &str) -> bool {
    let Some(Known::Remote(repository)) = known else { return false };
    repository.package_type() == PackageType::Docker
        && docker::is_behind_its_name(&repository.remote.spec, ns, below)
}

/// The node goes on to the registry itself.
fn not_mirrored(host: &str) -> Refused {
    let shown: String = host.chars().take(255).collect();
    Refused::not_found(format!("no Remote stands in for {shown}: none has it in docker.mirrorFor"))
}

fn unknown(name: &str) -> Refused {
    let shown: String = name.chars().take(63).collect();
    Refused::not_found(format!("there is no repository called {shown}"))
}

fn elsewhere(name: &str, known: &Known) -> Refused {
    if let Known::Local(local) = known
        && local.package_type() == PackageType::Docker
    {
        return below_v2(name);
    }
    let message = match known {
        Known::Remote(it) => {
            format!(
                "{name} is a Remote of type {}; it is served below /api/v1/remote/{name}/",
                it.package_type()
            )
        }
        Known::Virtual(it) => format!(
            "{name} is a Virtual of type {}; it is served below /api/v1/virtual/{name}/",
            it.face.package_type
        ),
        Known::Local(it) => {
            format!("{name} is a Local of type {}, which this version does not serve yet", it.package_type())
        }
    };
    Refused::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
}

fn below_v2(name: &str) -> Refused {
    Refused::not_found(format!("{name} is a docker repository; it is served below /v2/{name}/"))
}
