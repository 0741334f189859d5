//! The bytes between one fill and the readers that follow it. As long as there is room they are all in the
//! stage; once the store is full (RS-96) the rest passes through memory, a bounded window of it, which moves
//! on when the last of its readers does.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use artifactapi_model::ports::{BlobError, BlobReader};
use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use tokio::{sync::Notify, time::Instant};

use crate::fetch::HOLD_BACK;

/// Bytes a window holds before its writer waits for the readers; more than what is held back.
const WINDOW: u64 = 16 * HOLD_BACK;
/// How long the others wait for a reader that stands still (RS-64).
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Window {
    /// The stage's reader, for what was written before the store was full.
    staged: Option<Arc<dyn BlobReader>>,
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// What is below this offset is in the stage.
    base: u64,
    /// Offsets of the bytes in memory.
    start: u64,
    end: u64,
    chunks: VecDeque<Bytes>,
    /// What each reader still wants begins here.
    places: BTreeMap<u64, u64>,
    next: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Everything is in the stage.
    #[default]
    Staging,
    /// What follows the base passes through memory.
    Spilling,
    /// Nobody was there to read it.
    Closed,
}

impl Window {
    /// Over what `staged` reads.
    pub(crate) fn over(staged: Arc<dyn BlobReader>) -> Arc<Self> {
        Arc::new(Window { staged: Some(staged), state: Mutex::default(), moved: Notify::new() })
    }

    /// Of a body that is not staged at all.
    pub(crate) fn unstaged() -> Arc<Self> {
        let state = Mutex::new(State { phase: Phase::Spilling, ..State::default() });
        Arc::new(Window { staged: None, state, moved: Notify::new() })
    }

    /// A poisoned lock hides nothing: each change in here is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place at the body's begin; `None` when that cannot be read any more.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        if state.phase == Phase::Closed || state.start > state.base {
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.places.insert(id, 0);
        drop(state);
        Some(Place { window: self.clone(), id })
    }

    /// The stage takes nothing from `base` on. `false`: nobody reads, so that going on would be for nothing.
    pub(crate) fn spill(&self, base: u64) -> bool {
        let mut state = self.state();
        if state.places.is_empty() {
            state.phase = Phase::Closed;
            return false;
        }
        state.phase = Phase::Spilling;
        (state.base, state.start, state.end) = (base, base, base);
        true
    }

    /// Whether a part of the body passes through memory, to be read once and forwards.
    pub(crate) fn is_spilling(&self) -> bool {
        self.state().phase != Phase::Staging
    }

    /// Appends to what is in memory, once there is room. `false` when the last reader has left.
    pub(crate) async fn push(&self, chunk: Bytes) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.state();
                if state.places.is_empty() {
                    state.phase = Phase::Closed;
                    return false;
                }
                if state.end - state.start < WINDOW {
                    state.end += chunk.len() as u64;
                    state.chunks.push_back(chunk);
                    return true;
                }
                if state.places.len() > 1 && Instant::now() >= end {
                    state.expel();
                    continue;
                }
            }
            // Only one reader: it sets the pace, and the server ends the connection of one without any.
            let _ = tokio::time::timeout_at(end.max(Instant::now() + PATIENCE / 5), moved).await;
        }
    }
}

impl State {
    /// Drops what no reader wants any more.
    fn discard(&mut self) {
        let Some(wanted) = self.places.values().min() else { return };
        while let Some(first) = self.chunks.front_mut() {
            let surplus = wanted.saturating_sub(self.start);
            let length = first.len() as u64;
            if surplus >= length {
                self.chunks.pop_front();
                self.start += length;
            } else {
                first.advance(usize::try_from(surplus).unwrap_or(0));
                self.start += surplus;
                return;
            }
        }
    }

    /// Goes on without the readers that are furthest behind, unless they all are.
    fn expel(&mut self) {
        let behind = self.places.values().min().copied().unwrap_or_default();
        if self.places.values().any(|offset| *offset > behind) {
            self.places.retain(|_, offset| *offset > behind);
            self.discard();
        }
    }
}

