//! Scrubbing: every stored blob is read and hashed again at a gentle pace, and what no longer matches its
//! digest is moved out of the way, so that the next request fetches it anew (RS-11).

use std::time::Duration;

use artifactapi_model::{
    Digest, Hasher,
    ports::{BlobError, BlobStore, blobs::MAX_READ},
};

/// Blobs asked for at once.
const PAGE: usize = 256;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Blobs whose bytes are not what their digest says, twice in a row.
    pub damaged: Vec<Digest>,
    /// Blobs of which that is not known, since they could not be read.
    pub unread: u64,
}

/// Reads every blob of `store` at no more than `bytes_per_second`, and quarantines the damaged ones if
/// `quarantine`. It may be the only copy of what somebody pushed: one that cannot be read now is left where it is, and
/// one that is not what it should be is read once more.
///
/// # Errors
/// [`BlobError`] when the store cannot be listed, or a damaged blob not be moved.
pub async fn scrub(
    store: &dyn BlobStore,
    bytes_per_second: u64,
    quarantine: bool,
) -> Result<Scrubbed, BlobError> {
    let mut report = Scrubbed::default();
    let mut after = None;
    loop {
        let page = store.list(after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(report) };
        after = Some(*last);
        for (digest, size) in page {
            match is_intact(store, &digest, bytes_per_second).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(blob.digest = %digest, size_bytes = size, "a stored blob is damaged");
                    report.damaged.push(digest);
                    if quarantine {
                        store.quarantine(&digest).await?;
                    }
                }
                // It has gone meanwhile.
                Err(BlobError::NotFound(_)) => continue,
                Err(error) => {
                    tracing::warn!(blob.digest = %digest, %error, "a stored blob cannot be read");
                    report.unread += 1;
                }
            }
            report.blobs += 1;
            report.bytes += size;
        }
    }
}

/// Whether the bytes of `digest` are what it says, read at no more than `bytes_per_second`; a second time when they are
/// not.
///
/// # Errors
/// [`BlobError`] when they cannot be read, so that nothing is known of them, or are not there.
pub async fn is_intact(
    store: &dyn BlobStore,
    digest: &Digest,
    bytes_per_second: u64,
) -> Result<bool, BlobError> {
    match hashes_to(store, digest, bytes_per_second).await {
        Ok(false) | Err(BlobError::Damaged(..)) => {}
        hashed => return hashed,
    }
    match hashes_to(store, digest, bytes_per_second).await {
        Err(BlobError::Damaged(..)) => Ok(false),
        hashed => hashed,
    }
}

async fn hashes_to(store: &dyn BlobStore, digest: &Digest, bytes_per_second: u64) -> Result<bool, BlobError> {
    let reader = store.open(digest).await?;
    let mut hasher = Hasher::for_checksums(&[]);
    let mut offset = 0;
    loop {
        let block = reader.read_at(offset, MAX_READ).await?;
        if block.is_empty() {
            break;
        }
        hasher.update(&block);
        offset += block.len() as u64;
        tokio::time::sleep(Duration::from_secs_f64(block.len() as f64 / bytes_per_second.max(1) as f64))
            .await;
    }
    Ok(hasher.finish().digest == *digest)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io,
        sync::{Arc, Mutex},
    };

    use artifactapi_model::ports::{BlobReader, StagedBlob};
    use artifactapi_stores::MemoryBlobs;
    use async_trait::async_trait;

    use super::*;

    /// What goes wrong when a blob is opened.
    #[derive(Clone, Copy)]
    enum Fault {
        Unreadable,
        OtherBytes,
    }

    /// A store with one blob, the next readings of which go wrong.
    struct Ill {
        sound: MemoryBlobs,
        others: MemoryBlobs,
        faults: Mutex<VecDeque<Fault>>,
    }

    async fn put(store: &MemoryBlobs, body: &'static [u8]) -> Digest {
        let mut staged = store.stage(None).await.unwrap();
        staged.write(body.into()).await.unwrap();
        staged.commit(&Digest::of(b"whole")).await.unwrap();
        Digest::of(b"whole")
    }

    #[async_trait]
    impl BlobStore for Ill {
        async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
            self.sound.stage(length).await
        }
        async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
            let fault = self.faults.lock().unwrap().pop_front();
            match fault {
                Some(Fault::Unreadable) => Err(BlobError::Io {
                    doing: "opening a blob",
                    source: io::Error::other("too many open files"),
                }),
                Some(Fault::OtherBytes) => self.others.open(digest).await,
                None => self.sound.open(digest).await,
            }
        }
        async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
            self.sound.size(digest).await
        }
        async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
            self.sound.remove(digest).await
        }
        async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
            self.sound.remove(digest).await
        }
        async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
            self.sound.list(after, limit).await
        }
    }

    #[tokio::test]
    async fn rs_11_only_what_is_damaged_for_certain_is_moved_away() {
        use Fault::{OtherBytes, Unreadable};
        for (faults, unread, is_damaged) in [
            (vec![], 0, false),
            (vec![Unreadable], 1, false),
            (vec![OtherBytes], 0, false),
            (vec![OtherBytes, Unreadable], 1, false),
            (vec![OtherBytes, OtherBytes], 0, true),
        ] {
            let (sound, others) = (MemoryBlobs::default(), MemoryBlobs::default());
            let digest = put(&sound, b"whole").await;
            put(&others, b"wrong").await;
            let store = Ill { sound, others, faults: Mutex::new(faults.into()) };
            let scrubbed = scrub(&store, u64::MAX, true).await.unwrap();
            let damaged = if is_damaged { vec![digest] } else { Vec::new() };
            assert_eq!((scrubbed.unread, scrubbed.damaged), (unread, damaged));
            assert_eq!(store.size(&digest).await.unwrap().is_some(), !is_damaged);
        }
    }
}
