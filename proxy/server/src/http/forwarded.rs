//! Under which URL clients know us, and who they are (RS-23, RS-55). Pure.
//!
//! Headers of a reverse proxy count only when the connection comes from a trusted network. Where several
//! proxies have added to a list, the last entry is the one our own neighbour wrote.

use std::net::{IpAddr, SocketAddr};

pub use artifactapi_model::PublicUrl;
use http::{HeaderMap, HeaderName, Uri, header};
use ipnet::IpNet;

/// How the outside is told from requests.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The configured public URL, without a trailing slash; wins over everything.
    pub public_url: Option<PublicUrl>,
    /// Networks whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// One connection's ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's, or its proxy's, address.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// Whether it is TLS.
    pub tls: bool,
}

/// Why a request's host cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Host header is missing or no host name")]
pub struct BadHost;

impl Outside {
    /// The public URL of this server for this request.
    ///
    /// # Errors
    /// [`BadHost`] when it must be read from the request and the request names no valid host.
    pub fn url_of(&self, ends: &Ends, uri: &Uri, headers: &HeaderMap) -> Result<PublicUrl, BadHost> {
        match &self.public_url {
            Some(url) => Ok(url.clone()),
            None => self.asked(ends, uri, headers),
        }
    }

    /// Whether `name`, as `host` or `host:port`, is the name of this server: that of the public URL, or the one that
    /// this request was sent to.
    pub fn is_our_name(&self, ends: &Ends, uri: &Uri, headers: &HeaderMap, name: &str) -> bool {
        let is_of = |url: &PublicUrl| has_name(&url.origin, name);
        self.public_url.as_ref().is_some_and(is_of)
            || self.asked(ends, uri, headers).is_ok_and(|url| is_of(&url))
    }

    /// Where the client sent this request to, as far as it and proxies that are trusted say.
    fn asked(&self, ends: &Ends, uri: &Uri, headers: &HeaderMap) -> Result<PublicUrl, BadHost> {
        let trusted = self.trusts(ends.peer.ip());
        let told = |name: &HeaderName| if trusted { last(headers, name) } else { None };
        let scheme = match told(&X_FORWARDED_PROTO) {
            Some("https") => "https",
            Some("http") => "http",
            _ if ends.tls => "https",
            _ => "http",
        };
        let host = match told(&X_FORWARDED_HOST) {
            Some(host) => host,
            None => match uri.authority() {
                Some(authority) => authority.as_str(),
                None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).ok_or(BadHost)?,
            },
        };
        if !is_host(host) {
            return Err(BadHost);
        }
        let prefix = told(&X_FORWARDED_PREFIX).filter(|prefix| is_prefix(prefix)).unwrap_or_default();
        Ok(PublicUrl {
            origin: format!("{scheme}://{host}"),
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// Who asks: the nearest address that is no trusted proxy's.
    pub fn client_of(&self, ends: &Ends, headers: &HeaderMap) -> IpAddr {
        let mut client = ends.peer.ip();
        if self.trusted_proxies.is_empty() {
            return client;
        }
        let values = headers.get_all(&X_FORWARDED_FOR).iter().rev();
        for address in values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            match address.trim().parse() {
                Ok(address) => client = address,
                Err(_) => break,
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').map(str::trim).find(|value| !value.is_empty())
}

/// Whether `origin` (`scheme://host[:port]`) is reached by `name`. A scheme's own port may be named or not.
fn has_name(origin: &str, name: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    // What ends like a port within an IPv6 address stands within brackets.
    bare(host) == bare(name)
}

/// A DNS name, IPv4 address or bracketed IPv6 address, with or without a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                ("v6", port)
            }
            None => return false,
        },
        None => match host.find(':') {
            Some(colon) => host.split_at(colon),
            None => (host, ""),
        },
    };
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        });
    let name_fits = (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    port_fits && name_fits
}

