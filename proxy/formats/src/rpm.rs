//! RPM repositories as dnf reads them: `repodata/repomd.xml` names the metadata, the metadata names the
//! packages (librepo `yum.c`, `repomd.c`; createrepo_c).
//!
//! **Nothing that carries a checksum is rewritten.** `repomd.xml` holds the checksum of `primary.xml.gz` and
//! may be signed; `primary.xml.gz` holds those of the packages. Only mirror lists change: they lead clients
//! back here ([`mirrors`]). A repository whose metadata carries `xml:base` (packages on another host) is
//! therefore served as it is, and its clients fetch those packages from the other host themselves; asked for
//! one under its relative name all the same, we fetch it from the host the metadata names and verify it.
//!
//! **Generations.** Metadata of two generations served together is a checksum error in dnf. What this module
//! gives the engine to prevent it:
//!
//! - Files named by their checksum belong to every generation at once: immutable, self-verifying, and kept
//!   for the clients that still hold an older `repomd.xml`.
//! - Files with simple names (`primary.xml.gz`) are mutable and point at `repomd.xml` as [`IndexUse::Held`](crate::IndexUse::Held).
//!   The engine must let a fact of the *held* `repomd.xml` decide, not the TTL: a stored file that agrees with
//!   it is fresh; one that contradicts it is refetched before it is served, never served stale, and what comes
//!   must agree. When it does not, upstream has moved on: revalidate `repomd.xml` once, compare again, then
//!   fail. The index is `Held` and not `Required`, since refreshing `repomd.xml` behind the back of a client
//!   that has just read it would break that client.
//! - `repomd.xml.asc` and `.key` carry [`Resource::fresh_with`]: they are of the same time as the stored `repomd.xml`,
//!   which upstream may have written some time before them.
//!
//! Packages point at the `repomd.xml` of every directory above them; its facts lead to `primary.xml`, whose
//! facts give each package's checksum and size.

pub(crate) mod merge;
mod mirrors;
mod paths;
mod repodata;
#[cfg(test)]
mod tests;
mod xml;

use std::io::{BufRead, Write};

use artifactapi_model::{Mutability, PackageType, RepoPath, repository::RemoteSpec};

use crate::{
    Fact, IndexError, IndexRef, LinkSigner, Location, Magic, PackageFormat, Plan, PlanError, Representation,
    Request, Resource, RewriteContext, Source, query,
};
use paths::Kind;

/// Query parameters that choose a mirror list; everything else (dnf's `countme`) is dropped.
const MIRROR_PARAMETERS: &[&str] = &["repo", "arch"];
/// The mirror list that leads back here.
const OWN_MIRROR: Representation = Representation("own-mirror");

/// The `rpm` package type.
#[derive(Clone, Copy, Debug)]
pub struct Rpm;

impl PackageFormat for Rpm {
    fn package_type(&self) -> PackageType {
        PackageType::Rpm
    }

    fn probe(&self) -> &'static str {
        "repodata/repomd.xml"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let resource = match paths::classify(&path) {
            Kind::Repomd => Resource::index(path),
            Kind::RepomdCompanion => {
                let fresh_with = Some(paths::repomd_beside(&path));
                Resource { fresh_with, ..Resource::index(path) }
            }
            Kind::HashNamed(checksum) => {
                let indexes = vec![IndexRef::held(paths::repomd_beside(&path))];
                let checksums = checksum.into_iter().collect();
                Resource { checksums, indexes, ..Resource::file(path, Mutability::Immutable) }
            }
            Kind::SimpleNamed => {
                let indexes = vec![IndexRef::held(paths::repomd_beside(&path))];
                Resource { indexes, ..Resource::file(path, Mutability::Mutable) }
            }
            Kind::Package => {
                let indexes = paths::repomds_above(&path).map(IndexRef::held).collect();
                Resource {
                    location: Location::Indexed { fallback: true },
                    magic: Some(Magic::Rpm),
                    indexes,
                    ..Resource::file(path, Mutability::Immutable)
                }
            }
            Kind::Mirrorlist | Kind::Metalink => mirror_list(path, request.query)?,
            Kind::Other => Resource::file(path, Mutability::Mutable),
        };
        Ok(resource.into())
    }

    /// Only mirror lists are rewritten, and they name our own base and recognise upstream's.
    fn fingerprint(&self, cx: &RewriteContext<'_>) -> String {
        format!("{} {}", cx.base.url(), cx.remote.base_url)
    }

    fn rewrite(
        &self,
        _resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        match paths::classify(source.path) {
            Kind::Metalink => mirrors::metalink(source.path, cx, input, output)?,
            _ => mirrors::mirrorlist(source.path, cx, input, output)?,
        }
        Ok(source.content_type.to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        let Some((root, document)) = repodata::document(source.path) else { return Ok(()) };
        repodata::read_facts(document, root, &remote.base_url, input, sink)
    }
}

fn mirror_list(path: RepoPath, raw_query: &str) -> Result<Resource, PlanError> {
    let query = query::canonical(raw_query, MIRROR_PARAMETERS)?;
    Ok(Resource { representation: Some(OWN_MIRROR), ..Resource::index(path).with_query(query) })
}
