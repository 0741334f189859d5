//! Rows: what is stored under which key, what was seen first, who asked.
//!
//! Writes of artifacts are fenced: a fill takes a number when it begins ([`MetadataStore::next_fetch_seq`])
//! and a commit with a lower number than the stored row changes nothing. Bytes are durable in the blob
//! store before their row is written.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    digest::Digest,
    hold::Hold,
    key::{ArtifactKey, Epoch, RepoId},
    name::RepoName,
    policy::Mutability,
    repository::{PackageType, RepoIdentity},
};

/// Why the database could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataError {
    /// It cannot be reached or did not answer.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Its disk is full.
    #[error("the database has no room: {0}")]
    Full(String),
    /// It refused or answered nonsense.
    #[error("the database failed while {doing}: {message}")]
    Failed {
        /// What was tried, as "recording an artifact".
        doing: &'static str,
        /// The cause, without secrets.
        message: String,
    },
}

/// What is known of one stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRow {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it was stored as immutable.
    pub mutability: Mutability,
    /// Upstream's response headers that are kept (lower-case names; `content-type`, `content-disposition`,
    /// `content-language`, `last-modified`, `link`, `docker-content-digest`), and `etag` as upstream's
    /// validator, never sent to clients.
    pub headers: Arc<[(String, String)]>,
    /// URL the body finally came from, after redirects, without userinfo and query; what relative links
    /// inside it refer to.
    pub source_url: String,
    /// Whether a published checksum was held against it.
    pub verified: bool,
    /// When the bytes were stored.
    pub stored_at: Timestamp,
    /// When upstream last confirmed them (a fetch or a 304).
    pub checked_at: Timestamp,
    /// The fence number of the fill that wrote it.
    pub fetch_seq: i64,
}

impl ArtifactRow {
    /// The first kept header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What became of [`MetadataStore::commit_artifact`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The row is stored.
    Stored,
    /// A later fill got there first; its row stays.
    Superseded,
    /// The key is immutable and the ledger holds another digest: nothing was stored (RS-08).
    Pinned(Digest),
}

/// What a fill must know before it asks upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchStart {
    /// The fence of the fill that begins: higher than any given before, on any replica.
    pub fetch_seq: i64,
    /// What is stored at this moment: a twin may have filled the key meanwhile.
    pub row: Option<ArtifactRow>,
    /// The digest first seen for the key, if it is immutable.
    pub pinned: Option<Digest>,
}

/// What became of [`MetadataStore::announce_blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The blob will not be collected for the grace period: its bytes may be put, and rows may name it.
    Kept,
    /// The collector is deleting it at this moment: ask again in a moment.
    BeingDeleted,
}

/// A derived document: a rewritten or merged index, a pure function of what its key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedRow {
    /// SHA-256 of the document.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its gzip form in the blob store and that form's length, when it is worth it.
    pub gzip: Option<(Digest, u64)>,
    /// Content-Type to send.
    pub content_type: String,
}

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRecord {
    /// When the request ended.
    pub at: Timestamp,
    /// Repository name; empty when the request named none.
    pub repository: String,
    /// Method.
    pub method: String,
    /// Canonical path, without query.
    pub path: String,
    /// Status sent.
    pub status: u16,
    /// Cache outcome (`hit`, `miss`, `stale`, …).
    pub outcome: String,
    /// Body bytes sent.
    pub bytes: u64,
    /// Time to the last byte, in microseconds.
    pub duration_us: u64,
    /// Client address, without port.
    pub client: String,
}

/// One page of a walk over all artifacts, in (repo, epoch, path) order.
pub type ArtifactPage = Vec<(ArtifactKey, ArtifactRow)>;

