//! Remotes and listeners for this crate's tests.

pub(crate) mod pki;
pub(crate) mod server;

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Epoch, PackageType, RepoId, RepoName, Ttl,
    policy::PathPolicy,
    repository::{
        Delivery, DockerOptions, Egress, FileHosts, OnUpstreamGone, ReadAccess, Remote, RemoteSpec,
        RepoIdentity, Retention, Timeouts, UpstreamTls,
    },
};
use url::Url;

/// A generic Remote with every default.
pub(crate) fn spec(base_url: &str) -> RemoteSpec {
    RemoteSpec {
        name: "upstream".parse::<RepoName>().unwrap(),
        namespace: "default".into(),
        package_type: PackageType::Generic,
        base_url: Url::parse(base_url).unwrap(),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::For(Duration::from_secs(900)),
        policy: PathPolicy::default(),
        docker: DockerOptions::default(),
        query_parameters: Vec::new(),
        stale_if_error: Duration::from_secs(3600),
        stale_while_revalidate: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(60),
        on_upstream_gone: OnUpstreamGone::Keep,
        credentials: None,
        auth_realms: Vec::new(),
        tls: UpstreamTls::default(),
        file_hosts: FileHosts::Public,
        egress: Egress::default(),
        timeouts: Timeouts::default(),
        max_concurrent: 64,
        delivery: Delivery::Auto,
        read: ReadAccess::Anonymous,
        suspend: false,
        retention: Retention::default(),
    }
}

pub(crate) fn remote_of(spec: RemoteSpec) -> Remote {
    Remote { identity: RepoIdentity { id: RepoId(1), epoch: Epoch(0) }, spec: Arc::new(spec) }
}

/// A Remote whose upstream is a loopback listener, which `egress.allowCIDRs` permits.
pub(crate) fn loopback(base_url: &str) -> RemoteSpec {
    let mut spec = spec(base_url);
    spec.egress.allow_cidrs = vec!["127.0.0.0/8".parse().unwrap()];
    spec
}
