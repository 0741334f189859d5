//! The `terraform` package type: providers, by two protocols in front of one origin registry.
//!
//! **Registry face** (provider registry protocol), for `host { services = { "providers.v1" = … } }`:
//! `.well-known/terraform.json`, `v1/providers/{ns}/{type}/versions` and
//! `v1/providers/{ns}/{type}/{version}/download/{os}/{arch}`. Upstream's discovery document says where it has
//! them, so everything here is [`Location::Indexed`] through it. A download document names three files by URLs
//! that may live for minutes only; clients get stable, relative ones below the document's own path,
//! `{arch}/{filename}`, `{arch}/SHA256SUMS` and `{arch}/SHA256SUMS.sig`, and each of those paths names the
//! document that knows its URL as its index.
//!
//! **Network mirror face**, for `provider_installation { network_mirror { … } }`, which keeps the origin's host in
//! provider addresses: `{hostname}/{ns}/{type}/index.json` is the versions document in another form, and
//! `{version}.json` is composed from it and `SHA256SUMS`; the archives that it names are
//! the registry's own, below `{hostname}/{ns}/{type}/{version}/`. `{hostname}` must be `baseURL`'s own: no client
//! chooses a host (RS-34).
//!
//! - Archives are immutable and held against the document's `shasum`. Documents are mutable, and so are
//!   `SHA256SUMS` and its signature: a registry that adds a platform re-issues both, and a pinned one would
//!   contradict its fresh twin for ever.
//! - Names of providers are case-insensitive and travel in lower case; other spellings are the same key.
//!
//! Left out: the signature over `SHA256SUMS` is not verified here. On the registry face the client does it; a
//! client of the mirror relies on the origin's TLS and on the two hashes, which must agree. `h1:` hashes need
//! the unpacked archive and are not offered (`zh:` suffices to install and to lock). Modules are another
//! protocol (`modules.v1`) and not found.

mod documents;
pub(crate) mod merge;
mod mirror;
mod registry;
mod route;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use artifactapi_model::{Mutability, PackageType, RepoPath, repository::RemoteSpec};

use crate::{
    Documents, Fact, IndexError, IndexRef, IndexUse, LinkSigner, Location, Magic, PackageFormat, Plan,
    PlanError, Representation, Request, Resource, RewriteContext, Source, Step,
};
use route::{File, Package, Provider, Route};

/// Path of the discovery document.
const DISCOVERY_PATH: &str = ".well-known/terraform.json";
/// Largest discovery or download document and `SHA256SUMS`, in bytes.
const MAX_DOCUMENT: u64 = 1 << 20;
const JSON: &str = "application/json";

/// The discovery document that leads back to us.
const DISCOVERY: Representation = Representation("discovery");
/// A download document with our own URLs.
const DOWNLOAD: Representation = Representation("download");
/// A versions document as the mirror's `index.json`.
const MIRROR_INDEX: Representation = Representation("mirror-index");

/// The `terraform` package type.
#[derive(Clone, Copy, Debug)]
pub struct Terraform;

impl PackageFormat for Terraform {
    fn package_type(&self) -> PackageType {
        PackageType::Terraform
    }

    fn probe(&self) -> &'static str {
        ".well-known/terraform.json"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let own = own_hostname(remote);
        let resource = match Route::parse(path.as_str())? {
            Route::Discovery => Resource { max_size: Some(MAX_DOCUMENT), ..json(path, DISCOVERY) },
            Route::Versions(provider) => versions(&provider, &own)?,
            Route::Download(package) => download(&package, &own)?,
            Route::File(package, file) => package_file(&package, &file, &own)?,
            Route::MirrorFile { hostname, package, file } => {
                check_hostname(&hostname, &own)?;
                package_file(&package, &file, &own)?
            }
            Route::MirrorIndex { hostname, provider } => {
                check_hostname(&hostname, &own)?;
                Resource { representation: Some(MIRROR_INDEX), ..versions(&provider, &own)? }
            }
            Route::MirrorVersion { hostname, provider, version } => {
                check_hostname(&hostname, &own)?;
                Resource {
                    location: Location::Composed,
                    aliases: vec![format!("{}/{version}/download", provider.base())],
                    content_type: Some(JSON),
                    ..Resource::index(canonical(&format!("{own}/{provider}/{version}.json"))?)
                }
            }
        };
        Ok(resource.into())
    }

    fn fingerprint(&self, _cx: &RewriteContext<'_>) -> String {
        // Every URL we write is relative: one document for all host names and all repositories.
        String::new()
    }

    fn rewrite(
        &self,
        resource: &Resource,
        source: &Source<'_>,
        _cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        match Route::parse(source.path.as_str()) {
            Ok(Route::Discovery) => registry::rewrite_discovery(input, output)?,
            Ok(Route::Download(package)) => registry::rewrite_download(&package, input, output)?,
            Ok(Route::Versions(_)) if resource.representation == Some(MIRROR_INDEX) => {
                mirror::index(input, output)?;
            }
            _ => {
                std::io::copy(input, output)?;
            }
        }
        Ok(JSON.to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        _remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        match Route::parse(source.path.as_str()) {
            Ok(Route::Discovery) => registry::discovery_facts(source.url, input, sink),
            Ok(Route::Download(package)) => registry::download_facts(&package, source.url, input, sink),
            _ => Ok(()),
        }
    }

    fn compose(
        &self,
        resource: &Resource,
        documents: &Documents,
        permits: &dyn Fn(&str) -> bool,
    ) -> Result<Step, IndexError> {
        match Route::parse(resource.path.as_str()) {
            Ok(Route::MirrorVersion { provider, version, .. }) => {
                mirror::version(&provider, &version, documents, permits)
            }
            _ => Ok(Step::Missing),
        }
    }
}

