//! The parts of a Remote's spec that say what is kept and how it is handed out.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::DurationString, limits, quantity::ByteQuantity};

/// `spec.docker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerOptions {
    /// Tags that are refused: regular expressions that must match the whole tag (`latest`, `.*-rc[0-9]+`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub ban_tags: Vec<String>,
    /// Registry hosts that this Remote answers for when a container runtime names them by `?ns=`. In a cluster
    /// they must lie within the operator's ceiling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::HOSTS), inner(length(min = 1, max = limits::HOST), regex(pattern = super::HOST)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub mirror_for: Vec<String>,
    /// Answers requests at the root of `/v2/` whose first segment names no repository, as dockerd's
    /// `registry-mirrors` sends them. One Remote at most.
    #[serde(default)]
    pub root_mirror: bool,
}

/// `spec.generic`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenericOptions {
    /// Query parameters that are passed on and tell files apart; all others are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = limits::QUERY_PARAMETERS),
        inner(length(min = 1, max = limits::QUERY_PARAMETER), regex(pattern = "^[A-Za-z0-9._~-]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub query_parameters: Vec<String>,
}

/// `spec.onUpstreamGone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUpstreamGone {
    /// Keep serving it.
    #[default]
    Keep,
    /// Drop it.
    Evict,
}

/// `spec.delivery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Through the proxy.
    #[default]
    Proxy,
    /// By a presigned redirect to the object store, which clients must be able to reach.
    Redirect,
    /// By a redirect where it pays: large docker and generic bodies.
    Auto,
}

/// `spec.retention`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Drops what nobody asked for in this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_for: Option<DurationString>,
    /// Drops the least recently used above this many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteQuantity>,
}

/// `spec.deletionPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Stop serving. A Remote's bytes go to garbage collection; what was pushed to a Local is kept until it is
    /// purged by name.
    #[default]
    Retain,
    /// Delete the bytes at once.
    Purge,
}
