//! What to do about a key, as pure functions of what is stored and of `now`.

use std::time::Duration;

use artifactapi_model::{Mutability, Timestamp, Ttl};

/// What is known of a stored body's freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When upstream last confirmed it.
    pub checked_at: Timestamp,
}

/// The rules that apply to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a confirmation counts.
    pub ttl: Ttl,
    /// How long past that it is served while being revalidated.
    pub stale_while_revalidate: Duration,
    /// How long past that it stands in for a failing upstream.
    pub stale_if_error: Duration,
    /// Nothing may be fetched.
    pub suspended: bool,
    /// A fixed fraction of the key, 0..=255, that spreads expiry by ±10 % (RS-83).
    pub jitter: u8,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the stored body as fresh for this much longer (`None` = forever).
    Serve {
        /// Time of freshness left.
        fresh_for: Option<Duration>,
    },
    /// Serve the stored body, which is stale, and nothing else (the repository is suspended).
    ServeStale,
    /// Serve the stored body, which is stale, and revalidate it in the background.
    ServeAndRevalidate,
    /// Ask upstream whether the stored body still stands before serving.
    Revalidate,
    /// Nothing is stored: fetch.
    Fetch,
    /// Nothing is stored and nothing may be fetched.
    Refuse,
}

/// Decides what to do about a key at `now`.
pub fn decide(held: Option<Held>, rules: &Rules, now: Timestamp) -> Decision {
    let Some(held) = held else {
        return if rules.suspended { Decision::Refuse } else { Decision::Fetch };
    };
    let Ttl::For(ttl) = rules.ttl else { return Decision::Serve { fresh_for: None } };
    let ttl = jittered(ttl, rules.jitter);
    let age = now.since(held.checked_at);
    if let Some(left) = ttl.checked_sub(age).filter(|left| !left.is_zero()) {
        Decision::Serve { fresh_for: Some(left) }
    } else if rules.suspended {
        Decision::ServeStale
    } else if age < ttl.saturating_add(rules.stale_while_revalidate) && !ttl.is_zero() {
        Decision::ServeAndRevalidate
    } else {
        Decision::Revalidate
    }
}

/// Whether a stored body may stand in for a failing upstream at `now`.
pub fn may_stand_in(held: Held, rules: &Rules, now: Timestamp) -> bool {
    if held.checked_at == Timestamp::default() {
        // Somebody asked for a revalidation by hand; that gives nothing up.
        return true;
    }
    match rules.ttl {
        Ttl::Forever => true,
        Ttl::For(ttl) => {
            now.since(held.checked_at) <= jittered(ttl, rules.jitter).saturating_add(rules.stale_if_error)
        }
    }
}

/// The mutability under which a key is judged: a row stored as mutable stays so (an HTML listing at a path
/// that the type would call immutable).
pub fn effective_mutability(by_policy: Mutability, stored: Option<Mutability>) -> Mutability {
    match stored {
        Some(Mutability::Mutable) => Mutability::Mutable,
        Some(Mutability::Immutable) | None => by_policy,
    }
}

