//! What proxies see of upstreams, and who is to look at one: where proxies and the operator meet.
//!
//! Rows are merged, not replaced: each replica tells what it has seen. A look is a *probe*: every Remote has a time at
//! which it is next due, which every observation moves and a request brings forward; whoever takes a probe that is due
//! takes it alone, and others may only when he has not told of it within [`TAKEN`]. Times of rows are the database's.

use std::time::Duration;

use async_trait::async_trait;

use super::MetadataError;
use crate::{RepoName, observation::Observation, repository::RepoIdentity};

/// How long a probe that was taken is its taker's.
pub const TAKEN: Duration = Duration::from_secs(60);

/// What one proxy has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of which Remote.
    pub identity: RepoIdentity,
    /// What.
    pub observation: Observation,
}

/// What all proxies together have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Namespace of the Remote.
    pub namespace: String,
    /// Its name.
    pub name: RepoName,
    /// Where stores know it by.
    pub identity: RepoIdentity,
    /// Rises with every change of any of them.
    pub version: i64,
    /// What is known.
    pub observation: Observation,
}

/// Somebody wants to know how an upstream is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Namespace of the Remote.
    pub namespace: String,
    /// Its name.
    pub name: RepoName,
    /// What the request is called; the observation names it when it is done.
    pub token: String,
    /// The version of the configuration that a proxy must have in service, or a later one.
    pub config: i64,
}

/// A probe to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueProbe {
    /// Of which Remote.
    pub identity: RepoIdentity,
    /// What the request is called; `None` when it was merely time.
    pub token: Option<String>,
}

/// The table of observations and that of probes.
#[async_trait]
pub trait Observations: Send + Sync + 'static {
    /// Merges what was seen into what is known, at most once within `spacing` for a Remote, whoever writes; `seen` has
    /// each Remote once. Which ones are settled; the others are to be told again later. What belongs to an epoch that is
    /// over is settled and dropped. Moves the next probe of each; a request stands until its token is among what was
    /// seen. Whoever follows observations hears of news.
    async fn observe(&self, seen: &[Seen], spacing: Duration) -> Result<Vec<RepoIdentity>, MetadataError>;

    /// What has changed after version `after`, in order of version; of Remotes that exist, in their present epoch.
    async fn observed(&self, after: i64) -> Result<Vec<Observed>, MetadataError>;

    /// Asks for probes, now. A later request for the same Remote takes the place of an earlier one; requests for what
    /// does not exist are nobody's. Proxies hear of it.
    async fn request_probes(&self, wanted: &[ProbeRequest]) -> Result<(), MetadataError>;

    /// Makes sure that each of `remotes` is probed some time: `after` a while, if nothing is known of a probe in this
    /// epoch. Only a proxy that has the version `config` of the configuration in service takes those.
    async fn schedule_probes(
        &self,
        remotes: &[RepoIdentity],
        config: i64,
        after: Duration,
    ) -> Result<(), MetadataError>;

    /// Takes at most `limit` probes that are due and mean the version `config` or an earlier one.
    async fn take_probes(&self, config: i64, limit: usize) -> Result<Vec<DueProbe>, MetadataError>;

    /// These are no longer there: nobody is to probe them in these epochs.
    async fn forget_probes(&self, remotes: &[RepoIdentity]) -> Result<(), MetadataError>;
}
