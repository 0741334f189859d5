//! What an operator changes by name: evict, refresh and unpin one path or all below a prefix.

use std::{fmt, time::Duration};

use artifactapi_formats::{Answer, LinkSigner, Method, Plan, PlanError, Request, format_of};
use artifactapi_model::{
    ArtifactKey, Epoch, PackageType, RepoId, RepoName, RepoPath, Ttl,
    path::{Spelling, encode},
    ports::{
        Housekeeping, MetadataError,
        housekeeping::{Change, Selection},
    },
    repository::{Delivery, FileHosts, OnUpstreamGone, ReadAccess, RemoteSpec},
};

/// What is to be changed, as an operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What a request for this path (percent-encoded, with `?` and query) names.
    Path(String),
    /// Everything whose canonical path begins with this text.
    Prefix(String),
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The database has never seen such a repository.
    #[error("no repository is called {0:?}")]
    Unknown(String),
    /// The path is none of this type.
    #[error("{path:?} is no path of a {package_type} repository: {reason}")]
    Path {
        /// As written.
        path: String,
        /// Of the repository.
        package_type: PackageType,
        /// What is wrong.
        reason: PlanError,
    },
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    change: Change,
    count: u64,
    /// What was meant, in canonical form.
    place: String,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changed { change, count, place } = self;
        match (count, change) {
            (0, Change::Unpin) => write!(f, "nothing is pinned at {place}; nothing was changed"),
            (0, _) => write!(f, "nothing is stored at {place}; nothing was changed"),
            (_, Change::Evict) => write!(f, "{count} evicted at {place}"),
            (_, Change::Refresh) => write!(f, "{count} to be revalidated at {place}"),
            (_, Change::Unpin) => write!(f, "{count} unpinned at {place}"),
        }
    }
}

/// Makes `change` to what is `wanted` of the repository called `name`, whatever namespaces and types have had
/// that name.
///
/// # Errors
/// [`ChangeError`].
pub async fn change(
    keeper: &dyn Housekeeping,
    name: &str,
    wanted: &Wanted,
    change: Change,
) -> Result<Changed, ChangeError> {
    let unknown = || ChangeError::Unknown(name.to_owned());
    let known = RepoName::try_from(name).map_err(|_| unknown())?;
    let mut count = 0;
    let mut place = None;
    let mut refused = None;
    for recorded in keeper.recorded(&known).await? {
        let identity = recorded.identity;
        let selection = match wanted {
            Wanted::Prefix(prefix) => Selection::Prefix(prefix.clone()),
            Wanted::Path(path) => match key_text(&known, recorded.package_type, path) {
                Ok(text) => Selection::Path(text),
                Err(reason) => {
                    let (path, package_type) = (path.clone(), recorded.package_type);
                    refused = Some(ChangeError::Path { path, package_type, reason });
                    continue;
                }
            },
        };
        count += keeper.change(identity.id, identity.epoch, &selection, change).await?;
        place = Some(match selection {
            Selection::Path(path) => format!("{name}/{path}"),
            Selection::Prefix(prefix) => format!("{name}/{prefix}*"),
        });
    }
    match place {
        Some(place) => Ok(Changed { change, count, place }),
        None => Err(refused.unwrap_or_else(unknown)),
    }
}

/// The path and query under which a request for `path` is stored: the type plans it as it plans a client's. What
/// the type has no plan for (signed links, above all) is taken as the canonical path it looks like.
fn key_text(name: &RepoName, package_type: PackageType, path: &str) -> Result<String, PlanError> {
    let mut raw = written(path.trim_start_matches('/'));
    let signer = LinkSigner::new([0; 32]);
    let plan = |raw: &str| {
        let (raw_path, query) = raw.split_once('?').unwrap_or((raw, ""));
        let spec = stand_in(name, package_type, query);
        let request = Request { method: Method::Get, raw_path, query, accept: "" };
        format_of(package_type).plan(&request, &spec, &signer)
    };
    let mut planned = plan(&raw);
    if let Ok(Plan::Answer(Answer::Moved(to))) = planned {
        // A client that goes there gets what is stored.
        planned = plan(&to);
        raw = to;
    }
    let key =
        |path: &RepoPath, query: &str| ArtifactKey::new(RepoId(0), Epoch(0), path, query).path.to_string();
    match planned {
        Ok(Plan::Serve(resource)) => Ok(key(&resource.path, &resource.query)),
        Err(refused @ (PlanError::Path(_) | PlanError::Query(_))) => Err(refused),
        Ok(Plan::Answer(_) | Plan::Pass(_)) | Err(_) => {
            let (raw_path, query) = raw.split_once('?').unwrap_or((&raw, ""));
            Ok(key(&RepoPath::parse(raw_path, Spelling::Plain)?, query))
        }
    }
}

