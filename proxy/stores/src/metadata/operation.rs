//! What is asked of the database: a name for each operation, and how many SQL statements each has cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One operation of the metadata port, of housekeeping, of the registry, or of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metadata) enum Operation {
    EnsureRepository,
    NextFetchSeq,
    Artifact,
    CommitArtifact,
    ConfirmArtifact,
    ForgetArtifact,
    Pinned,
    Unpin,
    PathsWithPrefix,
    Derived,
    PutDerived,
    SharedSecret,
    Touch,
    LogAccess,
    ExpireAccessLog,
    ArtifactsAfter,
    Referenced,
    DerivedAfter,
    ForgetDerived,
    AnnounceBlob,
    CondemnBlobs,
    ClaimBlobs,
    DropBlob,
    TakeUpStrays,
    BlobStates,
    Usage,
    ExpireUnused,
    LeastUsed,
    Change,
    ExpireDerived,
    RetireOthers,
    ExpireRetired,
    Ping,
    BeginFetch,
    RegisterReplica,
    LiveReplicas,
    ForgetReplica,
    LoadConfig,
    ConfigVersion,
    ApplyConfig,
    Notify,
    TakeTurn,
    Recorded,
    BlobsAfter,
    Notices,
    BeginUpload,
    Upload,
    ClaimUpload,
    SaveUpload,
    HasRoom,
    CloseUpload,
    CancelUpload,
    EndedUploads,
    ForgetUpload,
    KnownUploads,
    Linked,
    LocalsWith,
    Mount,
    Unlink,
    ExpireLinks,
    LocalUsage,
    Place,
    Placed,
    Settled,
    RetiredPlaces,
    ForgetPlace,
    Pushed,
    PutManifest,
    Manifest,
    Tags,
    TagsOf,
    HoldingTags,
    DeleteTag,
    DeleteManifest,
    Referrers,
    Images,
    ExpireManifests,
    PurgeLocal,
    Holder,
    AddToken,
    Tokens,
    RevokeToken,
    NoteTokenUses,
    PutRobot,
    Robots,
    RemoveRobot,
    DeclareRobots,
    ApplyDelta,
    Fence,
    Observe,
    Observed,
    RequestProbes,
    ScheduleProbes,
    TakeProbes,
    ForgetProbes,
    TokensOf,
    SigningKey,
}

impl Operation {
    /// All of them, in the order of their discriminants.
    const ALL: [Operation; 97] = [
        Operation::EnsureRepository,
        Operation::NextFetchSeq,
        Operation::Artifact,
        Operation::CommitArtifact,
        Operation::ConfirmArtifact,
        Operation::ForgetArtifact,
        Operation::Pinned,
        Operation::Unpin,
        Operation::PathsWithPrefix,
        Operation::Derived,
        Operation::PutDerived,
        Operation::SharedSecret,
        Operation::Touch,
        Operation::LogAccess,
        Operation::ExpireAccessLog,
        Operation::ArtifactsAfter,
        Operation::Referenced,
        Operation::DerivedAfter,
        Operation::ForgetDerived,
        Operation::AnnounceBlob,
        Operation::CondemnBlobs,
        Operation::ClaimBlobs,
        Operation::DropBlob,
        Operation::TakeUpStrays,
        Operation::BlobStates,
        Operation::Usage,
        Operation::ExpireUnused,
        Operation::LeastUsed,
        Operation::Change,
        Operation::ExpireDerived,
        Operation::RetireOthers,
        Operation::ExpireRetired,
        Operation::Ping,
        Operation::BeginFetch,
        Operation::RegisterReplica,
        Operation::LiveReplicas,
        Operation::ForgetReplica,
        Operation::LoadConfig,
        Operation::ConfigVersion,
        Operation::ApplyConfig,
        Operation::Notify,
        Operation::TakeTurn,
        Operation::Recorded,
        Operation::BlobsAfter,
        Operation::Notices,
        Operation::BeginUpload,
        Operation::Upload,
        Operation::ClaimUpload,
        Operation::SaveUpload,
        Operation::HasRoom,
        Operation::CloseUpload,
        Operation::CancelUpload,
        Operation::EndedUploads,
        Operation::ForgetUpload,
        Operation::KnownUploads,
        Operation::Linked,
        Operation::LocalsWith,
        Operation::Mount,
        Operation::Unlink,
        Operation::ExpireLinks,
        Operation::LocalUsage,
        Operation::Place,
        Operation::Placed,
        Operation::Settled,
        Operation::RetiredPlaces,
        Operation::ForgetPlace,
        Operation::Pushed,
        Operation::PutManifest,
        Operation::Manifest,
        Operation::Tags,
        Operation::TagsOf,
        Operation::HoldingTags,
        Operation::DeleteTag,
        Operation::DeleteManifest,
        Operation::Referrers,
        Operation::Images,
        Operation::ExpireManifests,
        Operation::PurgeLocal,
        Operation::Holder,
        Operation::AddToken,
        Operation::Tokens,
        Operation::RevokeToken,
        Operation::NoteTokenUses,
        Operation::PutRobot,
        Operation::Robots,
        Operation::RemoveRobot,
        Operation::DeclareRobots,
        Operation::ApplyDelta,
        Operation::Fence,
        Operation::Observe,
        Operation::Observed,
        Operation::RequestProbes,
        Operation::ScheduleProbes,
        Operation::TakeProbes,
        Operation::ForgetProbes,
        Operation::TokensOf,
        Operation::SigningKey,
    ];

