//! `Local` → [`ValidLocal`].

use artifactapi_model::{PackageType, RepoName, policy::Patterns, repository::ReadAccess};

use super::{identity, patterns};
use crate::{
    FieldError, Local,
    access::LocalAccess,
    error::Errors,
    locals::{LocalSpec, LocalType, Quota, TerraformOptions, default_protocols},
    remotes::DeletionPolicy,
};

/// A validated Local.
#[derive(Clone, Debug)]
pub struct ValidLocal {
    /// URL segment.
    pub name: RepoName,
    /// Namespace.
    pub namespace: String,
    /// Docker or terraform.
    pub package_type: PackageType,
    /// Who may read.
    pub read: ReadAccess,
    /// Whether anyone may push.
    pub anonymous_write: bool,
    /// Tags that cannot be moved; patterns match whole tags.
    pub immutable_tags: Patterns,
    /// Terraform plugin protocols; empty for docker.
    pub terraform_protocols: Vec<String>,
    /// Most bytes pushed.
    pub quota: Option<u64>,
    /// What deletion does to the bytes.
    pub deletion_policy: DeletionPolicy,
}

/// Validates a Local.
///
/// # Errors
/// Every error, with its field path.
pub fn local(manifest: &Local) -> Result<ValidLocal, Vec<FieldError>> {
    let mut errors = Errors::default();
    let e = &mut errors;
    let (name, namespace) = identity(&manifest.metadata, e);
    let LocalSpec { package_type, access, immutable_tags, terraform, quota, deletion_policy } =
        &manifest.spec;
    let LocalAccess { read, anonymous_write } = access;
    if *package_type == LocalType::Terraform && !immutable_tags.is_empty() {
        e.push("spec.immutableTags", "typeBlock", "only a Local of type docker has tags");
    }
    if *package_type == LocalType::Docker && terraform.is_some() {
        e.push("spec.terraform", "typeBlock", "only a Local of type terraform has this block");
    }
    let immutable_tags = patterns::whole("spec.immutableTags", immutable_tags, e);
    let quota =
        quota.as_ref().and_then(|Quota { bytes }| e.keep("spec.quota.bytes", "quantity", bytes.parse()));
    let local = name.map(|name| ValidLocal {
        name,
        namespace,
        package_type: match package_type {
            LocalType::Docker => PackageType::Docker,
            LocalType::Terraform => PackageType::Terraform,
        },
        read: (*read).into(),
        anonymous_write: *anonymous_write,
        immutable_tags,
        terraform_protocols: protocols(*package_type, terraform.as_ref()),
        quota,
        deletion_policy: *deletion_policy,
    });
    errors.finish(local)
}

fn protocols(package_type: LocalType, options: Option<&TerraformOptions>) -> Vec<String> {
    match (package_type, options) {
        (LocalType::Docker, _) => Vec::new(),
        (LocalType::Terraform, Some(TerraformOptions { protocols })) => protocols.clone(),
        (LocalType::Terraform, None) => default_protocols(),
    }
}
