//! What is known about each upstream host: its breaker (RS-94) and the pause it asked for (RS-91). A host is called
//! here as [`crate::way_of`] calls it. The state is this process's own; what twins know comes in through
//! [`Hosts::hear`] and [`Hosts::look`], and what this one finds out goes to them through [`Shared`].

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use artifactapi_model::{
    Clock, Notice, Timestamp,
    ports::{Coordinator, Lease, upstream::UpstreamError},
};
use http::{HeaderMap, StatusCode};
use quick_cache::sync::Cache;

use crate::{
    breaker::{Breaker, BreakerState, OPEN_FOR},
    observe::Observer,
    retry_after::{MAX_PAUSE, retry_after},
    shared::{Fact, Probe, Shared},
};

/// Hosts that are remembered; the least used are forgotten first.
const MAX_HOSTS: usize = 4096;

/// The hosts.
pub(crate) struct Hosts {
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    known: Cache<String, Arc<Mutex<State>>>,
    shared: OnceLock<Shared>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    paused_until: Option<Timestamp>,
}

impl Hosts {
    /// Nothing known yet.
    pub(crate) fn new(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Hosts { clock, observer, known: Cache::new(MAX_HOSTS), shared: OnceLock::new() })
    }

    /// Lets a request to `host` pass.
    ///
    /// # Errors
    /// [`UpstreamError::Paused`] or [`UpstreamError::BreakerOpen`] with the time left.
    pub(crate) fn admit(self: &Arc<Self>, host: &str) -> Result<Ticket, UpstreamError> {
        let now = self.clock.now();
        let admitted = self.change(host, |state| {
            if let Some(retry_after) = state.pause_left(now) {
                return Err(UpstreamError::Paused { host: host.into(), retry_after });
            }
            state
                .breaker
                .admit(now)
                .map(|()| state.breaker.state() == BreakerState::HalfOpen)
                .map_err(|retry_after| UpstreamError::BreakerOpen { host: host.into(), retry_after })
        });
        let is_probe = admitted?;
        Ok(Ticket { hosts: self.clone(), host: host.into(), is_probe, reported: false, lease: None })
    }

    /// Shares what is found out from now on; the first wins.
    pub(crate) fn share(&self, coordinator: Arc<dyn Coordinator>, replica: &str) {
        let _ = self.shared.set(Shared::new(coordinator, self.clock.clone(), replica));
    }

    /// [`Hosts::admit`], after a look at what the twins know; of all replicas one probes.
    ///
    /// # Errors
    /// Those of [`Hosts::admit`].
    pub(crate) async fn enter(self: &Arc<Self>, host: &str) -> Result<Ticket, UpstreamError> {
        let Some(shared) = self.shared.get() else { return self.admit(host) };
        if let Some(known) = shared.look(host).await {
            if let Some(until) = known.paused_until {
                self.pause(host, Timestamp(until));
            }
            if let Some(until) = known.failing_until {
                self.failing(host, Timestamp(until));
            }
        }
        let mut ticket = self.admit(host)?;
        if ticket.is_probe {
            match shared.probe(host).await {
                Probe::Ours(lease) => ticket.lease = Some(lease),
                Probe::Anyone => {}
                Probe::Theirs => {
                    let retry_after = Duration::from_secs(1);
                    return Err(UpstreamError::BreakerOpen { host: host.into(), retry_after });
                }
            }
        }
        Ok(ticket)
    }

    /// Takes what a twin says.
    pub(crate) fn hear(&self, notice: &Notice) {
        match notice {
            Notice::Paused { host, until } => self.pause(host, Timestamp(*until)),
            Notice::Failing { host, by } if !self.shared.get().is_some_and(|shared| shared.is_me(by)) => {
                self.failing(host, self.clock.now() + OPEN_FOR);
            }
            _ => {}
        }
    }

    /// The breaker of a twin is open until `until`; it has been told to everyone already.
    fn failing(&self, host: &str, until: Timestamp) {
        let now = self.clock.now();
        let opened =
            Timestamp(until.0.saturating_sub(i64::try_from(OPEN_FOR.as_millis()).unwrap_or(i64::MAX)));
        let (news, _) = self.change_quietly(host, |state| state.breaker.told(opened, now));
        if news {
            tracing::info!(
                upstream.host = host,
                "circuit breaker opened: another replica found the host failing"
            );
            self.observer.on_breaker(host, BreakerState::Open);
        }
    }

    /// Tells the twins about the pause of `host`; returns when it is said, or could not be.
    pub(crate) async fn tell_pause(&self, host: &str, pause: Duration) {
        let until = self.clock.now() + pause;
        let notice = Notice::Paused { host: host.to_owned(), until: until.0 };
        let told = self.shared.get().and_then(|shared| shared.tell(host, Fact::Paused, until, notice));
        if let Some(told) = told {
            let _ = told.await;
        }
    }

    /// Tells the twins that the breaker of `host` has opened.
    fn tell_failing(&self, host: &str) {
        if let Some(shared) = self.shared.get() {
            let until = self.clock.now() + OPEN_FOR;
            drop(shared.tell(host, Fact::Failing, until, shared.failing(host)));
        }
    }

    /// Keeps requests away from `host` until `until`, at most [`MAX_PAUSE`] from now. A pause never gets
    /// shorter.
    pub(crate) fn pause(&self, host: &str, until: Timestamp) {
        let until = until.min(self.clock.now() + MAX_PAUSE);
        self.change(host, |state| state.paused_until = state.paused_until.max(Some(until)));
    }

    /// Changes what this replica found out itself: a breaker that changes is told.
    fn change<T>(&self, host: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, changed) = self.change_quietly(host, change);
        if let Some((before, after)) = changed {
            tracing::info!(upstream.host = host, breaker = ?after, "circuit breaker changed");
            self.observer.on_breaker(host, after);
            match after {
                BreakerState::Open => self.tell_failing(host),
                BreakerState::Closed if before != BreakerState::Closed => {
                    self.shared.get().into_iter().for_each(|shared| shared.recovered(host));
                }
                _ => {}
            }
        }
        result
    }

    /// The result, and the breaker's states before and after when they differ.
    fn change_quietly<T>(
        &self,
        host: &str,
        change: impl FnOnce(&mut State) -> T,
    ) -> (T, Option<(BreakerState, BreakerState)>) {
        let made = self.known.get_or_insert_with(host, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let state = match made {
            Ok(state) => state,
            Err(never) => match never {},
        };
        let (result, before, after) = {
            // A panic between lock and unlock leaves a state that is still one of the valid ones.
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let before = state.breaker.state();
            let result = change(&mut state);
            (result, before, state.breaker.state())
        };
        (result, (before != after).then_some((before, after)))
    }
}

