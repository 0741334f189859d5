//! Earlier generations of an index, for clients that hold it since then. They are rows below the Virtual itself,
//! each naming a stored generation: `-/generation/{rules}/{index}/{inputs}`.
//!
//! Only those made by the same rules count: what is hidden now is not shown by what was once written.

use std::sync::Arc;

use artifactapi_model::{
    ArtifactKey, Digest, Mutability, RepoPath,
    ports::metadata::{ArtifactRow, DerivedRow},
};

use super::{Union, generation::Generation};
use crate::{Engine, error::FetchError};

/// Most generations looked at when old ones are dropped.
const MAX_ROWS: usize = 64;
/// Most generations looked through for a file.
const MAX_EARLIER: usize = 8;

fn prefix(union: &Union, index: &RepoPath) -> String {
    let rules = Digest::of(union.fingerprint.as_bytes()).to_hex();
    format!("-/generation/{}/{index}/", &rules[..16])
}

impl Engine {
    /// Notes that the generation made of `inputs`, stored as `row`, is the newest, and drops those whose time is over.
    pub(super) async fn remember(
        self: &Arc<Self>,
        union: &Union,
        index: &RepoPath,
        inputs: &Digest,
        row: &DerivedRow,
    ) -> Result<(), FetchError> {
        let Some(identity) = union.identity else { return Ok(()) };
        let now = self.ports.clock.now();
        let prefix = prefix(union, index);
        let key = |path: &str| ArtifactKey { repo: identity.id, epoch: identity.epoch, path: path.into() };
        let artifact = ArtifactRow {
            digest: row.digest,
            size: row.size,
            mutability: Mutability::Mutable,
            headers: Arc::from([]),
            source_url: String::new(),
            verified: true,
            stored_at: now,
            checked_at: now,
            fetch_seq: self.ports.metadata.next_fetch_seq().await?,
        };
        self.ports.metadata.commit_artifact(&key(&format!("{prefix}{}", inputs.to_hex())), &artifact).await?;
        let rows =
            self.ports.metadata.paths_with_prefix(identity.id, identity.epoch, &prefix, MAX_ROWS).await?;
        for path in rows.iter().skip(1) {
            let Some(old) = self.ports.metadata.artifact(&key(path)).await? else { continue };
            if now.since(old.stored_at) > self.options.keep_generations {
                self.ports.metadata.forget_artifact(&key(path), &old.digest).await?;
            }
        }
        Ok(())
    }

    /// Generations of the index at `index`, newest first, without those that cannot be read any more.
    pub(super) async fn earlier(
        self: &Arc<Self>,
        union: &Union,
        index: &RepoPath,
    ) -> Result<Vec<Arc<Generation>>, FetchError> {
        let Some(identity) = union.identity else { return Ok(Vec::new()) };
        let prefix = prefix(union, index);
        let rows =
            self.ports.metadata.paths_with_prefix(identity.id, identity.epoch, &prefix, MAX_EARLIER).await?;
        let mut found = Vec::with_capacity(rows.len());
        for path in rows {
            let Some(inputs) = path.strip_prefix(&prefix).and_then(|hex| hex.parse::<Digest>().ok()) else {
                continue;
            };
            found.extend(self.stored_generation(&inputs).await?);
        }
        Ok(found)
    }
}
