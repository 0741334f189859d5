//! The cache key: the owner's immutable id, never a host name, a raw path or a name alone (RS-24).

use std::{fmt, sync::Arc};

use crate::path::RepoPath;

/// The row id of a repository; kept by name and namespace across deletion and re-creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(pub i64);

/// Bumped whenever a repository's `baseURL` changes, so that bytes of another origin are never served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// What one stored document or file is known by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ArtifactKey {
    /// The owner.
    pub repo: RepoId,
    /// The owner's origin.
    pub epoch: Epoch,
    /// Canonical path, then `?` and the canonical query where the type allows one.
    pub path: Arc<str>,
}

impl ArtifactKey {
    /// The key of `path` with `query` (already canonical; empty = none).
    pub fn new(repo: RepoId, epoch: Epoch, path: &RepoPath, query: &str) -> Self {
        let path = if query.is_empty() { path.shared() } else { format!("{path}?{query}").into() };
        ArtifactKey { repo, epoch, path }
    }
}

impl fmt::Debug for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.repo.0, self.epoch.0, self.path)
    }
}
