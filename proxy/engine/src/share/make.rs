//! One making for all replicas. A document that is a pure function of what it is made of is stored under the digest of
//! that: the replica that has the lease makes it, the others wait for its row. As with fills the lease only saves work:
//! whoever waits in vain, or cannot ask for the lease, makes the same document once more.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{Digest, ports::Coordinator};
use tokio::time::Instant;

use super::lease::{Claim, claim};
use crate::{Engine, error::FetchError, share::Held};

/// First and longest pause between two looks for a twin's row.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// When a twin that keeps the lease is waited for no longer: by then the slowest merge is done, or stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose a document is to make.
pub(crate) enum Making<T> {
    /// Nobody's: it is stored by now.
    Made(T),
    /// Ours, for as long as this lives; without a lease perhaps others' as well.
    Ours(Option<Held>),
    /// Ours by now: a twin that had the lease has stored nothing.
    Left(Held),
}

impl Engine {
    /// What `stored` finds of the document made of `inputs`, be it after a wait for the twin that makes it; or the right
    /// to make it.
    pub(crate) async fn making<T, F>(
        &self,
        inputs: &Digest,
        stored: impl Fn() -> F,
    ) -> Result<Making<T>, FetchError>
    where
        F: Future<Output = Result<Option<T>, FetchError>>,
    {
        making(&self.ports.coordinator, &self.ports.peers.address(), inputs, stored).await
    }
}

async fn making<T, F>(
    coordinator: &Arc<dyn Coordinator>,
    address: &str,
    inputs: &Digest,
    stored: impl Fn() -> F,
) -> Result<Making<T>, FetchError>
where
    F: Future<Output = Result<Option<T>, FetchError>>,
{
    let key = format!("make/{}", inputs.to_hex());
    let late = Instant::now() + PATIENCE;
    let ((mut pause, longest), mut has_waited) = (PAUSES, false);
    loop {
        if let Some(made) = stored().await? {
            return Ok(Making::Made(made));
        }
        match claim(coordinator, &key, address).await {
            Claim::Ours(held) => {
                // A twin may have stored it and let go since the last look.
                return Ok(match stored().await? {
                    Some(made) => Making::Made(made),
                    None if has_waited => Making::Left(held),
                    None => Making::Ours(Some(held)),
                });
            }
            Claim::Unknown => return Ok(Making::Ours(None)),
            Claim::Theirs(_) => has_waited = true,
        }
        if Instant::now() >= late {
            tracing::warn!(%inputs, "a twin keeps a lease and stores nothing: going on without");
            return Ok(Making::Ours(None));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use artifactapi_model::ports::{CoordinationError, Lease, Messages};
    use artifactapi_stores::LocalCoordinator;
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::share::lease::TTL;

    struct Silent;

    #[async_trait]
    impl Coordinator for Silent {
        async fn acquire(
            &self,
            _: &str,
            _: &str,
            _: Duration,
        ) -> Result<Result<Lease, String>, CoordinationError> {
            Err(CoordinationError("it is silent".into()))
        }
        async fn renew(&self, _: &Lease, _: Duration) -> Result<bool, CoordinationError> {
            Ok(false)
        }
        async fn release(&self, _: &Lease) -> Result<(), CoordinationError> {
            Ok(())
        }
        async fn put(&self, _: &str, _: Bytes, _: Duration) -> Result<(), CoordinationError> {
            Ok(())
        }
        async fn get(&self, _: &str) -> Result<Option<Bytes>, CoordinationError> {
            Ok(None)
        }
        async fn delete(&self, _: &str) -> Result<(), CoordinationError> {
            Ok(())
        }
        async fn publish(&self, _: Bytes) -> Result<(), CoordinationError> {
            Ok(())
        }
        fn subscribe(&self) -> Messages {
            Box::pin(futures_util::stream::pending())
        }
    }

    /// Two replicas over one coordinator, and the row that one of them may store.
    struct Twins {
        common: Arc<dyn Coordinator>,
        row: Arc<AtomicBool>,
    }

    impl Twins {
        fn new() -> Self {
            Twins { common: Arc::new(LocalCoordinator::default()), row: Arc::default() }
        }

        async fn ask(&self) -> Making<()> {
            let stored = || async { Ok(self.row.load(Relaxed).then_some(())) };
            making(&self.common, "here", &Digest::of(b"inputs"), stored).await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rs_80_whoever_comes_second_gets_what_the_first_one_stores() {
        let twins = Twins::new();
        let Making::Ours(Some(held)) = twins.ask().await else { panic!("nobody else makes it") };
        let store = async {
            // Longer than a lease lives that is not renewed.
            tokio::time::sleep(TTL * 2).await;
            twins.row.store(true, Relaxed);
        };
        let (second, third, ()) = tokio::join!(twins.ask(), twins.ask(), store);
        assert!(matches!((second, third), (Making::Made(()), Making::Made(()))));
        drop(held);
        assert!(matches!(twins.ask().await, Making::Made(())));
    }

    #[tokio::test(start_paused = true)]
    async fn rs_81_a_lost_twin_is_waited_for_as_long_as_its_lease_lives() {
        let twins = Twins::new();
        let key = format!("make/{}", Digest::of(b"inputs").to_hex());
        let _lost = twins.common.acquire(&key, "there", TTL).await.unwrap().unwrap();
        let began = Instant::now();
        let made = async {
            let Making::Left(held) = twins.ask().await else { panic!("it is ours when the lease ends") };
            assert!(began.elapsed() < TTL + Duration::from_secs(1), "{:?}", began.elapsed());
            twins.row.store(true, Relaxed);
            drop(held);
        };
        let late = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            twins.ask().await
        };
        let ((), late) = tokio::join!(made, late);
        assert!(matches!(late, Making::Made(())), "one of the two makes it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_twin_that_keeps_the_lease_for_ever_is_given_up() {
        let twins = Twins::new();
        let Making::Ours(Some(_held)) = twins.ask().await else { panic!("nobody else makes it") };
        let began = Instant::now();
        assert!(matches!(twins.ask().await, Making::Ours(None)));
        assert!(began.elapsed() < PATIENCE + Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn rs_84_without_a_coordinator_everyone_makes_it_at_once() {
        let twins = Twins { common: Arc::new(Silent), row: Arc::default() };
        let began = Instant::now();
        assert!(matches!(twins.ask().await, Making::Ours(None)));
        assert!(matches!(twins.ask().await, Making::Ours(None)));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
