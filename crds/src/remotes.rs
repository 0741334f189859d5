//! The `Remote` kind: a cache in front of one upstream.

use artifactapi_model::PackageType;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{access::ReadOnlyAccess, duration::DurationString, limits, schema, status::RemoteStatus};

mod policy;
mod upstream;

pub use policy::{DeletionPolicy, Delivery, DockerOptions, GenericOptions, OnUpstreamGone, Retention};
pub(crate) use upstream::HOST;
pub use upstream::{Auth, Egress, ObjectReference, PUBLIC_HOSTS, Timeouts, Tls};

/// A caching proxy of one upstream, served below `/api/v1/remote/{name}/` (docker: `/v2/{name}/`).
///
/// Patterns are linear-time regular expressions, unanchored, matched on the canonical path. Order: blocklist,
/// patterns, mutablePatterns, immutablePatterns, the type's own rule.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "artifactapi.io",
    version = "v1alpha1",
    kind = "Remote",
    namespaced,
    status = "RemoteStatus",
    derive = "PartialEq",
    category = "artifactapi",
    shortname = "rem",
    selectable = ".spec.type",
    doc = "Remote caches one upstream package repository.",
    validation = schema::name_rule(),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Upstream", type_ = "string", json_path = ".spec.baseURL"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"UpstreamReachable\")].status"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.docker) || self.type == 'docker'")
    .message("only a Remote of type docker has this block").field_path(".docker"))]
#[x_kube(validation = Rule::new("!has(self.generic) || self.type == 'generic'")
    .message("only a Remote of type generic has this block").field_path(".generic"))]
pub struct RemoteSpec {
    /// Package type; cannot be changed.
    #[serde(rename = "type")]
    #[schemars(schema_with = "schema::package_type")]
    #[x_kube(validation = schema::immutable_type_rule())]
    pub package_type: PackageType,

    /// Upstream root: http or https, without user name, query and fragment. A missing slash at the end is
    /// added. A changed baseURL starts an empty cache. In a docker Remote, docker.io and index.docker.io mean
    /// Docker Hub's registry, registry-1.docker.io.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1, max = limits::URL))]
    #[x_kube(validation = upstream::scheme_rule())]
    #[x_kube(validation = upstream::userinfo_rule())]
    #[x_kube(validation = upstream::query_rule())]
    pub base_url: String,

    /// Freshness of paths that never change; `0s` means for ever.
    #[serde(rename = "immutableTTL", default = "default_immutable_ttl")]
    pub immutable_ttl: DurationString,

    /// Freshness of indexes, tags and listings; `0s` revalidates on every request. Default: 5m for docker, 15m
    /// for the others.
    #[serde(rename = "mutableTTL", skip_serializing_if = "Option::is_none")]
    pub mutable_ttl: Option<DurationString>,

    /// When any is given, only paths that match one are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub patterns: Vec<String>,

    /// Paths that are never served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub blocklist: Vec<String>,

    /// Paths that may change upstream, whatever the type says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub mutable_patterns: Vec<String>,

    /// Paths that never change upstream, whatever the type says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub immutable_patterns: Vec<String>,

    /// Options of type docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerOptions>,

    /// Options of type generic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic: Option<GenericOptions>,

    /// How long past its freshness a stored body stands in for a failing upstream.
    #[serde(default = "default_stale_if_error")]
    pub stale_if_error: DurationString,

    /// How long past its freshness a stored body is served while it is revalidated.
    #[serde(default = "default_stale_while_revalidate")]
    pub stale_while_revalidate: DurationString,

    /// How long "not found" is remembered.
    #[serde(rename = "negativeTTL", default = "default_negative_ttl")]
    pub negative_ttl: DurationString,

    /// What upstream's "not found" does to a stored mutable body.
    #[serde(default)]
    pub on_upstream_gone: OnUpstreamGone,

    /// Upstream credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,

    /// TLS towards the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Hosts that indexes may send clients to: `[public]` for any https host with public addresses, or a list
    /// of `host` or `host:port` besides baseURL's own.
    #[serde(default = "default_file_hosts")]
    #[schemars(length(max = limits::HOSTS), inner(length(min = 1, max = limits::HOST), regex(pattern = HOST)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = upstream::file_hosts_rule())]
    pub file_hosts: Vec<String>,

    /// How connections leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,

    /// Hosts (`host` or `host:port`) that may receive the credentials in a token request, besides baseURL's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::HOSTS), inner(length(min = 1, max = limits::HOST), regex(pattern = HOST)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub auth_realms: Vec<String>,

    /// Time limits towards the upstream.
    #[serde(default)]
    pub timeouts: Timeouts,

    /// Most concurrent upstream requests.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_concurrent: i32,

    /// How bodies reach clients.
    #[serde(default)]
    pub delivery: Delivery,

    /// Who may use the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<ReadOnlyAccess>,

    /// Serve what is cached, fetch nothing.
    #[serde(default)]
    pub suspend: bool,

    /// What is dropped without being asked; nothing when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,

    /// What happens to cached bytes when the Remote is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn default_immutable_ttl() -> DurationString {
    "0s".into()
}

fn default_stale_if_error() -> DurationString {
    "720h".into()
}

fn default_stale_while_revalidate() -> DurationString {
    "1h".into()
}

fn default_negative_ttl() -> DurationString {
    "60s".into()
}

fn default_file_hosts() -> Vec<String> {
    vec![PUBLIC_HOSTS.to_owned()]
}

fn default_max_concurrent() -> i32 {
    64
}