    /// Its name in metrics, and what it is doing, for messages.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Operation::EnsureRepository => ("ensure_repository", "finding a repository"),
            Operation::NextFetchSeq => ("next_fetch_seq", "numbering a fetch"),
            Operation::Artifact => ("artifact", "looking up an artifact"),
            Operation::CommitArtifact => ("commit_artifact", "recording an artifact"),
            Operation::ConfirmArtifact => ("confirm_artifact", "confirming an artifact"),
            Operation::ForgetArtifact => ("forget_artifact", "forgetting an artifact"),
            Operation::Pinned => ("pinned", "reading the ledger"),
            Operation::Unpin => ("unpin", "clearing a pin"),
            Operation::PathsWithPrefix => ("paths_with_prefix", "listing artifacts"),
            Operation::Derived => ("derived", "looking up a derived document"),
            Operation::PutDerived => ("put_derived", "recording a derived document"),
            Operation::SharedSecret => ("shared_secret", "reading a secret"),
            Operation::Touch => ("touch", "noting uses"),
            Operation::LogAccess => ("log_access", "writing the access log"),
            Operation::ExpireAccessLog => ("expire_access_log", "expiring the access log"),
            Operation::ArtifactsAfter => ("artifacts_after", "listing artifacts"),
            Operation::Referenced => ("referenced", "looking for references"),
            Operation::DerivedAfter => ("derived_after", "listing derived documents"),
            Operation::ForgetDerived => ("forget_derived", "forgetting a derived document"),
            Operation::AnnounceBlob => ("announce_blob", "announcing a blob"),
            Operation::CondemnBlobs => ("condemn_blobs", "condemning blobs"),
            Operation::ClaimBlobs => ("claim_blobs", "claiming blobs"),
            Operation::DropBlob => ("drop_blob", "dropping a blob"),
            Operation::TakeUpStrays => ("take_up_strays", "taking up strays"),
            Operation::BlobStates => ("blob_states", "counting blobs"),
            Operation::Usage => ("usage", "counting artifacts"),
            Operation::ExpireUnused => ("expire_unused", "expiring unused artifacts"),
            Operation::LeastUsed => ("least_used", "listing the least used artifacts"),
            Operation::Change => ("change", "changing artifacts"),
            Operation::ExpireDerived => ("expire_derived", "expiring derived documents"),
            Operation::RetireOthers => ("retire_others", "retiring repositories"),
            Operation::ExpireRetired => ("expire_retired", "expiring retired repositories"),
            Operation::Ping => ("ping", "looking whether it answers"),
            Operation::BeginFetch => ("begin_fetch", "beginning a fetch"),
            Operation::RegisterReplica => ("register_replica", "registering a replica"),
            Operation::LiveReplicas => ("live_replicas", "listing replicas"),
            Operation::ForgetReplica => ("forget_replica", "forgetting a replica"),
            Operation::LoadConfig => ("load_config", "loading the configuration"),
            Operation::ConfigVersion => ("config_version", "reading the configuration's version"),
            Operation::ApplyConfig => ("apply_config", "applying a configuration"),
            Operation::Notify => ("notify", "notifying replicas"),
            Operation::TakeTurn => ("take_turn", "taking a turn"),
            Operation::Recorded => ("recorded", "looking for repositories"),
            Operation::BlobsAfter => ("blobs_after", "listing blobs"),
            Operation::Notices => ("notices", "passing on notices"),
            Operation::BeginUpload => ("begin_upload", "opening an upload"),
            Operation::Upload => ("upload", "looking up an upload"),
            Operation::ClaimUpload => ("claim_upload", "claiming an upload"),
            Operation::SaveUpload => ("save_upload", "saving an upload"),
            Operation::HasRoom => ("has_room", "looking for room"),
            Operation::CloseUpload => ("close_upload", "closing an upload"),
            Operation::CancelUpload => ("cancel_upload", "cancelling an upload"),
            Operation::EndedUploads => ("ended_uploads", "ending uploads"),
            Operation::ForgetUpload => ("forget_upload", "forgetting an upload"),
            Operation::KnownUploads => ("known_uploads", "looking for uploads"),
            Operation::Linked => ("linked", "looking up a blob of an image"),
            Operation::LocalsWith => ("locals_with", "looking for Locals with a blob"),
            Operation::Mount => ("mount", "mounting a blob"),
            Operation::Unlink => ("unlink", "taking a blob from an image"),
            Operation::ExpireLinks => ("expire_links", "expiring blobs of images"),
            Operation::LocalUsage => ("local_usage", "reading the usage of a Local"),
            Operation::Place => ("place", "looking up the place of a blob"),
            Operation::Placed => ("placed", "listing places of blobs"),
            Operation::Settled => ("settled", "settling a blob"),
            Operation::RetiredPlaces => ("retired_places", "listing retired places"),
            Operation::ForgetPlace => ("forget_place", "forgetting a place"),
            Operation::Pushed => ("pushed", "looking for pushed blobs"),
            Operation::PutManifest => ("put_manifest", "recording a manifest"),
            Operation::Manifest => ("manifest", "looking up a manifest"),
            Operation::Tags => ("tags", "listing tags"),
            Operation::TagsOf => ("tags_of", "listing tags of a manifest"),
            Operation::HoldingTags => ("holding_tags", "listing tags that hold a manifest"),
            Operation::DeleteTag => ("delete_tag", "deleting a tag"),
            Operation::DeleteManifest => ("delete_manifest", "deleting a manifest"),
            Operation::Referrers => ("referrers", "listing referrers"),
            Operation::Images => ("images", "listing images"),
            Operation::ExpireManifests => ("expire_manifests", "expiring manifests"),
            Operation::PurgeLocal => ("purge_local", "purging a Local"),
            Operation::Holder => ("holder", "looking whose a token is"),
            Operation::AddToken => ("add_token", "making a token"),
            Operation::Tokens => ("tokens", "listing tokens"),
            Operation::RevokeToken => ("revoke_token", "revoking a token"),
            Operation::NoteTokenUses => ("note_token_uses", "noting uses of tokens"),
            Operation::PutRobot => ("put_robot", "making a robot"),
            Operation::Robots => ("robots", "listing robots"),
            Operation::RemoveRobot => ("remove_robot", "removing a robot"),
            Operation::DeclareRobots => ("declare_robots", "taking up robots of manifests"),
            Operation::ApplyDelta => ("apply_delta", "changing a configuration"),
            Operation::Fence => ("fence", "fencing off former leaders"),
            Operation::Observe => ("observe", "recording what was seen of upstreams"),
            Operation::Observed => ("observed", "reading what was seen of upstreams"),
            Operation::RequestProbes => ("request_probes", "asking for probes"),
            Operation::ScheduleProbes => ("schedule_probes", "scheduling probes"),
            Operation::TakeProbes => ("take_probes", "looking for probes"),
            Operation::ForgetProbes => ("forget_probes", "forgetting probes"),
            Operation::TokensOf => ("tokens_of", "listing tokens of a robot"),
            Operation::SigningKey => ("signing_key", "finding a signing key"),
        }
    }

    pub(in crate::metadata) fn doing(self) -> &'static str {
        self.words().1
    }
}

