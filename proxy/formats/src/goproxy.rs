//! The `goproxy` package type: Go's module proxy protocol, and the checksum database behind it.
//!
//! - `{module}/@v/{version}.mod` and `.zip` of a canonical version never change; `.info` only where `{version}`
//!   is canonical: `master.info`, `v1.info` and `.info` of a commit are queries and mutable, as are `@v/list` and
//!   `@latest`.
//! - Upper-case letters travel as `!` and the lower-case one. The escapes are kept as they are; a path with an
//!   upper-case letter is not a module's and is not found (RS-21).
//! - `sumdb/{name}/…` goes through untouched, always below `baseURL`: a client chooses no host (RS-34). Tiles are
//!   immutable. A `lookup` is not: its record is, but the signed tree head behind it is the one of the moment
//!   (golang.org/x/mod/sumdb, `Server.ServeHTTP`), so two honest answers differ.
//! - The record of a held `lookup` carries both `h1:` hashes of a version; `.zip` and `.mod` are held against it.
//!
//! Left out: the signature of a `lookup` is not verified here (the go command does, with its own key), so its
//! hashes protect against a damaged or changed file, not against a proxy that lies in both. Only records of
//! `sum.golang.org` are consulted: a private checksum database has a name of its own, which a path below
//! `{module}` does not tell.

mod escape;
pub(crate) mod merge;
mod sumdb;
#[cfg(test)]
mod tests;

use std::io::BufRead;

use artifactapi_model::{Mutability, PackageType, RepoPath, repository::RemoteSpec};

use crate::{
    Fact, IndexError, IndexRef, LinkSigner, Magic, PackageFormat, Plan, PlanError, Request, Resource, Source,
};

/// Largest module zip, in bytes (golang.org/x/mod/zip, `MaxZipFile`).
pub const MAX_ZIP: u64 = 500 << 20;
/// Largest `go.mod`, in bytes (golang.org/x/mod/zip, `MaxGoMod`).
pub const MAX_MOD: u64 = 16 << 20;

const UNKNOWN: PlanError = PlanError::NotFound("the module proxy protocol has no such path");

/// The `goproxy` package type.
#[derive(Clone, Copy, Debug)]
pub struct Goproxy;

impl PackageFormat for Goproxy {
    fn package_type(&self) -> PackageType {
        PackageType::Goproxy
    }

    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let resource = match path.as_str().strip_prefix("sumdb/").and_then(sumdb::Request::parse) {
            Some(sumdb::Request::Tile) => Resource::file(path, Mutability::Immutable),
            Some(_) => Resource::index(path),
            None => module(path)?,
        };
        Ok(resource.into())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        _remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        match source.path.as_str().strip_prefix("sumdb/").and_then(sumdb::Request::parse) {
            Some(sumdb::Request::Lookup { module, version }) => sumdb::facts(module, version, input, sink),
            _ => Ok(()),
        }
    }
}

/// The module path that `escaped` stands for.
pub(crate) fn unescaped(escaped: &str) -> String {
    let mut text = String::with_capacity(escaped.len());
    let mut is_upper = false;
    for c in escaped.chars() {
        if c == '!' {
            is_upper = true;
        } else {
            text.push(if std::mem::take(&mut is_upper) { c.to_ascii_uppercase() } else { c });
        }
    }
    text
}

/// What a path of the module proxy protocol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named<'p> {
    /// A module, escaped.
    Module(&'p str),
    /// A module's record in a checksum database.
    Record(&'p str),
    /// Neither.
    Nothing,
}

/// What canonical `path` names.
pub(crate) fn module_of(path: &str) -> Named<'_> {
    if let Some(rest) = path.strip_prefix("sumdb/") {
        return match sumdb::Request::parse(rest) {
            Some(sumdb::Request::Lookup { module, .. }) => Named::Record(module),
            _ => Named::Nothing,
        };
    }
    let module = path.strip_suffix("/@latest").or_else(|| path.rsplit_once("/@v/").map(|(module, _)| module));
    module.filter(|module| escape::is_module(module)).map_or(Named::Nothing, Named::Module)
}

/// A path outside the checksum database.
fn module(path: RepoPath) -> Result<Resource, PlanError> {
    let text = path.as_str();
    if let Some(module) = text.strip_suffix("/@latest") {
        return if escape::is_module(module) { Ok(Resource::index(path)) } else { Err(UNKNOWN) };
    }
    let (module, file) = text.rsplit_once("/@v/").ok_or(UNKNOWN)?;
    if !escape::is_module(module) {
        return Err(UNKNOWN);
    }
    if file == "list" {
        return Ok(Resource::index(path));
    }
    let (version, kind) = file.rsplit_once('.').ok_or(UNKNOWN)?;
    if !escape::is_version(version) {
        return Err(UNKNOWN);
    }
    let mutability = if escape::is_canonical(version) { Mutability::Immutable } else { Mutability::Mutable };
    let indexes = vec![IndexRef::held(format!("sumdb/{}/lookup/{module}@{version}", sumdb::PUBLIC))];
    match kind {
        "info" => Ok(Resource { magic: Some(Magic::Json), mutability, ..Resource::index(path) }),
        "mod" => Ok(Resource { indexes, max_size: Some(MAX_MOD), ..Resource::file(path, mutability) }),
        "zip" => Ok(Resource {
            indexes,
            magic: Some(Magic::Zip),
            max_size: Some(MAX_ZIP),
            ..Resource::file(path, mutability)
        }),
        _ => Err(UNKNOWN),
    }
}
