//! Host names under which clients have asked, when no public URL is configured.
//!
//! Documents with absolute links are rewritten and stored per origin. A client who invents a `Host` for every
//! request must not fill the store with copies, so only a few are believed at a time; while there is no place for one
//! more, its links name the address that the client has reached. A place is taken from the origin that was not asked
//! for the longest, but not from one that is in use: so invented ones push none out, and are forgotten soon.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::forwarded::{Ends, PublicUrl};

/// Most origins believed at a time.
const MOST: usize = 64;
/// An origin that is still asked after this has shown that it is more than a guess.
const PROVEN: Duration = Duration::from_secs(60);
/// How long one that has is in use after it was asked.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long one that has not.
const TRIED: Duration = Duration::from_secs(3600);

/// Origins that are believed.
#[derive(Debug, Default)]
pub struct Origins(ArcSwap<HashMap<String, Arc<Use>>>);

/// When an origin was asked.
#[derive(Debug)]
struct Use {
    first: Instant,
    /// Seconds after `first`.
    last: AtomicU64,
}

impl Use {
    fn note(&self, now: Instant) {
        let last = now.saturating_duration_since(self.first).as_secs();
        // Written at most once a second, so that cores do not fight over it.
        if self.last.load(Relaxed) < last {
            self.last.store(last, Relaxed);
        }
    }

    /// How long it has not been asked.
    fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.first + self.lived())
    }

    fn is_over(&self, now: Instant) -> bool {
        self.idle(now) >= if self.lived() >= PROVEN { KEPT } else { TRIED }
    }

    fn lived(&self) -> Duration {
        Duration::from_secs(self.last.load(Relaxed))
    }
}

impl Origins {
    /// `url` if its origin is known or there is room for it; else the connection's own address.
    pub fn admit(&self, url: PublicUrl, ends: &Ends) -> PublicUrl {
        let now = Instant::now();
        if self.knows(&url.origin, now) {
            return url;
        }
        if has_room(&self.0.load(), now) {
            self.0.rcu(|known| with(known, &url.origin, now));
            // Others may have been faster.
            if self.knows(&url.origin, now) {
                return url;
            }
        }
        tracing::debug!(origin = url.origin, "too many host names; set ARTIFACTAPI_PUBLIC_URL");
        let scheme = if ends.tls { "https" } else { "http" };
        PublicUrl { origin: format!("{scheme}://{}", ends.local), prefix: url.prefix }
    }

    fn knows(&self, origin: &str, now: Instant) -> bool {
        self.0.load().get(origin).inspect(|asked| asked.note(now)).is_some()
    }
}

fn has_room(known: &HashMap<String, Arc<Use>>, now: Instant) -> bool {
    known.len() < MOST || known.values().any(|asked| asked.is_over(now))
}

/// `known` with `origin`, as far as there is room.
fn with(known: &HashMap<String, Arc<Use>>, origin: &str, now: Instant) -> HashMap<String, Arc<Use>> {
    let mut known = known.clone();
    if known.len() >= MOST {
        let over = known.iter().filter(|(_, asked)| asked.is_over(now));
        let longest = over.max_by_key(|(_, asked)| asked.idle(now)).map(|(origin, _)| origin.clone());
        let Some(longest) = longest else { return known };
        known.remove(&longest);
    }
    known.entry(origin.to_owned()).or_insert_with(|| Arc::new(Use { first: now, last: AtomicU64::new(0) }));
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://192.0.2.9:8000";

    fn ask(origins: &Origins, host: &str) -> String {
        let ends = Ends {
            peer: "192.0.2.1:5".parse().unwrap(),
            local: "192.0.2.9:8000".parse().unwrap(),
            tls: false,
        };
        let url = PublicUrl { origin: format!("http://{host}"), prefix: "/p".into() };
        let admitted = origins.admit(url, &ends);
        assert_eq!(admitted.prefix, "/p");
        admitted.origin
    }

    fn flood(origins: &Origins) {
        for i in 0..1000 {
            ask(origins, &format!("evil-{i}.test"));
        }
    }

    #[test]
    fn rs_23_invented_hosts_are_not_believed_for_ever() {
        let origins = Origins::default();
        assert_eq!(ask(&origins, "proxy.test"), "http://proxy.test");
        flood(&origins);
        assert_eq!(ask(&origins, "proxy.test"), "http://proxy.test");
        assert_eq!(ask(&origins, "new.test"), OWN);
        assert_eq!(origins.0.load().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn rs_23_invented_hosts_are_forgotten_and_spoil_nothing_for_ever() {
        let origins = Origins::default();
        flood(&origins);
        assert_eq!(ask(&origins, "new.test"), OWN);
        tokio::time::advance(TRIED).await;
        assert_eq!(ask(&origins, "new.test"), "http://new.test");
        assert_eq!(origins.0.load().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn rs_23_a_flood_pushes_out_no_host_that_is_in_use() {
        let origins = Origins::default();
        ask(&origins, "proxy.test");
        tokio::time::advance(PROVEN).await;
        ask(&origins, "proxy.test");
        // At night nobody builds anything.
        for _ in 0..12 {
            tokio::time::advance(TRIED).await;
            flood(&origins);
            assert_eq!(origins.0.load().len(), MOST);
        }
        assert_eq!(ask(&origins, "proxy.test"), "http://proxy.test");
        // One that has gone leaves its place.
        tokio::time::advance(KEPT).await;
        flood(&origins);
        assert_eq!(ask(&origins, "proxy.test"), OWN);
    }
}
