//! `spec.access`: who may use a repository.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// Anyone.
    Anonymous,
    /// Only holders of a token.
    Authenticated,
}

impl From<Read> for artifactapi_model::repository::ReadAccess {
    fn from(read: Read) -> Self {
        match read {
            Read::Anonymous => Self::Anonymous,
            Read::Authenticated => Self::Authenticated,
        }
    }
}

/// `spec.access` of Remotes and Virtuals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadOnlyAccess {
    /// Who may read. Remotes: anonymous, or authenticated when `auth` is set. Virtuals: anonymous, or
    /// authenticated when any member is.
    pub read: Option<Read>,
}

/// `spec.access` of Locals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.anonymousWrite && self.read == 'authenticated')")
    .message("anyone may write while only authenticated clients may read: set read to anonymous, or anonymousWrite to false")
    .field_path(".anonymousWrite"))]
pub struct LocalAccess {
    /// Who may read.
    #[serde(default = "anonymous")]
    pub read: Read,
    /// Lets anyone push and delete. Never set this where strangers can reach the service.
    #[serde(default)]
    pub anonymous_write: bool,
}

fn anonymous() -> Read {
    Read::Anonymous
}

impl Default for LocalAccess {
    fn default() -> Self {
        LocalAccess { read: Read::Anonymous, anonymous_write: false }
    }
}
