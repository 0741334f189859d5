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
        let body = self.small_body(&row.digest, row.size).await;
        let entry = HotEntry::new(row, body, self.ports.clock.now());
        self.hot.put(key.clone(), entry.clone());
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifactapi_model::{Epoch, RepoId};

    fn key(path: &str) -> ArtifactKey {
        ArtifactKey { repo: RepoId(1), epoch: Epoch(1), path: path.into() }
    }

    fn under_way(lookups: &Lookups) -> usize {
        lookups.0.lock().unwrap().len()
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_an_answer_and_later_ones_do_not() {
        let lookups = Lookups::default();
        let (one, other) = (key("one"), key("other"));
        let (first, second, apart) = (lookups.join(&one), lookups.join(&one), lookups.join(&other));
        assert!(Arc::ptr_eq(&first.answer, &second.answer) && !Arc::ptr_eq(&first.answer, &apart.answer));
        let found = first.answer.get_or_try_init(|| async { Ok::<_, FetchError>(None) }).await;
        assert!(found.unwrap().is_none());
        let asked = second.answer.get_or_try_init(|| async { panic!("asked twice") });
        assert!(asked.await.map_err(|error: FetchError| error).unwrap().is_none());
        drop(first);
        let late = lookups.join(&one);
        assert!(!Arc::ptr_eq(&late.answer, &second.answer), "an answer is not kept");
        drop((second, late, apart));
        assert_eq!(under_way(&lookups), 0);
    }

    #[tokio::test]
    async fn when_the_first_one_leaves_or_fails_the_next_one_asks() {
        let lookups = Lookups::default();
        let one = key("one");
        let (first, second) = (lookups.join(&one), lookups.join(&one));
        let failed = first.answer.get_or_try_init(|| async { Err(FetchError::Suspended) }).await;
        assert!(failed.is_err());
        drop(first);
        assert!(Arc::ptr_eq(&lookups.join(&one).answer, &second.answer), "it is still being asked");
        assert!(second.answer.get_or_try_init(|| async { Ok::<_, FetchError>(None) }).await.is_ok());
        drop(second);
        assert_eq!(under_way(&lookups), 0);
    }
}
