//! `setup`: prints what the container runtime of a node is told so that it pulls through this service.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use artifactapi_crds::set::Set;
use artifactapi_model::{PublicUrl, RepoName};
use artifactapi_stores::{PostgresMetadata, postgres::StoredObject};
use clap::Args;
use serde_json::Value;

use super::{Failure, runtime, settings};
use crate::{
    config::{directory::Stamps, environment},
    setup::{Mirror, Runtime, Service, Snippet, snippet},
};

/// Flags of `setup`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// Whose configuration
    #[arg(value_enum)]
    runtime: Runtime,
    /// URL under which the node reaches this service; it need not know the cluster's names
    #[arg(long, env = "ARTIFACTAPI_PUBLIC_URL", value_name = "URL")]
    url: String,
    /// File on the node with the authorities of the service's certificate
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// A registry and the Remote that stands in for it; may be given several times [default: docker.mirrorFor of the
    /// manifests, or of the database where DBHOST is set]
    #[arg(long = "mirror", value_name = "REGISTRY=REMOTE")]
    mirrors: Vec<String>,
    /// Directory of manifests to look for docker.mirrorFor in
    #[arg(long, env = "ARTIFACTAPI_MANIFESTS", value_name = "DIR")]
    manifests: Option<PathBuf>,
}

/// Prints the file on standard output, and what to do with it beside.
pub(super) fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    let url = PublicUrl::parse(&flags.url).map_err(|why| format!("--url {why}"))?;
    let mut mirrors = flags.mirrors.iter().map(|text| mirror(text)).collect::<Result<Vec<_>, _>>()?;
    // Others are told nothing of registries.
    if flags.runtime == Runtime::Crio && mirrors.is_empty() {
        mirrors = known(flags.manifests.as_deref())?;
    }
    let service = Service { url, ca: flags.ca.clone() };
    let Snippet { path, text, then } = snippet(flags.runtime, &service, &mirrors)?;
    print!("{text}");
    eprintln!("This is {path} of a node. Then:");
    then.iter().for_each(|line| eprintln!("  * {line}"));
    Ok(ExitCode::SUCCESS)
}

fn mirror(text: &str) -> Result<Mirror, Failure> {
    let is_host = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
    };
    let (registry, remote) = text
        .split_once('=')
        .filter(|(registry, _)| is_host(registry))
        .ok_or_else(|| format!("--mirror {text:?} is not REGISTRY=REMOTE, as docker.io=dockerhub"))?;
    let remote = RepoName::try_from(remote).map_err(|error| format!("--mirror {text:?}: {error}"))?;
    Ok(Mirror { registry: registry.to_owned(), remote })
}

/// What Remotes stand in for: those of `directory`, or else those of the database, where there is one.
fn known(directory: Option<&Path>) -> Result<Vec<Mirror>, Failure> {
    let in_directory = directory.map_or(Ok(Vec::new()), declared);
    if environment::process("DBHOST").is_none_or(|host| host.trim().is_empty())
        || in_directory.as_ref().is_ok_and(|mirrors| !mirrors.is_empty())
    {
        return in_directory;
    }
    let settings = settings(environment::database(&environment::process))?;
    runtime()?.block_on(async {
        let store = PostgresMetadata::open(settings, std::sync::Arc::default()).await?;
        Ok(stored(&store.load_config().await?.objects))
    })
}

/// What the Remotes of a configuration stand in for. Only sound ones come into it.
fn stored(objects: &[StoredObject]) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for object in objects.iter().filter(|object| object.kind == "Remote") {
        let Ok(document) = serde_json::from_str::<Value>(&object.document) else { continue };
        let hosts = document.pointer("/spec/docker/mirrorFor").and_then(Value::as_array);
        for host in hosts.into_iter().flatten().filter_map(Value::as_str) {
            if let Ok(remote) = RepoName::try_from(object.name.as_str()) {
                mirrors.push(Mirror { registry: host.to_owned(), remote });
            }
        }
    }
    mirrors
}

/// What the sound Remotes of a directory stand in for.
fn declared(directory: &Path) -> Result<Vec<Mirror>, Failure> {
    let stamps = Stamps::of(directory)
        .map_err(|error| format!("--manifests: {} cannot be read: {error}", directory.display()))?;
    let loaded = Set::load(stamps.read().texts);
    let mirrors = loaded.remotes.iter().flat_map(|remote| {
        let hosts = remote.docker.mirror_for.iter();
        hosts.map(|host| Mirror { registry: host.clone(), remote: remote.name.clone() })
    });
    Ok(mirrors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_registry_and_a_remote() {
        let good = mirror("quay.io:443=quay").unwrap();
        assert_eq!((good.registry.as_str(), good.remote.as_str()), ("quay.io:443", "quay"));
        for bad in ["docker.io", "=x", "docker.io/x=y", "docker.io=No Name", "docker.io="] {
            let told = mirror(bad).unwrap_err().to_string();
            assert!(told.starts_with("--mirror "), "{told}");
        }
    }

    #[test]
    fn mirrors_come_from_the_database() {
        let object = |kind: &str, name: &str, document: &str| StoredObject {
            kind: kind.into(),
            namespace: "team".into(),
            name: name.into(),
            document: document.into(),
            sealed: false,
            version: 1,
            uid: None,
            generation: None,
        };
        let found = stored(&[
            object("Remote", "hub", r#"{"spec":{"type":"docker","docker":{"mirrorFor":["docker.io"]}}}"#),
            object("Remote", "npm", r#"{"spec":{"type":"npm"}}"#),
            object("Local", "team", r#"{"spec":{"docker":{"mirrorFor":["quay.io"]}}}"#),
            object("Secret", "hub", "sealed"),
        ]);
        let found: Vec<_> = found.iter().map(|one| (one.registry.as_str(), one.remote.as_str())).collect();
        assert_eq!(found, [("docker.io", "hub")]);
    }

    #[test]
    fn mirrors_come_from_the_manifests() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {name: hub}\n\
                        spec: {type: docker, baseURL: \"https://hub.test/\", docker: {mirrorFor: [docker.io, hub.test]}}\n";
        std::fs::write(directory.path().join("hub.yaml"), manifest).unwrap();
        let found = declared(directory.path()).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.registry.as_str(), one.remote.as_str())).collect();
        assert_eq!(found, [("docker.io", "hub"), ("hub.test", "hub")]);
        assert!(declared(&directory.path().join("none")).is_err());
    }
}
