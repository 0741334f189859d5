//! What was found sound a moment ago, by the digest of what is stored of it. An object is looked at again whenever a
//! neighbour of it changes; its schema and its patterns, whose compilation costs most, are the same then.

use std::sync::Arc;

use artifactapi_model::Digest;
use quick_cache::sync::Cache;

use crate::validate::Accepted;

/// Objects that are remembered: more than are busy at a time, and few beside what is kept of all.
const MOST: usize = 1_024;

/// Remembers.
pub struct Memo(Cache<Digest, Arc<Accepted>>);

impl Default for Memo {
    fn default() -> Self {
        Memo(Cache::new(MOST))
    }
}

impl Memo {
    /// What was found sound under a digest.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Accepted>> {
        self.0.get(digest)
    }

    /// Remembers it.
    pub fn insert(&self, digest: Digest, accepted: Arc<Accepted>) {
        self.0.insert(digest, accepted);
    }
}
