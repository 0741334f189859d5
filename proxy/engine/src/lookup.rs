//! Looking up what the index does not hold: once for all who ask for one key at the same time, so that a stampede
//! on a cold key does not become one on the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_model::ArtifactKey;
use tokio::sync::OnceCell;

use crate::{Engine, error::FetchError, hot::HotEntry};

type Answer = OnceCell<Option<Arc<HotEntry>>>;

/// Look-ups under way.
#[derive(Default)]
pub(crate) struct Lookups(Mutex<HashMap<ArtifactKey, Arc<Answer>>>);

/// One look-up, which others join for as long as it runs.
struct Joined<'a> {
    lookups: &'a Lookups,
    key: &'a ArtifactKey,
    answer: Arc<Answer>,
}

impl Lookups {
    fn join<'a>(&'a self, key: &'a ArtifactKey) -> Joined<'a> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = under_way.entry(key.clone()).or_default().clone();
        Joined { lookups: self, key, answer }
    }
}

impl Drop for Joined<'_> {
    /// Who asks after this asks anew: an answer is never older than the last of those who wait for it.
    fn drop(&mut self) {
        let mut under_way = self.lookups.0.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.get(self.key).is_some_and(|answer| Arc::ptr_eq(answer, &self.answer)) {
            let is_answered = self.answer.initialized();
            // Nobody else holds it, except the map.
            if is_answered || Arc::strong_count(&self.answer) <= 2 {
                under_way.remove(self.key);
            }
        }
    }
}

impl Engine {
    /// What the database holds under `key`; it is in the index afterwards.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        key: &ArtifactKey,
    ) -> Result<Option<Arc<HotEntry>>, FetchError> {
        let joined = self.lookups.join(key);
        // Whoever comes first asks; when that fails, or its client leaves, the next one does.
        let found = joined.answer.get_or_try_init(|| self.look_up_alone(key)).await?;
        Ok(found.clone())
    }

    async fn look_up_alone(self: &Arc<Self>, key: &ArtifactKey) -> Result<Option<Arc<HotEntry>>, FetchError> {
        let Some(row) = self.ports.metadata.artifact(key).await? else { return Ok(None) };
        let body = if row.size <= self.options.small_body {
            self.read_small(&row.digest, row.size).await
        } else {
            None
        };
        let entry = HotEntry::new(row, body, self.ports.clock.now());
        self.hot.put(key.clone(), entry.clone());
        Ok(Some(entry))
    }
}