/// The metadata database.
#[async_trait]
pub trait MetadataStore: Send + Sync + 'static {
    /// Finds or makes the repository `namespace`/`name`. The same type adopts what was there; another
    /// `base_url` bumps the epoch; another type starts a new row.
    async fn ensure_repository(
        &self,
        namespace: &str,
        name: &RepoName,
        package_type: PackageType,
        base_url: &str,
    ) -> Result<RepoIdentity, MetadataError>;

    /// A number higher than any given before, for the fence.
    async fn next_fetch_seq(&self) -> Result<i64, MetadataError>;

    /// Begins a fill of `key`: its fence, and what is known at this moment, in one statement where the database
    /// can.
    async fn begin_fetch(&self, key: &ArtifactKey) -> Result<FetchStart, MetadataError> {
        let fetch_seq = self.next_fetch_seq().await?;
        let (row, pinned) = (self.artifact(key).await?, self.pinned(key).await?);
        Ok(FetchStart { fetch_seq, row, pinned })
    }

    /// Says that a blob of `size` bytes is about to be put, or is there and about to be named by a row: it
    /// becomes live and is kept for the collector's grace period, counted on the database's clock. Called before
    /// the bytes go to the blob store, so that a collection under way can never take them (RS-114).
    async fn announce_blob(&self, digest: &Digest, size: u64) -> Result<Announced, MetadataError>;

    /// Keeps the blob from [`super::Housekeeping::claim_unnamed`] for as long as the result lives: from before it is
    /// announced until a row names it. A database that several processes use takes nothing at once, and holds nothing.
    fn hold(&self, digest: &Digest) -> Hold {
        let _ = digest;
        Hold::default()
    }

    /// What is stored under `key`.
    async fn artifact(&self, key: &ArtifactKey) -> Result<Option<ArtifactRow>, MetadataError>;

    /// Records `row` under `key` in one statement: fenced by `row.fetch_seq`; for immutable rows the ledger
    /// takes the digest when it has none and refuses another. The same transaction announces the blob again; one
    /// that is being deleted is not named: that is an error, and nothing is recorded.
    async fn commit_artifact(&self, key: &ArtifactKey, row: &ArtifactRow)
    -> Result<Committed, MetadataError>;

    /// Upstream confirmed the stored body `digest`: sets `checked_at` and, where given, the headers. Fenced as a
    /// commit; `false` when the row has another body by now, was written by a later fill, or is gone.
    async fn confirm_artifact(
        &self,
        key: &ArtifactKey,
        digest: &Digest,
        fetch_seq: i64,
        checked_at: Timestamp,
        headers: Option<&[(String, String)]>,
    ) -> Result<bool, MetadataError>;

    /// Forgets the row (not the ledger, not the bytes) if it still carries `digest`.
    async fn forget_artifact(&self, key: &ArtifactKey, digest: &Digest) -> Result<(), MetadataError>;

    /// The digest first seen for an immutable key; it survives eviction.
    async fn pinned(&self, key: &ArtifactKey) -> Result<Option<Digest>, MetadataError>;

    /// Clears that pin, on an operator's word.
    async fn unpin(&self, key: &ArtifactKey) -> Result<(), MetadataError>;

    /// Paths (with query) of stored artifacts that begin with `prefix`, newest first.
    async fn paths_with_prefix(
        &self,
        repo: RepoId,
        epoch: Epoch,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, MetadataError>;

    /// The derived document made from `inputs` (a digest over everything it depends on).
    async fn derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, MetadataError>;

    /// Records it. Another row under the same inputs stays. Its blobs are announced again, as by
    /// [`MetadataStore::commit_artifact`].
    async fn put_derived(
        &self,
        inputs: &Digest,
        row: &DerivedRow,
        now: Timestamp,
    ) -> Result<(), MetadataError>;

    /// A random 32-byte secret called `name`, made once and the same for all replicas.
    async fn shared_secret(&self, name: &str) -> Result<[u8; 32], MetadataError>;

    /// The text of the signing key called `name`. When there is none, `candidate` becomes it, unless another
    /// replica is first: all get the same, for ever. It is stored as it is: the caller has sealed it.
    async fn signing_key(&self, name: &str, candidate: Option<&str>)
    -> Result<Option<String>, MetadataError>;

    /// Notes when keys were last asked for. Unknown keys are skipped.
    async fn touch(&self, uses: &[(ArtifactKey, Timestamp)]) -> Result<(), MetadataError>;

    /// Appends to the access log.
    async fn log_access(&self, records: &[AccessRecord]) -> Result<(), MetadataError>;

    /// Drops access records from before `before`; returns how many.
    async fn expire_access_log(&self, before: Timestamp) -> Result<u64, MetadataError>;

    /// A page of all artifacts after `after`.
    async fn artifacts_after(
        &self,
        after: Option<&ArtifactKey>,
        limit: usize,
    ) -> Result<ArtifactPage, MetadataError>;

    /// Which of `digests` some row (artifact or derived, plain or gzip) names.
    async fn referenced(&self, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError>;

    /// A page of all derived rows after `after`, in `inputs` order.
    async fn derived_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, DerivedRow)>, MetadataError>;

    /// Forgets a derived row.
    async fn forget_derived(&self, inputs: &Digest) -> Result<(), MetadataError>;
}
