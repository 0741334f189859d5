//! The Puppet Forge API, version 3, as `puppet module` and the puppet_forge gem (r10k, librarian) read it
//! (puppetlabs/puppet `lib/puppet/forge.rb`, puppetlabs/forge-ruby `v3/release.rb`).
//!
//! Clients append `file_uri` and `pagination.next` to the repository URL they were given. So both must be
//! root-relative `/v3/...`, without our own prefix and never absolute: the prefix comes from the client's
//! `module_repository`. Upstreams that already write them so are passed on byte for byte; absolute ones are
//! stripped, and the fact keeps the URL where the file really is. Since nothing of our own enters a document,
//! all names of this server share one rewritten copy.

pub(crate) mod merge;
mod paths;
mod releases;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Write};

use artifactapi_model::{Mutability, PackageType, RepoPath, repository::RemoteSpec};

use crate::{
    Fact, IndexError, LinkSigner, Location, Magic, PackageFormat, Plan, PlanError, Representation, Request,
    Resource, RewriteContext, Source, query,
};
use paths::Kind;

/// Absolute file and page URLs stripped to root-relative ones.
const ROOT_RELATIVE: Representation = Representation("root-relative");

/// The `puppet` package type.
#[derive(Clone, Copy, Debug)]
pub struct Puppet;

impl PackageFormat for Puppet {
    fn package_type(&self) -> PackageType {
        PackageType::Puppet
    }

    fn probe(&self) -> &'static str {
        "v3/modules?limit=1"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let resource = match paths::classify(&path) {
            Kind::Document { parameters } => document(path, request.query, parameters)?,
            Kind::File => Resource {
                location: Location::Indexed { fallback: true },
                magic: Some(Magic::Gzip),
                indexes: paths::indexes_of(path.file_name()),
                ..Resource::file(path, Mutability::Immutable)
            },
            Kind::Other => Resource::file(path, Mutability::Mutable),
        };
        Ok(resource.into())
    }

    /// A rewrite recognises upstream's base and contains nothing of ours.
    fn fingerprint(&self, cx: &RewriteContext<'_>) -> String {
        cx.remote.base_url.to_string()
    }

    fn rewrite(
        &self,
        _resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        releases::walk(&cx.remote.base_url, input, output, &mut |_| {})?;
        Ok(source.content_type.to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        if !matches!(paths::classify(source.path), Kind::Document { .. }) {
            return Ok(());
        }
        releases::walk(&remote.base_url, input, &mut io::sink(), sink)
    }
}

/// The module (`owner-name`) that canonical `path` with the raw `query` is about.
pub(crate) fn module(path: &str, raw_query: &str) -> Option<String> {
    let rest = path.strip_prefix("v3/")?.trim_end_matches('/');
    let (collection, item) = rest.split_once('/').unwrap_or((rest, ""));
    let named = match collection {
        "modules" if !item.is_empty() => item.to_owned(),
        "releases" | "files" if !item.is_empty() => {
            paths::module_of(item.strip_suffix(".tar.gz").unwrap_or(item))?.to_owned()
        }
        "releases" => {
            let query = query::canonical(raw_query, &["module"]).ok()?;
            let (_, module) = url::form_urlencoded::parse(query.as_bytes()).next()?;
            module.replace('/', "-")
        }
        _ => return None,
    };
    let is_slug = named.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) && !named.is_empty();
    is_slug.then_some(named)
}

fn document(path: RepoPath, raw_query: &str, parameters: &[&'static str]) -> Result<Resource, PlanError> {
    let query = query::canonical_with(raw_query, parameters, |name, value| match name {
        // `owner/name` and `owner-name` are one module, and files look for the list under the latter.
        "module" => value.replace('/', "-"),
        _ => value,
    })?;
    Ok(Resource {
        representation: Some(ROOT_RELATIVE),
        magic: Some(Magic::Json),
        ..Resource::index(path).with_query(query)
    })
}
