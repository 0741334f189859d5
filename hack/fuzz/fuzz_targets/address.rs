//! Which addresses may be connected to, against the standard library's classification (RS-30): nothing that
//! it knows to be private, local or reserved is ever open.
#![no_main]

#[path = "../../../proxy/upstream/src/address.rs"]
#[allow(dead_code)]
mod address;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use address::{AddressPolicy, literal, proxy, public};

/// What the standard library, RFC 6890 and RFC 6052 call no public host, written without the tables under test.
fn is_closed_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || ip.is_unspecified()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || (a, b, c, d) == (168, 63, 129, 16)
}

fn is_closed_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || ip.to_ipv4().is_some()
        || s[0] & 0xe000 != 0x2000
        || (s[0] == 0x2001 && s[1] < 0x200)
        || (s[0] == 0x2001 && s[1] == 0xdb8)
        || s[0] == 0x2002
        || (s[0] == 0x3fff && s[1] < 0x1000)
}

fn check(ip: IpAddr) {
    let closed = match ip {
        IpAddr::V4(ip) => is_closed_v4(ip),
        IpAddr::V6(ip) => is_closed_v6(ip),
    };
    assert_eq!(public(ip).is_err(), closed, "{ip}");
    assert_eq!(AddressPolicy::default().check(ip).is_err(), closed, "{ip}");
    if !closed {
        assert_eq!(proxy(ip), Ok(()), "{ip}");
    }
    // A network that is opened opens itself and nothing else.
    let net: ipnet::IpNet = "10.1.0.0/16".parse().expect("a network");
    let opened = AddressPolicy::new(&[net]).check(ip).is_ok();
    assert_eq!(opened, !closed || net.contains(&ip), "{ip}");
    // Opening the translator opens no more than what lies behind it.
    let translator: ipnet::IpNet = "64:ff9b::/96".parse().expect("a network");
    if let IpAddr::V4(v4) = ip {
        let [a, b, c, d] = v4.octets().map(u16::from);
        let behind = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
        assert!(public(behind.into()).is_err() && public(v4.to_ipv6_mapped().into()).is_err());
        assert_eq!(AddressPolicy::new(&[translator]).check(behind.into()).is_err(), closed, "{behind}");
    }
}

libfuzzer_sys::fuzz_target!(|input: (u8, u128, u8, &str)| {
    let (edge, bits, shift, host) = input;
    check(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)));
    check(IpAddr::V6(Ipv6Addr::from_bits(bits)));
    // Around the borders of the tables, where a wrong prefix length shows.
    for net in
        [0x0000u16, 0x0064, 0x2000, 0x2001, 0x2002, 0x3ffe, 0x3fff, 0x4000, 0xfc00, 0xfe80, 0xfec0, 0xff00]
    {
        check(IpAddr::V6(Ipv6Addr::from_bits(u128::from(net) << 112 | bits >> (16 + shift % 100))));
    }
    check(IpAddr::V4(Ipv4Addr::from_bits(u32::from(edge) << 24 | bits as u32 >> (8 + shift % 24))));
    // Every spelling that a URL takes is the address it stands for.
    let Ok(url) = url::Url::parse(&format!("http://{host}/")) else { return };
    if let Some(ip) = literal(&url) {
        check(ip);
        let again = url::Url::parse(&match ip {
            IpAddr::V4(ip) => format!("http://{ip}/"),
            IpAddr::V6(ip) => format!("http://[{ip}]/"),
        });
        assert_eq!(again.ok().as_ref().and_then(literal), Some(ip), "{host}");
    } else if let Some(name) = url.host_str() {
        assert!(name.parse::<IpAddr>().is_err(), "{host} is the address {name}");
    }
});
