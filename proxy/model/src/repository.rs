//! A Remote as the data path sees it: validated, compiled, with its identity. Nobody past
//! `crds::validate` reads a raw spec.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::{
    key::{Epoch, RepoId},
    name::RepoName,
    policy::{PathPolicy, Patterns, Ttl},
};

/// The ten package types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is named after its ecosystem")]
pub enum PackageType {
    Generic,
    Docker,
    Helm,
    Pypi,
    Npm,
    Rpm,
    Alpine,
    Puppet,
    Terraform,
    Goproxy,
}

impl PackageType {
    /// All ten, in the order of the documentation.
    pub const ALL: [PackageType; 10] = [
        PackageType::Generic,
        PackageType::Docker,
        PackageType::Helm,
        PackageType::Pypi,
        PackageType::Npm,
        PackageType::Rpm,
        PackageType::Alpine,
        PackageType::Puppet,
        PackageType::Terraform,
        PackageType::Goproxy,
    ];

    /// The name in manifests, rows, labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PackageType::Generic => "generic",
            PackageType::Docker => "docker",
            PackageType::Helm => "helm",
            PackageType::Pypi => "pypi",
            PackageType::Npm => "npm",
            PackageType::Rpm => "rpm",
            PackageType::Alpine => "alpine",
            PackageType::Puppet => "puppet",
            PackageType::Terraform => "terraform",
            PackageType::Goproxy => "goproxy",
        }
    }
}

impl fmt::Display for PackageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where stores know a repository by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RepoIdentity {
    /// Row id.
    pub id: RepoId,
    /// Origin counter.
    pub epoch: Epoch,
}

/// One validated Remote of a configuration snapshot.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where stores know it by.
    pub identity: RepoIdentity,
    /// Everything its manifest says.
    pub spec: Arc<RemoteSpec>,
}

/// A validated Remote manifest: defaults applied, patterns compiled, secrets read.
#[derive(Clone, Debug)]
pub struct RemoteSpec {
    /// URL segment.
    pub name: RepoName,
    /// Kubernetes namespace; `default` for standalone manifests without one.
    pub namespace: String,
    /// Package type.
    pub package_type: PackageType,
    /// Upstream root; `http` or `https`, no userinfo, query or fragment, path ending in `/`.
    pub base_url: Url,
    /// Freshness of immutable paths.
    pub immutable_ttl: Ttl,
    /// Freshness of mutable paths.
    pub mutable_ttl: Ttl,
    /// Path patterns.
    pub policy: PathPolicy,
    /// Options of type docker; defaults for the others.
    pub docker: DockerOptions,
    /// Query parameters that belong to the key of a generic Remote, sorted.
    pub query_parameters: Vec<String>,
    /// How long past its freshness a stored body stands in for a failing upstream.
    pub stale_if_error: Duration,
    /// How long past its freshness a stored body is served while it is revalidated.
    pub stale_while_revalidate: Duration,
    /// How long an upstream 404 or 410 is remembered.
    pub negative_ttl: Duration,
    /// What an upstream 404 or 410 does to a stored mutable body.
    pub on_upstream_gone: OnUpstreamGone,
    /// Credentials for `base_url`'s origin.
    pub credentials: Option<Credentials>,
    /// Hosts (`host` or `host:port`) that may receive the credentials in a token request, besides
    /// `base_url`'s own.
    pub auth_realms: Vec<String>,
    /// TLS towards the upstream.
    pub tls: UpstreamTls,
    /// Which hosts named by indexes may be fetched from.
    pub file_hosts: FileHosts,
    /// How connections leave.
    pub egress: Egress,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Most concurrent upstream requests.
    pub max_concurrent: usize,
    /// How bodies reach clients (used by replicas with an S3 store).
    pub delivery: Delivery,
    /// Who may read.
    pub read: ReadAccess,
    /// Serve what is stored, fetch nothing.
    pub suspend: bool,
    /// Eviction rules; `None` keeps everything.
    pub retention: Retention,
}

/// `spec.docker`.
#[derive(Clone, Debug, Default)]
pub struct DockerOptions {
    /// Tags that are refused on GET and HEAD, and that `tags/list` leaves out.
    pub ban_tags: Patterns,
    /// Registry hosts answered under `?ns=`, lower case.
    pub mirror_for: Vec<String>,
    /// Answers root `/v2/` requests whose first segment names no repository.
    pub root_mirror: bool,
}

