//! What proxies have seen of the upstream of a Remote, for those who want to know how it is.
//!
//! An [`Observation`] is small, and two of the same Remote merge: of each kind of event the latest counts. What it
//! means ([`Track::verdict`]) is read from it, never stored, and is calm: one failure between successes, as a single
//! broken path upstream makes all the time, changes nothing until a probe confirms it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Timestamp, ports::upstream::Layer};

/// How long after a success a failure says nothing yet.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long after its last answer an upstream without traffic is probed.
pub const IDLE: Duration = Duration::from_secs(300);
/// The same of one that failed: people wait for it to come back.
pub const FAILING: Duration = Duration::from_secs(60);
/// Longest reason that is kept, in bytes.
pub const MAX_REASON: usize = 400;

/// Everything that is known of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observation {
    /// Whether it answers.
    pub upstream: Track,
    /// Whether it takes the credentials that it is shown.
    pub credentials: Track,
    /// The circuit breaker of its host, when one has spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// What it said is left of its rate limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLeft>,
    /// The last probe that was asked for and is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeDone>,
}

/// The last time something went well, and the last time it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Track {
    /// When it last went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Timestamp>,
    /// When and why it last did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<Failure>,
}

/// Why it did not go well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Where on the way.
    pub layer: Layer,
    /// The status that was answered, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// One sentence without secrets.
    pub reason: String,
    /// Whether a probe has found the same: then no success before it speaks against it.
    #[serde(default)]
    pub confirmed: bool,
}

/// What a [`Track`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Nothing has been seen.
    Unknown,
    /// It goes well.
    Good,
    /// It does not.
    Bad(&'a Failure),
}

/// What the breaker of a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BreakerStep {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// One request is on its way to find out.
    HalfOpen,
}

/// A breaker as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// When.
    pub at: Timestamp,
    /// What it did.
    pub step: BreakerStep,
}

/// A rate limit as upstream told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLeft {
    /// When.
    pub at: Timestamp,
    /// Requests that are left.
    pub left: u64,
}

/// A probe that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeDone {
    /// When it was done.
    pub at: Timestamp,
    /// What the request was called.
    pub token: String,
}

impl Failure {
    /// A failure; a reason that is too long is cut.
    pub fn new(at: Timestamp, layer: Layer, status: Option<u16>, reason: &str) -> Self {
        let end = reason.floor_char_boundary(MAX_REASON.min(reason.len()));
        Failure { at, layer, status, reason: reason[..end].to_owned(), confirmed: false }
    }

    /// Whether `other` says the same, at whatever time.
    fn is_like(&self, other: &Failure) -> bool {
        (self.layer, self.status) == (other.layer, other.status)
    }
}

impl Track {
    /// What it means.
    pub fn verdict(&self) -> Verdict<'_> {
        match (self.good, &self.bad) {
            (None, None) => Verdict::Unknown,
            (Some(_), None) => Verdict::Good,
            (None, Some(bad)) => Verdict::Bad(bad),
            (Some(good), Some(bad)) if bad.at <= good => Verdict::Good,
            (Some(good), Some(bad)) if bad.confirmed || bad.at.since(good) >= GRACE => Verdict::Bad(bad),
            (Some(_), Some(_)) => Verdict::Good,
        }
    }

    /// Whether a failure waits to be confirmed.
    fn is_in_doubt(&self) -> bool {
        let is_later = self.bad.as_ref().is_some_and(|bad| Some(bad.at) > self.good);
        is_later && self.verdict() == Verdict::Good
    }

    fn merge(&mut self, other: &Track) {
        self.good = self.good.max(other.good);
        let (earlier, later) = match (self.bad.take(), other.bad.clone()) {
            (Some(one), Some(two)) if one.at <= two.at => (Some(one), Some(two)),
            (Some(one), Some(two)) => (Some(two), Some(one)),
            (one, two) => (None, one.or(two)),
        };
        self.bad = later.map(|mut bad| {
            // Nothing went well since a probe found it failing.
            let still = |earlier: &Failure| earlier.confirmed && self.good < Some(earlier.at);
            bad.confirmed |= earlier.as_ref().is_some_and(still);
            bad
        });
    }

    fn says_as(&self, before: &Track) -> bool {
        match (self.verdict(), before.verdict()) {
            (Verdict::Bad(one), Verdict::Bad(two)) => one.is_like(two),
            (one, two) => one == two,
        }
    }
}

impl Observation {
    /// Takes in what `other` knows of the same upstream.
    pub fn merge(&mut self, other: &Observation) {
        let Observation { upstream, credentials, breaker, rate, probe } = other;
        self.upstream.merge(upstream);
        self.credentials.merge(credentials);
        later(&mut self.breaker, *breaker, |breaker| breaker.at);
        later(&mut self.rate, *rate, |rate| rate.at);
        later(&mut self.probe, probe.clone(), |probe| probe.at);
    }

    /// Whether it says something else than `before`: not only when something was last seen.
    pub fn is_news_after(&self, before: &Observation) -> bool {
        let is_shut =
            |of: &Observation| of.breaker.is_some_and(|breaker| breaker.step != BreakerStep::Closed);
        let token = |of: &Observation| of.probe.as_ref().map(|probe| probe.token.clone());
        !self.upstream.says_as(&before.upstream)
            || !self.credentials.says_as(&before.credentials)
            || is_shut(self) != is_shut(before)
            || token(self) != token(before)
    }

