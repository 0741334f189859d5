//! Shared by all callers: while the server is down they fail at once instead of each finding out, and one of
//! them at a time looks whether it is back (RS-85).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::random;

/// Pause after the first failure; doubled by every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, so that the server is back for everyone soon after it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    /// In a row; 0: it is open.
    failures: u32,
    shut_until: Option<Instant>,
    is_probing: bool,
    cause: String,
}

impl State {
    /// After a failure: one looks, or it is too early to look.
    fn is_shut(&self) -> bool {
        self.is_probing || self.shut_until.is_some_and(|until| Instant::now() < until)
    }
}

/// What a caller may do.
pub(super) enum Pass<'a> {
    /// Go on.
    Open,
    /// Go on, alone, and tell what came of it.
    Probe(Probe<'a>),
    /// The server is down: the cause.
    Shut(String),
}

/// One caller's look whether the server is back. Dropped without a word, the next one looks.
pub(super) struct Probe<'a>(&'a Gate);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nobody may pass at this moment.
    pub(super) fn cause(&self) -> Option<String> {
        let state = self.state();
        (state.failures > 0 && state.is_shut()).then(|| state.cause.clone())
    }

    /// Asks to pass.
    pub(super) fn pass(&self) -> Pass<'_> {
        let mut state = self.state();
        if state.failures == 0 {
            return Pass::Open;
        }
        if state.is_shut() {
            return Pass::Shut(state.cause.clone());
        }
        state.is_probing = true;
        Pass::Probe(Probe(self))
    }

    /// The server did not answer.
    pub(super) fn shut(&self, cause: &str) {
        let mut state = self.state();
        let is_news = state.failures == 0;
        if is_news {
            tracing::warn!(cause, "the database is unavailable");
        } else if !state.is_probing {
            // The others who were on their way say nothing new.
            return;
        }
        let pause = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << state.failures.min(8)));
        state.failures = state.failures.saturating_add(1);
        state.shut_until = Some(Instant::now() + pause / 2 + jitter(pause / 2));
        cause.clone_into(&mut state.cause);
    }

    /// It answered.
    pub(super) fn open(&self) {
        let mut state = self.state();
        if state.failures > 0 {
            tracing::info!("the database is back");
            *state = State { is_probing: state.is_probing, ..State::default() };
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.state().is_probing = false;
    }
}

/// Something between nothing and `most`, so that replicas do not come back in step.
fn jitter(most: Duration) -> Duration {
    let [byte] = random::random().unwrap_or([128]);
    most * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rs_85_one_caller_looks_and_the_others_fail_at_once() {
        let gate = Gate::default();
        assert!(matches!(gate.pass(), Pass::Open));
        gate.shut("refused");
        gate.shut("refused too");
        assert!(matches!(gate.pass(), Pass::Shut(cause) if cause == "refused"));
        tokio::time::advance(FIRST_PAUSE).await;
        let Pass::Probe(probe) = gate.pass() else { panic!("one may look") };
        assert!(matches!(gate.pass(), Pass::Shut(_)), "the others wait for it");
        drop(probe);
        let Pass::Probe(probe) = gate.pass() else { panic!("the one who looked went away") };
        gate.shut("still refused");
        drop(probe);
        assert!(matches!(gate.pass(), Pass::Shut(cause) if cause == "still refused"));
        for _ in 0..40 {
            tokio::time::advance(LONGEST_PAUSE).await;
            let Pass::Probe(_probe) = gate.pass() else { panic!("a pause is never longer") };
            gate.shut("still refused");
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        let Pass::Probe(probe) = gate.pass() else { panic!("never given up") };
        gate.open();
        drop(probe);
        assert!(matches!(gate.pass(), Pass::Open));
    }
}