/// `path` as a request would write it: what may not stand in a URL is escaped, what is escaped stays.
fn written(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '%' | '?' | '&' | '=' | '+' => out.push(c),
            _ => out.push_str(&encode(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// A Remote of the type with nothing special about it: paths do not depend on the rest. Every parameter of `query`
/// may be one of those that a generic Remote allows.
fn stand_in(name: &RepoName, package_type: PackageType, query: &str) -> RemoteSpec {
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    let mut query_parameters: Vec<String> =
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    query_parameters.dedup();
    RemoteSpec {
        name: name.clone(),
        namespace: String::new(),
        package_type,
        base_url: url::Url::from_directory_path("/").unwrap_or_else(|()| unreachable!("an absolute path")),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::Forever,
        policy: Default::default(),
        docker: Default::default(),
        query_parameters,
        stale_if_error: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        negative_ttl: Duration::ZERO,
        on_upstream_gone: OnUpstreamGone::Keep,
        credentials: None,
        auth_realms: Vec::new(),
        tls: Default::default(),
        file_hosts: FileHosts::Public,
        egress: Default::default(),
        timeouts: Default::default(),
        max_concurrent: 1,
        delivery: Delivery::Proxy,
        read: ReadAccess::Anonymous,
        suspend: false,
        retention: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use artifactapi_model::{
        Digest, Mutability, Timestamp,
        ports::{MetadataStore as _, metadata::ArtifactRow},
    };
    use artifactapi_stores::MemoryMetadata;

    use super::*;

    fn text(package_type: PackageType, path: &str) -> Result<String, String> {
        let name = RepoName::try_from("r").unwrap();
        key_text(&name, package_type, path).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_named_as_requests_name_them() {
        use PackageType::*;
        for (package_type, path, want) in [
            (Generic, "a/b.bin", "a/b.bin"),
            (Generic, "/a/b.bin", "a/b.bin"),
            (Generic, "a%2Db/\u{fc} x", "a-b/\u{fc} x"),
            (Generic, "a?v=1&w=2", "a?v=1&w=2"),
            (Npm, "@scope%2fname", "@scope/name"),
            (Npm, "@scope/name", "@scope/name"),
            (Pypi, "simple/Flask/", "simple/flask/"),
        ] {
            assert_eq!(text(package_type, path).as_deref(), Ok(want), "{package_type} {path}");
        }
        for path in ["a/../b", "a//b", "a%2fb", "%"] {
            assert!(text(Generic, path).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn the_answer_says_how_many_and_where() {
        let store = Arc::new(MemoryMetadata::default());
        let name = RepoName::try_from("files").unwrap();
        let url = "https://up.test/";
        let identity = store.ensure_repository("default", &name, PackageType::Generic, url).await.unwrap();
        for path in ["a/1", "a/2", "b"] {
            let row = ArtifactRow {
                digest: Digest::of(b"x"),
                size: 1,
                mutability: Mutability::Immutable,
                headers: [].into(),
                source_url: String::new(),
                verified: false,
                stored_at: Timestamp(1),
                checked_at: Timestamp(1),
                fetch_seq: 1,
            };
            let key = ArtifactKey { repo: identity.id, epoch: identity.epoch, path: path.into() };
            store.commit_artifact(&key, &row).await.unwrap();
        }
        let path = |text: &str| Wanted::Path(text.into());
        let prefix = |text: &str| Wanted::Prefix(text.into());
        for (repository, wanted, kind, want) in [
            ("files", path("/b"), Change::Refresh, "1 to be revalidated at files/b"),
            ("files", prefix("a/"), Change::Evict, "2 evicted at files/a/*"),
            ("files", prefix("a/"), Change::Evict, "nothing is stored at files/a/*; nothing was changed"),
            ("files", path("a/1"), Change::Unpin, "1 unpinned at files/a/1"),
            ("files", path("a/1"), Change::Unpin, "nothing is pinned at files/a/1; nothing was changed"),
            (
                "files",
                path("a/../b"),
                Change::Evict,
                "\"a/../b\" is no path of a generic repository: the path has a \".\" or \"..\" segment",
            ),
            ("nope", path("b"), Change::Evict, "no repository is called \"nope\""),
            ("NO NAME", path("b"), Change::Evict, "no repository is called \"NO NAME\""),
        ] {
            let said = match change(&*store, repository, &wanted, kind).await {
                Ok(changed) => changed.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, want);
        }
    }
}
