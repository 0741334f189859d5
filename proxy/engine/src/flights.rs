//! In-process single flight: one fill per key, joined by everyone who asks while it runs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use artifactapi_model::ArtifactKey;
use tokio::sync::{Notify, watch};

use crate::fill::Progress;

/// Held by everyone who wants a fill's result; when the last one lets go, the fill is told.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    lost: Arc<Notify>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.lost.notify_one();
    }
}

/// One reader's place at a fill.
pub(crate) struct Seat {
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) interest: Arc<Interest>,
    /// Whether this reader started it.
    pub(crate) started: bool,
}

/// The fill's own end.
pub(crate) struct Pilot {
    pub(crate) progress: watch::Sender<Progress>,
    interest: Weak<Interest>,
    lost: Arc<Notify>,
    number: u64,
}

impl Pilot {
    /// A pilot for a fill that nobody can join, and its only seat.
    pub(crate) fn solo() -> (Pilot, Seat) {
        let (sender, receiver) = watch::channel(Progress::Asking);
        let interest = Arc::new(Interest::default());
        let pilot = Pilot {
            progress: sender,
            lost: interest.lost.clone(),
            interest: Arc::downgrade(&interest),
            number: 0,
        };
        (pilot, Seat { progress: receiver, interest, started: true })
    }

    /// Resolves when nobody is interested any more.
    pub(crate) async fn deserted(&self) {
        while self.interest.strong_count() > 0 {
            self.lost.notified().await;
        }
    }
}

struct Flight {
    progress: watch::Receiver<Progress>,
    interest: Weak<Interest>,
    number: u64,
}

/// All fills under way. The lock is taken by misses only and never across an await.
#[derive(Default)]
pub(crate) struct Flights {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<ArtifactKey, Flight>,
    next: u64,
}

impl Flights {
    /// Joins the fill of `key`, or opens one: then the caller must run it with the pilot.
    pub(crate) fn join(&self, key: &ArtifactKey) -> (Seat, Option<Pilot>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = inner.by_key.get(key)
            && let Some(interest) = flight.interest.upgrade()
        {
            return (Seat { progress: flight.progress.clone(), interest, started: false }, None);
        }
        let (mut pilot, seat) = Pilot::solo();
        inner.next += 1;
        pilot.number = inner.next;
        let flight = Flight {
            progress: seat.progress.clone(),
            interest: pilot.interest.clone(),
            number: pilot.number,
        };
        inner.by_key.insert(key.clone(), flight);
        (seat, Some(pilot))
    }

    /// Closes the fill: who asks from now on starts another. Called before its result is announced, so that
    /// nobody joins a fill that is over.
    pub(crate) fn land(&self, key: &ArtifactKey, pilot: &Pilot) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.by_key.get(key).is_some_and(|flight| flight.number == pilot.number) {
            inner.by_key.remove(key);
        }
    }
}
