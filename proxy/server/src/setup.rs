//! What the container runtime of a node is told so that it pulls through this service: the text of its configuration
//! file. Pure.
//!
//! A runtime that gets no answer here, or 404, goes on to the registry itself, so that what is written costs nothing
//! when the service is away. containerd sends the registry's name along (`?ns=`, containerd's docs/hosts.md), so that one
//! entry does for all; others ask by path, and are told which Remote stands in for which registry.

use std::fmt::Write as _;

use artifactapi_model::{PublicUrl, RepoName};
use clap::ValueEnum;
use serde_json::json;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// hosts.toml of containerd
    Containerd,
    /// registries.yaml of k3s and RKE2
    K3s,
    /// registries.conf of CRI-O, podman and buildah
    Crio,
    /// daemon.json of dockerd
    Docker,
}

/// A registry, and the Remote that stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its host, such as docker.io.
    pub registry: String,
    /// The Remote.
    pub remote: RepoName,
}

/// How a runtime reaches the service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The URL.
    pub url: PublicUrl,
    /// File on the node with the authorities of its certificate, where the node does not know them.
    pub ca: Option<String>,
}

/// A file of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Where it goes.
    pub path: &'static str,
    /// All of it.
    pub text: String,
    /// What else has to be done or known, a sentence each.
    pub then: Vec<&'static str>,
}

/// Why there is nothing to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Only containerd, and k3s with it, can put a path in front of `/v2/`.
    #[error("this runtime knows no path in front of /v2/: give --url without one")]
    Path,
    /// Registries have to be named.
    #[error(
        "this runtime asks for each registry by name: give --mirror docker.io=REMOTE for each, or have Remotes with \
         docker.mirrorFor in --manifests or in the database of DBHOST"
    )]
    NoMirrors,
    /// It trusts no authority by file.
    #[error(
        "this runtime takes authorities from the directory of the host: put the file into {directory}/{host}/ca.crt \
         and leave --ca out"
    )]
    Authorities {
        /// Where directories of hosts are.
        directory: &'static str,
        /// Name of this one's: the host, with the port that is asked unless it is HTTPS's own.
        host: String,
    },
}

/// The file of `runtime`.
///
/// # Errors
/// When that runtime cannot be told.
pub fn snippet(runtime: Runtime, service: &Service, mirrors: &[Mirror]) -> Result<Snippet, SetupError> {
    match runtime {
        Runtime::Containerd => Ok(containerd(service)),
        Runtime::K3s => Ok(k3s(service)),
        Runtime::Crio => crio(service, mirrors),
        Runtime::Docker => docker(service),
    }
}

/// What plain HTTP means for a node that pulls by it.
const BELIEVED: &str = "over plain HTTP whoever answers at this address is believed, and decides what this node runs: put \
                        the file here once the service answers, take it away before the service goes (helm uninstall, \
                        nodePort.enabled: false) or its port is given to somebody else; an https:// URL asks who answers";

/// Quoted as JSON, YAML and TOML all understand it.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn root(url: &PublicUrl) -> String {
    format!("{}{}", url.origin, url.prefix)
}

/// `host[:port]`.
fn host(url: &PublicUrl) -> &str {
    url.origin.split_once("://").map_or(url.origin.as_str(), |(_, host)| host)
}

fn is_plain(url: &PublicUrl) -> bool {
    url.origin.starts_with("http://")
}

