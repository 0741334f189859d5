//! Coordination of one process with itself: leases and expiring keys in bounded maps, messages in a bounded queue.
//!
//! Time is tokio's, so that it is monotonic (a clock that is set back keeps no lease alive) and can be
//! paused in tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use artifactapi_model::ports::{CoordinationError, Coordinator, Heard, Lease, Messages};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::broadcast, time::Instant};

use crate::random::random;

/// Most keys of each kind; beyond it the one that ends soonest goes first.
const MAX_KEYS: usize = 100_000;
/// Most bytes of keys and values of each kind.
const MAX_BYTES: usize = 64 << 20;
/// Messages a slow subscriber may be behind.
const MAX_BEHIND: usize = 1024;
/// Longest life: a bound that keeps deadlines within what the clock can count.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Leases and expiring keys of one process.
#[derive(Debug)]
pub struct LocalCoordinator {
    leases: Mutex<Expiring<Held>>,
    values: Mutex<Expiring<Bytes>>,
    messages: broadcast::Sender<Heard>,
}

impl Default for LocalCoordinator {
    fn default() -> Self {
        let messages = broadcast::Sender::new(MAX_BEHIND);
        LocalCoordinator { leases: Mutex::default(), values: Mutex::default(), messages }
    }
}

#[derive(Clone, Debug)]
struct Held {
    token: String,
    note: String,
}

#[async_trait]
impl Coordinator for LocalCoordinator {
    async fn acquire(
        &self,
        key: &str,
        note: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, String>, CoordinationError> {
        let token = random::<16>().map_err(|error| CoordinationError(error.to_string()))?;
        let token = hex::encode(token);
        let mut leases = lock(&self.leases);
        let now = Instant::now();
        if let Some(held) = leases.get(key, now) {
            return Ok(Err(held.note.clone()));
        }
        let held = Held { token: token.clone(), note: note.to_owned() };
        let weight = held.token.len() + note.len();
        leases.put(key, held, weight, now, ttl);
        Ok(Ok(Lease { key: key.to_owned(), token }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CoordinationError> {
        let mut leases = lock(&self.leases);
        let now = Instant::now();
        let Some(held) = leases.get(&lease.key, now).filter(|held| held.token == lease.token) else {
            return Ok(false);
        };
        let (held, weight) = (held.clone(), held.token.len() + held.note.len());
        leases.put(&lease.key, held, weight, now, ttl);
        Ok(true)
    }

    async fn release(&self, lease: &Lease) -> Result<(), CoordinationError> {
        let mut leases = lock(&self.leases);
        if leases.get(&lease.key, Instant::now()).is_some_and(|held| held.token == lease.token) {
            leases.remove(&lease.key);
        }
        Ok(())
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        let weight = value.len();
        lock(&self.values).put(key, value, weight, Instant::now(), ttl);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        Ok(lock(&self.values).get(key, Instant::now()).cloned())
    }

    async fn delete(&self, key: &str) -> Result<(), CoordinationError> {
        lock(&self.values).remove(key);
        Ok(())
    }

    async fn publish(&self, message: Bytes) -> Result<(), CoordinationError> {
        // Nobody listening is no failure.
        let _ = self.messages.send(Heard::Message(message));
        Ok(())
    }

    fn subscribe(&self) -> Messages {
        super::heard(self.messages.subscribe())
    }
}

/// A poisoned map is whole all the same: nothing in here panics half way.
fn lock<T>(map: &Mutex<Expiring<T>>) -> MutexGuard<'_, Expiring<T>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map whose entries end, bounded in number and bytes.
#[derive(Debug)]
struct Expiring<T> {
    entries: HashMap<String, Entry<T>>,
    /// By deadline, then by age, so that the first is the next to go.
    order: BTreeMap<(Instant, u64), String>,
    bytes: usize,
    puts: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    slot: (Instant, u64),
    weight: usize,
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Expiring { entries: HashMap::new(), order: BTreeMap::new(), bytes: 0, puts: 0 }
    }
}

impl<T> Expiring<T> {
    fn get(&self, key: &str, now: Instant) -> Option<&T> {
        self.entries.get(key).filter(|entry| entry.slot.0 > now).map(|entry| &entry.value)
    }

    fn put(&mut self, key: &str, value: T, weight: usize, now: Instant, ttl: Duration) {
        self.remove(key);
        self.drop_ended(now);
        self.puts += 1;
        let slot = (now + ttl.min(MAX_TTL), self.puts);
        let weight = weight + 2 * key.len();
        self.bytes += weight;
        self.order.insert(slot, key.to_owned());
        self.entries.insert(key.to_owned(), Entry { value, slot, weight });
        while self.entries.len() > MAX_KEYS || self.bytes > MAX_BYTES {
            self.drop_first();
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.weight;
            self.order.remove(&entry.slot);
        }
    }

    fn drop_ended(&mut self, now: Instant) {
        while self.order.first_key_value().is_some_and(|((deadline, _), _)| *deadline <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first()
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= entry.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coordination::suite;

    #[tokio::test(start_paused = true)]
    async fn conforms() {
        let make = async || Arc::new(LocalCoordinator::default()) as Arc<dyn Coordinator>;
        suite::suite(make, async |time| tokio::time::advance(time).await).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_keys_is_bounded_and_the_next_to_end_goes_first() {
        let local = LocalCoordinator::default();
        for n in 0..=MAX_KEYS {
            let ttl = Duration::from_secs(1000 + n as u64);
            local.put(&format!("key {n}"), Bytes::from_static(b"v"), ttl).await.unwrap();
        }
        assert_eq!(lock(&local.values).entries.len(), MAX_KEYS);
        assert_eq!(local.get("key 0").await.unwrap(), None);
        assert!(local.get("key 1").await.unwrap().is_some());
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        local.put("last", Bytes::new(), Duration::from_secs(1)).await.unwrap();
        let values = lock(&local.values);
        assert_eq!((values.entries.len(), values.order.len(), values.bytes), (1, 1, 8), "ended keys leave");
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_values_are_bounded() {
        let local = LocalCoordinator::default();
        let value = Bytes::from(vec![0; MAX_BYTES / 4]);
        for n in 0..8 {
            local.put(&format!("key {n}"), value.clone(), Duration::from_secs(10)).await.unwrap();
        }
        assert!(lock(&local.values).bytes <= MAX_BYTES);
        assert!(local.get("key 7").await.unwrap().is_some());
        assert!(local.get("key 0").await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_ttl_is_no_overflow() {
        let local = LocalCoordinator::default();
        local.put("key", Bytes::new(), Duration::MAX).await.unwrap();
        assert!(local.get("key").await.unwrap().is_some());
    }
}
