//! In-process single flight: one fill per key, joined by everyone who asks while it runs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use artifactapi_model::ArtifactKey;
use tokio::sync::{Notify, watch};

use crate::{content::GrowingBody, fill::Progress, window::Place};

#[derive(Debug, Default)]
struct Readers {
    count: AtomicUsize,
    left: Notify,
}

/// Held by everyone who wants a fill's result; when the last one lets go, the fill is told.
#[derive(Debug)]
pub(crate) struct Interest(Arc<Readers>);

impl Interest {
    fn new(readers: &Arc<Readers>) -> Self {
        readers.count.fetch_add(1, Ordering::AcqRel);
        Interest(readers.clone())
    }
}

impl Clone for Interest {
    fn clone(&self) -> Self {
        Interest::new(&self.0)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_one();
        }
    }
}

/// One reader's place at a fill.
pub(crate) struct Seat {
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) interest: Interest,
    /// Whether this reader started it.
    pub(crate) started: bool,
}

impl Seat {
    /// The view of a reader that has `place`.
    pub(crate) fn follow(&self, place: Place) -> GrowingBody {
        let (progress, interest) = (self.progress.clone(), self.interest.clone());
        GrowingBody { place: Arc::new(place), progress, _interest: interest }
    }
}

/// The fill's own end.
pub(crate) struct Pilot {
    pub(crate) progress: watch::Sender<Progress>,
    readers: Arc<Readers>,
    /// Whether the bytes come from a twin: then no twin may have them from here.
    follows: Arc<AtomicBool>,
    number: u64,
}

impl Pilot {
    /// A pilot for a fill that nobody can join, and its only seat.
    pub(crate) fn solo() -> (Pilot, Seat) {
        let (sender, receiver) = watch::channel(Progress::Asking);
        let readers = Arc::new(Readers::default());
        let seat = Seat { progress: receiver, interest: Interest::new(&readers), started: true };
        (Pilot { progress: sender, readers, follows: Arc::default(), number: 0 }, seat)
    }

    /// Says whether the bytes come from a twin now.
    pub(crate) fn set_follows(&self, follows: bool) {
        self.follows.store(follows, Ordering::Release);
    }

    /// Resolves when nobody is interested.
    pub(crate) async fn deserted(&self) {
        while self.readers.count.load(Ordering::Acquire) > 0 {
            self.readers.left.notified().await;
        }
    }
}

struct Flight {
    progress: watch::Receiver<Progress>,
    readers: Arc<Readers>,
    follows: Arc<AtomicBool>,
    number: u64,
}

/// All fills under way. The lock is taken by misses only and never across an await.
#[derive(Default)]
pub(crate) struct Flights {
    inner: Mutex<Inner>,
    empty: Notify,
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
        if let Some(flight) = inner.by_key.get(key) {
            let interest = Interest::new(&flight.readers);
            return (Seat { progress: flight.progress.clone(), interest, started: false }, None);
        }
        let (mut pilot, seat) = Pilot::solo();
        inner.next += 1;
        pilot.number = inner.next;
        let flight = Flight {
            progress: seat.progress.clone(),
            readers: pilot.readers.clone(),
            follows: pilot.follows.clone(),
            number: pilot.number,
        };
        inner.by_key.insert(key.clone(), flight);
        (seat, Some(pilot))
    }

    /// A place at the fill of `key`, if one runs here and asks upstream itself.
    pub(crate) fn visit(&self, key: &ArtifactKey) -> Option<Seat> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = inner.by_key.get(key).filter(|flight| !flight.follows.load(Ordering::Acquire))?;
        let interest = Interest::new(&flight.readers);
        Some(Seat { progress: flight.progress.clone(), interest, started: false })
    }

    /// Closes the fill: who asks from now on starts another. Called before its result is announced, so that
    /// nobody joins a fill that is over.
    pub(crate) fn land(&self, key: &ArtifactKey, pilot: &Pilot) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.by_key.get(key).is_some_and(|flight| flight.number == pilot.number) {
            inner.by_key.remove(key);
            self.note_end(&inner);
        }
    }

    fn note_end(&self, inner: &Inner) {
        if inner.by_key.is_empty() {
            self.empty.notify_waiters();
        }
    }

    /// Resolves when no fill runs.
    pub(crate) async fn emptied(&self) {
        loop {
            let empty = self.empty.notified();
            if self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_key.is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// Closes a fill that nobody waits for; `false` when someone has come back.
    pub(crate) fn abandon(&self, key: &ArtifactKey, pilot: &Pilot) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let deserted = pilot.readers.count.load(Ordering::Acquire) == 0;
        if deserted && inner.by_key.get(key).is_some_and(|flight| flight.number == pilot.number) {
            inner.by_key.remove(key);
            self.note_end(&inner);
        }
        deserted
    }
}
