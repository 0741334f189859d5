//! What a namespace may give itself: `docker.mirrorFor`, `docker.rootMirror` and `egress.allowCIDRs` concern everyone
//! who uses the service, so whoever runs it says how far they go. Nothing is allowed unless it is said.

use artifactapi_crds::FieldError;
use ipnet::IpNet;

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
        errors
    }
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
        };
        assert_eq!(paths(&some, &all), ["spec.docker.mirrorFor[0]", "spec.egress.allowCIDRs[1]"]);
        let wider = asks(&[], &["0.0.0.0/0"]);
        assert_eq!(paths(&some, &wider).len(), 1, "a network is not within one that it holds");
        assert!(
            paths(&Ceilings { mirror_for: vec!["*".into()], ..some }, &asks(&["x.test"], &[])).is_empty()
        );
    }
}