/// `then`, and what there is to know of plain HTTP where the service is reached by it.
fn with_trust(service: &Service, mut then: Vec<&'static str>) -> Vec<&'static str> {
    if is_plain(&service.url) {
        then.push(BELIEVED);
    }
    then
}

fn containerd(service: &Service) -> Snippet {
    let mut text = format!(
        "# Every registry is asked for here first, by ?ns=; what is not here comes from the registry itself.\n\
         # containerd 1.x does not know dial_timeout, and passes it over.\n\
         [host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"2s\"\n",
        quoted(&root(&service.url))
    );
    let mut then = vec![
        "containerd has to know the directory: config_path = \"/etc/containerd/certs.d\" in its config.toml, below \
         [plugins.\"io.containerd.cri.v1.images\".registry], in releases before 2.0 below \
         [plugins.\"io.containerd.grpc.v1.cri\".registry]",
        "[….registry.mirrors] and [….registry.configs] of an older config.toml have to go: with them beside config_path \
         the CRI plugin does not load, and the node is not ready",
        "restart containerd once when config.toml has changed; this file itself is read at every pull",
        "a registry that has a directory of its own in certs.d does not look at _default",
    ];
    if let Some(ca) = &service.ca {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  ca = {}", quoted(ca));
        then.push(
            "the file of ca has to be there before: without it every pull fails, and none goes elsewhere",
        );
    }
    Snippet { path: "/etc/containerd/certs.d/_default/hosts.toml", text, then: with_trust(service, then) }
}

fn k3s(service: &Service) -> Snippet {
    // It puts /v2 after a host, and takes a path as it stands (k3s, pkg/agent/containerd/config.go).
    let version = if service.url.prefix.is_empty() { "" } else { "/v2" };
    let mut text = format!(
        "# Every registry is asked for here first, by ?ns=; what is not here comes from the registry itself.\n\
         mirrors:\n  \"*\":\n    endpoint:\n      - {}\n",
        quoted(&format!("{}{version}", root(&service.url)))
    );
    if let Some(ca) = &service.ca {
        let _ = write!(
            text,
            "configs:\n  {}:\n    tls:\n      ca_file: {}\n",
            quoted(host(&service.url)),
            quoted(ca)
        );
    }
    Snippet {
        path: "/etc/rancher/k3s/registries.yaml",
        text,
        then: with_trust(
            service,
            vec!["restart k3s on this node; for RKE2 the file is /etc/rancher/rke2/registries.yaml"],
        ),
    }
}

fn authorities(directory: &'static str, service: &Service) -> SetupError {
    SetupError::Authorities { directory, host: host(&service.url).to_owned() }
}

fn crio(service: &Service, mirrors: &[Mirror]) -> Result<Snippet, SetupError> {
    if service.ca.is_some() {
        return Err(authorities("/etc/containers/certs.d", service));
    }
    if !service.url.prefix.is_empty() {
        return Err(SetupError::Path);
    }
    if mirrors.is_empty() {
        return Err(SetupError::NoMirrors);
    }
    let mut text = "# What is not here comes from the registry itself.\n".to_owned();
    for Mirror { registry, remote } in mirrors {
        let location = quoted(&format!("{}/{remote}", host(&service.url)));
        let _ = write!(
            text,
            "\n[[registry]]\nlocation = {}\n\n[[registry.mirror]]\nlocation = {location}\n",
            quoted(registry)
        );
        if is_plain(&service.url) {
            text.push_str("insecure = true\n");
        }
    }
    Ok(Snippet {
        path: "/etc/containers/registries.conf.d/50-artifactapi.conf",
        text,
        then: with_trust(
            service,
            vec!["CRI-O reads it again on SIGHUP (systemctl reload crio), podman and buildah every time"],
        ),
    })
}

fn docker(service: &Service) -> Result<Snippet, SetupError> {
    if service.ca.is_some() {
        return Err(authorities("/etc/docker/certs.d", service));
    }
    if !service.url.prefix.is_empty() {
        return Err(SetupError::Path);
    }
    let mut settings = json!({ "registry-mirrors": [root(&service.url)] });
    if is_plain(&service.url) {
        settings["insecure-registries"] = json!([host(&service.url)]);
    }
    Ok(Snippet {
        path: "/etc/docker/daemon.json",
        // A tree of strings is always text.
        text: format!("{settings:#}\n"),
        then: with_trust(
            service,
            vec![
                "join it with what the file has already, and systemctl reload docker",
                "dockerd asks for Docker Hub only, and does not say so: the Remote that is to answer needs \
                 docker.rootMirror: true",
            ],
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str, ca: Option<&str>) -> Service {
        Service { url: PublicUrl::parse(url).unwrap(), ca: ca.map(str::to_owned) }
    }

    fn mirror(registry: &str, remote: &str) -> Mirror {
        Mirror { registry: registry.into(), remote: remote.parse().unwrap() }
    }

    #[test]
    fn containerd_asks_for_every_registry_by_one_entry() {
        let plain = snippet(Runtime::Containerd, &service("http://127.0.0.1:30800", None), &[]).unwrap();
        assert_eq!(
            plain.text,
            "# Every registry is asked for here first, by ?ns=; what is not here comes from the registry itself.\n\
             # containerd 1.x does not know dial_timeout, and passes it over.\n\
             [host.\"http://127.0.0.1:30800\"]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"2s\"\n"
        );
        assert!(plain.path.ends_with("/_default/hosts.toml"));
        for known in ["config_path", "registry.mirrors", "restart containerd once", "directory of its own"] {
            assert!(plain.then.iter().any(|line| line.contains(known)), "{known} in {:#?}", plain.then);
        }
        assert!(!plain.then.iter().any(|line| line.contains("of ca ")), "{:#?}", plain.then);
        let with_ca = service("https://packages.test/cache/", Some("/etc/ssl/our \"ca\".pem"));
        let with_ca = snippet(Runtime::Containerd, &with_ca, &[]).unwrap();
        assert!(with_ca.then.iter().any(|line| line.contains("every pull fails")), "{:#?}", with_ca.then);
        let with_ca = with_ca.text;
        assert!(with_ca.contains("[host.\"https://packages.test/cache\"]\n"), "{with_ca}");
        assert!(with_ca.ends_with("  ca = \"/etc/ssl/our \\\"ca\\\".pem\"\n"), "{with_ca}");
    }

    #[test]
    fn k3s_has_it_in_its_own_form() {
        let plain = snippet(Runtime::K3s, &service("https://packages.test", Some("/ca.pem")), &[]).unwrap();
        let read: serde_json::Value = serde_yaml::from_str(&plain.text).unwrap();
        assert_eq!(
            read,
            json!({
                "mirrors": { "*": { "endpoint": ["https://packages.test"] } },
                "configs": { "packages.test": { "tls": { "ca_file": "/ca.pem" } } },
            })
        );
        let below = snippet(Runtime::K3s, &service("https://packages.test/cache/", None), &[]).unwrap();
        assert!(below.text.ends_with("- \"https://packages.test/cache/v2\"\n"), "{}", below.text);
    }

    #[test]
    fn crio_is_told_each_registry() {
        let mirrors = [mirror("docker.io", "dockerhub"), mirror("quay.io", "quay")];
        let service = service("http://10.0.0.1:30800", None);
        let told = snippet(Runtime::Crio, &service, &mirrors).unwrap().text;
        assert_eq!(
            told,
            "# What is not here comes from the registry itself.\n\
             \n[[registry]]\nlocation = \"docker.io\"\n\
             \n[[registry.mirror]]\nlocation = \"10.0.0.1:30800/dockerhub\"\ninsecure = true\n\
             \n[[registry]]\nlocation = \"quay.io\"\n\
             \n[[registry.mirror]]\nlocation = \"10.0.0.1:30800/quay\"\ninsecure = true\n"
        );
        assert_eq!(snippet(Runtime::Crio, &service, &[]), Err(SetupError::NoMirrors));
    }

    #[test]
    fn dockerd_trusts_plain_http_where_it_is_told() {
        let read = |url: &str| -> serde_json::Value {
            serde_json::from_str(&snippet(Runtime::Docker, &service(url, None), &[]).unwrap().text).unwrap()
        };
        assert_eq!(
            read("http://10.0.0.1:30800"),
            json!({ "registry-mirrors": ["http://10.0.0.1:30800"], "insecure-registries": ["10.0.0.1:30800"] })
        );
        assert_eq!(read("https://packages.test"), json!({ "registry-mirrors": ["https://packages.test"] }));
    }

    #[test]
    fn who_is_believed_over_plain_http_is_said() {
        let mirrors = [mirror("docker.io", "dockerhub")];
        for runtime in Runtime::value_variants() {
            for (url, is_said) in [("http://127.0.0.1:30800", true), ("https://127.0.0.1:30800", false)] {
                let then = snippet(*runtime, &service(url, None), &mirrors).unwrap().then;
                let told = then.iter().any(|line| line.contains("before the service goes"));
                assert_eq!(told, is_said, "{runtime:?} by {url}: {then:#?}");
            }
        }
    }

    #[test]
    fn what_a_runtime_cannot_do_is_said() {
        let below = service("https://packages.test/cache", None);
        let mirrors = [mirror("docker.io", "dockerhub")];
        for runtime in [Runtime::Crio, Runtime::Docker] {
            assert_eq!(snippet(runtime, &below, &mirrors), Err(SetupError::Path));
            for (url, directory) in [("https://a.test", "/a.test/"), ("https://a.test:8443", "/a.test:8443/")]
            {
                let refused = snippet(runtime, &service(url, Some("/ca.pem")), &mirrors).unwrap_err();
                let told = refused.to_string();
                assert!(told.contains(&format!("/certs.d{directory}ca.crt")), "{told}");
            }
        }
    }
}
