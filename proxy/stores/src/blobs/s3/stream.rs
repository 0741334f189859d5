//! One object's bytes in order, unbroken: a GET that breaks midway goes on by Range from the last good byte.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{Digest, ports::BlobError};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{GetOptions, GetRange, ObjectStore, path::Path};

use super::{Shared, error::Failure, place_of, settings::RETRIES};

/// After so many bytes without a break the retries are counted anew.
const FORGIVEN: u64 = 8 << 20;
const DOING: &str = "reading from S3";

/// A body on its way from S3, from some offset to its end.
pub(in crate::blobs) struct ObjectStream {
    s3: Arc<Shared>,
    /// The blob; `None`: an object that is no blob, and does not move.
    digest: Option<Digest>,
    /// Where the last request found it.
    key: Path,
    /// Length of the whole object.
    size: u64,
    /// Offset of the next byte.
    at: u64,
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    retries: Retries,
}

/// How often has been asked again since the last good stretch.
#[derive(Default)]
struct Retries {
    used: u32,
    /// Where the stretch began.
    since: u64,
}

impl Retries {
    /// Counts a failure at offset `at` and waits a little, or gives the failure back when it is one too many.
    async fn after(&mut self, failure: Failure, at: u64) -> Result<(), Failure> {
        if at >= self.since.saturating_add(FORGIVEN) {
            self.used = 0;
        }
        self.since = at;
        // Silence has already cost all the patience there is.
        self.used += if failure.is_silence() { 2 } else { 1 };
        if self.used > RETRIES || !failure.may_pass() {
            return Err(failure);
        }
        tracing::debug!(%failure, at, "asking S3 again");
        tokio::time::sleep(pause(self.used)).await;
        Ok(())
    }
}

/// Pause before the `n`-th retry: longer each time, and never the same for all replicas.
pub(super) fn pause(n: u32) -> Duration {
    let longest = 50 * 4_u64.pow(n.clamp(1, 4) - 1);
    let [jitter] = crate::random::random::<1>().unwrap_or([0]);
    Duration::from_millis(longest / 2 + longest * u64::from(jitter) / 512)
}

impl ObjectStream {
    /// Asks for the blob from `from` on; `None` when there is none. One request if all goes well.
    pub(super) async fn open(s3: Arc<Shared>, digest: Digest, from: u64) -> Result<Option<Self>, BlobError> {
        Self::start(s3, Some(digest), place_of(&digest), from).await
    }

    /// Asks for the object at `key`; `None` when there is none.
    pub(super) async fn open_at(s3: Arc<Shared>, key: Path) -> Result<Option<Self>, BlobError> {
        Self::start(s3, None, key, 0).await
    }

    async fn start(
        s3: Arc<Shared>,
        digest: Option<Digest>,
        key: Path,
        from: u64,
    ) -> Result<Option<Self>, BlobError> {
        let mut retries = Retries { used: 0, since: from };
        loop {
            match get(&s3, digest.as_ref(), &key, from).await {
                Ok((key, size, body)) => {
                    let body = Some(body);
                    return Ok(Some(ObjectStream { s3, digest, key, size, at: from, body, retries }));
                }
                Err(failure) if failure.is_missing() => return Ok(None),
                Err(failure) => {
                    retries.after(failure, from).await.map_err(|failure| failure.into_blob(DOING))?;
                }
            }
        }
    }

    /// Length of the whole object.
    pub(in crate::blobs) fn size(&self) -> u64 {
        self.size
    }

    /// Breaks the connection.
    #[cfg(test)]
    pub(in crate::blobs) fn interrupt(&mut self) {
        self.body = None;
    }

    /// Offset of the next byte.
    pub(in crate::blobs) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes; `None` at the end.
    pub(in crate::blobs) async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        while self.at < self.size {
            let failure = match self.piece().await {
                Ok(bytes) => {
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(failure) => failure,
            };
            self.body = None;
            self.retries.after(failure, self.at).await.map_err(|failure| failure.into_blob(DOING))?;
        }
        Ok(None)
    }

    async fn piece(&mut self) -> Result<Bytes, Failure> {
        let broken = |kind, text: &str| Failure::Broken(std::io::Error::new(kind, text));
        if self.body.is_none() {
            let (key, size, body) = get(&self.s3, self.digest.as_ref(), &self.key, self.at).await?;
            self.key = key;
            if size != self.size {
                return Err(broken(std::io::ErrorKind::InvalidData, "the object has changed its length"));
            }
            self.body = Some(body);
        }
        let Some(body) = &mut self.body else { unreachable!("it has been asked for") };
        loop {
            match tokio::time::timeout(self.s3.patience, body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => {}
                Ok(Some(Ok(mut bytes))) => {
                    bytes.truncate(usize::try_from(self.size - self.at).unwrap_or(usize::MAX));
                    return Ok(bytes);
                }
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Err(broken(std::io::ErrorKind::UnexpectedEof, "S3 ended the body early")),
                Err(_) => return Err(broken(std::io::ErrorKind::TimedOut, "S3 sends nothing any more")),
            }
        }
    }
}

/// Where the object is, its length, and its bytes.
type Found = (Path, u64, BoxStream<'static, object_store::Result<Bytes>>);

/// One GET at `key`, where the object was or ought to be. A blob that is not there is looked for: it may have been
/// copied to another place, and removed here.
async fn get(s3: &Shared, digest: Option<&Digest>, key: &Path, from: u64) -> Result<Found, Failure> {
    let mut failure = match get_at(s3, key.clone(), from).await {
        Err(failure) if failure.is_missing() => failure,
        found => return found,
    };
    let Some(digest) = digest.filter(|_| s3.places.get().is_some()) else { return Err(failure) };
    let mut search = s3.search(digest);
    let mut before = Some(key.clone());
    while let Some(key) = search.next().await? {
        // Just asked for.
        if before.take().is_some_and(|before| before == key) {
            continue;
        }
        match get_at(s3, key, from).await {
            Err(missing) if missing.is_missing() => failure = missing,
            found => return found,
        }
    }
    Err(failure)
}

async fn get_at(s3: &Shared, key: Path, from: u64) -> Result<Found, Failure> {
    let range = (from > 0).then_some(GetRange::Offset(from));
    let options = GetOptions { range, ..GetOptions::default() };
    let answer = s3.streams.get_opts(&key, options).await?;
    Ok((key, answer.meta.size, answer.into_stream()))
}
