//! The `npm` package type: packuments, tarballs and the registry's own API below `-/`.
//!
//! A packument is stored in its full form only; the abbreviated form is derived from it, so that one name has
//! one upstream document, one negative entry and one source of checksums. `dist.tarball` becomes an absolute
//! URL of one canonical shape, whatever shape upstream uses: npm keeps only the path name of a default
//! registry's URL, which would lose our prefix, and lock files pin what they saw.
//!
//! Sources: npm/registry:docs/responses/package-metadata.md; npm 11 (pacote's `registry.js` and `remote.js`,
//! @npmcli/arborist's `reify.js` and `audit-report.js`).

mod dist;
mod facts;
pub(crate) mod merge;
mod name;
mod packument;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use artifactapi_model::{Mutability, PackageType, RepoPath, Spelling, repository::RemoteSpec};

use self::{
    dist::Links,
    name::{Api, Place},
};
use crate::{
    Answer, Fact, IndexError, IndexRef, LinkSigner, Location, Magic, Method, PackageFormat, Plan, PlanError,
    READS, Representation, Request, Resource, RewriteContext, Source, negotiate,
};

/// The `npm` package type.
#[derive(Clone, Copy, Debug)]
pub struct Npm;

const FULL_TYPE: &str = "application/json";
const ABBREVIATED_TYPE: &str = "application/vnd.npm.install-v1+json";

/// The document as upstream wrote it, with our URLs.
const FULL: Representation = Representation("full");
/// What an installer needs of a packument.
const ABBREVIATED: Representation = Representation("abbreviated");
/// The document of one version.
const VERSION: Representation = Representation("version");

impl PackageFormat for Npm {
    fn package_type(&self) -> PackageType {
        PackageType::Npm
    }

    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = RepoPath::parse(request.raw_path, Spelling::NpmScope)?;
        let place = name::place(path.as_str())?;
        if let Place::Api(Api::Audit) = place {
            return if request.method == Method::Post {
                Ok(pass(&path, request))
            } else {
                Err(PlanError::Method("POST"))
            };
        }
        if !request.method.is_read() {
            return Err(PlanError::Method(READS));
        }
        Ok(match place {
            Place::Api(Api::Search) => pass(&path, request),
            Place::Api(Api::Ping) => Plan::Answer(Answer::Json("{}")),
            Place::Api(Api::WhoAmI) => Plan::Answer(Answer::Nobody),
            Place::Api(Api::Document | Api::Audit) => mutable(path).into(),
            Place::Unknown => Resource::file(path, Mutability::Mutable).into(),
            Place::Packument => {
                Resource { representation: Some(form(request.accept)), ..mutable(path) }.into()
            }
            Place::Version => Resource { representation: Some(VERSION), ..mutable(path) }.into(),
            Place::Tarball { name } => tarball(name.to_owned(), path).into(),
        })
    }

    fn rewrite(
        &self,
        resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        let name = name::package_of(source.path.as_str());
        let links = Links::new(cx.remote, cx.base.url(), name, source.url);
        match resource.representation {
            Some(ABBREVIATED) => {
                packument::abbreviated(&links, input, output)?;
                return Ok(ABBREVIATED_TYPE.to_owned());
            }
            Some(VERSION) => packument::version(&links, input, output)?,
            _ => packument::full(&links, input, output)?,
        }
        Ok(FULL_TYPE.to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        if !matches!(name::place(source.path.as_str()), Ok(Place::Packument)) {
            return Ok(());
        }
        let name = source.path.as_str();
        let links = Links::new(remote, String::new(), name, source.url);
        facts::read(&links, input, sink)
    }
}

/// The package that canonical `path` is about; `None` for what belongs to the registry.
///
/// # Errors
/// [`PlanError`], as a plan of the path would give it.
pub(crate) fn subject(path: &str) -> Result<Option<&str>, PlanError> {
    if let Place::Api(_) = name::place(path)? {
        let named = path.strip_prefix("-/package/").or_else(|| path.strip_prefix("-/npm/v1/attestations/"));
        return Ok(named.map(|named| {
            let package = name::package_of(named);
            // An attestation's version stands behind an `@`, which also begins a scope.
            package.rfind('@').filter(|at| *at > 0).map_or(package, |at| &package[..at])
        }));
    }
    Ok(Some(name::package_of(path)))
}

fn pass(path: &RepoPath, request: &Request<'_>) -> Plan {
    let path = name::escaped(path.as_str());
    Plan::Pass(if request.query.is_empty() { path } else { format!("{path}?{}", request.query) })
}

/// A JSON document that upstream knows under the escaped name.
fn mutable(path: RepoPath) -> Resource {
    Resource {
        location: Location::Below(name::escaped(path.as_str())),
        accept: Some(FULL_TYPE),
        magic: Some(Magic::Json),
        ..Resource::index(path)
    }
}

fn tarball(package: String, path: RepoPath) -> Resource {
    Resource {
        location: Location::Indexed { fallback: true },
        magic: Magic::of_name(path.file_name()),
        indexes: vec![IndexRef::held(package)],
        ..Resource::file(path, Mutability::Immutable)
    }
}

/// The form of a packument that `accept` prefers; the full one unless the abbreviated one is named and at
/// least as welcome.
fn form(accept: &str) -> Representation {
    let abbreviated = negotiate::rate(accept, ABBREVIATED_TYPE).filter(|r| r.exactness == 2 && r.quality > 0);
    let full = negotiate::rate(accept, FULL_TYPE);
    match (abbreviated, full) {
        (Some(abbreviated), Some(full)) if full.quality > abbreviated.quality => FULL,
        (Some(_), _) => ABBREVIATED,
        (None, _) => FULL,
    }
}
