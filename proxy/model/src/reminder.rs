//! When somebody who waits says so again.

use std::time::{Duration, Instant};

/// Pause before the same is said once more: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];

/// What was said last, and when it is to be said again: at growing intervals, so that whoever reads the end of a log finds
/// it there and nobody's disk is filled.
#[derive(Debug, Default)]
pub struct Reminder(Option<Said>);

#[derive(Debug)]
struct Said {
    reason: String,
    pause: Duration,
    next: Instant,
}

impl Reminder {
    /// Whether `reason` is to be said at `now`: at once when it is another than before.
    pub fn is_due(&mut self, reason: &str, now: Instant) -> bool {
        match &mut self.0 {
            Some(said) if said.reason == reason => {
                if now < said.next {
                    return false;
                }
                said.pause = PAUSES[1].min(said.pause * 2);
                said.next = now + said.pause;
            }
            _ => {
                let [pause, _] = PAUSES;
                self.0 = Some(Said { reason: reason.to_owned(), pause, next: now + pause });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_at_growing_intervals_and_news_at_once() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let mut said = |second: u64, reason| reminder.is_due(reason, start + Duration::from_secs(second));
        let times: Vec<u64> = (0..1_000).filter(|second| said(*second, "no answer")).collect();
        assert_eq!(times, [0, 10, 30, 70, 150, 310, 610, 910]);
        assert!(said(1_000, "refused"));
        assert!(!said(1_001, "refused"));
        assert!(said(1_002, "no answer"), "it is news again");
    }
}
