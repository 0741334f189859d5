//! `maxConcurrent` of each Remote: a permit per request, held until its body ends, and a bounded queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use artifactapi_model::{ports::upstream::UpstreamError, repository::Remote};
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Remotes whose counts are kept.
const MAX_REMOTES: usize = 16 * 1024;
/// Requests that may wait, for each that may run.
const QUEUE_FACTOR: usize = 4;

/// The counts of every Remote.
pub(crate) struct Limits {
    remotes: Cache<(i64, usize), Arc<Limit>>,
}

struct Limit {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

/// The right to have one request under way. Dropping it gives the place to the next in the queue.
#[derive(Debug)]
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { remotes: Cache::new(MAX_REMOTES) }
    }
}

impl Limits {
    /// Waits for a place, for at most `patience`. A changed `maxConcurrent` starts a count of its own; the
    /// requests of the old one run out.
    ///
    /// # Errors
    /// [`UpstreamError::Saturated`] when the queue is full or did not move in time (RS-71).
    pub(crate) async fn enter(&self, remote: &Remote, patience: Duration) -> Result<Permit, UpstreamError> {
        let size = remote.spec.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        let key = (remote.identity.id.0, size);
        let made =
            self.remotes.get_or_insert_with(&key, || Ok::<_, UpstreamError>(Arc::new(Limit::new(size))));
        let limit = made?;
        if let Ok(permit) = limit.running.clone().try_acquire_owned() {
            return Ok(Permit { _permit: permit });
        }
        let _place = limit.queue_up()?;
        match tokio::time::timeout(patience, limit.running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit { _permit: permit }),
            _ => Err(UpstreamError::Saturated),
        }
    }
}

/// A place in the queue; left when dropped, so also by a caller that goes away.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limit {
    fn new(size: usize) -> Self {
        Limit {
            running: Arc::new(Semaphore::new(size)),
            waiting: AtomicUsize::new(0),
            queue: size.saturating_mul(QUEUE_FACTOR),
        }
    }

    fn queue_up(&self) -> Result<Place<'_>, UpstreamError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        if waiting < self.queue { Ok(place) } else { Err(UpstreamError::Saturated) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::testing::{remote_of, spec};

    fn remote(max_concurrent: usize) -> Remote {
        let mut spec = spec("http://a.example/");
        spec.max_concurrent = max_concurrent;
        remote_of(spec)
    }

    #[tokio::test(start_paused = true)]
    async fn rs_71_the_queue_is_bounded_and_empties() {
        let limits = Arc::new(Limits::default());
        let remote = remote(2);
        let patience = Duration::from_secs(10);
        let first = limits.enter(&remote, patience).await.unwrap();
        let _second = limits.enter(&remote, patience).await.unwrap();
        let waiting = (0..9).map(|_| limits.enter(&remote, patience));
        let results = join_all(waiting).await;
        assert!(results.iter().all(|r| matches!(r, Err(UpstreamError::Saturated))));

        let next = tokio::spawn({
            let (limits, remote) = (limits.clone(), remote.clone());
            async move { limits.enter(&remote, patience).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(next.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn rs_71_the_request_over_the_queue_fails_at_once() {
        let limits = Limits::default();
        let remote = remote(1);
        let _held = limits.enter(&remote, Duration::ZERO).await.unwrap();
        let waiting = join_all((0..QUEUE_FACTOR).map(|_| limits.enter(&remote, Duration::from_secs(60))));
        tokio::select! {
            biased;
            _ = waiting => panic!("nobody made room"),
            refused = limits.enter(&remote, Duration::from_secs(60)) => {
                assert!(matches!(refused, Err(UpstreamError::Saturated)));
            }
        }
    }
}
