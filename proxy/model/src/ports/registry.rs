//! Rows of Locals of type docker: who has which blob, manifests, tags, and pushes under way.
//!
//! Existence is per image: a blob that another image has is not there until it is pushed or mounted (RS-45). Every
//! call is one transaction, but for those with a `limit` or a list, which may be cut into several. Times are counted
//! on the database's clock. Locks are taken in one order: upload, usage, blob, image (for its manifests and tags),
//! link, manifest, tag.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    MetadataError,
    uploads::{Place, Stored, UploadId},
};
use crate::{
    digest::Digest,
    key::RepoId,
    oci::{ImageName, OciDigest, Reference, Tag},
};

/// One image of one Local.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// The Local's row.
    pub repo: RepoId,
    /// The name below it.
    pub name: ImageName,
}

// --- uploads ---------------------------------------------------------------------------------------------------------

/// What bounds the pushes of one Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Most sessions that are open at one time.
    pub sessions: u64,
    /// Most bytes of blobs, each counted once, and of open sessions together; `None` = no limit.
    pub quota: Option<u64>,
}

/// What became of [`UploadSessions::begin_upload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The session is open.
    Started,
    /// There are too many.
    TooMany,
    /// The Local is full: what it has and what open sessions have leave no room for a single byte.
    OverQuota,
}

/// How far an upload has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadProgress {
    /// Bytes that are durable.
    pub offset: u64,
    /// State of the running hashes after `offset` bytes; the caller's own text, empty at the beginning.
    pub hashes: String,
    /// Where the bytes are.
    pub stored: Stored,
}

/// What a session is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// It takes bytes.
    Open(UploadProgress),
    /// It became this blob: asking to close it so again succeeds again, for a client that did not hear the answer.
    Closed(OciDigest),
}

/// What became of [`UploadSessions::claim_upload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's until the lease is over.
    Taken {
        /// How far it is.
        progress: UploadProgress,
        /// The writer before did not give it back.
        took_over: bool,
    },
    /// Somebody else is writing; what is durable by now.
    Busy(UploadProgress),
    /// It became this blob.
    Closed(OciDigest),
    /// There is none, or none any more.
    Unknown,
}

/// A body that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedUpload {
    /// The name the client gives it.
    pub digest: OciDigest,
    /// Its SHA-256.
    pub blob: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where its bytes are, if not in their own place.
    pub place: Option<Place>,
}

/// What became of [`UploadSessions::close_upload`] or [`BlobLinks::mount`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linking {
    /// The image has the blob.
    Linked,
    /// The session is not the caller's any more; or the blob to be mounted is not there.
    Missing,
    /// The Local would be over its quota: nothing was changed.
    OverQuota,
    /// The collector is deleting the same bytes at this moment: nothing was changed, ask again in a moment.
    BeingDeleted,
}

/// An upload whose bytes can be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedUpload {
    /// Its id.
    pub id: UploadId,
    /// Where its bytes are.
    pub stored: Stored,
    /// Whether a blob has the body for its place.
    pub placed: bool,
}

/// Pushes under way.
#[async_trait]
pub trait UploadSessions: Send + Sync + 'static {
    /// Opens a session.
    async fn begin_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        limits: &UploadLimits,
    ) -> Result<Begun, MetadataError>;

    /// What a session is at; `None`: there is none of this id in this image, or it was cancelled or expired.
    async fn upload(&self, image: &ImageKey, id: &UploadId) -> Result<Option<UploadState>, MetadataError>;

    /// Takes the session for one request, on behalf of `writer` (a name no other request has), until `lease` is
    /// over. A claim whose lease is over is taken over.
    async fn claim_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        lease: Duration,
    ) -> Result<Claim, MetadataError>;

    /// Records how far the claimed session is. With a `lease` it stays claimed for that long from now, without one
    /// it is given back. `false`: it is not `writer`'s any more, and nothing was changed.
    async fn save_upload(
        &self,
        id: &UploadId,
        writer: &str,
        progress: &UploadProgress,
        lease: Option<Duration>,
    ) -> Result<bool, MetadataError>;

    /// Whether the Local takes `more` bytes: what is linked, each blob once, what open sessions have, and `more` are
    /// within `quota`.
    async fn has_room(&self, repo: RepoId, more: u64, quota: u64) -> Result<bool, MetadataError>;

    /// Ends the claimed session: the blob is live, in its place, and the image has it under its digest.
    async fn close_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        body: &ClosedUpload,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError>;

    /// Ends an open session without a blob, whoever has claimed it; `false`: there is none. Its bytes are dropped
    /// by whoever asks for [`UploadSessions::ended_uploads`].
    async fn cancel_upload(&self, image: &ImageKey, id: &UploadId) -> Result<bool, MetadataError>;

    /// Ends up to `limit` open sessions nobody wrote to for `idle`, and returns up to `limit` ended ones whose bytes
    /// may be dropped: those cancelled, those expired, and those closed for `idle`.
    async fn ended_uploads(&self, idle: Duration, limit: usize) -> Result<Vec<EndedUpload>, MetadataError>;

    /// The bytes of an ended session are dropped: its row goes.
    async fn forget_upload(&self, id: &UploadId) -> Result<(), MetadataError>;

    /// Which of `ids` have a row, open or ended, or are the place of a blob, or were one and wait to be removed.
    async fn known_uploads(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, MetadataError>;
}

