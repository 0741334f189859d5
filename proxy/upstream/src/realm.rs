//! How far a token service is trusted. Its address is upstream's word, so credentials go to it only where it
//! visibly belongs to the registry or where the Remote says so (RS-35). Pure.

use artifactapi_model::repository::RemoteSpec;
use url::{Host, Url};

use crate::{redirect::bare, target::names};

/// What a token request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The Remote's credentials.
    Credentials,
    /// Nothing.
    Anonymous,
}

/// Reads a realm and judges it. Trusted are: `baseURL`'s own origin, hosts in `authRealms`, and hosts with
/// the same registrable domain on the public suffix list (`registry-1.docker.io` and `auth.docker.io`).
/// Addresses and names without a public suffix have no such domain; there only the very origin counts, so
/// a token service on another port of one machine, or elsewhere in a cluster, must be listed.
///
/// # Errors
/// Why it may not be asked at all.
pub(crate) fn judge(spec: &RemoteSpec, realm: &str) -> Result<(Url, Trust), String> {
    let url = Url::parse(realm).map_err(|_| "its token realm is not a URL")?;
    match (spec.base_url.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err("its token realm is http although baseURL is https".into()),
        _ => return Err("its token realm is neither http nor https".into()),
    }
    let url = bare(url);
    let listed = || spec.auth_realms.iter().any(|entry| names(entry, &url));
    let trusted = spec.is_own_origin(&url) || listed() || same_owner(&spec.base_url, &url);
    let trust = if trusted { Trust::Credentials } else { Trust::Anonymous };
    Ok((url, trust))
}

fn same_owner(a: &Url, b: &Url) -> bool {
    match (registrable(a), registrable(b)) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

fn registrable(url: &Url) -> Option<&str> {
    let Some(Host::Domain(name)) = url.host() else { return None };
    let domain = psl::domain(name.as_bytes())?;
    domain.suffix().is_known().then(|| std::str::from_utf8(domain.as_bytes()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn rs_35_credentials_go_to_realms_of_the_same_owner_only() {
        use Trust::{Anonymous, Credentials};
        for (base, realm, want) in [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token", Some(Credentials)),
            ("https://registry.example.com/", "https://registry.example.com:5001/t", Some(Credentials)),
            ("https://ghcr.io/", "https://ghcr.io/token", Some(Credentials)),
            ("https://registry.example.com/", "https://example.com.evil.net/t", Some(Anonymous)),
            ("https://registry.example.com/", "https://evilexample.com/t", Some(Anonymous)),
            ("https://a.github.io/", "https://b.github.io/t", Some(Anonymous)),
            ("https://a.co.uk/", "https://b.co.uk/t", Some(Anonymous)),
            ("https://r.ns1.svc.cluster.local/", "https://r.ns2.svc.cluster.local/t", Some(Anonymous)),
            ("https://registry/", "https://auth/t", Some(Anonymous)),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/t", Some(Credentials)),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/t", Some(Anonymous)),
            ("http://127.0.0.1:5000/", "https://127.0.0.1:5000/t", Some(Anonymous)),
            ("https://registry.example.com/", "http://registry.example.com/t", None),
            ("https://registry.example.com/", "ftp://registry.example.com/t", None),
            ("https://registry.example.com/", "/token", None),
            ("https://registry.example.com/", "https://listed.net/t", Some(Credentials)),
            ("https://registry.example.com/", "https://ported.net:7/t", Some(Credentials)),
            ("https://registry.example.com/", "https://ported.net/t", Some(Anonymous)),
            ("https://registry.example.com/", "https://u:p@listed.net/t", Some(Credentials)),
        ] {
            let mut spec = spec(base);
            spec.auth_realms = vec!["listed.net".into(), "ported.net:7".into()];
            let judged = judge(&spec, realm).ok();
            assert_eq!(judged.as_ref().map(|(_, trust)| *trust), want, "{base} {realm}");
            assert!(judged.is_none_or(|(url, _)| url.username().is_empty()));
        }
    }
}