/// How many SQL statements were executed for each operation. What opens and ends a transaction is not
/// counted: operations share it.
#[derive(Debug)]
pub struct SqlStatements {
    counts: [AtomicU64; Operation::ALL.len()],
    unreadable: AtomicU64,
}

impl Default for SqlStatements {
    fn default() -> Self {
        SqlStatements {
            counts: [const { AtomicU64::new(0) }; Operation::ALL.len()],
            unreadable: AtomicU64::new(0),
        }
    }
}

impl SqlStatements {
    pub(in crate::metadata) fn count(&self, operation: Operation) {
        self.counts[operation as usize].fetch_add(1, Relaxed);
    }

    /// What was read, if it makes sense: a row that makes none counts as absent (RS-88). Logged once, counted
    /// always.
    pub(in crate::metadata) fn sensible<T>(&self, read: Result<T, String>, table: &str) -> Option<T> {
        let reason = match read {
            Ok(value) => return Some(value),
            Err(reason) => reason,
        };
        if self.unreadable.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                table,
                reason,
                "a row makes no sense and is taken as absent; more are only counted"
            );
        }
        None
    }

    /// Rows so far that made no sense and were taken as absent (RS-88).
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Relaxed)
    }

    /// Each operation's name with its statements so far.
    pub fn by_operation(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Operation::ALL.iter().zip(&self.counts).map(|(operation, n)| (operation.words().0, n.load(Relaxed)))
    }

    /// All statements so far.
    pub fn total(&self) -> u64 {
        self.by_operation().map(|(_, statements)| statements).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_own_place_and_name() {
        let mut names = std::collections::BTreeSet::new();
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place);
            assert!(names.insert(operation.words().0));
        }
    }
}
