//! Which URLs a Remote may ask at all, before any address is looked up: its own origin, hosts that its
//! indexes name (`fileHosts`), and hosts that redirects and challenges lead to. Pure.

use artifactapi_model::{
    ports::upstream::{UpstreamError, UrlSource},
    repository::{FileHosts, RemoteSpec},
};
use url::{Host, Url};

use crate::{
    address::{self, AddressPolicy, Closed},
    error::host_of,
};

/// Names that mean "near the one who resolves them". Behind an egress proxy that is the proxy, and the
/// address behind the name is never seen here.
const NEARBY_SUFFIXES: [&str; 6] = ["local", "internal", "svc", "lan", "home.arpa", "in-addr.arpa"];

/// Checks where a request of `source` begins.
///
/// # Errors
/// [`UpstreamError::Forbidden`] with the rule and what would permit it.
pub(crate) fn check_source(spec: &RemoteSpec, url: &Url, source: UrlSource) -> Result<(), UpstreamError> {
    if spec.is_own_origin(url) {
        return Ok(());
    }
    let forbid = |reason: &str| Err(forbidden(url, reason.to_owned()));
    if source == UrlSource::Configured {
        return forbid("it is not the origin of this repository's baseURL");
    }
    match url.scheme() {
        "https" => {}
        "http" if spec.base_url.scheme() == "http" => {}
        _ => return forbid("an index may name https files only (http where baseURL is http)"),
    }
    match &spec.file_hosts {
        FileHosts::Public => Ok(()),
        FileHosts::Only(list) if list.iter().any(|entry| names(entry, url)) => Ok(()),
        FileHosts::Only(_) => forbid("fileHosts does not list it"),
    }
}

/// Checks one hop that is about to be sent: address literals by address, and behind an egress proxy, where
/// no address is seen here, host names by name. `address_policy` is the resolver's too.
///
/// # Errors
/// [`UpstreamError::Forbidden`].
pub(crate) fn check_hop(spec: &RemoteSpec, url: &Url, policy: &AddressPolicy) -> Result<(), UpstreamError> {
    if let Some(address) = address::literal(url) {
        return policy.check(address).map_err(|closed| closed_address(url, closed));
    }
    let Some(Host::Domain(name)) = url.host() else {
        return Err(forbidden(url, "it names no host".into()));
    };
    if spec.egress.proxy_url.is_some() && is_nearby(name, spec.base_url.host_str() == Some(name)) {
        return Err(forbidden(
            url,
            "a name of a local network is not asked for through egress.proxyURL".into(),
        ));
    }
    Ok(())
}

/// The refusal of a closed address.
pub(crate) fn closed_address(url: &Url, Closed(kind): Closed) -> UpstreamError {
    forbidden(url, format!("its address is {kind}; egress.allowCIDRs must list it"))
}

/// Whether `entry` (`host` for any port, or `host:port`; lower case) names `url`'s host.
pub(crate) fn names(entry: &str, url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    entry == host || entry == host_of(url) || entry == host.trim_matches(['[', ']'])
}

/// Whether a name only has a meaning in somebody's own network. The host of `baseURL` was chosen by a
/// person, so only the names that always mean the resolver itself are refused there.
fn is_nearby(name: &str, chosen: bool) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let below = |suffix: &str| {
        name == suffix || name.strip_suffix(suffix).is_some_and(|prefix| prefix.ends_with('.'))
    };
    let itself = below("localhost") || name == "metadata.google.internal";
    itself || (!chosen && (!name.contains('.') || NEARBY_SUFFIXES.into_iter().any(below)))
}

fn forbidden(url: &Url, reason: String) -> UpstreamError {
    UpstreamError::Forbidden { host: host_of(url), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn file_hosts() {
        let public = spec("https://index.example/simple/");
        let mut http = spec("http://index.example/");
        let mut listed = spec("https://index.example/");
        listed.file_hosts = FileHosts::Only(vec!["files.example".into(), "cdn.example:8443".into()]);
        http.file_hosts = FileHosts::Only(vec!["files.example".into()]);
        for (spec, target, allowed) in [
            (&public, "https://files.example/a", true),
            (&public, "https://index.example/b", true),
            (&public, "http://files.example/a", false),
            (&public, "ftp://files.example/a", false),
            (&listed, "https://files.example/a", true),
            (&listed, "https://files.example:444/a", true),
            (&listed, "https://cdn.example:8443/a", true),
            (&listed, "https://cdn.example/a", false),
            (&listed, "https://other.example/a", false),
            (&listed, "https://index.example/a", true),
            (&listed, "http://files.example/a", false),
            (&http, "http://files.example/a", true),
            (&http, "http://files.example.evil.example/a", false),
        ] {
            let verdict = check_source(spec, &url(target), UrlSource::Index);
            assert_eq!(verdict.is_ok(), allowed, "{target}");
        }
        assert!(check_source(&public, &url("https://files.example/a"), UrlSource::Configured).is_err());
    }

    #[test]
    fn rs_30_literals_are_checked_before_anything_is_sent() {
        let spec = spec("https://index.example/");
        let policy = AddressPolicy::default();
        for (target, allowed) in [
            ("http://0x7f.1/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("http://1.1.1.1/", true),
            ("http://localhost/", true), // the resolver judges it by its address
        ] {
            assert_eq!(check_hop(&spec, &url(target), &policy).is_ok(), allowed, "{target}");
        }
    }

    #[test]
    fn rs_33_behind_a_proxy_targets_are_judged_by_name() {
        let mut spec = spec("https://nexus.corp.internal/");
        spec.egress.proxy_url = Some(url("http://10.0.0.1:3128"));
        for (target, allowed) in [
            ("https://pypi.example/", true),
            ("https://nexus.corp.internal/", true),
            ("http://localhost/", false),
            ("http://x.localhost./", false),
            ("http://metadata.google.internal/", false),
            ("http://kubernetes/", false),
            ("http://db.prod.svc.cluster.local/", false),
            ("http://other.corp.internal/", false),
            ("http://10.0.0.7/", false),
            ("https://internal.example/", true),
        ] {
            let verdict = check_hop(&spec, &url(target), &AddressPolicy::default());
            assert_eq!(verdict.is_ok(), allowed, "{target}");
        }
    }
}
