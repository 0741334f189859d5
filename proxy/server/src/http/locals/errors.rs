//! [`RegistryError`] → status and code of the distribution specification.

use std::time::Duration;

use artifactapi_model::oci::InvalidReference;
use artifactapi_registry::RegistryError;
use http::StatusCode;

use crate::http::errors::{self, Refused};

/// Wait suggested for something that passes in a moment.
const MOMENT: Duration = Duration::from_secs(1);
/// Wait suggested where others have to end first.
const SOON: Duration = Duration::from_secs(10);

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        refusal(&error)
    }
}

/// What `error` is to a client.
pub(super) fn refusal(error: &RegistryError) -> Refused {
    let words = error.to_string();
    let of = |status, code| Refused::new(status, code, words.clone());
    match error {
        RegistryError::BlobUnknown(_) => of(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        RegistryError::UploadUnknown => of(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        RegistryError::UploadInvalid(_) | RegistryError::BodyLost => {
            of(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID")
        }
        RegistryError::RangeInvalid { .. } => of(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
        RegistryError::DigestMismatch { .. } => of(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        RegistryError::Reference(InvalidReference::Digest(_)) => {
            of(StatusCode::BAD_REQUEST, "DIGEST_INVALID")
        }
        RegistryError::Reference(InvalidReference::Tag(_)) => of(StatusCode::BAD_REQUEST, "TAG_INVALID"),
        RegistryError::ManifestBlobUnknown(_) | RegistryError::ManifestChildUnknown(_) => {
            of(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN")
        }
        RegistryError::ManifestInvalid(_) => of(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        RegistryError::ManifestUnknown => of(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        RegistryError::NameUnknown => of(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        RegistryError::TooLarge { .. } => of(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        RegistryError::ImmutableTag(_) | RegistryError::OverQuota(_) => of(StatusCode::FORBIDDEN, "DENIED"),
        RegistryError::ReadOnly | RegistryError::NoDeletes | RegistryError::BlobInUse(_) => {
            of(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED")
        }
        RegistryError::TooManyUploads => {
            let refused = of(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS");
            Refused { retry_after: Some(SOON), ..refused }
        }
        RegistryError::Busy(_) => Refused::unavailable(words, MOMENT),
        RegistryError::Metadata(error) => {
            tracing::error!(%error, "a registry request failed at the database");
            errors::of_metadata(error)
        }
        RegistryError::Blob(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, cause, "a registry request failed at the blob store");
            errors::of_blob(error)
        }
    }
}

/// 404 for an id that is none of ours.
pub(super) fn unknown_upload() -> Refused {
    RegistryError::UploadUnknown.into()
}