impl State {
    fn pause_left(&self, now: Timestamp) -> Option<Duration> {
        // The bound holds against a clock that stepped back, too.
        let left = self.paused_until?.since(now).min(MAX_PAUSE);
        (!left.is_zero()).then_some(left)
    }
}

/// One admitted request; reports how it went. Dropped without a report it says nothing about the host.
pub(crate) struct Ticket {
    hosts: Arc<Hosts>,
    host: String,
    is_probe: bool,
    reported: bool,
    /// Says to the twins that this is the probe.
    lease: Option<Lease>,
}

impl Ticket {
    /// The head came. Server errors count as failures, and a 429 or 503 with Retry-After begins a pause,
    /// which is returned.
    pub(crate) fn head(&mut self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        let now = self.hosts.clock.now();
        let asks = matches!(status.as_u16(), 429 | 503);
        let pause = asks.then(|| retry_after(headers, now)).flatten();
        if let Some(pause) = pause {
            let until = now + pause;
            self.hosts.pause(&self.host, until);
            self.hosts.observer.on_pause(&self.host, until);
        }
        if is_failure(status) {
            self.failed();
        } else {
            self.reported = true;
            self.hosts.change(&self.host, |state| state.breaker.answered());
        }
        self.give_back();
        pause
    }

    fn give_back(&mut self) {
        if let (Some(lease), Some(shared)) = (self.lease.take(), self.hosts.shared.get()) {
            shared.probed(lease);
        }
    }

    /// The body came to its end, or says nothing more about the host's health.
    pub(crate) fn succeeded(&mut self, status: StatusCode) {
        if !is_failure(status) {
            self.hosts.change(&self.host, |state| state.breaker.succeeded());
        }
    }

    /// No answer, or a broken one.
    pub(crate) fn failed(&mut self) {
        self.reported = true;
        let now = self.hosts.clock.now();
        self.hosts.change(&self.host, |state| state.breaker.failed(now));
        self.give_back();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_probe && !self.reported {
            // Nothing was found out, so there is nothing to tell.
            self.hosts.change_quietly(&self.host, |state| state.breaker.abandoned());
        }
        self.give_back();
    }
}

/// 501 and 505 speak about the request, not about the server's health.
fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && !matches!(status.as_u16(), 501 | 505)
}

#[cfg(test)]
mod tests {
    use artifactapi_model::clock::ManualClock;
    use http::{HeaderValue, header::RETRY_AFTER};

    use super::*;
    use crate::observe::NoObserver;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())])
    }

    fn hosts() -> (Arc<ManualClock>, Arc<Hosts>) {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000_000_000)));
        (clock.clone(), Hosts::new(clock, Arc::new(NoObserver)))
    }

    #[test]
    fn rs_91_a_paused_host_is_not_asked_and_others_are() {
        let (clock, hosts) = hosts();
        hosts.admit("a:443").unwrap().head(StatusCode::TOO_MANY_REQUESTS, &headers("60"));
        let Err(UpstreamError::Paused { retry_after, .. }) = hosts.admit("a:443") else {
            panic!("not paused")
        };
        assert_eq!(retry_after, Duration::from_secs(60));
        assert!(hosts.admit("b:443").is_ok());
        clock.advance(Duration::from_secs(60));
        assert!(hosts.admit("a:443").is_ok());
    }

    #[test]
    fn rs_91_only_a_refusal_with_retry_after_pauses() {
        let (_, hosts) = hosts();
        hosts.admit("a:443").unwrap().head(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new());
        hosts.admit("a:443").unwrap().head(StatusCode::NOT_FOUND, &headers("60"));
        assert!(hosts.admit("a:443").is_ok());
    }

    #[test]
    fn rs_94_server_errors_open_the_breaker_of_their_host() {
        let (clock, hosts) = hosts();
        for _ in 0..5 {
            hosts.admit("a:443").unwrap().head(StatusCode::BAD_GATEWAY, &HeaderMap::new());
        }
        assert!(matches!(hosts.admit("a:443"), Err(UpstreamError::BreakerOpen { .. })));
        assert!(hosts.admit("b:443").is_ok());

        clock.advance(Duration::from_secs(30));
        let probe = hosts.admit("a:443").unwrap();
        assert!(hosts.admit("a:443").is_err(), "one probe");
        drop(probe);
        hosts.admit("a:443").unwrap().head(StatusCode::NOT_FOUND, &HeaderMap::new());
        assert!(hosts.admit("a:443").is_ok());
    }

    #[test]
    fn client_errors_are_no_failures() {
        let (_, hosts) = hosts();
        for _ in 0..20 {
            hosts.admit("a:443").unwrap().head(StatusCode::NOT_FOUND, &HeaderMap::new());
        }
        assert!(hosts.admit("a:443").is_ok());
    }
}