/// A path of plain segments, so that it can be put in front of links as it is.
fn is_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    prefix.starts_with('/')
        && prefix.len() <= 256
        && !prefix.contains("//")
        && prefix.bytes().all(plain)
        && !prefix.split('/').any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ends(peer: &str) -> Ends {
        Ends { peer: peer.parse().unwrap(), local: "127.0.0.1:8000".parse().unwrap(), tls: false }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn behind_proxy() -> Outside {
        Outside { public_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] }
    }

    const FORGED: &[(&str, &str)] = &[
        ("host", "proxy.test:8000"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/x"),
    ];

    fn url(outside: &Outside, peer: &str, pairs: &[(&'static str, &str)]) -> Option<String> {
        let url = outside.url_of(&ends(peer), &Uri::from_static("/x"), &headers(pairs)).ok()?;
        Some(format!("{}{}", url.origin, url.prefix))
    }

    #[test]
    fn rs_23_only_trusted_proxies_say_where_we_are() {
        let outside = behind_proxy();
        assert_eq!(url(&outside, "192.0.2.1:5", FORGED).unwrap(), "http://proxy.test:8000");
        assert_eq!(url(&outside, "10.1.2.3:5", FORGED).unwrap(), "https://evil.test/x");
        assert_eq!(url(&outside, "[::ffff:10.1.2.3]:5", FORGED).unwrap(), "https://evil.test/x");
        let public_url = Some(PublicUrl::parse("https://packages.test/cache/").unwrap());
        let fixed = Outside { public_url, ..behind_proxy() };
        assert_eq!(url(&fixed, "10.1.2.3:5", FORGED).unwrap(), "https://packages.test/cache");
    }

    #[test]
    fn rs_23_a_host_is_a_host() {
        let outside = Outside::default();
        for good in ["a", "a.b-c.test", "a:80", "127.0.0.1:8000", "[::1]", "[::1]:8000", "a_b"] {
            assert!(url(&outside, "192.0.2.1:5", &[("host", good)]).is_some(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "a@b",
            "a:x",
            "a:70000",
            "a:80:80",
            "[::1",
            "[x]:1",
            "\"><script>",
            "a?b",
            "a#b",
        ] {
            assert!(url(&outside, "192.0.2.1:5", &[("host", bad)]).is_none(), "{bad}");
        }
        assert!(url(&outside, "192.0.2.1:5", &[]).is_none());
    }

    #[test]
    fn our_names_are_those_clients_use() {
        let public_url = Some(PublicUrl::parse("https://Packages.test/cache/").unwrap());
        let named = Outside { public_url, ..behind_proxy() };
        let is_ours = |outside: &Outside, peer: &str, name: &str| {
            outside.is_our_name(&ends(peer), &Uri::from_static("/x"), &headers(FORGED), name)
        };
        for ours in ["packages.test", "PACKAGES.test", "packages.test:443", "proxy.test:8000"] {
            assert!(is_ours(&named, "192.0.2.1:5", ours), "{ours}");
        }
        for other in ["packages.test:80", "packages.test:8443", "quay.io", "", "proxy.test", "evil.test"] {
            assert!(!is_ours(&named, "192.0.2.1:5", other), "{other}");
        }
        // Behind a proxy that is trusted it is what that one says, and without TLS the port of HTTP.
        assert!(is_ours(&behind_proxy(), "10.1.2.3:5", "evil.test"));
        assert!(!is_ours(&behind_proxy(), "10.1.2.3:5", "proxy.test:8000"));
        let plain = headers(&[("host", "[fd00::1]:80")]);
        let outside = Outside::default();
        assert!(outside.is_our_name(&ends("192.0.2.1:5"), &Uri::from_static("/x"), &plain, "[fd00::1]"));
    }

    #[test]
    fn a_prefix_is_a_path() {
        for (prefix, want) in
            [("/a/", "/a"), ("/a/b", "/a/b"), ("a", ""), ("//evil", ""), ("/a/../b", ""), ("/a\"", "")]
        {
            let pairs = [("host", "h"), ("x-forwarded-prefix", prefix)];
            assert_eq!(url(&behind_proxy(), "10.0.0.1:5", &pairs).unwrap(), format!("http://h{want}"));
        }
    }

    #[test]
    fn rs_55_the_client_is_the_rightmost_untrusted_address() {
        let client = |peer: &str, list: &[&str]| {
            let pairs: Vec<_> = list.iter().map(|value| ("x-forwarded-for", *value)).collect();
            behind_proxy().client_of(&ends(peer), &headers(&pairs)).to_string()
        };
        assert_eq!(client("192.0.2.1:5", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1:5", &["1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1:5", &["1.1.1.1, 198.51.100.7, 10.0.0.9"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1:5", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1:5", &["198.51.100.7, nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1:5", &[]), "10.0.0.1");
    }

    #[test]
    fn a_public_url_is_checked() {
        for bad in ["", "packages.test", "ftp://h/", "https://u@h/", "https://h/?q", "https://h/#f"] {
            assert!(PublicUrl::parse(bad).is_err(), "{bad}");
        }
        let url = PublicUrl::parse("https://h:8443").unwrap();
        assert_eq!((url.origin.as_str(), url.prefix.as_str()), ("https://h:8443", ""));
    }
}
