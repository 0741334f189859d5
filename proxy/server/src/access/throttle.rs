//! Failed logins by address: each address may fail so often, and then once in a while.
//!
//! A token has far too many bits to be guessed. This keeps whoever tries from asking the database all the time, and
//! says to a client with an old token in its configuration that trying again does not help. Many clients may have one
//! address, and one of them that fails must not lock out the others: so an address that has failed too often is told
//! to wait, and still asks for tokens that nothing is known of, as long as few of those fail ([`Throttle::of_guesses`]).

use std::{net::IpAddr, time::Duration};

use quick_cache::sync::Cache;
use tokio::time::Instant;

/// Failures in a row before waiting.
const BURST: u32 = 30;
/// What one failure costs after that.
const EACH: Duration = Duration::from_secs(1);
/// The same for look-ups that find nothing while the address has to wait: what a guess can cost the database.
const GUESSES: (u32, Duration) = (10, Duration::from_millis(100));
/// Addresses that are remembered; the others begin anew.
const ADDRESSES: usize = 10_000;

/// A token bucket for each address, kept as the moment at which it is full again.
pub(super) struct Throttle {
    full_at: Cache<IpAddr, Instant>,
    burst: u32,
    each: Duration,
}

impl Throttle {
    /// For failed logins.
    pub(super) fn of_failures() -> Self {
        Throttle { full_at: Cache::new(ADDRESSES), burst: BURST, each: EACH }
    }

    /// For look-ups that found nothing, of an address that has to wait.
    pub(super) fn of_guesses() -> Self {
        let (burst, each) = GUESSES;
        Throttle { full_at: Cache::new(ADDRESSES), burst, each }
    }

    /// How long `client` has to wait before it may fail again, if it has to.
    pub(super) fn blocks(&self, client: IpAddr) -> Option<Duration> {
        let debt = self.full_at.get(&owner(client))?.saturating_duration_since(Instant::now());
        debt.checked_sub(self.each * (self.burst - 1)).filter(|wait| !wait.is_zero())
    }

    /// Counts a failure, unless `client` has to wait: then how long.
    pub(super) fn count(&self, client: IpAddr) -> Option<Duration> {
        if let Some(wait) = self.blocks(client) {
            return Some(wait);
        }
        let (owner, now) = (owner(client), Instant::now());
        let full_at = self.full_at.get(&owner).map_or(now, |at| at.max(now));
        // Two at once may be counted as one: no harm.
        self.full_at.insert(owner, full_at + self.each);
        None
    }
}

/// Who has `client` has all of its IPv6 network.
fn owner(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_fails_often_has_to_wait_and_nobody_else() {
        let throttle = Throttle::of_failures();
        let [bad, good]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for failure in 0..BURST {
            assert_eq!(throttle.count(bad), None, "{failure}");
        }
        let wait = throttle.blocks(bad).unwrap();
        assert!(wait <= EACH && !wait.is_zero(), "{wait:?}");
        assert_eq!(throttle.count(bad), Some(wait), "no failure is counted that is not let in");
        assert_eq!((throttle.blocks(good), throttle.count(good)), (None, None));
        tokio::time::advance(wait).await;
        assert_eq!(throttle.count(bad), None);
        assert!(throttle.count(bad).is_some());
        tokio::time::advance(EACH * BURST).await;
        for failure in 0..BURST {
            assert_eq!(throttle.count(bad), None, "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_client() {
        let throttle = Throttle::of_failures();
        let host = |n: u32| format!("2001:db8::{n:x}").parse().unwrap();
        for n in 0..BURST {
            assert_eq!(throttle.count(host(n)), None);
        }
        assert!(throttle.blocks(host(1000)).is_some());
        assert_eq!(throttle.blocks("2001:db8:0:1::1".parse().unwrap()), None);
        assert_eq!(throttle.blocks("::ffff:192.0.2.1".parse().unwrap()), None);
    }
}
