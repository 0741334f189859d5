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
    /// What else has to be done.
    pub then: &'static str,
}

/// Why there is nothing to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Only containerd can put a path in front of `/v2/`.
    #[error("this runtime knows no path in front of /v2/: give --url without one")]
    Path,
    /// Registries have to be named.
    #[error(
        "this runtime asks for each registry by name: give --mirror docker.io=REMOTE for each, or --manifests with \
         Remotes that have docker.mirrorFor"
    )]
    NoMirrors,
    /// It trusts no authority by file.
    #[error(
        "this runtime takes authorities from the directory of the host: put the file into {0}/HOST/ca.crt and leave --ca out"
    )]
    Authorities(&'static str),
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

fn containerd(service: &Service) -> Snippet {
    let mut text = format!(
        "# Every registry is asked for here first, by ?ns=; what is not here comes from the registry itself.\n\
         [host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"2s\"\n",
        quoted(&root(&service.url))
    );
    if let Some(ca) = &service.ca {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  ca = {}", quoted(ca));
    }
    Snippet {
        path: "/etc/containerd/certs.d/_default/hosts.toml",
        text,
        then: "containerd has to know the directory: config_path = \"/etc/containerd/certs.d\" in its config.toml, below \
               [plugins.\"io.containerd.cri.v1.images\".registry], in releases before 2.0 below \
               [plugins.\"io.containerd.grpc.v1.cri\".registry]. The file itself is read at every pull",
    }
}

fn k3s(service: &Service) -> Snippet {
    let mut text = format!(
        "# Every registry is asked for here first, by ?ns=; what is not here comes from the registry itself.\n\
         mirrors:\n  \"*\":\n    endpoint:\n      - {}\n",
        quoted(&root(&service.url))
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
        then: "restart k3s on this node; for RKE2 the file is /etc/rancher/rke2/registries.yaml",
    }
}

fn crio(service: &Service, mirrors: &[Mirror]) -> Result<Snippet, SetupError> {
    if service.ca.is_some() {
        return Err(SetupError::Authorities("/etc/containers/certs.d"));
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
        then: "CRI-O reads it again on SIGHUP (systemctl reload crio), podman and buildah every time",
    })
}

fn docker(service: &Service) -> Result<Snippet, SetupError> {
    if service.ca.is_some() {
        return Err(SetupError::Authorities("/etc/docker/certs.d"));
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
        then: "join it with what the file has already, and systemctl reload docker. dockerd asks for Docker Hub only, \
               and does not say so: the Remote that is to answer needs docker.rootMirror: true",
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
             [host.\"http://127.0.0.1:30800\"]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"2s\"\n"
        );
        assert!(plain.path.ends_with("/_default/hosts.toml"));
        let with_ca = service("https://packages.test/cache/", Some("/etc/ssl/our \"ca\".pem"));
        let with_ca = snippet(Runtime::Containerd, &with_ca, &[]).unwrap().text;
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
    fn what_a_runtime_cannot_do_is_said() {
        let below = service("https://packages.test/cache", None);
        let mirrors = [mirror("docker.io", "dockerhub")];
        for runtime in [Runtime::Crio, Runtime::Docker] {
            assert_eq!(snippet(runtime, &below, &mirrors), Err(SetupError::Path));
            let with_ca = service("https://packages.test", Some("/ca.pem"));
            assert!(matches!(snippet(runtime, &with_ca, &mirrors), Err(SetupError::Authorities(_))));
        }
    }
}
