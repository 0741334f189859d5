//! The `Robot` kind: a machine account with a token that rotates.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{duration::DurationString, limits, schema, status::RobotStatus};

/// A machine account. The operator writes its token as a Secret that works as an imagePullSecret, and rotates
/// it at two thirds of its life; the old token lives out its time.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "artifactapi.io",
    version = "v1alpha1",
    kind = "Robot",
    namespaced,
    status = "RobotStatus",
    derive = "PartialEq",
    category = "artifactapi",
    shortname = "rob",
    doc = "Robot is a machine account for the repositories of its namespace.",
    validation = schema::name_rule(),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
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
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.tokenExpiresAt", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RobotSpec {
    /// What the robot may do; repositories of its own namespace only.
    #[schemars(length(min = 1, max = limits::GRANTS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub grants: Vec<Grant>,

    /// Life of a token; without it tokens do not end.
    #[serde(rename = "tokenTTL", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')")
        .message("must be at least 10m, so that clients can follow a rotation"))]
    pub token_ttl: Option<DurationString>,

    /// Name of the Secret the operator writes; the Robot's own name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limits::OBJECT_NAME), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Repository names; `*` stands for any characters.
    #[schemars(
        length(min = 1, max = limits::MEMBERS),
        inner(length(min = 1, max = limits::NAME), regex(pattern = "^[a-z0-9*-]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub repositories: Vec<String>,
    /// What is allowed there.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub actions: Vec<Action>,
}

/// What a grant allows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing.
    Push,
    /// Deleting.
    Delete,
}

impl From<Action> for artifactapi_model::account::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Pull => Self::Pull,
            Action::Push => Self::Push,
            Action::Delete => Self::Delete,
        }
    }
}
