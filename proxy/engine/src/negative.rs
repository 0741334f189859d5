//! Absences remembered for a short while, in a bounded cache (RS-69).

use artifactapi_model::{ArtifactKey, Timestamp};
use quick_cache::sync::Cache;

use crate::error::FetchError;

#[derive(Clone, Copy)]
struct Absence {
    until: Timestamp,
    gone: bool,
}

pub(crate) struct NegativeCache(Cache<ArtifactKey, Absence>);

impl NegativeCache {
    pub(crate) fn new(entries: usize) -> Self {
        NegativeCache(Cache::new(entries))
    }

    /// The remembered absence of `key`, if it still counts.
    pub(crate) fn get(&self, key: &ArtifactKey, now: Timestamp) -> Option<FetchError> {
        let absence = self.0.get(key)?;
        if now < absence.until {
            return Some(FetchError::NotFound { gone: absence.gone });
        }
        self.0.remove(key);
        None
    }

    pub(crate) fn put(&self, key: ArtifactKey, until: Timestamp, gone: bool) {
        self.0.insert(key, Absence { until, gone });
    }

    pub(crate) fn remove(&self, key: &ArtifactKey) {
        self.0.remove(key);
    }

    /// Forgets all that `meant` names. A walk; only on somebody's command.
    pub(crate) fn remove_all(&self, meant: impl Fn(&ArtifactKey) -> bool) {
        self.0.retain(|key, _| !meant(key));
    }
}
