//! Host names under which clients have asked, when no public URL is configured.
//!
//! Documents with absolute links are rewritten and stored per origin. A client who invents a `Host` for every
//! request must not fill the store with copies, so only a few are believed; after that, links name the address
//! that the client has reached.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;

use super::forwarded::{Ends, PublicUrl};

/// Most origins believed.
const MOST: usize = 64;

/// Origins seen so far.
#[derive(Debug, Default)]
pub struct Origins(ArcSwap<HashSet<String>>);

impl Origins {
    /// `url` if its origin is known or there is room for it; else the connection's own address.
    pub fn admit(&self, url: PublicUrl, ends: &Ends) -> PublicUrl {
        let known = self.0.load();
        if known.contains(&url.origin) {
            return url;
        }
        if known.len() < MOST {
            self.0.rcu(|known| {
                let mut known = HashSet::clone(known);
                if known.len() < MOST {
                    known.insert(url.origin.clone());
                }
                Arc::new(known)
            });
            if self.0.load().contains(&url.origin) {
                return url;
            }
        }
        tracing::debug!(origin = url.origin, "too many host names; set ARTIFACTAPI_PUBLIC_URL");
        let scheme = if ends.tls { "https" } else { "http" };
        PublicUrl { origin: format!("{scheme}://{}", ends.local), prefix: url.prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_23_invented_hosts_are_not_believed_for_ever() {
        let origins = Origins::default();
        let ends = Ends {
            peer: "192.0.2.1:5".parse().unwrap(),
            local: "192.0.2.9:8000".parse().unwrap(),
            tls: false,
        };
        let ask = |host: &str| {
            let url = PublicUrl { origin: format!("http://{host}"), prefix: "/p".into() };
            origins.admit(url, &ends)
        };
        assert_eq!(ask("proxy.test").origin, "http://proxy.test");
        for i in 0..1000 {
            ask(&format!("evil-{i}.test"));
        }
        assert_eq!(ask("proxy.test").origin, "http://proxy.test");
        assert_eq!(
            ask("new.test"),
            PublicUrl { origin: "http://192.0.2.9:8000".into(), prefix: "/p".into() }
        );
        assert_eq!(origins.0.load().len(), MOST);
    }
}
