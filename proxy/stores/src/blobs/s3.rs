//! Bodies in an S3 bucket: AWS, MinIO, Ceph RGW.
//!
//! ```text
//! blobs/sha256/aa/<hex>     bodies, each named by its SHA-256
//! uploads/<id>              bodies that were pushed and wait to be copied there, and pushes under way
//! uploads/<id>.tail-…       ends of pushes under way that are too short for S3
//! quarantine/<hex>          damaged bodies, kept for inspection
//! probe/<random>            written and removed by the check at start
//! ```
//! Only what every S3 has is needed. A store that refuses to overwrite (`If-None-Match`) saves a question per
//! small body, no more: the same key always has the same bytes. Requests are retried a few times, bounded in
//! time, and each one is counted.

mod check;
mod client;
mod error;
mod health;
mod objects;
mod places;
mod settings;
mod stream;
#[cfg(test)]
pub(in crate::blobs) mod testing;
#[cfg(test)]
mod tests;
mod upload;

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_model::{
    Digest,
    ports::{BlobError, BlobReader, BlobStore, Placements, StagedBlob},
};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, aws::AmazonS3, client::HttpClient, path::Path, signer::Signer};
use url::Url;

#[cfg(test)]
pub(in crate::blobs) use self::upload::MEMORY as UPLOAD_MEMORY;
pub use self::{
    check::S3CheckError,
    client::{S3Counts, S3Tally},
    settings::S3Settings,
};
use self::{client::Client, error::Failure, health::Health, settings::RETRIES, upload::Memory};
pub(in crate::blobs) use self::{
    objects::{NotSent, SentPart},
    places::key_of,
    stream::ObjectStream,
};

use super::tier::through::Through;

const BLOBS: &str = "blobs/sha256";
/// Largest object that S3 copies in one request.
const MAX_COPY: u64 = 5 << 30;

/// A bucket.
#[derive(Clone)]
pub struct S3Blobs(Arc<Shared>);

/// What uploads and streams share.
pub(in crate::blobs) struct Shared {
    settings: S3Settings,
    /// Asks again by itself.
    store: AmazonS3,
    /// Does not: streams do that themselves.
    streams: AmazonS3,
    /// Signs links.
    public: Option<AmazonS3>,
    /// For requests that the stores above do not know.
    http: HttpClient,
    /// Says where blobs are that are not in their own place.
    places: OnceLock<Arc<dyn Placements>>,
    patience: Duration,
    /// The store refuses to overwrite when asked to.
    conditional: AtomicBool,
    memory: Memory,
    tally: Arc<S3Tally>,
    health: Arc<Health>,
}

impl Shared {
    fn conditional_put(&self) -> bool {
        self.conditional.load(Relaxed)
    }
}

/// Key of a blob.
fn place_of(digest: &Digest) -> Path {
    let hex = digest.to_hex();
    Path::from(format!("{BLOBS}/{}/{hex}", &hex[..2]))
}

impl S3Blobs {
    /// A client of the bucket; asks nothing yet. Call it where blocking is allowed: it may read certificates.
    ///
    /// # Errors
    /// Which setting cannot be used.
    pub fn new(settings: S3Settings) -> Result<Self, S3CheckError> {
        let http = client::http_client(settings.secure).map_err(S3CheckError::Settings)?;
        Self::with_client(settings, http)
    }

    /// The same over another HTTP client.
    pub(in crate::blobs) fn with_client(
        settings: S3Settings,
        http: HttpClient,
    ) -> Result<Self, S3CheckError> {
        settings.validate().map_err(S3CheckError::Settings)?;
        let tally = Arc::new(S3Tally::default());
        let health = Arc::new(Health::default());
        let http = HttpClient::new(Client::new(http, tally.clone(), health.clone(), settings.patience));
        let build = |base: &str, retries| {
            let store = settings.build(base, http.clone(), retries);
            store.map_err(|error| S3CheckError::Settings(error.to_string()))
        };
        Ok(S3Blobs(Arc::new(Shared {
            store: build(&settings.base(), RETRIES)?,
            streams: build(&settings.base(), 0)?,
            public: settings.public_endpoint.as_deref().map(|base| build(base, 0)).transpose()?,
            patience: settings.patience,
            http,
            places: OnceLock::new(),
            conditional: AtomicBool::new(false),
            memory: Memory::new(),
            tally,
            health,
            settings,
        })))
    }

