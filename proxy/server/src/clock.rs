//! The database's clock, as one replica keeps it: read now and then, and carried on in between by the machine's
//! monotonic clock. Replicas whose own clocks differ, or are set while they run, still agree on what is fresh
//! (RS-95).

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Instant,
};

use artifactapi_model::{Clock, Timestamp};

/// See the module.
pub struct DatabaseClock {
    began: Instant,
    /// The database's time at `began`, in milliseconds since 1970.
    origin: AtomicI64,
}

impl DatabaseClock {
    /// Set to `now`, which the database has just told.
    pub fn new(now: Timestamp) -> Self {
        DatabaseClock { began: Instant::now(), origin: AtomicI64::new(now.0) }
    }

    /// The database has told again what time it is.
    pub fn set(&self, now: Timestamp) {
        self.origin.store(now.0.saturating_sub(self.elapsed()), Relaxed);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.origin.load(Relaxed).saturating_add(self.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_95_it_follows_what_the_database_says() {
        let clock = DatabaseClock::new(Timestamp(1_000_000));
        let first = clock.now();
        assert!(first.0 >= 1_000_000);
        clock.set(Timestamp(5_000_000));
        assert!(clock.now().0 >= 5_000_000, "forwards");
        clock.set(Timestamp(2_000_000));
        assert!((2_000_000..3_000_000).contains(&clock.now().0), "and back");
    }
}
