//! Places for connections, and who has them (RS-64).
//!
//! As long as there are enough, anyone has as many as he opens. When fewer than a share are left, who has more than
//! that share gets no more: so one client alone does not take the last, and others, probes too, still get in.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::owner;

/// Which part of the places is a share: a quarter.
const SHARE: usize = 4;

/// All places.
pub struct Places {
    free: Arc<Semaphore>,
    share: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(most));
        Arc::new(Places { free, share: most / SHARE, held: Mutex::default() })
    }

    /// Waits for a free one, for whoever comes next.
    pub async fn next(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.free.clone().acquire_owned().await.ok()
    }

    /// Gives a free one to `client`, unless places are scarce and it has its share.
    pub fn give(self: &Arc<Self>, free: Option<OwnedSemaphorePermit>, client: IpAddr) -> Option<Place> {
        let client = owner(client);
        let is_scarce = self.free.available_permits() < self.share;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&client).copied().unwrap_or_default();
        if is_scarce && count >= self.share {
            return None;
        }
        held.insert(client, count + 1);
        Some(Place { _free: free, client, places: self.clone() })
    }
}

/// A place that a client has until this is dropped.
pub struct Place {
    _free: Option<OwnedSemaphorePermit>,
    client: IpAddr,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(places: &Arc<Places>, client: &str) -> Option<Place> {
        places.give(places.next().await, client.parse().unwrap())
    }

    #[tokio::test]
    async fn rs_64_one_client_does_not_take_the_last_places() {
        let places = Places::new(16);
        let mut greedy = Vec::new();
        for _ in 0..16 {
            greedy.extend(open(&places, "192.0.2.1").await);
        }
        assert_eq!(greedy.len(), 12, "all but a share");
        let mut others = Vec::new();
        for n in 2..6 {
            others.extend(open(&places, &format!("192.0.2.{n}")).await);
        }
        assert_eq!((others.len(), places.free.available_permits()), (4, 0));
        others.clear();
        assert!(open(&places, "192.0.2.1").await.is_none());
        greedy.truncate(3);
        assert!(open(&places, "192.0.2.1").await.is_some(), "there are enough again");
        greedy.clear();
        assert!(places.held.lock().unwrap().is_empty(), "nobody is remembered who has gone");
    }

    #[tokio::test]
    async fn a_few_places_are_for_whoever_comes() {
        let places = Places::new(1);
        let only = open(&places, "192.0.2.1").await;
        assert!(only.is_some());
        drop(only);
        assert!(open(&places, "192.0.2.1").await.is_some());
    }
}