#[async_trait]
impl BlobReader for Window {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let staged = {
            let state = self.state();
            if state.phase == Phase::Spilling && offset >= state.base {
                return state.read(offset, length);
            }
            if state.phase == Phase::Staging { length } else { clip(length, state.base - offset) }
        };
        match &self.staged {
            Some(reader) => reader.read_at(offset, staged).await,
            None => Ok(Bytes::new()),
        }
    }
}

impl State {
    fn read(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        if offset < self.start {
            let source = std::io::Error::from(std::io::ErrorKind::NotSeekable);
            return Err(BlobError::Io { doing: "reading back in a body that is not stored", source });
        }
        let mut at = self.start;
        for chunk in &self.chunks {
            let end = at + chunk.len() as u64;
            if offset < end {
                let from = usize::try_from(offset - at).unwrap_or(0);
                return Ok(chunk.slice(from..from + length.min(chunk.len() - from)));
            }
            at = end;
        }
        Ok(Bytes::new())
    }
}

fn clip(length: usize, left: u64) -> usize {
    length.min(usize::try_from(left).unwrap_or(usize::MAX))
}

/// One reader's place; given up when it is dropped.
pub(crate) struct Place {
    pub(crate) window: Arc<Window>,
    id: u64,
}

impl Place {
    /// The reader wants nothing before `offset` any more.
    pub(crate) fn advance(&self, offset: u64) {
        let mut state = self.window.state();
        if let Some(place) = state.places.get_mut(&self.id) {
            *place = offset;
            state.discard();
        }
        drop(state);
        self.window.moved.notify_one();
    }

    /// The reader takes part no longer: it waits for the whole.
    pub(crate) fn leave(&self) {
        let mut state = self.window.state();
        state.places.remove(&self.id);
        state.discard();
        drop(state);
        self.window.moved.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = HOLD_BACK as usize;

    fn piece(number: u64) -> Bytes {
        vec![number as u8; PIECE].into()
    }

    /// Reads what is there from `offset` on, moving the place with it.
    async fn advance(place: &Place, offset: &mut u64) -> usize {
        place.advance(*offset);
        let bytes = place.window.read_at(*offset, 10_000).await.unwrap();
        assert!(bytes.iter().all(|byte| u64::from(*byte) == *offset / HOLD_BACK));
        *offset += bytes.len() as u64;
        bytes.len()
    }

    #[tokio::test]
    async fn rs_96_a_window_is_bounded_and_moves_with_its_reader() {
        let window = Window::unstaged();
        let place = window.enter().unwrap();
        let writer = window.clone();
        let task = tokio::spawn(async move {
            for number in 0..64 {
                assert!(writer.push(piece(number)).await);
            }
        });
        let mut offset = 0;
        while offset < 64 * HOLD_BACK {
            if advance(&place, &mut offset).await == 0 {
                tokio::task::yield_now().await;
            }
            let state = window.state();
            assert!(state.end - state.start <= WINDOW + HOLD_BACK);
        }
        task.await.unwrap();
        assert!(window.read_at(0, 1).await.is_err());
        assert!(window.enter().is_none(), "its begin is gone");
        drop(place);
        assert!(!window.push(piece(64)).await, "nobody is left");
    }

    #[tokio::test(start_paused = true)]
    async fn rs_64_a_reader_that_stands_still_does_not_hold_the_others_for_long() {
        let staged = Window::unstaged();
        let _begin = staged.enter().unwrap();
        assert!(staged.push(piece(0)).await);
        let window = Window::over(staged);
        let (slow, swift) = (window.enter().unwrap(), window.enter().unwrap());
        assert!(window.spill(HOLD_BACK));
        let writer = window.clone();
        let task = tokio::spawn(async move {
            for number in 1..64 {
                assert!(writer.push(piece(number)).await);
            }
        });
        let (mut offset, mut behind) = (0, 0);
        while offset < 64 * HOLD_BACK {
            if advance(&swift, &mut offset).await == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        task.await.unwrap();
        assert_ne!(advance(&slow, &mut behind).await, 0, "what is staged it can still read");
        assert!(window.read_at(HOLD_BACK, 1).await.is_err(), "and no more");
    }

    #[tokio::test]
    async fn rs_96_nothing_spills_where_nobody_reads() {
        let window = Window::over(Window::unstaged());
        assert!(!window.spill(0));
        assert!(window.enter().is_none(), "who comes too late must begin anew");
    }
}
