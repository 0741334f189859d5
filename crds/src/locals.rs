//! The `Local` kind: a registry that clients push to.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    access::LocalAccess, duration::DurationString, limits, quantity::ByteQuantity, remotes::DeletionPolicy,
    schema, status::RepositoryStatus,
};

/// A registry of our own, served below `/v2/{name}/` (docker) or `/v1/providers/{name}/` (terraform).
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "artifactapi.io",
    version = "v1alpha1",
    kind = "Local",
    namespaced,
    status = "RepositoryStatus",
    derive = "PartialEq",
    category = "artifactapi",
    shortname = "loc",
    selectable = ".spec.type",
    doc = "Local is a registry that clients push to.",
    validation = schema::name_rule(),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Quota", type_ = "string", json_path = ".spec.quota.bytes"),
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
#[x_kube(validation = Rule::new("!has(self.terraform) || self.type == 'terraform'")
    .message("only a Local of type terraform has this block").field_path(".terraform"))]
#[x_kube(validation = Rule::new("!has(self.immutableTags) || self.type == 'docker'")
    .message("only a Local of type docker has tags").field_path(".immutableTags"))]
#[x_kube(validation = Rule::new("!has(self.untaggedTTL) || self.type == 'docker'")
    .message("only a Local of type docker has tags").field_path(".untaggedTTL"))]
pub struct LocalSpec {
    /// Package type; cannot be changed.
    #[serde(rename = "type")]
    #[x_kube(validation = schema::immutable_type_rule())]
    pub package_type: LocalType,

    /// Who may use the repository.
    #[serde(default)]
    pub access: LocalAccess,

    /// Tags that cannot be moved once pushed: regular expressions that must match the whole tag (`v.*`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub immutable_tags: Vec<String>,

    /// How long a manifest stays after its last tag moved to another one or was deleted, so that those who pull by
    /// digest are not cut off; `0s` means for ever. Only for type docker.
    #[serde(rename = "untaggedTTL", skip_serializing_if = "Option::is_none")]
    pub untagged_ttl: Option<DurationString>,

    /// Refuses every push and every deletion.
    #[serde(default)]
    pub read_only: bool,

    /// Lets clients delete tags, manifests and blobs.
    #[serde(default = "allowed")]
    pub allow_deletes: bool,

    /// Options of type terraform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terraform: Option<TerraformOptions>,

    /// How much may be pushed; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,

    /// What happens to pushed bytes when the Local is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn allowed() -> bool {
    true
}

/// Package types one can push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LocalType {
    /// OCI images and artifacts.
    Docker,
    /// Terraform and OpenTofu providers.
    Terraform,
}

/// `spec.terraform`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerraformOptions {
    /// Plugin protocols announced for every provider.
    #[serde(default = "default_protocols")]
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 3, max = 8), regex(pattern = r"^[0-9]+\.[0-9]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub protocols: Vec<String>,
}

/// `spec.quota`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Most bytes of pushed blobs, each counted once.
    pub bytes: ByteQuantity,
}

/// Protocols of a Local without `spec.terraform.protocols`.
pub fn default_protocols() -> Vec<String> {
    vec!["5.0".to_owned(), "6.0".to_owned()]
}
