//! The circuit breaker of one host (RS-94): a pure state machine that takes `now`.

use std::{collections::VecDeque, time::Duration};

use artifactapi_model::Timestamp;

/// Failures within [`WINDOW`], with no success between them, that open the breaker.
pub(crate) const THRESHOLD: usize = 5;
/// How far back failures count.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// How long an open breaker keeps requests away.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(30);

/// What a breaker does with the next request; also the label of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// One request is on its way to find out; the others are refused.
    HalfOpen,
}

/// The breaker of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    failures: VecDeque<Timestamp>,
    opened: Option<Timestamp>,
    probe: Option<Timestamp>,
}

impl Breaker {
    /// Lets a request pass, or says how long the breaker stays open. After [`OPEN_FOR`] one request
    /// passes as the probe; a probe that never reports is given up after another [`OPEN_FOR`].
    ///
    /// # Errors
    /// The time until the next probe may be sent; at least one second, so that it can be shown to clients.
    pub(crate) fn admit(&mut self, now: Timestamp) -> Result<(), Duration> {
        let Some(opened) = self.opened else { return Ok(()) };
        let waiting_since = self.probe.unwrap_or(opened);
        // A clock that stepped back must not keep the breaker open for longer than its time.
        if now >= waiting_since && now.since(waiting_since) < OPEN_FOR {
            return Err((OPEN_FOR - now.since(waiting_since)).max(Duration::from_secs(1)));
        }
        self.probe = Some(now);
        Ok(())
    }

    /// The head of an answer came: an open breaker closes. Failures stay counted until a body is whole,
    /// so that an upstream that cuts every body is noticed.
    pub(crate) fn answered(&mut self) {
        if self.opened.is_some() {
            *self = Breaker::default();
        }
    }

    /// An answer came to its end: everything before is forgiven.
    pub(crate) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// Upstream failed. While the breaker is open only the probe's failure counts: requests that began
    /// before say nothing new.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        if self.opened.is_some() {
            if self.probe.take().is_some() {
                self.opened = Some(now);
            }
            return;
        }
        self.failures.retain(|at| *at <= now && now.since(*at) < WINDOW);
        self.failures.push_back(now);
        if self.failures.len() >= THRESHOLD {
            self.opened = Some(now);
            self.failures.clear();
        }
    }

    /// A twin's breaker opened at `at`: this one stays shut as long, unless it is probing itself. Whether that
    /// changed anything.
    pub(crate) fn told(&mut self, at: Timestamp, now: Timestamp) -> bool {
        let at = at.min(now);
        let news = self.probe.is_none() && now.since(at) < OPEN_FOR && self.opened.is_none_or(|own| own < at);
        if news {
            self.opened = Some(at);
            self.failures.clear();
        }
        news
    }

    /// The request ended without an answer either way (its caller went away): another may probe.
    pub(crate) fn abandoned(&mut self) {
        self.probe = None;
    }

    /// What it does at present.
    pub(crate) fn state(&self) -> BreakerState {
        match (self.opened, self.probe) {
            (None, _) => BreakerState::Closed,
            (Some(_), None) => BreakerState::Open,
            (Some(_), Some(_)) => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn opened_at(seconds: i64) -> Breaker {
        let mut breaker = Breaker::default();
        (0..THRESHOLD).for_each(|_| breaker.failed(at(seconds)));
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[test]
    fn rs_94_five_failures_in_ten_seconds_open_it() {
        for (times, open) in [
            (&[0, 1, 2, 3][..], false),
            (&[0, 2, 4, 6, 8], true),
            (&[0, 2, 4, 6, 10], false),
            (&[0, 9, 11, 13, 15, 17], true),
        ] {
            let mut breaker = Breaker::default();
            times.iter().for_each(|time| breaker.failed(at(*time)));
            assert_eq!(breaker.admit(at(18)).is_err(), open, "{times:?}");
        }
    }

    #[test]
    fn rs_94_a_success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for time in 0..20 {
            breaker.failed(at(time));
            if time % 4 == 3 {
                breaker.succeeded();
            }
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn rs_94_heads_without_bodies_do_not_keep_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            breaker.answered();
            breaker.failed(at(1));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.failed(at(20));
        assert_eq!(breaker.admit(at(31)), Ok(()), "stragglers do not prolong it");
    }

    #[test]
    fn rs_94_open_for_thirty_seconds_then_one_probe() {
        let mut breaker = opened_at(0);
        assert_eq!(breaker.admit(at(1)), Err(Duration::from_secs(29)));
        assert_eq!(breaker.admit(at(29)), Err(Duration::from_secs(1)));
        assert_eq!(breaker.admit(at(30)), Ok(()));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.admit(at(30)).is_err(), "one probe only");
    }

    #[test]
    fn rs_94_the_probe_decides() {
        let mut recovered = opened_at(0);
        recovered.admit(at(30)).unwrap();
        recovered.succeeded();
        assert_eq!(recovered.admit(at(31)), Ok(()));

        let mut answering = opened_at(0);
        answering.admit(at(30)).unwrap();
        answering.answered();
        assert_eq!(answering.admit(at(31)), Ok(()));

        let mut failing = opened_at(0);
        failing.admit(at(30)).unwrap();
        failing.failed(at(32));
        assert_eq!(failing.admit(at(61)), Err(Duration::from_secs(1)));
        assert_eq!(failing.admit(at(62)), Ok(()));
    }

    #[test]
    fn rs_94_a_lost_probe_and_a_clock_that_steps_back_do_not_lock_it() {
        let mut lost = opened_at(0);
        lost.admit(at(30)).unwrap();
        assert!(lost.admit(at(59)).is_err());
        assert_eq!(lost.admit(at(60)), Ok(()));

        let mut abandoned = opened_at(0);
        abandoned.admit(at(30)).unwrap();
        abandoned.abandoned();
        assert_eq!(abandoned.admit(at(31)), Ok(()));

        assert_eq!(opened_at(3600).admit(at(0)), Ok(()));
    }
}