    /// Whether a failure waits to be confirmed, or to be forgotten.
    pub fn is_in_doubt(&self) -> bool {
        self.upstream.is_in_doubt() || self.credentials.is_in_doubt()
    }

    /// How long after it the upstream is to be probed when nothing else is heard of it.
    pub fn probe_after(&self) -> Duration {
        let tracks = [&self.upstream, &self.credentials];
        if self.is_in_doubt() {
            GRACE
        } else if tracks.iter().any(|track| matches!(track.verdict(), Verdict::Bad(_))) {
            FAILING
        } else {
            IDLE
        }
    }
}

fn later<T>(ours: &mut Option<T>, theirs: Option<T>, at: impl Fn(&T) -> Timestamp) {
    if ours.as_ref().map(&at) < theirs.as_ref().map(&at) {
        *ours = theirs;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn good(seconds: i64) -> Track {
        Track { good: Some(at(seconds)), bad: None }
    }

    fn bad(seconds: i64, confirmed: bool) -> Track {
        let failure = Failure::new(at(seconds), Layer::Dns, None, "no such host");
        Track { good: None, bad: Some(Failure { confirmed, ..failure }) }
    }

    fn word(events: &[Track]) -> &'static str {
        let mut track = Track::default();
        events.iter().for_each(|event| track.merge(event));
        match track.verdict() {
            Verdict::Unknown => "unknown",
            Verdict::Good => "good",
            Verdict::Bad(_) => "bad",
        }
    }

    #[test]
    fn one_failure_between_successes_changes_nothing() {
        for (events, want) in [
            (&[][..], "unknown"),
            (&[good(1)], "good"),
            (&[bad(1, false)], "bad"),
            (&[good(1), bad(2, false)], "good"),
            (&[good(1), bad(2, false), good(3)], "good"),
            (&[good(1), bad(2, false), bad(11, false)], "bad"),
            (&[good(1), bad(2, true)], "bad"),
            (&[good(1), bad(2, true), bad(3, false)], "bad"),
            (&[good(1), bad(2, true), good(3), bad(4, false)], "good"),
            (&[bad(5, true), good(6)], "good"),
        ] {
            assert_eq!(word(events), want, "{events:?}");
        }
    }

    #[test]
    fn probes_come_sooner_where_something_is_wrong_or_in_doubt() {
        let of = |events: &[Track]| {
            let mut seen = Observation::default();
            events.iter().for_each(|event| seen.upstream.merge(event));
            seen.probe_after()
        };
        assert_eq!(of(&[good(1)]), IDLE);
        assert_eq!(of(&[good(1), bad(2, false)]), GRACE);
        assert_eq!(of(&[bad(2, false)]), FAILING);
        let refused = Observation { upstream: good(1), credentials: bad(1, false), ..Observation::default() };
        assert_eq!(refused.probe_after(), FAILING);
    }

    #[test]
    fn only_what_people_would_notice_is_news() {
        let base = Observation { upstream: good(1), ..Observation::default() };
        let with = |change: fn(&mut Observation)| {
            let mut next = base.clone();
            change(&mut next);
            next.is_news_after(&base)
        };
        assert!(!with(|seen| seen.upstream = good(500)));
        assert!(!with(|seen| seen.upstream.merge(&bad(2, false))));
        assert!(!with(|seen| seen.rate = Some(RateLeft { at: at(2), left: 5 })));
        assert!(with(|seen| seen.upstream.merge(&bad(20, false))));
        assert!(with(|seen| seen.credentials = bad(2, false)));
        assert!(with(|seen| seen.breaker = Some(Breaker { at: at(2), step: BreakerStep::Open })));
        assert!(!with(|seen| seen.breaker = Some(Breaker { at: at(2), step: BreakerStep::Closed })));
        assert!(with(|seen| seen.probe = Some(ProbeDone { at: at(2), token: "t".into() })));
        let down = Observation { upstream: bad(1, true), ..Observation::default() };
        let mut still = down.clone();
        still.upstream.merge(&bad(70, true));
        assert!(!still.is_news_after(&down));
    }

    #[test]
    fn what_is_written_is_read_and_gaps_are_filled() {
        let seen = Observation {
            upstream: bad(4, true),
            credentials: good(3),
            breaker: Some(Breaker { at: at(1), step: BreakerStep::HalfOpen }),
            rate: Some(RateLeft { at: at(1), left: 76 }),
            probe: Some(ProbeDone { at: at(1), token: "2026".into() }),
        };
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Observation>(&text).unwrap(), seen);
        let sparse = r#"{"upstream":{"good":5},"later":1}"#;
        let read: Observation = serde_json::from_str(sparse).unwrap();
        assert_eq!(read.upstream.good, Some(Timestamp(5)));
    }

    proptest! {
        #[test]
        fn the_order_of_replicas_does_not_matter(
            events in prop::collection::vec((0..40_i64, any::<bool>(), any::<bool>()), 0..8), seed in any::<u64>()
        ) {
            let tracks: Vec<Track> = events
                .iter()
                .map(|(time, is_good, confirmed)| if *is_good { good(*time) } else { bad(*time, *confirmed) })
                .collect();
            let mut shuffled = tracks.clone();
            if !shuffled.is_empty() {
                shuffled.rotate_left(seed as usize % tracks.len());
            }
            let last = |tracks: &[Track]| {
                let mut all = Track::default();
                tracks.iter().for_each(|track| all.merge(track));
                (all.good, all.bad.map(|bad| bad.at))
            };
            prop_assert_eq!(last(&tracks), last(&shuffled));
        }
    }
}
