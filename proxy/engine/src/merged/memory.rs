//! What merges keep of members' documents ([`artifactapi_formats::merge::Member::keep`]), within bounds.

use std::fmt;

use artifactapi_formats::merge::Kept;
use artifactapi_model::Digest;
use quick_cache::{Weighter, sync::Cache};

use crate::weighed;

/// Most bytes that are kept.
const MAX_BYTES: u64 = 32 << 20;
/// How many documents that is, if each is small.
const DOCUMENTS: usize = 1024;

/// The memory of all merges.
pub(crate) struct Memory(Cache<Digest, Held, ByBytes>);

#[derive(Clone)]
struct Held {
    kept: Kept,
    bytes: usize,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Digest, Held> for ByBytes {
    fn weight(&self, _: &Digest, held: &Held) -> u64 {
        128 + held.bytes as u64
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory(weighed::cache(DOCUMENTS, MAX_BYTES, u64::MAX, ByBytes))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("documents", &self.0.len()).finish()
    }
}

impl Memory {
    /// What is kept under `key`.
    pub(super) fn get(&self, key: &Digest) -> Option<Kept> {
        self.0.get(key).map(|held| held.kept)
    }

    /// Keeps `kept`, which takes `bytes`, for as long as there is room.
    pub(super) fn put(&self, key: Digest, kept: Kept, bytes: usize) {
        self.0.insert(key, Held { kept, bytes });
    }
}
