//! Whether a tag behaves as one register: as if every write and read had happened at one instant between its
//! request and its answer (linearizability).
//!
//! With values that are written once each, this can be decided in one pass (Gibbons and Korach, "Testing shared
//! memories", 1997, 4.2): a write and the reads of its value form a cluster. The time between the first end and
//! the last start in it is a zone, in which the register must hold the value, when the end comes first (forward);
//! otherwise all of it can happen at one instant of the zone (backward). The history is linearizable when no read
//! ends before its write starts, no two forward zones overlap, and no backward zone lies within a forward one.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// One operation on a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets it to a value nobody else writes.
    Write(String),
    /// Finds a value; `None`: nothing was ever written.
    Read(Option<String>),
}

/// A record of operations on one register.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    lines: Mutex<Vec<Line>>,
}

#[derive(Clone, Debug)]
struct Line {
    operation: Operation,
    start: Duration,
    /// `None`: there was no answer, so that it may happen at any time, or never.
    end: Option<Duration>,
}

impl Default for Record {
    fn default() -> Self {
        Record { began: Instant::now(), lines: Mutex::default() }
    }
}

impl Record {
    /// The time, for the start of an operation.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// An operation that began at `start` has been answered now.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn answered(&self, start: Duration, operation: Operation) {
        let end = Some(self.now());
        self.lines.lock().expect("no holder panics").push(Line { operation, start, end });
    }

    /// A write that began at `start` got no answer.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn unknown(&self, start: Duration, value: &str) {
        let operation = Operation::Write(value.to_owned());
        self.lines.lock().expect("no holder panics").push(Line { operation, start, end: None });
    }

    /// How many operations there are.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn len(&self) -> usize {
        self.lines.lock().expect("no holder panics").len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decides; see the module.
    ///
    /// # Errors
    /// A sentence that names the values in question.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn check(&self) -> Result<(), String> {
        let lines = self.lines.lock().expect("no holder panics").clone();
        check(&lines)
    }
}

/// What is known of one value.
struct Cluster {
    written: Option<Duration>,
    first_end: Duration,
    last_start: Duration,
    first_read_end: Duration,
    is_read: bool,
    write_answered: bool,
}

impl Cluster {
    fn zone(&self) -> (bool, Duration, Duration) {
        let forward = self.first_end < self.last_start;
        let (a, b) = (self.first_end.min(self.last_start), self.first_end.max(self.last_start));
        (forward, a, b)
    }
}

fn check(lines: &[Line]) -> Result<(), String> {
    let mut clusters: BTreeMap<Option<&str>, Cluster> = BTreeMap::new();
    for line in lines {
        let (value, is_read) = match &line.operation {
            Operation::Write(value) => (Some(value.as_str()), false),
            Operation::Read(value) => (value.as_deref(), true),
        };
        let end = line.end.unwrap_or(Duration::MAX);
        let cluster = clusters.entry(value).or_insert(Cluster {
            // Nothing was there from the beginning.
            written: value.is_none().then_some(Duration::ZERO),
            first_end: if value.is_none() { Duration::ZERO } else { Duration::MAX },
            last_start: Duration::ZERO,
            first_read_end: Duration::MAX,
            is_read: false,
            write_answered: value.is_none(),
        });
        cluster.first_end = cluster.first_end.min(end);
        cluster.last_start = cluster.last_start.max(line.start);
        if is_read {
            cluster.is_read = true;
            cluster.first_read_end = cluster.first_read_end.min(end);
        } else {
            cluster.written = Some(line.start);
            cluster.write_answered = line.end.is_some();
        }
    }
    // A write without an answer that nobody has seen may never have happened.
    clusters.retain(|_, cluster| cluster.is_read || cluster.write_answered);
    let show = |value: &Option<&str>| value.map_or_else(|| "nothing".to_owned(), str::to_owned);
    for (value, cluster) in &clusters {
        match cluster.written {
            None => return Err(format!("{} was read and never written", show(value))),
            Some(start) if cluster.first_read_end < start => {
                return Err(format!("{} was read before it was written", show(value)));
            }
            Some(_) => {}
        }
    }
    let zones: Vec<_> = clusters.iter().map(|(value, cluster)| (value, cluster.zone())).collect();
    for (index, (value, (forward, low, high))) in zones.iter().enumerate() {
        for (other, (other_forward, other_low, other_high)) in &zones[index + 1..] {
            let clash = match (forward, other_forward) {
                (true, true) => low < other_high && other_low < high,
                (true, false) => low < other_low && other_high < high,
                (false, true) => other_low < low && high < other_high,
                (false, false) => false,
            };
            if clash {
                return Err(format!("{} and {} were both the value at one time", show(value), show(other)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Line, Operation, check};

    fn line(operation: Operation, start: u64, end: Option<u64>) -> Line {
        Line { operation, start: Duration::from_millis(start), end: end.map(Duration::from_millis) }
    }

    fn write(value: &str, start: u64, end: u64) -> Line {
        line(Operation::Write(value.to_owned()), start, Some(end))
    }

    fn read(value: &str, start: u64, end: u64) -> Line {
        let value = (value != "-").then(|| value.to_owned());
        line(Operation::Read(value), start, Some(end))
    }

    fn lost(value: &str, start: u64) -> Line {
        line(Operation::Write(value.to_owned()), start, None)
    }

    #[test]
    fn a_register_is_told_from_what_is_none() {
        for (holds, case, lines) in [
            (true, "nothing", vec![]),
            (
                true,
                "one after the other",
                vec![write("a", 1, 2), read("a", 3, 4), write("b", 5, 6), read("b", 7, 8)],
            ),
            (
                true,
                "at the same time, either order",
                vec![write("a", 1, 9), write("b", 1, 9), read("a", 10, 11)],
            ),
            (
                true,
                "a read during the write may see either",
                vec![write("a", 1, 2), write("b", 3, 9), read("b", 4, 5), read("b", 6, 7)],
            ),
            (true, "nothing, then something", vec![read("-", 1, 2), write("a", 3, 4), read("a", 5, 6)]),
            (
                true,
                "a lost write that was never seen",
                vec![write("a", 1, 2), lost("b", 3), read("a", 9, 10)],
            ),
            (
                true,
                "a lost write that was seen later",
                vec![write("a", 1, 2), lost("b", 3), read("a", 4, 5), read("b", 9, 10)],
            ),
            (
                false,
                "an old value after a new one",
                vec![write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)],
            ),
            (
                false,
                "new, then old again",
                vec![write("a", 1, 2), write("b", 3, 20), read("b", 4, 5), read("a", 6, 7)],
            ),
            (
                false,
                "to and fro between two",
                vec![write("a", 1, 20), write("b", 1, 20), read("a", 2, 3), read("b", 4, 5), read("a", 6, 7)],
            ),
            (false, "read before it was written", vec![read("a", 1, 2), write("a", 3, 4)]),
            (false, "never written", vec![read("x", 1, 2)]),
            (false, "nothing, after something", vec![write("a", 1, 2), read("-", 3, 4)]),
        ] {
            assert_eq!(check(&lines).is_ok(), holds, "{case}: {:?}", check(&lines));
        }
    }
}