/// Whether the registry face shows a package, as `permits` says of canonical paths: its document, and its files under
/// the names that they have by convention.
fn is_shown(package: &Package, permits: &dyn Fn(&str) -> bool) -> bool {
    let others = [File::Sums, File::Signature];
    permits(&package.download())
        && is_mirrored(package, permits)
        && others.iter().all(|file| permits(&package.file(file)))
}

/// Whether the mirror face does, whose clients take nothing but the archive.
fn is_mirrored(package: &Package, permits: &dyn Fn(&str) -> bool) -> bool {
    permits(&package.file(&File::Archive(package.archive())))
}

/// The provider that canonical `path` is about, with its host on the mirror face, and the document that exists where
/// the provider does; `None` for the discovery document.
///
/// # Errors
/// [`PlanError`], as a plan of the path would give it.
pub(crate) fn provider(path: &str) -> Result<Option<(String, String)>, PlanError> {
    let of = |provider: &Provider| Some((provider.to_string(), provider.versions()));
    Ok(match Route::parse(path)? {
        Route::Discovery => None,
        Route::Versions(provider) => of(&provider),
        Route::Download(package) | Route::File(package, _) => of(&package.provider),
        Route::MirrorIndex { hostname, provider } | Route::MirrorVersion { hostname, provider, .. } => {
            Some(mirrored(&hostname, &provider))
        }
        Route::MirrorFile { hostname, package, .. } => Some(mirrored(&hostname, &package.provider)),
    })
}

fn mirrored(hostname: &str, provider: &Provider) -> (String, String) {
    let name = format!("{}/{provider}", hostname.to_ascii_lowercase());
    (name.clone(), format!("{name}/index.json"))
}

/// The hostname of provider addresses: `baseURL`'s host, with its port where that is not the scheme's.
fn own_hostname(remote: &RemoteSpec) -> String {
    let host = remote.base_url.host_str().unwrap_or_default();
    match remote.base_url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn check_hostname(hostname: &str, own: &str) -> Result<(), PlanError> {
    if hostname.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    Err(PlanError::NotFound("this mirror has only providers of its own origin host"))
}

fn canonical(path: &str) -> Result<RepoPath, PlanError> {
    Ok(RepoPath::from_canonical(path)?)
}

fn json(path: RepoPath, representation: Representation) -> Resource {
    Resource {
        representation: Some(representation),
        magic: Some(Magic::Json),
        content_type: Some(JSON),
        ..Resource::index(path)
    }
}

fn required(path: String) -> Vec<IndexRef> {
    vec![IndexRef { path, when: IndexUse::Required }]
}

fn versions(provider: &Provider, own: &str) -> Result<Resource, PlanError> {
    Ok(Resource {
        aliases: vec![format!("{own}/{provider}/index.json")],
        location: Location::Indexed { fallback: false },
        indexes: required(DISCOVERY_PATH.to_owned()),
        magic: Some(Magic::Json),
        content_type: Some(JSON),
        ..Resource::index(canonical(&provider.versions())?)
    })
}

fn download(package: &Package, own: &str) -> Result<Resource, PlanError> {
    Ok(Resource {
        aliases: vec![format!("{own}/{}/{}.json", package.provider, package.version)],
        location: Location::Indexed { fallback: false },
        indexes: required(DISCOVERY_PATH.to_owned()),
        max_size: Some(MAX_DOCUMENT),
        ..json(canonical(&package.download())?, DOWNLOAD)
    })
}

fn package_file(package: &Package, file: &File, own: &str) -> Result<Resource, PlanError> {
    let path = canonical(&package.file(file))?;
    let resource = match file {
        File::Archive(_) => Resource {
            magic: Some(Magic::Zip),
            content_type: Some("application/zip"),
            ..Resource::file(path, Mutability::Immutable)
        },
        File::Sums => Resource {
            max_size: Some(MAX_DOCUMENT),
            content_type: Some("text/plain; charset=utf-8"),
            ..Resource::file(path, Mutability::Mutable)
        },
        File::Signature => Resource {
            fresh_with: Some(package.file(&File::Sums)),
            max_size: Some(MAX_DOCUMENT),
            content_type: Some("application/octet-stream"),
            ..Resource::file(path, Mutability::Mutable)
        },
    };
    Ok(Resource {
        aliases: vec![format!("{own}/{}/{}", package.provider, file.name())],
        location: Location::Indexed { fallback: false },
        indexes: required(package.download()),
        ..resource
    })
}
