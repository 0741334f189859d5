//! Manifests in memory: readers of one share its bytes, and all of them together have a bound.

use std::sync::Arc;

use artifactapi_model::oci::OciDigest;
use bytes::Bytes;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync::Cache};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::RegistryError;

/// Bytes kept for those who come next.
const KEPT: u64 = 32 << 20;
/// Bytes of large manifests that are kept or on their way to clients. A client may take a minute for one, and ten
/// thousand may come.
const HELD: usize = 128 << 20;
/// Manifests up to this size are not counted: an answer's other memory comes to as much.
const SMALL: usize = 64 << 10;

/// See the module.
#[derive(Clone)]
pub(crate) struct Bodies {
    kept: Arc<Cache<OciDigest, Bytes, ByBytes>>,
    room: Arc<Semaphore>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<OciDigest, Bytes> for ByBytes {
    fn weight(&self, _: &OciDigest, body: &Bytes) -> u64 {
        128 + body.len() as u64
    }
}

/// A body that has its room for as long as anyone holds it.
struct Held {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Default for Bodies {
    fn default() -> Self {
        // One shard: each of several would take no manifest that is larger than its own share.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(4_096)
            .weight_capacity(KEPT)
            .shards(1)
            .build()
            .unwrap_or_else(|error| unreachable!("both capacities are set: {error}"));
        let kept = Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), Default::default());
        Bodies { kept: Arc::new(kept), room: Arc::new(Semaphore::new(HELD)) }
    }
}

impl Bodies {
    /// The same bytes as `body`, which was just read: those that other readers have, where there are such.
    ///
    /// # Errors
    /// [`RegistryError::Busy`] when there is no room for another large one.
    pub(crate) fn share(&self, digest: OciDigest, body: Bytes) -> Result<Bytes, RegistryError> {
        if let Some(shared) = self.kept.get(&digest)
            && shared == body
        {
            return Ok(shared);
        }
        let body = self.held(body)?;
        self.kept.insert(digest, body.clone());
        Ok(body)
    }

    fn held(&self, body: Bytes) -> Result<Bytes, RegistryError> {
        if body.len() <= SMALL {
            return Ok(body);
        }
        let busy = || RegistryError::Busy("too many large manifests are being read");
        let length = u32::try_from(body.len()).map_err(|_| busy())?;
        let room = self.room.clone().try_acquire_many_owned(length).map_err(|_| busy())?;
        Ok(Bytes::from_owner(Held { body, _room: room }))
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::oci::Algorithm;

    use super::*;

    const LARGEST: usize = crate::manifest::MAX_MANIFEST;

    /// A body of its own allocation, as databases give them.
    fn body(number: usize, size: usize) -> (OciDigest, Bytes) {
        let mut body = vec![b' '; size];
        body[..8].copy_from_slice(&number.to_le_bytes());
        // No need to hash megabytes here.
        (OciDigest::of(Algorithm::Sha256, &body[..8]), body.into())
    }

    #[test]
    fn readers_of_one_share_it_however_large_it_is() {
        for size in [8, SMALL, SMALL + 1, LARGEST] {
            let bodies = Bodies::default();
            let read = || {
                let (digest, body) = body(1, size);
                bodies.share(digest, body).unwrap()
            };
            let all: Vec<Bytes> = (0..1_000).map(|_| read()).collect();
            assert!(all.iter().all(|other| other.as_ptr() == all[0].as_ptr()), "{size} bytes");
        }
    }

    #[test]
    fn a_body_that_is_another_is_not_shared() {
        let bodies = Bodies::default();
        let (digest, right) = body(1, 100);
        let (_, wrong) = body(2, 100);
        bodies.share(digest, wrong).unwrap();
        assert_eq!(bodies.share(digest, right.clone()).unwrap(), right);
    }

    #[test]
    fn rs_64_many_large_ones_have_a_bound_and_small_ones_none() {
        let bodies = Bodies::default();
        let read = |number, size| {
            let (digest, body) = body(number, size);
            bodies.share(digest, body)
        };
        let mut held: Vec<Bytes> = (0..1_000).filter_map(|number| read(number, LARGEST).ok()).collect();
        assert_eq!(held.iter().map(Bytes::len).sum::<usize>(), HELD);
        assert!(matches!(read(1_000, LARGEST), Err(RegistryError::Busy(_))));
        assert!(read(1_001, SMALL).is_ok(), "others go on");
        held.clear();
        // What is kept for those who come next leaves room for as many others.
        let again = (2_000..3_000).filter_map(|number| read(number, LARGEST).ok());
        let again: Vec<Bytes> = again.collect();
        assert!(again.len() * LARGEST >= HELD - usize::try_from(KEPT).unwrap(), "{}", again.len());
    }
}
