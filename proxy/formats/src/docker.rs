//! The `docker` package type: the pull side of the OCI distribution protocol.
//!
//! The paths seen here are what follows `/v2/{repo}/`: an image name and `manifests/{reference}`,
//! `blobs/{digest}`, `tags/list` or `referrers/{digest}` (OCI distribution-spec 1.1, "Endpoints"). Upstream has
//! them below `v2/`.
//!
//! - What a digest names is immutable and is held against that digest; what a tag names is mutable and is
//!   revalidated by HEAD, which Docker Hub does not count against its pull limit. `sha256-<hex>` and its
//!   `.sig`, `.att`, `.sbom` forms look like digests but are tags (the referrers fallback, cosign).
//! - Every manifest is asked for with one fixed `Accept`, so that a tag has one digest whoever asks; without
//!   it, old registries convert to schema 1.
//! - On Docker Hub `nginx` means `library/nginx`: one key, one token scope, and patterns see both spellings.
//! - `tags/list` leaves out the tags whose pull would be refused (`banTags`, patterns, blocklist) and carries the
//!   name under which clients know it here; `Link` points back to us. A page so has fewer tags than were asked for, and
//!   its `Link` still continues behind upstream's last one: that is where the next page begins.
//!
//! Left out: pushing (Remotes are read-only) and `_catalog`, which is no part of the OCI protocol and which
//! Docker Hub does not have. Layers with foreign `urls` stay the client's business; manifests are never
//! rewritten.

mod lists;
mod paging;
mod route;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use artifactapi_model::{Digest, Mutability, PackageType, RepoPath, repository::RemoteSpec};

use crate::{
    IndexError, LinkSigner, Location, MAX_INDEX, Magic, PackageFormat, Plan, PlanError, PublicBase,
    Representation, Request, Resource, Revalidation, RewriteContext, Source,
};
use route::{Reference, Route, Target};

/// Largest manifest in bytes: containerd refuses larger ones, and registries need not take them.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What every manifest request accepts, whatever the client says.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a referrers list.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Hosts that all mean Docker Hub.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The namespace of Docker Hub's official images, which users leave out.
const LIBRARY: &str = "library/";

/// A tag list as clients get it.
const TAGS: Representation = Representation("tags");
/// A referrers list cut down to one artifact type.
const FILTERED: Representation = Representation("filtered");

/// The `docker` package type.
#[derive(Clone, Copy, Debug)]
pub struct Docker;

impl PackageFormat for Docker {
    fn package_type(&self) -> PackageType {
        PackageType::Docker
    }

    fn probe(&self) -> &'static str {
        "v2/"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let route = Route::parse(path.as_str())?;
        let name = Names::of(route.name, remote);
        let resource = match route.target {
            Target::Manifest(reference) => manifest(&name, reference)?,
            Target::Blob(digest) => Resource {
                checksums: vec![digest.checksum],
                content_type: Some("application/octet-stream"),
                ..name.resource(&format!("blobs/{}", digest.text), Mutability::Immutable)?
            },
            Target::Tags => tags(&name, request.query)?,
            Target::Referrers(digest) => referrers(&name, digest.text, request.query)?,
        };
        Ok(resource.into())
    }

    fn fingerprint(&self, cx: &RewriteContext<'_>) -> String {
        // Links are relative to the host, so that all host names share one document.
        let policy = &cx.remote.policy;
        let hiding = (&policy.blocklist, &policy.patterns, &cx.remote.docker.ban_tags);
        format!("{} {hiding:?}", cx.base.prefix)
    }

    fn rewrite(
        &self,
        resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        if resource.representation == Some(TAGS) {
            let image = source.path.as_str().strip_suffix("/tags/list").unwrap_or_default();
            let name = format!("{}{image}", cx.base.prefix.strip_prefix("/v2/").unwrap_or_default());
            let none = paging::asks_for_none(&resource.query);
            let shows = |tag: &str| !none && (cx.permits)(&format!("{image}/manifests/{tag}"));
            lists::tags(&name, &shows, input, output)?;
            return Ok("application/json".to_owned());
        }
        let wanted = paging::artifact_type(&resource.query).unwrap_or_default();
        lists::referrers(&wanted, input, output)?;
        Ok(INDEX.to_owned())
    }

    fn headers(
        &self,
        resource: &Resource,
        digest: Option<&Digest>,
        stored: &dyn Fn(&str) -> Option<String>,
        base: &PublicBase,
    ) -> Vec<(&'static str, String)> {
        let Ok(route) = Route::parse(resource.path.as_str()) else { return Vec::new() };
        let mut headers = Vec::new();
        match route.target {
            // A client that asked by sha512 gets the digest it asked for.
            Target::Manifest(Reference::Digest(asked)) | Target::Blob(asked) => {
                headers.push(("docker-content-digest", asked.text.to_owned()));
            }
            Target::Manifest(Reference::Tag(_)) => {
                headers.extend(digest.map(|digest| ("docker-content-digest", digest.to_string())));
            }
            Target::Tags | Target::Referrers(_) => {
                let next = stored("link").and_then(|link| paging::next(&link, resource, base));
                headers.extend(next.map(|link| ("link", link)));
                if resource.representation == Some(FILTERED) {
                    headers.push(("oci-filters-applied", "artifactType".to_owned()));
                }
            }
        }
        headers
    }
}

