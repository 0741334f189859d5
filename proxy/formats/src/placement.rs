//! Where a file that an index names is served: below our own base, under a signed link, or not by us.

use artifactapi_model::{
    Checksums, Mutability, RepoPath, Spelling,
    repository::{FileHosts, RemoteSpec},
};
use url::Url;

use crate::{Fact, IndexRef, LinkSigner, Location, Magic, NamedFile, Reach, Resource, RewriteContext, link};

/// What becomes of a file's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The file lies below `baseURL`: its canonical path.
    Below(RepoPath),
    /// It lies elsewhere and goes through a signed link.
    Linked(Url),
    /// `fileHosts` leaves its host to the client: the URL stays as it is.
    Left(Url),
    /// No http(s) URL (RS-26): nobody gets to see it.
    Dropped,
}

/// Decides about `url`, which an index read from `index_url` names.
///
/// A URL with a query, one outside `baseURL`'s own tree, and one that looks like our own signed links (the
/// upstream may be a system like this one) are linked even on the same host, since the plain path could not
/// lead back to them.
pub(crate) fn place(remote: &RemoteSpec, index_url: &Url, url: &Url) -> Placement {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Placement::Dropped;
    }
    let mut url = upgraded(remote, url);
    url.set_fragment(None);
    let own = remote.is_own_origin(&url);
    if own
        && url.query().is_none()
        && let Some(path) = below(remote, &url)
        && !path.as_str().starts_with(link::PREFIX)
    {
        return Placement::Below(path);
    }
    let downgraded = index_url.scheme() == "https" && url.scheme() == "http";
    if own || (!downgraded && is_allowed(&remote.file_hosts, &url)) {
        Placement::Linked(url)
    } else {
        Placement::Left(url)
    }
}

/// Old indexes name their own host by `http:` though it has moved to `https:`; those links mean the same host.
fn upgraded(remote: &RemoteSpec, url: &Url) -> Url {
    let mut url = url.clone();
    let moved = url.scheme() == "http"
        && remote.base_url.scheme() == "https"
        && url.host() == remote.base_url.host()
        && url.port().is_none()
        && remote.base_url.port().is_none();
    if moved {
        // Between two special schemes this cannot fail.
        let _ = url.set_scheme("https");
    }
    url
}

fn below(remote: &RemoteSpec, url: &Url) -> Option<RepoPath> {
    let rest = url.path().strip_prefix(remote.base_url.path())?;
    RepoPath::parse(rest, Spelling::Plain).ok().filter(|path| !path.file_name().is_empty())
}

/// The URL of canonical `path` below `base_url`. Joined as text: `Url::join` would read `a:b` as another
/// scheme, and `https:host/` as another host (RS-34).
pub(crate) fn url_of(base_url: &Url, path: &str) -> Option<Url> {
    Url::parse(&format!("{base_url}{}", artifactapi_model::path::encode(path))).ok()
}

fn is_allowed(hosts: &FileHosts, url: &Url) -> bool {
    let FileHosts::Only(hosts) = hosts else { return true };
    let Some(host) = url.host_str() else { return false };
    let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    hosts.iter().any(|allowed| allowed == host || Some(allowed) == with_port.as_ref())
}

impl Placement {
    /// The path (percent-encoded, relative to the repository's root) or the absolute URL that clients get,
    /// when the index at canonical path `index` is rewritten. `None` leaves the file out.
    pub(crate) fn reference(&self, index: &str, cx: &RewriteContext<'_>) -> Option<Reference> {
        match self {
            Placement::Below(path) => Some(Reference::Path(path.encode())),
            Placement::Linked(url) => Some(match cx.links.link(cx.remote, index, url) {
                Some(path) => Reference::Path(path),
                None => Reference::Url(url.to_string()),
            }),
            Placement::Left(url) => Some(Reference::Url(url.to_string())),
            Placement::Dropped => None,
        }
    }

    /// The fact about the file, or about the file with `suffix` appended to its name. `None` where nothing
    /// is served by us.
    pub(crate) fn fact(&self, suffix: &str, checksums: Checksums) -> Option<Fact> {
        match self {
            Placement::Below(path) => {
                Some(Fact { path: format!("{path}{suffix}"), reach: Reach::File, url: None, checksums })
            }
            Placement::Linked(url) => {
                let mut url = url.clone();
                let name = url.path().rsplit('/').next().unwrap_or_default();
                let name = RepoPath::parse(name, Spelling::Plain).ok()?;
                if !suffix.is_empty() {
                    let path = format!("{}{suffix}", url.path());
                    url.set_path(&path);
                }
                let path = LinkSigner::canonical_path(&url, &format!("{name}{suffix}"));
                Some(Fact { path, reach: Reach::File, url: Some(url), checksums })
            }
            Placement::Left(_) | Placement::Dropped => None,
        }
    }
}

/// What stands in a rewritten index for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// Percent-encoded, relative to the repository's root.
    Path(String),
    /// An absolute URL on another host.
    Url(String),
}

impl Reference {
    /// The reference as it is written in the document at canonical path `document`.
    pub(crate) fn relative_to(&self, document: &RepoPath) -> String {
        match self {
            Reference::Url(url) => url.clone(),
            Reference::Path(path) => relative(document, path),
        }
    }

    /// The reference below the repository's external URL `base` (which ends in a slash).
    pub(crate) fn absolute(&self, base: &str) -> String {
        match self {
            Reference::Url(url) => url.clone(),
            Reference::Path(path) => format!("{base}{path}"),
        }
    }
}

/// The relative URL from the document at canonical path `document` to `path` (percent-encoded, from the
/// repository's root). A first segment with a colon gets `./`, or it would read as a scheme.
fn relative(document: &RepoPath, path: &str) -> String {
    let parent = artifactapi_model::path::encode(document.parent());
    let mut common = 0;
    for (end, _) in parent.match_indices('/') {
        if path.get(..=end) != Some(&parent[..=end]) {
            break;
        }
        common = end + 1;
    }
    let ups = "../".repeat(parent[common..].matches('/').count());
    let rest = &path[common..];
    let first = rest.split('/').next().unwrap_or_default();
    if ups.is_empty() && (first.contains(':') || rest.is_empty()) {
        format!("./{rest}")
    } else {
        format!("{ups}{rest}")
    }
}

/// The resource behind a signed link: immutable, known to the index that named it.
pub(crate) fn linked_file(file: NamedFile) -> Resource {
    let magic = if file.suffix.is_empty() { Magic::of_name(file.path.file_name()) } else { None };
    let mut aliases = Vec::new();
    if let Ok(path) = RepoPath::parse(file.url.path().trim_start_matches('/'), Spelling::Plain) {
        aliases.push(path.as_str().to_owned());
    }
    Resource {
        aliases,
        location: Location::Named(file.url),
        magic,
        indexes: vec![IndexRef::held(file.index)],
        ..Resource::file(file.path, Mutability::Immutable)
    }
}

#[cfg(test)]
mod tests;
