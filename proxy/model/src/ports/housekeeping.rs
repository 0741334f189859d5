//! What the collector and the command line ask of the database. None of it is on the way of a request.
//!
//! A blob's life: `live` (rows name it, or it was announced lately) → `condemned` (no row named it for the grace
//! period) → `deleting` (nobody named it for another one; its bytes go) → no row. Every step looks again at all
//! references in its own transaction, and counts time on the database's clock (RS rule 9, RS-95). Whoever
//! announces a condemned blob brings it back to life; of one being deleted it hears so and waits.

use std::time::Duration;

use async_trait::async_trait;

use super::MetadataError;
use crate::{
    clock::Timestamp,
    digest::Digest,
    key::{ArtifactKey, Epoch, RepoId},
    name::RepoName,
    repository::{PackageType, RepoIdentity},
};

/// Held by the one process that may do a piece of work; given back when dropped, also by the holder's death.
pub type Turn = Box<dyn Send + Sync>;

/// How many there are, and how many bytes they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Number.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// All blobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the states, see the module")]
pub struct BlobStates {
    pub live: Total,
    pub condemned: Total,
    pub deleting: Total,
}

/// An artifact, and when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Where it is.
    pub key: ArtifactKey,
    /// Its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// As last written down.
    pub used_at: Timestamp,
}

/// A repository as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its namespace.
    pub namespace: String,
    /// Its type.
    pub package_type: PackageType,
    /// Row and origin.
    pub identity: RepoIdentity,
    /// Whether it is missing from the configuration.
    pub retired: bool,
}

/// Which artifacts of one repository and epoch are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The one with exactly this path (and query).
    Path(String),
    /// All whose path begins with this; empty means all.
    Prefix(String),
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The rows go; the ledger keeps their digests, and the collector takes the bytes in time.
    Evict,
    /// `checked_at` becomes the beginning of time: mutable ones are revalidated when they are next asked for.
    Refresh,
    /// The ledger forgets the digests first seen; rows stay (RS-08).
    Unpin,
}

/// The database as the collector sees it.
#[async_trait]
pub trait Housekeeping: Send + Sync + 'static {
    /// Takes the turn for the work called `name`, unless another process has it.
    async fn take_turn(&self, name: &'static str) -> Result<Option<Turn>, MetadataError>;

    /// Condemns up to `limit` live blobs that no row names and that were not announced for `grace`; returns
    /// them. `dry`: changes nothing and tells what it would do.
    async fn condemn_blobs(
        &self,
        grace: Duration,
        limit: usize,
        dry: bool,
    ) -> Result<Vec<(Digest, u64)>, MetadataError>;

    /// Takes up to `limit` blobs whose bytes are to be deleted: those condemned for `grace` that still no row
    /// names, and those that a collector which died left half deleted.
    async fn claim_blobs(&self, grace: Duration, limit: usize) -> Result<Vec<(Digest, u64)>, MetadataError>;

    /// Takes those of `blobs` that no row names, whatever their age, unless somebody holds them
    /// ([`super::MetadataStore::hold`]): their bytes are to be deleted at once. Only a database that one process has
    /// to itself can know who is about to name a blob; any other takes none.
    async fn claim_unnamed(&self, blobs: &[Digest]) -> Result<Vec<(Digest, u64)>, MetadataError> {
        let _ = blobs;
        Ok(Vec::new())
    }

    /// The bytes are gone: the row of a blob being deleted goes too.
    async fn drop_blob(&self, digest: &Digest) -> Result<(), MetadataError>;

    /// Of blobs found in the blob store, takes up as condemned those that have no row (RS-115); how many.
    async fn take_up_strays(&self, found: &[(Digest, u64)]) -> Result<u64, MetadataError>;

    /// All blobs by state.
    async fn blob_states(&self) -> Result<BlobStates, MetadataError>;

    /// A page of all live and condemned blobs after `after`, in digest order.
    async fn blobs_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, MetadataError>;

    /// Bytes of all artifacts of a repository and epoch, each counted as often as it is named.
    async fn usage(&self, repo: RepoId, epoch: Epoch) -> Result<Total, MetadataError>;

    /// Forgets up to `limit` artifacts that were not used since `before`; returns them.
    async fn expire_unused(
        &self,
        repo: RepoId,
        epoch: Epoch,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ArtifactKey>, MetadataError>;

    /// Up to `limit` artifacts, least recently used first.
    async fn least_used(&self, repo: RepoId, epoch: Epoch, limit: usize) -> Result<Vec<Aged>, MetadataError>;

    /// Every repository called `name`, of whatever namespace and type, also retired ones, in order of their ids.
    async fn recorded(&self, name: &RepoName) -> Result<Vec<Recorded>, MetadataError>;

    /// Changes all artifacts that are meant; how many rows (for [`Change::Unpin`], ledger entries) were. A
    /// database that several processes use lets them know.
    async fn change(
        &self,
        repo: RepoId,
        epoch: Epoch,
        selection: &Selection,
        change: Change,
    ) -> Result<u64, MetadataError>;

    /// Forgets up to `limit` derived documents made before `before`; how many. They are made anew when asked for.
    async fn expire_derived(&self, before: Timestamp, limit: usize) -> Result<u64, MetadataError>;

    /// Says which repositories exist now: all others count as retired from the first time they are missing, and
    /// one that comes back is as before.
    async fn retire_others(&self, present: &[RepoId]) -> Result<(), MetadataError>;

    /// Forgets up to `limit` artifacts of repositories retired for `grace`, and of epochs that are over; how
    /// many. The ledger stays.
    async fn expire_retired(&self, grace: Duration, limit: usize) -> Result<u64, MetadataError>;
}
