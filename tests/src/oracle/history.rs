//! Verdicts on a history.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{Outcome, Record};

/// What was recorded, in the order in which it ended.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Record>);

/// The spread of a set of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them are not longer.
    pub p50: Duration,
    /// 99 of 100 are not longer.
    pub p99: Duration,
    /// None is longer.
    pub max: Duration,
}

impl Percentiles {
    /// Of these.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        // The smallest of them that so many of 100 do not exceed.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        };
        Percentiles { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_millis();
        write!(f, "p50 {} ms, p99 {} ms, max {} ms", ms(self.p50), ms(self.p99), ms(self.max))
    }
}

impl History {
    pub(super) fn new(records: Vec<Record>) -> Self {
        History(records)
    }

    /// The records.
    pub fn records(&self) -> &[Record] {
        &self.0
    }

    /// Those that `chosen` chooses.
    #[must_use]
    pub fn only(&self, chosen: impl Fn(&Record) -> bool) -> Self {
        History(self.0.iter().filter(|record| chosen(record)).cloned().collect())
    }

    /// Those of requests that were sent in a span of time.
    #[must_use]
    pub fn between(&self, start: Instant, end: Instant) -> Self {
        self.only(|record| record.start >= start && record.start < end)
    }

    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|record| record.outcome == outcome).count()
    }

    /// I1: complete answers with other bytes than the object holds. Answers that broke off are no breach, whatever
    /// came of them; see [`History::spoiled`].
    pub fn wrong(&self) -> Vec<&Record> {
        self.0.iter().filter(|record| record.outcome == Outcome::Complete && !record.is_true).collect()
    }

    /// Answers of any end in which a byte came that is not the object's.
    pub fn spoiled(&self) -> Vec<&Record> {
        self.0.iter().filter(|record| !record.is_true).collect()
    }

    /// Requests that did not end complete.
    pub fn unsuccessful(&self) -> Vec<&Record> {
        self.0.iter().filter(|record| record.outcome != Outcome::Complete).collect()
    }

    /// Times from request to end of those that ended complete.
    pub fn latencies(&self) -> Percentiles {
        let complete = self.0.iter().filter(|record| record.outcome == Outcome::Complete);
        Percentiles::of(complete.map(|record| record.end - record.start))
    }

    /// Times from request to the first byte of a body, where one came.
    pub fn lags(&self) -> Percentiles {
        let began = |record: &Record| Some(record.first_byte? - record.start);
        Percentiles::of(self.0.iter().filter_map(began))
    }

    /// How many had no byte of a body when `instant` came.
    pub fn empty_at(&self, instant: Instant) -> usize {
        self.0.iter().filter(|record| record.first_byte.is_none_or(|first| first > instant)).count()
    }

    /// Holds I1.
    ///
    /// # Panics
    /// When a complete answer had other bytes.
    pub fn assert_no_wrong_bytes(&self) {
        let wrong = self.wrong();
        assert!(
            wrong.is_empty(),
            "I1: {} complete answers with other bytes: {:#?}",
            wrong.len(),
            wrong.first()
        );
    }

    /// Holds that everything ended complete.
    ///
    /// # Panics
    /// When something did not; says how many, and shows a few.
    pub fn assert_all_complete(&self, what: &str) {
        let bad = self.unsuccessful();
        let few = &bad[..bad.len().min(3)];
        assert!(bad.is_empty(), "{what}: {} of {} did not end complete: {few:#?}", bad.len(), self.0.len());
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, wrong) = (self.0.len(), self.wrong().len());
        let of = |outcome| self.count(outcome);
        write!(
            f,
            "{total} requests, {} complete, {} broken, {} failed, {wrong} wrong",
            of(Outcome::Complete),
            of(Outcome::Broken),
            of(Outcome::Failed)
        )
    }
}
