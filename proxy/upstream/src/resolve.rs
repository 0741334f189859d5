//! Name look-up that hands the connector vetted addresses only (RS-30, RS-31). The connector has no other
//! source of addresses, so what was checked is what is connected to, however the name answers next time.

use std::{fmt, io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::{self, AddressPolicy, Closed};

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Where addresses of names come from.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// Every address of `host`, in the order to try them.
    ///
    /// # Errors
    /// Whatever kept the name from being resolved.
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's resolver (`getaddrinfo`: hosts file, search domains, DNS).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Whose addresses a client's resolver is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peers {
    /// Upstreams, under this policy.
    Upstreams(AddressPolicy),
    /// The egress proxy, the only host such a client ever dials (RS-33).
    Proxy,
}

impl Peers {
    fn check(&self, address: IpAddr) -> Result<(), Closed> {
        match self {
            Peers::Upstreams(policy) => policy.check(address),
            Peers::Proxy => address::proxy(address),
        }
    }
}

/// Why a name gave no address to connect to. Found again in the source chain of the client's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// Every address is closed.
    Closed(Closed),
    /// It has none.
    Empty,
    /// The look-up failed.
    Failed(io::ErrorKind),
    /// No answer in this time.
    Timeout(Duration),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::Closed(Closed(kind)) => write!(f, "its address is {kind}"),
            ResolveError::Empty => f.write_str("the name has no address"),
            ResolveError::Failed(_) => f.write_str("the name could not be resolved"),
            ResolveError::Timeout(limit) => write!(f, "the name was not resolved within {limit:?}"),
        }
    }
}

impl std::error::Error for ResolveError {}

/// The resolver of one client.
pub(crate) struct Vetted {
    lookup: Arc<dyn Lookup>,
    peers: Peers,
    limit: Duration,
}

impl Vetted {
    /// Asks `lookup`, for at most `limit`, and keeps what `peers` may be connected to.
    pub(crate) fn new(lookup: Arc<dyn Lookup>, peers: Peers, limit: Duration) -> Self {
        Vetted { lookup, peers, limit }
    }
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, peers, limit) = (self.lookup.clone(), self.peers.clone(), self.limit);
        Box::pin(async move {
            let found = tokio::time::timeout(limit, lookup.lookup(name.as_str()))
                .await
                .map_err(|_| ResolveError::Timeout(limit))?
                .map_err(|error| ResolveError::Failed(error.kind()))?;
            let addresses = vet(&peers, &found)?;
            // Port 0 stands for the port of the URL.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// The addresses that may be connected to, in order. A name with an open and a closed address keeps the
/// open one: a split-horizon name works, a rebinding one never reaches the closed one.
fn vet(peers: &Peers, found: &[IpAddr]) -> Result<Vec<IpAddr>, ResolveError> {
    let mut open = Vec::new();
    let mut refusal = ResolveError::Empty;
    for address in found.iter().take(MAX_ADDRESSES) {
        match peers.check(*address) {
            Ok(()) => open.push(*address),
            Err(closed) => refusal = ResolveError::Closed(closed),
        }
    }
    if open.is_empty() { Err(refusal) } else { Ok(open) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_31_only_open_addresses_are_handed_on() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        let peers = Peers::Upstreams(AddressPolicy::default());
        for (found, want) in [
            (&["1.1.1.1"][..], Ok(parse(&["1.1.1.1"]))),
            (&["127.0.0.1", "1.1.1.1", "::1"], Ok(parse(&["1.1.1.1"]))),
            (&["127.0.0.1"], Err(ResolveError::Closed(Closed("loopback")))),
            (&[], Err(ResolveError::Empty)),
        ] {
            assert_eq!(vet(&peers, &parse(found)), want, "{found:?}");
        }
    }
}