fn jittered(ttl: Duration, jitter: u8) -> Duration {
    let tenth = ttl / 10;
    ttl.saturating_sub(tenth).saturating_add(tenth.saturating_mul(2) * u32::from(jitter) / 255)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn rules(ttl: u64) -> Rules {
        Rules {
            ttl: Ttl::For(Duration::from_secs(ttl)),
            stale_while_revalidate: Duration::from_secs(50),
            stale_if_error: Duration::from_secs(500),
            suspended: false,
            jitter: 127,
        }
    }

    fn aged(seconds: i64) -> Option<Held> {
        Some(Held { checked_at: Timestamp(NOW.0 - seconds * 1000) })
    }

    #[test]
    fn a_stored_body_passes_from_fresh_to_stale_to_revalidated() {
        assert!(matches!(decide(aged(10), &rules(100), NOW), Decision::Serve { fresh_for: Some(_) }));
        assert_eq!(decide(aged(120), &rules(100), NOW), Decision::ServeAndRevalidate);
        assert_eq!(decide(aged(160), &rules(100), NOW), Decision::Revalidate);
        assert_eq!(decide(None, &rules(100), NOW), Decision::Fetch);
    }

    #[test]
    fn a_zero_ttl_always_asks() {
        assert_eq!(decide(aged(0), &rules(0), NOW), Decision::Revalidate);
    }

    #[test]
    fn forever_never_asks_and_suspension_never_fetches() {
        let forever = Rules { ttl: Ttl::Forever, ..rules(0) };
        assert_eq!(decide(aged(1_000_000), &forever, NOW), Decision::Serve { fresh_for: None });
        let suspended = Rules { suspended: true, ..rules(100) };
        assert_eq!(decide(None, &suspended, NOW), Decision::Refuse);
        assert_eq!(decide(aged(1_000), &suspended, NOW), Decision::ServeStale);
    }

    #[test]
    fn rs_90_a_failing_upstream_is_bridged_for_stale_if_error_only() {
        let held = |s| aged(s).unwrap();
        assert!(may_stand_in(held(590), &rules(100), NOW));
        assert!(!may_stand_in(held(620), &rules(100), NOW));
        let refreshed = Held { checked_at: Timestamp(0) };
        assert!(may_stand_in(refreshed, &rules(100), NOW), "a refresh by hand gives nothing up");
        assert_eq!(decide(Some(refreshed), &rules(100), NOW), Decision::Revalidate);
    }

    #[test]
    fn rs_95_a_clock_that_stepped_back_keeps_bodies_fresh() {
        assert!(matches!(decide(aged(-3600), &rules(100), NOW), Decision::Serve { .. }));
    }

    proptest! {
        #[test]
        fn rs_83_expiry_is_spread_by_a_tenth_at_most(jitter: u8, ttl in 1u64..1_000_000) {
            let spread = jittered(Duration::from_secs(ttl), jitter);
            prop_assert!(spread >= Duration::from_secs(ttl) * 9 / 10);
            prop_assert!(spread <= Duration::from_secs(ttl) * 11 / 10);
        }

        #[test]
        fn rs_90_whatever_the_rules_nothing_is_served_or_asked_against_them(
            age in prop::option::of(-1_000i64..200_000),
            forever: bool,
            ttl in 0u64..100_000,
            while_revalidating in 0u64..100_000,
            if_error in 0u64..100_000,
            suspended: bool,
            jitter: u8,
        ) {
            let rules = Rules {
                ttl: if forever { Ttl::Forever } else { Ttl::For(Duration::from_secs(ttl)) },
                stale_while_revalidate: Duration::from_secs(while_revalidating),
                stale_if_error: Duration::from_secs(if_error),
                suspended,
                jitter,
            };
            let held = age.and_then(aged);
            let decision = decide(held, &rules, NOW);
            let asks = matches!(decision, Decision::Fetch | Decision::Revalidate | Decision::ServeAndRevalidate);
            prop_assert!(!(suspended && asks), "{decision:?}");
            let Some((held, age)) = held.zip(age) else {
                prop_assert_eq!(decision, if suspended { Decision::Refuse } else { Decision::Fetch });
                return Ok(());
            };
            prop_assert!(!matches!(decision, Decision::Fetch | Decision::Refuse), "a stored body is forgotten");
            // In tenths of a second, so that the spread of expiry has no rounding.
            let (age, shortest, longest) = (age.max(0) as u64 * 10, ttl * 9, ttl * 11);
            if forever {
                prop_assert_eq!(decision, Decision::Serve { fresh_for: None });
            } else if age >= longest {
                prop_assert!(!matches!(decision, Decision::Serve { .. }), "stale and served as fresh");
            } else if age < shortest {
                let most = Duration::from_millis(longest * 100);
                let fresh = matches!(decision, Decision::Serve { fresh_for: Some(left) } if left <= most);
                prop_assert!(fresh, "fresh and not served: {decision:?}");
            }
            if matches!(decision, Decision::ServeAndRevalidate) {
                prop_assert!(age < longest + while_revalidating * 10);
            }
            // What is fresh stands in for a failing upstream; what is staler than the rules allow does not.
            let stands_in = may_stand_in(held, &rules, NOW);
            if matches!(decision, Decision::Serve { .. }) {
                prop_assert!(stands_in);
            }
            prop_assert!(forever || !stands_in || age <= longest + if_error * 10);
        }

        #[test]
        fn deciding_is_total_and_monotone_in_age(age in 0i64..10_000, more in 0i64..10_000, ttl in 0u64..5_000) {
            let rank = |d| match d {
                Decision::Serve { .. } => 0,
                Decision::ServeAndRevalidate => 1,
                Decision::Revalidate => 2,
                other => panic!("{other:?}"),
            };
            let young = rank(decide(aged(age), &rules(ttl), NOW));
            let old = rank(decide(aged(age + more), &rules(ttl), NOW));
            prop_assert!(young <= old);
        }
    }
}