/// The image that canonical `path` is about, as the client names it.
///
/// # Errors
/// [`PlanError`], as a plan of the path would give it.
pub(crate) fn image(path: &str) -> Result<&str, PlanError> {
    Route::parse(path).map(|route| route.name)
}

/// Whether a pull for the registry `ns` of what `below` names, behind the name of `remote`, can be meant for that Remote
/// alone, though it mirrors nothing: as an `override_path` of containerd's hosts.toml has it. Images of Docker Hub have
/// two segments, so one that has them behind the Remote's name is none of an owner who is called like the Remote. Of
/// other registries nobody can tell.
pub fn is_behind_its_name(remote: &RemoteSpec, ns: &str, below: &str) -> bool {
    let is_hub = |host: &str| DOCKER_HUB.iter().any(|name| name.eq_ignore_ascii_case(host));
    let of_hub = remote.base_url.host_str().is_some_and(is_hub) && remote.base_url.path() == "/";
    // OWNER/IMAGE/manifests/TAG and its like.
    of_hub && is_hub(ns) && below.split('/').filter(|segment| !segment.is_empty()).count() >= 4
}

/// The names of one image.
struct Names {
    /// The one in keys, towards upstream and in token scopes.
    canonical: String,
    /// The one that users of Docker Hub write.
    short: Option<String>,
}

impl Names {
    fn of(name: &str, remote: &RemoteSpec) -> Self {
        let hub = remote.base_url.host_str().is_some_and(|host| DOCKER_HUB.contains(&host));
        let official = name.strip_prefix(LIBRARY).filter(|rest| !rest.contains('/'));
        match official {
            Some(short) if hub => Names { canonical: name.to_owned(), short: Some(short.to_owned()) },
            None if hub && !name.contains('/') => {
                Names { canonical: format!("{LIBRARY}{name}"), short: Some(name.to_owned()) }
            }
            _ => Names { canonical: name.to_owned(), short: None },
        }
    }

    /// The resource called `rest` of this image.
    fn resource(&self, rest: &str, mutability: Mutability) -> Result<Resource, PlanError> {
        let path = RepoPath::from_canonical(&format!("{}/{rest}", self.canonical))?;
        Ok(Resource {
            aliases: self.short.iter().map(|name| format!("{name}/{rest}")).collect(),
            location: Location::Below(format!("v2/{}", path.encode())),
            scope: Some(format!("repository:{}:pull", self.canonical)),
            denied_means_missing: true,
            ..Resource::file(path, mutability)
        })
    }
}

fn manifest(name: &Names, reference: Reference<'_>) -> Result<Resource, PlanError> {
    let (text, mutability) = match &reference {
        Reference::Digest(digest) => (digest.text, Mutability::Immutable),
        Reference::Tag(tag) => (*tag, Mutability::Mutable),
    };
    let resource = Resource {
        accept: Some(MANIFESTS),
        magic: Some(Magic::Json),
        max_size: Some(MAX_MANIFEST),
        ..name.resource(&format!("manifests/{text}"), mutability)?
    };
    Ok(match reference {
        Reference::Digest(digest) => Resource { checksums: vec![digest.checksum], ..resource },
        Reference::Tag(tag) => {
            Resource { tag: Some(tag.to_owned()), revalidation: Revalidation::HeadDigest, ..resource }
        }
    })
}

fn tags(name: &Names, query: &str) -> Result<Resource, PlanError> {
    let page = paging::tags(query)?;
    let resource = name.resource("tags/list", Mutability::Mutable)?;
    Ok(Resource {
        location: below(&resource, &page.upstream),
        query: page.key,
        representation: Some(TAGS),
        magic: Some(Magic::Json),
        max_size: Some(MAX_INDEX),
        ..resource
    })
}

fn referrers(name: &Names, digest: &str, query: &str) -> Result<Resource, PlanError> {
    let page = paging::referrers(query)?;
    let resource = name.resource(&format!("referrers/{digest}"), Mutability::Mutable)?;
    // Upstream may ignore the filter, and says so in a header that is not kept: filtering again is exact.
    let filtered = paging::artifact_type(&page.key).is_some();
    Ok(Resource {
        location: below(&resource, &page.upstream),
        query: page.key,
        representation: filtered.then_some(FILTERED),
        accept: Some(INDEX),
        content_type: Some(INDEX),
        magic: Some(Magic::Json),
        max_size: Some(MAX_INDEX),
        ..resource
    })
}

fn below(resource: &Resource, query: &str) -> Location {
    let separator = if query.is_empty() { "" } else { "?" };
    Location::Below(format!("v2/{}{separator}{query}", resource.path.encode()))
}
