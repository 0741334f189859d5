//! How observations meet rows, the same in every database: decided here, written there.

use std::time::Duration;

use artifactapi_model::{
    Epoch, RepoId, observation::Observation, ports::observations::Seen, repository::RepoIdentity,
};

/// Rows of one answer.
pub(super) const PAGE: usize = 1_000;

/// A row as it is.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) epoch: Epoch,
    pub(super) observation: Observation,
    /// Whether it was written so recently that it stays as it is.
    pub(super) is_fresh: bool,
}

/// A row as it has to be.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) identity: RepoIdentity,
    pub(super) observation: Observation,
    /// Whether it says something that the row before did not.
    pub(super) is_news: bool,
}

impl Write {
    /// The row's text.
    pub(super) fn text(&self) -> String {
        // Numbers and strings always serialise.
        serde_json::to_string(&self.observation).unwrap_or_default()
    }

    /// When the next probe is due, from now. A little apart for each, so that not all are due at once.
    pub(super) fn probe_in(&self) -> Duration {
        let after = self.observation.probe_after();
        let share = u32::try_from(self.identity.id.0.rem_euclid(16)).unwrap_or_default();
        after + after * share / 160
    }

    /// The request that it answers.
    pub(super) fn token(&self) -> Option<&str> {
        self.observation.probe.as_ref().map(|probe| probe.token.as_str())
    }
}

/// What is to be done with what was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    /// Rows to write.
    pub(super) writes: Vec<Write>,
    /// Of whom nothing is left to tell.
    pub(super) settled: Vec<RepoIdentity>,
}

/// Merges `seen` into what is `known`.
pub(super) fn merge(seen: &[Seen], known: impl Fn(RepoId) -> Option<Known>) -> Merged {
    let mut merged = Merged::default();
    for Seen { identity, observation } in seen {
        let known = known(identity.id);
        let mut before = Observation::default();
        match known {
            Some(known) if known.epoch > identity.epoch => {
                merged.settled.push(*identity);
                continue;
            }
            Some(known) if known.epoch == identity.epoch && known.is_fresh => continue,
            Some(known) if known.epoch == identity.epoch => before = known.observation,
            _ => {}
        }
        let mut after = before.clone();
        after.merge(observation);
        let is_news = after.is_news_after(&before);
        merged.writes.push(Write { identity: *identity, observation: after, is_news });
        merged.settled.push(*identity);
    }
    merged
}
