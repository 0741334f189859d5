//! What may be wrong with an S3 store, found out before anyone needs it.

use std::{io, sync::atomic::Ordering::Relaxed};

use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};

use super::{
    BLOBS, Shared,
    error::{Failure, Refusal},
};

/// What is wrong with an S3 store, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum S3CheckError {
    /// A setting that cannot be used.
    #[error("the S3 settings cannot be used: {0}")]
    Settings(String),
    /// Nobody answers.
    #[error("MINIO_ENDPOINT: {endpoint} cannot be reached: {source}")]
    Unreachable {
        /// URL of the store.
        endpoint: String,
        /// The cause.
        source: io::Error,
    },
    /// There is no such bucket.
    #[error("MINIO_BUCKET: {endpoint} has no bucket {bucket}; make it or name another")]
    NoBucket {
        /// URL of the store.
        endpoint: String,
        /// Its name.
        bucket: String,
    },
    /// The store does not know these credentials.
    #[error("MINIO_ACCESS_KEY or MINIO_SECRET_KEY: {endpoint} refuses them ({answer})")]
    Credentials {
        /// URL of the store.
        endpoint: String,
        /// What it says.
        answer: String,
    },
    /// It knows them, and they may not do this.
    #[error("MINIO_ACCESS_KEY: this key may not {doing} in bucket {bucket} ({answer})")]
    Forbidden {
        /// As "list objects".
        doing: &'static str,
        /// The bucket.
        bucket: String,
        /// What the store says.
        answer: String,
    },
    /// The bucket is elsewhere.
    #[error("MINIO_REGION: bucket {bucket} is not in region {region} ({answer})")]
    Region {
        /// The bucket.
        bucket: String,
        /// The region that is set.
        region: String,
        /// What the store says.
        answer: String,
    },
    /// Anything else.
    #[error("MINIO_ENDPOINT: {endpoint} failed while asked to {doing}: {answer}")]
    Failed {
        /// URL of the store.
        endpoint: String,
        /// As "list objects".
        doing: &'static str,
        /// What the store says, or the cause.
        answer: String,
    },
}

/// Error codes of stores that do not know a key or disagree with its signature.
const UNKNOWN: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AuthorizationParametersError",
];

pub(super) async fn ping(s3: &Shared) -> Result<(), S3CheckError> {
    let list = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
    let listed = s3.store.list_paginated(Some(BLOBS), list).await;
    listed.map(|_| ()).map_err(|error| explain(s3, "list objects", error))
}

pub(super) async fn check(s3: &Shared) -> Result<(), S3CheckError> {
    // Whoever checks wants to know why, not that it was so before.
    s3.health.answered();
    ping(s3).await?;
    let name = crate::random::random::<16>()
        .map_err(|error| S3CheckError::Settings(format!("no random name can be had: {error}")))?;
    let place = Path::from(format!("probe/{}", hex::encode(name)));
    let body = || PutPayload::from_static(b"probe");
    s3.store.put(&place, body()).await.map_err(|error| explain(s3, "write objects", error))?;
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let again = s3.store.put_opts(&place, body(), create).await.map_err(Failure::from);
    let conditional = again.is_err_and(|failure| failure.is_conflict());
    s3.store.delete(&place).await.map_err(|error| explain(s3, "delete objects", error))?;
    if s3.conditional.swap(conditional, Relaxed) != conditional || !conditional {
        let (endpoint, bucket) = (s3.settings.base(), &s3.settings.bucket);
        tracing::info!(%endpoint, %bucket, conditional_put = conditional, "the S3 store can be used");
    }
    Ok(())
}

/// What is wrong when this comes of `doing` something.
fn explain(s3: &Shared, doing: &'static str, error: object_store::Error) -> S3CheckError {
    let (endpoint, bucket) = (s3.settings.base(), s3.settings.bucket.clone());
    let refusal = match Failure::from(error) {
        Failure::Refused(refusal) => refusal,
        Failure::Resting => {
            let source = io::Error::new(io::ErrorKind::NotConnected, Failure::Resting.to_string());
            return S3CheckError::Unreachable { endpoint, source };
        }
        Failure::Broken(source)
            if [io::ErrorKind::NotConnected, io::ErrorKind::TimedOut].contains(&source.kind()) =>
        {
            let source = match source.to_string() {
                text if text.contains("InvalidContentType") => {
                    io::Error::new(source.kind(), format!("{text}; does this port speak TLS (MINIO_SECURE)?"))
                }
                _ => source,
            };
            return S3CheckError::Unreachable { endpoint, source };
        }
        Failure::Broken(source) => {
            return S3CheckError::Failed { endpoint, doing, answer: source.to_string() };
        }
    };
    let answer = refusal.to_string();
    let Refusal { status, code, .. } = refusal;
    let elsewhere =
        ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"];
    match (status, code.as_str()) {
        (404, _) => S3CheckError::NoBucket { endpoint, bucket },
        (_, code) if elsewhere.contains(&code) => {
            S3CheckError::Region { bucket, region: s3.settings.region.clone(), answer }
        }
        (301 | 307, _) => S3CheckError::Region { bucket, region: s3.settings.region.clone(), answer },
        (_, code) if UNKNOWN.contains(&code) => S3CheckError::Credentials { endpoint, answer },
        (401, _) => S3CheckError::Credentials { endpoint, answer },
        (403, _) => S3CheckError::Forbidden { doing, bucket, answer },
        // What Go's servers say to plain HTTP on a port for TLS.
        (400, "") if !s3.settings.secure => {
            let answer = format!("{answer}; does this port speak TLS (MINIO_SECURE)?");
            S3CheckError::Failed { endpoint, doing, answer }
        }
        _ => S3CheckError::Failed { endpoint, doing, answer },
    }
}
