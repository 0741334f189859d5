//! What is seen of upstreams while requests go there: gathered in memory, told to the store by
//! [`crate::upkeep::observations`]. One entry per Remote, nothing waits for anybody.

mod outcome;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use artifactapi_model::{
    Clock, Remote, RepoId, Timestamp,
    observation::{Breaker, BreakerStep, Observation, ProbeDone},
    ports::observations::Seen,
    repository::RepoIdentity,
};
use artifactapi_upstream::{BreakerState, Observer, Outcome, way_of};
use tokio::sync::Notify;

/// A Remote is told of at most once in this time.
pub const SPACING: Duration = Duration::from_secs(10);
/// And once in this time when there is nothing new but the time at which it was last seen.
const ROUTINE: Duration = Duration::from_secs(60);
/// Remotes and hosts that are remembered; more are not.
const MAX_ENTRIES: usize = 16 * 1024;

/// What this process has seen and not told, or told already.
#[derive(Debug, Default)]
pub struct Gatherer {
    state: Mutex<State>,
    /// Told whenever somebody should look for probes.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    remotes: HashMap<RepoId, Entry>,
    /// Breakers that are not closed.
    breakers: HashMap<String, Breaker>,
}

#[derive(Debug)]
struct Entry {
    identity: RepoIdentity,
    /// What breakers call its upstream.
    way: String,
    /// What was seen and not told.
    pending: Option<Observation>,
    /// What was told.
    told: Observation,
    told_at: Option<Timestamp>,
}

impl Entry {
    fn new(remote: &Remote) -> Self {
        Entry {
            identity: remote.identity,
            way: way_of(&remote.spec, &remote.spec.base_url),
            pending: None,
            told: Observation::default(),
            told_at: None,
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let (Some(pending), Some(told_at)) = (&self.pending, self.told_at) else {
            return self.pending.is_some();
        };
        let mut after = self.told.clone();
        after.merge(pending);
        let is_urgent = after.is_news_after(&self.told) || after.is_in_doubt();
        now.since(told_at) >= if is_urgent { SPACING } else { ROUTINE }
    }
}

impl Gatherer {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was seen of the upstream of `remote`.
    pub fn take(&self, remote: &Remote, seen: &Observation) {
        self.change(remote, |pending| pending.merge(seen));
    }

    /// The failure that was last seen since `started`, by a probe, counts whatever was seen before.
    pub fn confirm(&self, remote: &Remote, started: Timestamp) {
        self.change(remote, |pending| {
            let tracks = [&mut pending.upstream, &mut pending.credentials];
            let failures = tracks.into_iter().filter_map(|track| track.bad.as_mut());
            failures.filter(|failure| failure.at >= started).for_each(|failure| failure.confirmed = true);
        });
    }

    /// The probe called `token` was made.
    pub fn answered(&self, remote: &Remote, token: &str, at: Timestamp) {
        let probe = Some(ProbeDone { at, token: token.to_owned() });
        self.take(remote, &Observation { probe, ..Observation::default() });
    }

    fn change(&self, remote: &Remote, change: impl FnOnce(&mut Observation)) {
        let state = &mut *self.state();
        let RepoIdentity { id, epoch } = remote.identity;
        if state.remotes.len() >= MAX_ENTRIES && !state.remotes.contains_key(&id) {
            return;
        }
        let entry = state.remotes.entry(id).or_insert_with(|| Entry::new(remote));
        if entry.identity.epoch > epoch {
            return;
        }
        if entry.identity.epoch < epoch {
            *entry = Entry::new(remote);
        }
        // Another proxy does not make it another Remote.
        entry.way = way_of(&remote.spec, &remote.spec.base_url);
        change(entry.pending.get_or_insert_default());
    }

    /// What is to be told now.
    pub fn due(&self, now: Timestamp) -> Vec<Seen> {
        let State { remotes, breakers } = &mut *self.state();
        let mut due = Vec::new();
        for entry in remotes.values_mut().filter(|entry| entry.is_due(now)) {
            let Some(pending) = &mut entry.pending else { continue };
            let step = entry.told.breaker.map_or(BreakerStep::Closed, |breaker| breaker.step);
            match breakers.get(&entry.way) {
                Some(breaker) => pending.merge(&of_breaker(*breaker)),
                None if step != BreakerStep::Closed => {
                    pending.merge(&of_breaker(Breaker { at: now, step: BreakerStep::Closed }));
                }
                None => {}
            }
            due.push(Seen { identity: entry.identity, observation: pending.clone() });
        }
        due
    }

    /// Of what was `due`, these were told at `now`.
    pub fn told(&self, due: &[Seen], settled: &[RepoIdentity], now: Timestamp) {
        let settled: HashSet<RepoId> = settled.iter().map(|identity| identity.id).collect();
        let state = &mut *self.state();
        for Seen { identity, observation } in due.iter().filter(|seen| settled.contains(&seen.identity.id)) {
            let Some(entry) = state.remotes.get_mut(&identity.id) else { continue };
            if entry.identity != *identity {
                continue;
            }
            entry.told.merge(observation);
            entry.told_at = Some(now);
            // Something may have been seen meanwhile.
            if entry.pending.as_ref() == Some(observation) {
                entry.pending = None;
            }
        }
    }

    /// Forgets Remotes that are not in `present`.
    pub fn keep_only(&self, present: &HashSet<RepoId>) {
        self.state().remotes.retain(|repo, _| present.contains(repo));
    }

    fn breaker(&self, host: &str, breaker: Breaker) {
        let State { remotes, breakers } = &mut *self.state();
        if breaker.step == BreakerStep::Closed {
            breakers.remove(host);
        } else if breakers.len() < MAX_ENTRIES || breakers.contains_key(host) {
            breakers.insert(host.to_owned(), breaker);
        }
        for entry in remotes.values_mut().filter(|entry| entry.way == host) {
            entry.pending.get_or_insert_default().merge(&of_breaker(breaker));
        }
    }
}

fn of_breaker(breaker: Breaker) -> Observation {
    Observation { breaker: Some(breaker), ..Observation::default() }
}

/// Hands what happens on the way out to a [`Gatherer`].
pub struct Watcher {
    gatherer: Arc<Gatherer>,
    clock: Arc<dyn Clock>,
}

impl Watcher {
    /// Watches for `gatherer`, by `clock`.
    pub fn new(gatherer: Arc<Gatherer>, clock: Arc<dyn Clock>) -> Self {
        Watcher { gatherer, clock }
    }
}

impl Observer for Watcher {
    fn on_outcome(&self, remote: &Remote, outcome: Outcome<'_>) {
        if let Some(seen) = outcome::observation(&remote.spec, &outcome, self.clock.now()) {
            self.gatherer.take(remote, &seen);
        }
    }

    fn on_breaker(&self, host: &str, state: BreakerState) {
        let step = match state {
            BreakerState::Closed => BreakerStep::Closed,
            BreakerState::Open => BreakerStep::Open,
            BreakerState::HalfOpen => BreakerStep::HalfOpen,
        };
        self.gatherer.breaker(host, Breaker { at: self.clock.now(), step });
    }
}

#[cfg(test)]
mod tests;
