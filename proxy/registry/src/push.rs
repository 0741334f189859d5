//! Pushing a blob: sessions, and the requests that write to them.
//!
//! A request that writes runs as a task of its own: when its client leaves, what came is kept all the same, and the
//! session is given back. Order of a close: digest compared, blob announced, body durable, one transaction that links
//! it and ends the session, answer. Whatever dies in between, nothing is linked that is not there, and what is not
//! linked is collected.

mod write;

use std::{pin::Pin, time::Duration};

use artifactapi_model::{
    Digest, Local, RepoId,
    oci::{Algorithm, ImageName, OciDigest},
    ports::{
        ImageKey, UploadId,
        registry::{Begun, Linking, UploadLimits, UploadProgress, UploadState},
    },
};
use bytes::Bytes;
use futures_util::Stream;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{Registry, RegistryError, hashes::Hashes};

/// Open sessions of one Local.
const MAX_SESSIONS: u64 = 4_096;
/// How long a session is claimed; renewed while its request goes on.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// Locals looked at for a blob that is to be mounted from anywhere.
const MAX_SOURCES: usize = 64;

/// A request body: an error of it is the client's.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyLost>> + Send>>;

/// The request body broke off, or came too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLost;

/// Bytes `start` to `end`, both counted, of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Place of the first byte.
    pub start: u64,
    /// Place of the last byte.
    pub end: u64,
}

/// What became of a request that wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// More may come.
    Open {
        /// Bytes the session has.
        offset: u64,
    },
    /// The image has the blob.
    Blob(OciDigest),
}

