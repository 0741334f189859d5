//! Why a registry says no.

use artifactapi_model::{
    oci::{InvalidReference, OciDigest, Tag},
    ports::{BlobError, MetadataError},
};

/// Why it could not be done. Each says what is wrong and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such blob in this image.
    #[error("this image has no blob {0}")]
    BlobUnknown(OciDigest),
    /// No such session.
    #[error("there is no such upload: it has ended, or nobody wrote to it for too long; begin a new one")]
    UploadUnknown,
    /// The request does not fit the session.
    #[error("{0}")]
    UploadInvalid(&'static str),
    /// The bytes do not begin where the session is.
    #[error("the upload has {offset} bytes: go on from there")]
    RangeInvalid {
        /// Bytes the session has.
        offset: u64,
    },
    /// The bytes are not those of the digest.
    #[error("the bytes that came are {got}, not {wanted}")]
    DigestMismatch {
        /// What the client said.
        wanted: Box<OciDigest>,
        /// What came.
        got: Box<OciDigest>,
    },
    /// A digest or tag is malformed.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A manifest names a blob that was not pushed.
    #[error("the manifest names blob {0}, which this image does not have: push it first")]
    ManifestBlobUnknown(OciDigest),
    /// An index names a manifest that was not pushed.
    #[error("the index names manifest {0}, which this image does not have: push it first")]
    ManifestChildUnknown(OciDigest),
    /// A manifest cannot be taken.
    #[error("the manifest cannot be taken: {0}")]
    ManifestInvalid(String),
    /// No such manifest.
    #[error("this image has no such manifest")]
    ManifestUnknown,
    /// No such image.
    #[error("there is no such image")]
    NameUnknown,
    /// It is larger than what is taken.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How much is taken, in bytes.
        limit: u64,
    },
    /// A tag that cannot be moved or deleted.
    #[error("tag {0} cannot be moved or deleted (spec.immutableTags); use another one")]
    ImmutableTag(Tag),
    /// A manifest needs it.
    #[error("a manifest of this image needs blob {0}: delete the manifest first")]
    BlobInUse(OciDigest),
    /// The Local takes no writes.
    #[error("this repository is read-only (spec.readOnly)")]
    ReadOnly,
    /// The Local takes no deletions.
    #[error("nothing can be deleted here (spec.allowDeletes: false)")]
    NoDeletes,
    /// The Local is full.
    #[error(
        "this repository holds as much as it may (spec.quota.bytes: {0}); delete something or have it raised"
    )]
    OverQuota(u64),
    /// Too many sessions.
    #[error("too many uploads to this repository are under way; end some, or wait")]
    TooManyUploads,
    /// Something that passes in a moment.
    #[error("{0}; try again in a moment")]
    Busy(&'static str),
    /// The client's body broke off.
    #[error("the request body broke off")]
    BodyLost,
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl RegistryError {
    /// The bytes are `got`, not `wanted`.
    pub(crate) fn mismatch(wanted: OciDigest, got: OciDigest) -> Self {
        RegistryError::DigestMismatch { wanted: Box::new(wanted), got: Box::new(got) }
    }
}
