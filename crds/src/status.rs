//! What the operator reports back. No number that changes often: an object's status is no metric.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{access::Read, duration::DurationString};

/// Status of a Remote.
///
/// Conditions: `Ready` (valid and stored), `UpstreamReachable`, `CredentialsValid`, and kstatus's
/// `Reconciling` and `Stalled`. The middle two never feed `Ready`, since `helm --wait` waits on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteStatus {
    /// Generation of the spec this status speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions, one per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where clients find the repository.
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// Defaults that depend on the type or on other fields.
    pub effective: Option<EffectiveRemote>,
    /// The value of the annotation `artifactapi.io/requested-at` that was answered last: a proxy has looked at the
    /// upstream since.
    #[schemars(length(max = 256))]
    pub last_handled_requested_at: Option<String>,
}

/// Values a Remote works with where its spec leaves them open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRemote {
    /// Freshness of mutable paths.
    #[serde(rename = "mutableTTL")]
    pub mutable_ttl: DurationString,
    /// Who may read.
    pub read: Read,
}

/// Status of a Virtual or Local. Conditions: `Ready`, `Reconciling`, `Stalled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Generation of the spec this status speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions, one per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where clients find the repository.
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
}

/// Status of a Robot. Conditions: `Ready`, `Reconciling`, `Stalled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RobotStatus {
    /// Generation of the spec this status speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions, one per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The Secret that holds the current token.
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// When the current token ends (RFC 3339); absent when it does not.
    #[schemars(length(max = 64))]
    pub token_expires_at: Option<String>,
}
