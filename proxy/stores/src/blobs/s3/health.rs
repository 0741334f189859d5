//! Whether S3 answers at all. One that stands still costs each request all the patience there is; after a few
//! of those in a row the others are told at once, and one request a second finds out whether it is back.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// So many requests in a row without an answer.
const ENOUGH: u32 = 5;
/// Time between two attempts while it does not answer.
const PERIOD: Duration = Duration::from_secs(1);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    unanswered: u32,
    /// When the next request may find out.
    next: Option<Instant>,
}

/// The request was not sent.
#[derive(Debug)]
pub(super) struct Resting;

impl fmt::Display for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3 has not answered lately")
    }
}

impl Error for Resting {}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may be sent now.
    pub(super) fn may_ask(&self) -> Result<(), Resting> {
        let (mut state, now) = (self.state(), Instant::now());
        match state.next {
            Some(next) if now < next => Err(Resting),
            Some(_) => {
                state.next = Some(now + PERIOD);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// There was an answer, whatever it said.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        if state.next.is_some() {
            tracing::info!("S3 answers again");
        }
        *state = State::default();
    }

    /// There was none: no connection, or silence.
    pub(super) fn unanswered(&self) {
        let mut state = self.state();
        state.unanswered = state.unanswered.saturating_add(1);
        if state.unanswered >= ENOUGH && state.next.is_none() {
            tracing::warn!(requests = state.unanswered, "S3 does not answer");
            state.next = Some(Instant::now() + PERIOD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_stops_all_but_one_request_a_second_until_there_is_an_answer() {
        let health = Health::default();
        for _ in 1..ENOUGH {
            health.unanswered();
            assert!(health.may_ask().is_ok());
        }
        health.answered();
        for _ in 1..ENOUGH {
            health.unanswered();
        }
        assert!(health.may_ask().is_ok(), "not in a row");
        health.unanswered();
        for _ in 0..3 {
            assert!(health.may_ask().is_err());
            tokio::time::advance(PERIOD).await;
            assert!(health.may_ask().is_ok(), "one finds out");
            assert!(health.may_ask().is_err(), "the others do not wait for it");
            health.unanswered();
        }
        health.answered();
        assert!(health.may_ask().is_ok());
        health.unanswered();
        assert!(health.may_ask().is_ok(), "all is forgiven");
    }
}
