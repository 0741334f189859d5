//! Earlier generations of an index, for clients that hold it since then. They are rows below the Virtual itself,
//! each naming a stored generation: `-/generation/{digest of the rules}/{digest of the index's path}/{inputs}`. A row's
//! date is when the generation last became current, so that one has been over since the next one's date.
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
    let (rules, index) = (union.fingerprint.to_hex(), Digest::of(index.as_str().as_bytes()).to_hex());
    format!("-/generation/{}/{}/", &rules[..16], &index[..16])
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
        let mut over_since = now;
        for path in rows.iter().filter(|path| !path.ends_with(&inputs.to_hex())) {
            let Some(old) = self.ports.metadata.artifact(&key(path)).await? else { continue };
            if now.since(over_since) > self.options.keep_generations {
                self.ports.metadata.forget_artifact(&key(path), &old.digest).await?;
            }
            over_since = old.stored_at;
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
        let (now, mut over_since) = (self.ports.clock.now(), None);
        for path in rows {
            let key = ArtifactKey { repo: identity.id, epoch: identity.epoch, path: path.as_str().into() };
            let Some(row) = self.ports.metadata.artifact(&key).await? else { continue };
            if over_since.is_some_and(|over| now.since(over) > self.options.keep_generations) {
                break;
            }
            over_since = Some(row.stored_at);
            let inputs = path.strip_prefix(&prefix).and_then(|hex| hex.parse::<Digest>().ok());
            if let Some(inputs) = inputs {
                found.extend(self.stored_generation(&inputs).await?);
            }
        }
        Ok(found)
    }
}
