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
    /// Blobs whose bytes are not what their digest says.
    pub damaged: Vec<Digest>,
}

/// Reads every blob of `store` at no more than `bytes_per_second`, and quarantines the damaged ones if
/// `quarantine`.
///
/// # Errors
/// [`BlobError`] when the store cannot be listed; a blob that cannot be read counts as damaged, one that has
/// gone meanwhile does not.
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
            let intact = match is_intact(store, &digest, size, bytes_per_second).await {
                Ok(intact) => intact,
                Err(BlobError::NotFound(_)) => continue,
                Err(_) => false,
            };
            report.blobs += 1;
            report.bytes += size;
            if !intact {
                tracing::error!(blob.digest = %digest, size_bytes = size, "a stored blob is damaged");
                report.damaged.push(digest);
                if quarantine {
                    store.quarantine(&digest).await?;
                }
            }
        }
    }
}

async fn is_intact(
    store: &dyn BlobStore,
    digest: &Digest,
    size: u64,
    bytes_per_second: u64,
) -> Result<bool, BlobError> {
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
    Ok(offset == size && hasher.finish().digest == *digest)
}