    /// Finds blobs also where `places` says that they are, from now on and for every clone; the first call counts.
    /// Nobody is asked about a blob that is in its own place. When `places` fails, so does the question for a blob
    /// that is not: nobody may conclude that there is none.
    pub fn follow(&self, places: Arc<dyn Placements>) {
        let _ = self.0.places.set(places);
    }

    /// Makes sure that the bucket is there and may be read and written, and finds out what the store can.
    ///
    /// # Errors
    /// What is wrong, in one sentence that names the variable to look at.
    pub async fn check(&self) -> Result<(), S3CheckError> {
        check::check(&self.0).await
    }

    /// Makes sure that the store answers and the bucket can be listed; one request.
    ///
    /// # Errors
    /// As of [`S3Blobs::check`].
    pub async fn ping(&self) -> Result<(), S3CheckError> {
        check::ping(&self.0).await
    }

    /// Where requests are counted.
    pub fn tally(&self) -> Arc<S3Tally> {
        self.0.tally.clone()
    }

    /// Most bytes that uploads have had in memory at one time.
    pub fn upload_memory_peak(&self) -> u64 {
        self.0.memory.peak()
    }

    /// Puts the first `size` bytes of `reader` in the place of `digest`; returns when they are there.
    pub(in crate::blobs) async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        reader: &dyn BlobReader,
    ) -> Result<(), BlobError> {
        upload::upload(&self.0, digest, size, reader).await
    }

    /// The object's bytes from `from` on, which must be within it; `None` when it is not there.
    pub(in crate::blobs) async fn stream(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<Option<ObjectStream>, BlobError> {
        ObjectStream::open(self.0.clone(), *digest, from).await
    }

    /// The same; one 404 is not believed, for rows are forgotten on it (RS-88).
    pub(in crate::blobs) async fn ask(&self, digest: &Digest, from: u64) -> Result<ObjectStream, BlobError> {
        for _ in 0..2 {
            if let Some(stream) = self.stream(digest, from).await? {
                return Ok(stream);
            }
            if self.0.find(digest).await?.is_none() {
                return Err(BlobError::NotFound(*digest));
            }
            tracing::warn!(blob.digest = %digest, "S3 has an object that it says it has not");
        }
        let source = io::Error::other("S3 has the object and does not give it");
        Err(BlobError::Io { doing: "reading from S3", source })
    }
}

/// The bucket alone, for those who check it, clean it up or read it once. Bodies are staged on a disk, so
/// those who write open a [`TieredBlobs`](crate::TieredBlobs). What is read is not hashed.
#[async_trait]
impl BlobStore for S3Blobs {
    async fn stage(&self, _length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "a bucket alone is not written to");
        Err(BlobError::Io { doing: "staging a blob", source })
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        Ok(Arc::new(Through::bare(self.clone(), *digest).await?))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(self.0.find(digest).await?.map(|meta| meta.size))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.remove(digest).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.quarantine(digest).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let prefix = Path::from(BLOBS);
        let objects = match after {
            Some(after) => self.0.store.list_with_offset(Some(&prefix), &place_of(&after)),
            None => self.0.store.list(Some(&prefix)),
        };
        // Strangers under the prefix are passed over.
        let blobs = objects.try_filter_map(|meta| async move {
            let digest = meta.location.filename().and_then(|name| name.parse::<Digest>().ok());
            Ok(digest.filter(|digest| place_of(digest) == meta.location).map(|digest| (digest, meta.size)))
        });
        let page = blobs.take(limit).try_collect().await.map_err(Failure::from);
        page.map_err(|failure| failure.into_blob("listing S3"))
    }

    async fn link(&self, digest: &Digest, _size: u64, ttl: Duration) -> Result<Option<Url>, BlobError> {
        let Some(public) = &self.0.public else { return Ok(None) };
        // Whoever follows a link cannot look elsewhere, nor have what is gone fetched anew.
        let place = match self.0.places.get() {
            Some(_) => self.0.find(digest).await?.map(|found| found.location),
            None => Some(place_of(digest)),
        };
        let Some(place) = place else { return Ok(None) };
        let link = public.signed_url(reqwest::Method::GET, &place, ttl).await;
        link.map(Some).map_err(|error| Failure::from(error).into_blob("signing a link"))
    }
}

impl std::fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("S3Blobs").field(&self.0.settings).finish()
    }
}
