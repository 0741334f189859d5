//! Which part of a registry a path names.

use artifactapi_model::path;

use crate::PlanError;

/// What a canonical path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// `name` or `@scope/name`.
    Packument,
    /// `{name}/{version or tag}`.
    Version,
    /// `{name}/-/{file}`.
    Tarball {
        /// The package.
        name: &'p str,
    },
    /// `-/…`.
    Api(Api),
    /// Below a package, but nothing npm's documents know.
    Unknown,
}

/// The registry's own endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Ping,
    WhoAmI,
    Search,
    Audit,
    /// Keys, attestations, dist-tags.
    Document,
}

/// Endpoints about an account. Upstream would answer them for *our* credentials, so nobody gets to ask.
const ACCOUNT: [&str; 5] = ["npm/v1/user", "npm/v1/tokens", "user", "org", "team"];

/// The document of a package's tags.
const TAGS: &str = "dist-tags";

/// Finds out what `canonical` names.
///
/// # Errors
/// [`PlanError::NotFound`] for what no registry serves, or serves to the account's owner only.
pub(super) fn place(canonical: &str) -> Result<Place<'_>, PlanError> {
    if let Some(api) = canonical.strip_prefix("-/") {
        return api_of(api).map(Place::Api);
    }
    let name = package_of(canonical);
    let rest = &canonical[name.len()..];
    if name.is_empty() || (name.starts_with('@') && !name.contains('/')) {
        return Err(PlanError::NotFound("a registry is asked by package name"));
    }
    let mut segments = rest.strip_prefix('/').unwrap_or_default().split('/');
    Ok(match (segments.next(), segments.next(), segments.next()) {
        _ if rest.is_empty() => Place::Packument,
        (Some(""), None, _) => return Err(PlanError::NotFound("a package name has no trailing slash")),
        (Some("-"), Some(file), _) if !file.is_empty() && !rest.ends_with('/') => Place::Tarball { name },
        (Some(_), None, _) => Place::Version,
        _ => Place::Unknown,
    })
}

fn api_of(api: &str) -> Result<Api, PlanError> {
    let is_account = ACCOUNT.iter().any(|account| {
        api.strip_prefix(account).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match api {
        "ping" => Ok(Api::Ping),
        "whoami" => Ok(Api::WhoAmI),
        "v1/search" => Ok(Api::Search),
        "npm/v1/security/advisories/bulk" | "npm/v1/security/audits" | "npm/v1/security/audits/quick" => {
            Ok(Api::Audit)
        }
        _ if is_account || api.is_empty() || api.ends_with("/access") || api.ends_with("/collaborators") => {
            Err(PlanError::NotFound("accounts are not served by a cache"))
        }
        _ => Ok(Api::Document),
    }
}

/// The package that a path outside `-/` begins with: one segment, or two when the first is a scope.
pub(super) fn package_of(canonical: &str) -> &str {
    let segments = if canonical.starts_with('@') { 2 } else { 1 };
    canonical.match_indices('/').nth(segments - 1).map_or(canonical, |(end, _)| &canonical[..end])
}

/// A document below `-/` that is about one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackageDocument<'p> {
    /// `-/package/{name}/dist-tags`, and what may lie below it.
    Tags(&'p str),
    /// `-/npm/v1/attestations/{name}@{version}`.
    Attestations {
        /// The package.
        name: &'p str,
        /// Its version.
        version: &'p str,
    },
}

impl<'p> PackageDocument<'p> {
    /// The package.
    pub(super) fn package(self) -> &'p str {
        match self {
            PackageDocument::Tags(name) | PackageDocument::Attestations { name, .. } => name,
        }
    }
}

/// What `canonical` says about which package, where it is such a document.
pub(super) fn named(canonical: &str) -> Option<PackageDocument<'_>> {
    let is_name = |name: &str| matches!(place(name), Ok(Place::Packument));
    if let Some(below) = canonical.strip_prefix("-/package/") {
        let name = package_of(below);
        let document = below[name.len()..].trim_start_matches('/').split('/').next();
        return (is_name(name) && document == Some(TAGS)).then_some(PackageDocument::Tags(name));
    }
    let named = canonical.strip_prefix("-/npm/v1/attestations/")?;
    // Also a scope begins with an `@`.
    let (name, version) = named.rsplit_once('@')?;
    (is_name(name) && !version.contains('/')).then_some(PackageDocument::Attestations { name, version })
}

/// Whether what lies at `canonical` is about one package, whichever document it is.
pub(super) fn is_of_package(canonical: &str) -> bool {
    ["-/package/", "-/npm/v1/attestations/"].iter().any(|place| canonical.starts_with(place))
}

/// Canonical path of the document of a package's tags.
pub(super) fn tags_path(name: &str) -> String {
    format!("-/package/{name}/{TAGS}")
}

/// The path as npm sends it: percent-encoded, and a scoped name as one segment (`@scope%2fname`), except in
/// tarball paths, where registries expect the slash.
pub(super) fn escaped(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len() + 2);
    let mut segments = canonical.split('/').peekable();
    while let Some(segment) = segments.next() {
        out.push_str(&path::encode(segment));
        if segments.peek().is_some() {
            out.push_str(if segment.len() > 1 && segment.starts_with('@') { "%2f" } else { "/" });
        }
    }
    out
}

/// Canonical path of a version's tarball in this repository.
pub(super) fn tarball_path(name: &str, version: &str) -> String {
    let basename = name.rsplit('/').next().unwrap_or_default();
    format!("{name}/-/{basename}-{version}.tgz")
}
