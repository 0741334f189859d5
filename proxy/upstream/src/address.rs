//! Which addresses may be connected to (RS-30): public ones, and what `egress.allowCIDRs` adds. Pure; the
//! resolver and the target check ask it with every address they are about to hand to the connector.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not the public Internet: the IANA special-purpose registry (RFC 6890 and successors),
/// multicast, class E, and Azure's host agent, which sits on a public number.
const CLOSED_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "\"this network\""),
    (v4(10, 0, 0, 0, 8), "a private network"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "a cloud's host agent"),
    (v4(169, 254, 0, 0, 16), "link-local, where clouds keep instance metadata"),
    (v4(172, 16, 0, 0, 12), "a private network"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "the former 6to4 relay"),
    (v4(192, 168, 0, 0, 16), "a private network"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved or broadcast"),
];

/// The only global unicast block that IANA has handed out.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// What inside [`GLOBAL_V6`] is not a host on the public Internet. 6to4 and Teredo carry an IPv4 address
/// that no check here would see.
const CLOSED_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "reserved for protocols (Teredo, ORCHID, benchmarking)"),
    (v6(0x2001, 0xdb8, 32), "documentation"),
    (v6(0x2002, 0, 16), "6to4"),
    (v6(0x3fff, 0, 20), "documentation"),
];

/// Kinds of closed IPv6 addresses outside [`GLOBAL_V6`], to name them in messages.
const NAMED_V6: [(Ipv6Net, &str); 7] = [
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "an IPv4-mapped address"),
    (NAT64, "NAT64"),
    (v6(0x64, 0xff9b, 32), "NAT64"),
    (v6(0xfc00, 0, 7), "a unique local address"),
    (v6(0xfe80, 0, 10), "link-local"),
    (v6(0xff00, 0, 8), "multicast"),
];

/// RFC 6052: the last 32 bits are the IPv4 address a translator will connect to.
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// What a Remote may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AddressPolicy {
    allowed: Vec<IpNet>,
}

/// Why an address is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) &'static str);

impl AddressPolicy {
    /// Public addresses and `allowed`.
    pub(crate) fn new(allowed: &[IpNet]) -> Self {
        AddressPolicy { allowed: allowed.to_vec() }
    }

    /// Whether `address` may be connected to. An allowed NAT64 address is judged by the IPv4 address
    /// behind it too, so that opening a translator does not open every private network.
    ///
    /// # Errors
    /// What kind of address it is.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Closed> {
        if let IpAddr::V6(v6) = address
            && NAT64.contains(&v6)
            && self.lists(address)
        {
            let [.., a, b, c, d] = v6.octets();
            return self.check(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
        }
        if self.lists(address) { Ok(()) } else { public(address) }
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|net| net.contains(&address))
    }
}

/// Whether `address` is a unicast host on the public Internet.
///
/// # Errors
/// What kind of address it is.
pub(crate) fn public(address: IpAddr) -> Result<(), Closed> {
    let closed = match address {
        IpAddr::V4(v4) => CLOSED_V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, kind)| *kind),
        IpAddr::V6(v6) if GLOBAL_V6.contains(&v6) => {
            CLOSED_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, kind)| *kind)
        }
        IpAddr::V6(v6) => {
            let named = NAMED_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, kind)| *kind);
            Some(named.unwrap_or("outside the public address space"))
        }
    };
    closed.map_or(Ok(()), |kind| Err(Closed(kind)))
}

/// Whether a proxy may be dialled at `address`. Egress proxies live on private networks (RS-33), but
/// never where clouds keep instance metadata.
///
/// # Errors
/// What kind of address it is.
pub(crate) fn proxy(address: IpAddr) -> Result<(), Closed> {
    const NEVER: [&str; 5] = [
        "link-local, where clouds keep instance metadata",
        "link-local",
        "a cloud's host agent",
        "multicast",
        "\"this network\"",
    ];
    match public(address) {
        Err(Closed(kind)) if NEVER.contains(&kind) => Err(Closed(kind)),
        _ => Ok(()),
    }
}

/// The address that `url` names without DNS, in any spelling the WHATWG parser accepts (decimal, octal,
/// hexadecimal, short forms).
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host spellings as they may stand in a URL. Every one must be closed.
    const CLOSED: &[&str] = &[
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0x7F.0x0.0x0.0x1",
        "0",
        "0.0.0.0",
        "0.1.2.3",
        "0x0",
        "10.0.0.1",
        "10.255.255.255",
        "012.0.0.1",
        "0xa.0.0.1",
        "167772161",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.0.1",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "172.16.0.1",
        "172.31.255.255",
        "0xac100001",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.1",
        "3232235521",
        "0300.0250.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "4294967295",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::8.8.8.8]",
        "[64:ff9b:1::1]",
        "[100::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001::1]",
        "[2001:0:4136:e378::1]",
        "[2001:2::1]",
        "[2001:10::1]",
        "[2001:db8::1]",
        "[2002:7f00:1::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[4000::1]",
    ];

    const OPEN: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.255.255",
        "192.169.0.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "134744072",
        "0x08080808",
        "[2606:4700::1111]",
        "[2001:4860:4860::8888]",
        "[2a00:1450::1]",
        "[2003::1]",
    ];

    fn address(host: &str) -> IpAddr {
        let url = Url::parse(&format!("http://{host}/")).unwrap();
        literal(&url).unwrap_or_else(|| panic!("{host} is an address literal"))
    }

    #[test]
    fn rs_30_address_literals() {
        assert!(CLOSED.len() >= 60, "{}", CLOSED.len());
        for host in CLOSED {
            assert!(public(address(host)).is_err(), "{host} must be closed");
        }
        for host in OPEN {
            assert_eq!(public(address(host)), Ok(()), "{host} must be open");
        }
    }

    #[test]
    fn rs_30_allowed_networks_open_exactly_themselves() {
        let policy = AddressPolicy::new(&["127.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()]);
        for (host, open) in [
            ("127.0.0.1", true),
            ("[fd00::7]", true),
            ("1.1.1.1", true),
            ("[::1]", false),
            ("[::ffff:127.0.0.1]", false),
            ("[fd00:0:0:1::7]", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(policy.check(address(host)).is_ok(), open, "{host}");
        }
    }

    #[test]
    fn rs_30_an_allowed_translator_does_not_open_private_networks() {
        let policy = AddressPolicy::new(&["64:ff9b::/96".parse().unwrap()]);
        assert!(policy.check(address("[64:ff9b::8.8.8.8]")).is_ok());
        assert!(policy.check(address("[64:ff9b::10.0.0.1]")).is_err());
        assert!(policy.check(address("[64:ff9b::169.254.169.254]")).is_err());
    }

    #[test]
    fn rs_33_proxies_may_be_private_but_not_metadata() {
        for (host, open) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("[fd00::1]", true),
            ("8.8.8.8", true),
            ("169.254.169.254", false),
            ("168.63.129.16", false),
            ("[fe80::1]", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(proxy(address(host)).is_ok(), open, "{host}");
        }
    }
}
