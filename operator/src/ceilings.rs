//! What a namespace may give itself: `docker.mirrorFor`, `docker.rootMirror`, `egress.allowCIDRs` and `egress.proxyURL`
//! concern everyone who uses the service, so whoever runs it says how far they go. Nothing is allowed unless it is said. A
//! proxy is one of them since it reaches whatever it likes, and since any HTTP server can be named as one.

use artifactapi_crds::FieldError;
use ipnet::IpNet;
use url::{Origin, Url};

use crate::picture::{Facts, ROOT};

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Registry hosts that Remotes may answer for; `*` stands for any.
    pub mirror_for: Vec<String>,
    /// Whether a Remote may answer root requests.
    pub root_mirror: bool,
    /// Networks within which Remotes may open networks that are not public.
    pub networks: Vec<IpNet>,
    /// Proxies that Remotes may go out by, as URLs without a path; `*` stands for any.
    pub proxies: Vec<String>,
}

impl Ceilings {
    /// What in `facts` goes too far.
    pub fn objections(&self, facts: &Facts) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut object = |path: String, message: String| {
            errors.push(FieldError::new(path, "notPermitted", message));
        };
        for (index, host) in facts.mirrors.iter().enumerate() {
            if host == ROOT {
                if !self.root_mirror {
                    let message = "is not permitted here: whoever runs the operator allows it by \
                                   ARTIFACTAPI_ALLOW_ROOT_MIRROR";
                    object("spec.docker.rootMirror".into(), message.into());
                }
            } else if !self.mirror_for.iter().any(|allowed| allowed == "*" || allowed == host) {
                let message = format!(
                    "{host} is not permitted here: whoever runs the operator allows hosts by \
                     ARTIFACTAPI_ALLOW_MIRROR_FOR"
                );
                object(format!("spec.docker.mirrorFor[{index}]"), message);
            }
        }
        for (index, text) in facts.networks.iter().enumerate() {
            // What is no network is an error of its own.
            let Ok(network) = text.parse::<IpNet>() else { continue };
            if !self.networks.iter().any(|allowed| allowed.contains(&network)) {
                let message = format!(
                    "{text} is not permitted here: whoever runs the operator allows networks by \
                     ARTIFACTAPI_ALLOW_CIDRS"
                );
                object(format!("spec.egress.allowCIDRs[{index}]"), message);
            }
        }
        if let Some(proxy) = &facts.proxy
            && !self.proxies.iter().any(|allowed| allowed == "*" || is_same_proxy(allowed, proxy))
        {
            let message = "is not permitted here: whoever runs the operator allows proxies by \
                           ARTIFACTAPI_ALLOW_PROXIES";
            errors.push(FieldError::new("spec.egress.proxyURL", "notPermitted", message));
        }
        errors
    }
}

/// Whether two URLs are of the same proxy: scheme, host and port.
fn is_same_proxy(allowed: &str, asked: &str) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin()).filter(Origin::is_tuple);
    origin(allowed).is_some_and(|allowed| origin(asked) == Some(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_that_nobody_has_allowed() {
        let asks = |mirrors: &[&str], networks: &[&str]| Facts {
            mirrors: mirrors.iter().map(|it| (*it).to_owned()).collect(),
            networks: networks.iter().map(|it| (*it).to_owned()).collect(),
            ..Facts::default()
        };
        let paths = |ceilings: &Ceilings, facts: &Facts| -> Vec<String> {
            ceilings.objections(facts).into_iter().map(|error| error.path).collect()
        };
        let all = asks(&["docker.io", "quay.io", ROOT], &["10.1.0.0/16", "fd00:1::/32", "nonsense"]);
        let none = Ceilings::default();
        let by = |proxy: &str| Facts { proxy: Some(proxy.to_owned()), ..Facts::default() };
        let one = Ceilings { proxies: vec!["http://proxy.test:3128".into()], ..Ceilings::default() };
        for (proxy, is_allowed) in [
            ("http://proxy.test:3128", true),
            ("http://PROXY.test:3128/", true),
            ("http://proxy.test:3129", false),
            ("http://127.0.0.1:9090", false),
            ("http://proxy.test:3128@127.0.0.1", false),
            ("nonsense", false),
        ] {
            assert_eq!(paths(&one, &by(proxy)).is_empty(), is_allowed, "{proxy}");
            assert_eq!(paths(&none, &by(proxy)), ["spec.egress.proxyURL"], "{proxy}");
        }
        assert!(paths(&none, &asks(&[], &[])).is_empty());
        assert_eq!(
            paths(&none, &all),
            [
                "spec.docker.mirrorFor[0]",
                "spec.docker.mirrorFor[1]",
                "spec.docker.rootMirror",
                "spec.egress.allowCIDRs[0]",
                "spec.egress.allowCIDRs[1]",
            ]
        );
        let some = Ceilings {
            mirror_for: vec!["quay.io".into()],
            root_mirror: true,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            proxies: Vec::new(),
        };
        assert_eq!(paths(&some, &all), ["spec.docker.mirrorFor[0]", "spec.egress.allowCIDRs[1]"]);
        let wider = asks(&[], &["0.0.0.0/0"]);
        assert_eq!(paths(&some, &wider).len(), 1, "a network is not within one that it holds");
        assert!(
            paths(&Ceilings { mirror_for: vec!["*".into()], ..some }, &asks(&["x.test"], &[])).is_empty()
        );
    }
}