// --- blobs -----------------------------------------------------------------------------------------------------------

/// A blob that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedBlob {
    /// Its key in the blob store.
    pub blob: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What became of [`BlobLinks::unlink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinking {
    /// The image does not have the blob any more.
    Done,
    /// It did not have it.
    Unknown,
    /// A manifest of the image names it; nothing was changed.
    InUse,
}

/// What one step of [`BlobLinks::expire_links`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpiredLinks {
    /// Links that were looked at, those included that turned out to be needed; fewer than the limit: there are no
    /// more.
    pub looked_at: u64,
    /// Links that were forgotten.
    pub dropped: u64,
}

/// Which images have which blobs.
#[async_trait]
pub trait BlobLinks: Send + Sync + 'static {
    /// The blob that `image` calls `digest`. `renew`: the answer is a promise to somebody who may leave out sending
    /// the bytes, so the link is kept for another grace period (RS-114).
    async fn linked(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        renew: bool,
    ) -> Result<Option<LinkedBlob>, MetadataError>;

    /// Up to `limit` Locals of which some image has the blob, in order.
    async fn locals_with(&self, digest: &OciDigest, limit: usize) -> Result<Vec<RepoId>, MetadataError>;

    /// Gives `image` the blob that `from` has (all images of that Local, when there is no name).
    async fn mount(
        &self,
        from: (RepoId, Option<&ImageName>),
        image: &ImageKey,
        digest: &OciDigest,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError>;

    /// Takes the blob from `image`; effective at once, everywhere (RS-46).
    async fn unlink(&self, image: &ImageKey, digest: &OciDigest) -> Result<Unlinking, MetadataError>;

    /// Looks at up to `limit` links that were not renewed for `grace`, and forgets those that no manifest of their
    /// image names. A link that is needed is not looked at again until a manifest that names it goes, and one that
    /// somebody else is changing at this moment is left to a later call.
    async fn expire_links(&self, grace: Duration, limit: usize) -> Result<ExpiredLinks, MetadataError>;

    /// Bytes of the blobs of a Local, each counted once.
    async fn local_usage(&self, repo: RepoId) -> Result<u64, MetadataError>;
}

/// Blobs whose bytes are not in their own place yet.
#[async_trait]
pub trait Placements: Send + Sync + 'static {
    /// Where the bytes of `digest` are, if not in their own place.
    async fn place(&self, digest: &Digest) -> Result<Option<Place>, MetadataError>;

    /// Up to `limit` blobs that are live and have a place of their own, in the order of their digests, after `after`.
    async fn placed(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64, Place)>, MetadataError>;

    /// The bytes are in their own place now: readers are sent there, and `place` is to be removed later. `false`:
    /// the blob has another place by now, or none.
    async fn settled(&self, digest: &Digest, place: &Place) -> Result<bool, MetadataError>;

    /// Up to `limit` places that no blob has had for `age`.
    async fn retired_places(&self, age: Duration, limit: usize) -> Result<Vec<Place>, MetadataError>;

    /// Which of `blobs` some image has.
    async fn pushed(&self, blobs: &[Digest]) -> Result<Vec<Digest>, MetadataError>;

    /// A retired place was removed.
    async fn forget_place(&self, place: &Place) -> Result<(), MetadataError>;
}

// --- manifests -------------------------------------------------------------------------------------------------------

/// A manifest as it was pushed. Its bytes are in its row: they are few, and are there or not with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `body`, in the algorithm the client chose.
    pub digest: OciDigest,
    /// Its media type, without parameters.
    pub media_type: String,
    /// The exact bytes.
    pub body: Bytes,
}

/// A manifest to be stored, with what was read in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewManifest {
    /// The manifest.
    pub manifest: Manifest,
    /// For the list of referrers: `artifactType`, or the media type of the config.
    pub artifact_type: Option<String>,
    /// For the list of referrers.
    pub annotations: BTreeMap<String, String>,
    /// The manifest it refers to, which need not be there.
    pub subject: Option<OciDigest>,
    /// Config and layers: the image must have them.
    pub blobs: Vec<OciDigest>,
    /// Manifests of an index: the image must have them.
    pub children: Vec<OciDigest>,
    /// Tags that are to point to it.
    pub tags: Vec<NewTag>,
}

/// A tag to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTag {
    /// The tag.
    pub tag: Tag,
    /// It may be set once, and then not be moved.
    pub immutable: bool,
}

/// What became of [`Manifests::put_manifest`]. Unless it was stored, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored, and all tags point to it.
    Stored,
    /// The image does not have this blob.
    MissingBlob(OciDigest),
    /// The image does not have this manifest.
    MissingManifest(OciDigest),
    /// This tag points to another manifest and cannot be moved.
    Immutable(Tag),
}

/// What became of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// It was not there.
    Unknown,
    /// The manifest has this tag too; nothing was changed.
    Tagged(Tag),
}

/// One line of a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The digest of the manifest.
    pub digest: OciDigest,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// As of [`NewManifest`].
    pub artifact_type: Option<String>,
    /// As of [`NewManifest`].
    pub annotations: BTreeMap<String, String>,
}

/// How many indexes, one listing the other, are looked through for what holds a manifest
/// ([`Manifests::holding_tags`]).
pub const HOLDING_DEPTH: u32 = 8;

/// Manifests and tags.
///
/// A manifest is held by tags, and by indexes that list it. One that was held and is so no more is kept for as long
/// as its Local says, and then expires; one that was pushed by digest and never held is kept until it is deleted.
/// A referrer is not held by its subject, but begins to expire when that goes.
#[async_trait]
pub trait Manifests: Send + Sync + 'static {
    /// Stores a manifest and sets its tags. What is there stays as it is, but for the tags, and is kept anew: bytes
    /// that do not say what they are keep the media type they were pushed with first, whatever comes with them later.
    async fn put_manifest(&self, image: &ImageKey, new: &NewManifest) -> Result<Put, MetadataError>;

    /// The manifest that `reference` names. `renew`: the answer is a promise to somebody who may leave out pushing
    /// it, so one that nothing holds any more is kept as if it were let go now. Nothing is written for others.
    async fn manifest(
        &self,
        image: &ImageKey,
        reference: &Reference,
        renew: bool,
    ) -> Result<Option<Manifest>, MetadataError>;

    /// Up to `limit` tags in the order of their bytes, after `after`; `None`: there is no such image.
    async fn tags(
        &self,
        image: &ImageKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, MetadataError>;

    /// All tags of a manifest.
    async fn tags_of(&self, image: &ImageKey, digest: &OciDigest) -> Result<Vec<Tag>, MetadataError>;

    /// Up to `limit` tags in the order of their bytes, after `after`, that point to a manifest the image has, or to an
    /// index of the image that lists it, itself or through up to [`HOLDING_DEPTH`] indexes in all. None: there are no
    /// more.
    async fn holding_tags(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, MetadataError>;

    /// Deletes a tag; its manifest stays.
    async fn delete_tag(&self, image: &ImageKey, tag: &Tag) -> Result<Deleted, MetadataError>;

    /// Deletes a manifest with those of its tags that are in `tags`; when it has another one, nothing happens.
    /// Indexes may list it: they stay.
    async fn delete_manifest(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        tags: &[Tag],
    ) -> Result<Deleted, MetadataError>;

    /// Up to `limit` manifests whose subject is `subject` in order of their digests' text, after `after`; only those
    /// of `artifact_type`, where it is given.
    async fn referrers(
        &self,
        image: &ImageKey,
        subject: &OciDigest,
        artifact_type: Option<&str>,
        after: Option<&OciDigest>,
        limit: usize,
    ) -> Result<Vec<Referrer>, MetadataError>;

    /// Up to `limit` images of a Local that have a manifest, in the order of their bytes, after `after`.
    async fn images(
        &self,
        repo: RepoId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ImageName>, MetadataError>;

    /// Deletes up to `limit` manifests of a Local that nothing has held for `age`; how many.
    async fn expire_manifests(&self, repo: RepoId, age: Duration, limit: usize)
    -> Result<u64, MetadataError>;

    /// Deletes up to `limit` rows of a Local, of one kind at a time, sessions first; how many: none are left at 0. The
    /// blobs are left to the collector.
    async fn purge_local(&self, repo: RepoId, limit: usize) -> Result<u64, MetadataError>;
}

/// All rows of Locals of type docker, in one database.
pub trait RegistryStore: UploadSessions + BlobLinks + Placements + Manifests {}

impl<T: UploadSessions + BlobLinks + Placements + Manifests> RegistryStore for T {}