/// `spec.onUpstreamGone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUpstreamGone {
    /// Keep serving the stored body.
    #[default]
    Keep,
    /// Drop it and answer what upstream answers.
    Evict,
}

/// Upstream credentials. They go to `base_url`'s origin only (RS-35).
#[derive(Clone, Debug)]
pub enum Credentials {
    /// HTTP Basic.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A bearer token.
    Bearer(SecretString),
}

/// `spec.tls`, read from Secrets. PEM.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// Extra trusted roots, beside the built-in ones.
    pub ca_pem: Option<String>,
    /// Client certificate chain and key.
    pub client: Option<ClientCertificate>,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Chain, leaf first.
    pub chain_pem: String,
    /// Private key.
    pub key_pem: SecretString,
}

/// `spec.fileHosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileHosts {
    /// Any https host that the index itself names and that resolves to public addresses.
    #[default]
    Public,
    /// Only these hosts (`host` or `host:port`, lower case).
    Only(Vec<String>),
}

/// `spec.egress`.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Non-public networks that this Remote may connect to.
    pub allow_cidrs: Vec<IpNet>,
    /// HTTP proxy for every upstream connection.
    pub proxy_url: Option<Url>,
}

/// `spec.timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From the request's end to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(30),
        }
    }
}

/// `spec.delivery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Through the proxy.
    Proxy,
    /// By a presigned redirect to the object store.
    Redirect,
    /// Redirect for large docker and generic bodies, where the store can.
    #[default]
    Auto,
}

/// `spec.access.read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadAccess {
    /// Anyone.
    #[default]
    Anonymous,
    /// Only holders of a token.
    Authenticated,
}

/// `spec.retention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Drop what nobody asked for in this time.
    pub unused_for: Option<Duration>,
    /// Drop least recently used bodies above this many bytes.
    pub max_bytes: Option<u64>,
}

/// One validated Local of a configuration snapshot.
#[derive(Clone, Debug)]
pub struct Local {
    /// Where stores know it by.
    pub identity: RepoIdentity,
    /// Everything its manifest says.
    pub spec: Arc<LocalSpec>,
}

/// A validated Local manifest: defaults applied, patterns compiled.
#[derive(Clone, Debug)]
pub struct LocalSpec {
    /// URL segment.
    pub name: RepoName,
    /// Kubernetes namespace; `default` for standalone manifests without one.
    pub namespace: String,
    /// Docker or terraform.
    pub package_type: PackageType,
    /// Who may read.
    pub read: ReadAccess,
    /// Whether anyone may push.
    pub anonymous_write: bool,
    /// Whether nothing may be pushed or deleted.
    pub read_only: bool,
    /// Whether manifests, tags and blobs may be deleted.
    pub allow_deletes: bool,
    /// Tags that cannot be moved; patterns match whole tags.
    pub immutable_tags: Patterns,
    /// How long a manifest stays after its last tag moved away; `None` for ever.
    pub untagged_ttl: Option<Duration>,
    /// Terraform plugin protocols; empty for docker.
    pub terraform_protocols: Vec<String>,
    /// Most bytes of pushed blobs, each counted once.
    pub quota: Option<u64>,
    /// What deletion of the manifest does to the bytes.
    pub deletion: Deletion,
}

/// `spec.deletionPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Stop serving, keep what was pushed.
    #[default]
    Retain,
    /// Delete it at once.
    Purge,
}

impl RemoteSpec {
    /// Whether there is anything that clients may not have.
    pub fn hides(&self) -> bool {
        self.policy.hides() || !self.docker.ban_tags.is_empty()
    }

    /// Whether `host` (lower case) with `port` is `base_url`'s own.
    pub fn is_own_origin(&self, url: &Url) -> bool {
        self.base_url.origin() == url.origin()
    }

    /// Whether a loopback, private or otherwise non-public address may be connected to.
    pub fn allows_address(&self, address: SocketAddr) -> bool {
        self.egress.allow_cidrs.iter().any(|net| net.contains(&address.ip()))
    }
}