/// Where a blob is to be mounted from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// From this image of this Local.
    Image(&'a Local, ImageName),
    /// From any image of these Locals, the first that has it.
    Anywhere(&'a [RepoId]),
}

/// One request that writes to a session.
pub struct Write {
    /// The session.
    pub id: UploadId,
    /// Where the client says its bytes belong.
    pub span: Option<Span>,
    /// The bytes.
    pub body: Body,
    /// The blob they complete.
    pub digest: Option<OciDigest>,
    /// The session was opened for this request alone: when it fails, nothing is left.
    pub whole: bool,
}

impl Registry {
    /// Opens a session.
    ///
    /// # Errors
    /// [`RegistryError`]; a session that could not be opened leaves nothing.
    pub async fn begin(
        &self,
        local: &Local,
        name: &ImageName,
        algorithm: Algorithm,
    ) -> Result<UploadId, RegistryError> {
        writable(local)?;
        let image = key(local, name);
        let id = UploadId::of(random()?);
        let limits = UploadLimits { sessions: MAX_SESSIONS, quota: local.spec.quota };
        match self.rows.begin_upload(&image, &id, &limits).await? {
            Begun::Started => {}
            Begun::TooMany => return Err(RegistryError::TooManyUploads),
            Begun::OverQuota => return Err(over_quota(local)),
        }
        if algorithm != Algorithm::default() {
            let hashes = Hashes::for_algorithm(algorithm).save();
            let progress = UploadProgress { hashes, ..UploadProgress::default() };
            let writer = writer()?;
            self.rows.claim_upload(&image, &id, &writer, LEASE).await?;
            if !self.rows.save_upload(&id, &writer, &progress, None).await? {
                return Err(RegistryError::UploadUnknown);
            }
        }
        Ok(id)
    }

    /// Locals that have a blob, whoever may read them; at most 64.
    ///
    /// # Errors
    /// The database's.
    pub async fn sources(&self, digest: &OciDigest) -> Result<Vec<RepoId>, RegistryError> {
        Ok(self.rows.locals_with(digest, MAX_SOURCES).await?)
    }

    /// Gives the image a blob that is there already, without its bytes being sent; `None`: they have to be.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn mount(
        &self,
        local: &Local,
        name: &ImageName,
        digest: &OciDigest,
        source: Source<'_>,
    ) -> Result<Option<OciDigest>, RegistryError> {
        writable(local)?;
        let image = key(local, name);
        let sources = match &source {
            Source::Image(from, name) => vec![(from.identity.id, Some(name))],
            Source::Anywhere(locals) => locals.iter().map(|repo| (*repo, None)).collect(),
        };
        if let OciDigest::Sha256(bytes) = digest
            && !sources.is_empty()
            && self.is_lost(&Digest(*bytes)).await
        {
            return Ok(None);
        }
        for from in sources {
            match self.rows.mount(from, &image, digest, local.spec.quota).await? {
                Linking::Linked => {
                    let is_whole = self.has_bytes(local, name, digest).await?;
                    return Ok(is_whole.then_some(*digest));
                }
                Linking::OverQuota => return Err(over_quota(local)),
                Linking::Missing | Linking::BeingDeleted => {}
            }
        }
        Ok(None)
    }

    /// Whether what the image was just given has its bytes: of a sha256 that was known before.
    async fn has_bytes(
        &self,
        local: &Local,
        name: &ImageName,
        digest: &OciDigest,
    ) -> Result<bool, RegistryError> {
        match digest {
            OciDigest::Sha256(_) => Ok(true),
            OciDigest::Sha512(_) => match self.blob(local, name, digest, true).await {
                Ok(_) => Ok(true),
                Err(RegistryError::BlobUnknown(_)) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Bytes a session has.
    ///
    /// # Errors
    /// [`RegistryError::UploadUnknown`], or a store's.
    pub async fn upload_offset(
        &self,
        local: &Local,
        name: &ImageName,
        id: &UploadId,
    ) -> Result<u64, RegistryError> {
        match self.rows.upload(&key(local, name), id).await? {
            Some(UploadState::Open(progress)) => Ok(progress.offset),
            Some(UploadState::Closed(_)) | None => Err(RegistryError::UploadUnknown),
        }
    }

    /// Ends a session; its bytes go.
    ///
    /// # Errors
    /// [`RegistryError::ReadOnly`], [`RegistryError::UploadUnknown`], or a store's.
    pub async fn cancel(&self, local: &Local, name: &ImageName, id: &UploadId) -> Result<(), RegistryError> {
        writable(local)?;
        let image = key(local, name);
        let state = self.rows.upload(&image, id).await?;
        if !self.rows.cancel_upload(&image, id).await? {
            return Err(RegistryError::UploadUnknown);
        }
        if let Some(UploadState::Open(UploadProgress { stored, .. })) = state {
            self.discard(id, &stored, false).await;
        }
        Ok(())
    }

    /// Appends to a session, and closes it where a digest is given.
    ///
    /// # Errors
    /// [`RegistryError`]; bytes that came before one stay in the session, unless they were the wrong ones.
    pub async fn write(
        &self,
        local: &Local,
        name: &ImageName,
        write: Write,
    ) -> Result<Pushed, RegistryError> {
        writable(local)?;
        let (registry, local, image) = (self.clone(), local.clone(), key(local, name));
        let task = tokio::spawn(async move { registry.write_here(&local, &image, write).await });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(RegistryError::Busy("this process is ending")),
        }
    }
}

/// The key of an image.
pub(crate) fn key(local: &Local, name: &ImageName) -> ImageKey {
    ImageKey { repo: local.identity.id, name: name.clone() }
}

/// # Errors
/// [`RegistryError::ReadOnly`].
pub(crate) fn writable(local: &Local) -> Result<(), RegistryError> {
    if local.spec.read_only { Err(RegistryError::ReadOnly) } else { Ok(()) }
}

pub(crate) fn over_quota(local: &Local) -> RegistryError {
    RegistryError::OverQuota(local.spec.quota.unwrap_or_default())
}

fn random() -> Result<[u8; 16], RegistryError> {
    let mut bytes = [0; 16];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(RegistryError::Busy("the operating system gave no random bytes")),
    }
}

/// A name that no other request has.
pub(crate) fn writer() -> Result<String, RegistryError> {
    random().map(hex::encode)
}
