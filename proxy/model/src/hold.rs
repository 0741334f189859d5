//! Blobs that somebody in this process is about to name.
//!
//! Between the announcement of a blob and the row that names it nothing in the database tells the blob from garbage but
//! its age; the collector's grace period covers that time. Where room is short and bytes have to go at once, an age is
//! too coarse, and a process that has the database to itself knows exactly: whoever announces a blob holds it until the
//! row is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::Digest;

/// All that are held, and how often.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashMap<Digest, usize>>);

/// Keeps one blob until it is dropped; the default keeps none.
#[derive(Debug, Default)]
#[must_use = "the blob is held for as long as this lives"]
pub struct Hold(Option<(Arc<Holds>, Digest)>);

impl Holds {
    /// Holds `digest`, whether or not others do.
    pub fn hold(self: &Arc<Self>, digest: &Digest) -> Hold {
        *self.held().entry(*digest).or_default() += 1;
        Hold(Some((self.clone(), *digest)))
    }

    /// Whether somebody holds `digest`.
    pub fn has(&self, digest: &Digest) -> bool {
        self.held().contains_key(digest)
    }

    /// A poisoned lock hides nothing: each change of the table is whole.
    fn held(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some((holds, digest)) = self.0.take() else { return };
        let mut held = holds.held();
        if let Some(count) = held.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_held_until_the_last_lets_go() {
        let holds = Arc::new(Holds::default());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let first = holds.hold(&one);
        let second = holds.hold(&one);
        drop(first);
        assert!(holds.has(&one) && !holds.has(&other));
        drop(second);
        assert!(!holds.has(&one));
        drop(Hold::default());
        assert!(holds.held().is_empty(), "nothing is left of those that are over");
    }
}
