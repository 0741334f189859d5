//! The `Virtual` kind: several repositories of one type behind one URL.

use artifactapi_model::PackageType;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{access::ReadOnlyAccess, limits, schema, status::RepositoryStatus};

/// Several repositories of one type behind one URL, served below `/api/v1/virtual/{name}/` (docker:
/// `/v2/{name}/`).
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "artifactapi.io",
    version = "v1alpha1",
    kind = "Virtual",
    namespaced,
    status = "RepositoryStatus",
    derive = "PartialEq",
    category = "artifactapi",
    shortname = "virt",
    selectable = ".spec.type",
    doc = "Virtual merges repositories of one type behind one URL.",
    validation = schema::name_rule(),
    validation = Rule::new("!(self.metadata.name in self.spec.members)")
        .message("a Virtual cannot be its own member").field_path(".spec.members"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Members", type_ = "string", json_path = ".spec.members"),
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
#[x_kube(validation = Rule::new("!has(self.reserved) || self.reserved.all(r, r.member in self.members)")
    .message("every reserved member must be one of members").field_path(".reserved"))]
#[x_kube(validation = Rule::new(
    "!has(self.resolution) || self.resolution != 'union' || !(self.type in ['docker', 'generic'])")
    .message("docker and generic have no index to unite: use firstMatch").field_path(".resolution"))]
pub struct VirtualSpec {
    /// Package type of every member; cannot be changed.
    #[serde(rename = "type")]
    #[schemars(schema_with = "schema::package_type")]
    #[x_kube(validation = schema::immutable_type_rule())]
    pub package_type: PackageType,

    /// Names of Remotes and Locals of the same namespace and type, first come first served. A Local has no index
    /// that could be united with others: with resolution union all members are Remotes.
    #[schemars(
        length(min = 1, max = limits::MEMBERS),
        inner(length(min = 1, max = limits::NAME), regex(pattern = schema::NAME))
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = Rule::new("self.all(m, self.exists_one(other, other == m))")
        .message("no member may be named twice"))]
    pub members: Vec<String>,

    /// How members are combined. Default: union for helm, rpm and alpine, firstMatch for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,

    /// Names that only one member is ever asked for, so that an internal name never leaks to the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::MEMBERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["member".into()]))]
    pub reserved: Vec<Reservation>,

    /// Who may use the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<ReadOnlyAccess>,
}

/// `spec.resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Resolution {
    /// The first member that has the name answers for all its versions.
    FirstMatch,
    /// Versions of all members, which are Remotes; the first member that has one wins.
    Union,
}

/// One entry of `spec.reserved`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The member that owns the names.
    #[schemars(length(min = 1, max = limits::NAME), regex(pattern = schema::NAME))]
    pub member: String,
    /// Package names: regular expressions that must match the whole name (`@corp/.*`, `internal-.*`).
    #[schemars(length(min = 1, max = limits::PATTERNS), inner(length(min = 1, max = limits::PATTERN)))]
    pub patterns: Vec<String>,
}
