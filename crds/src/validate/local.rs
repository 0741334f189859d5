//! `Local` → [`Spec`].

use std::time::Duration;

use artifactapi_model::{
    PackageType,
    repository::{Deletion, LocalSpec as Spec},
};

use super::{duration, identity, patterns};
use crate::{
    FieldError, Local,
    access::LocalAccess,
    error::Errors,
    locals::{LocalSpec, LocalType, Quota, TerraformOptions, default_protocols},
    remotes::DeletionPolicy,
};

/// How long an untagged manifest stays where nothing is said.
const UNTAGGED_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Validates a Local.
///
/// # Errors
/// Every error, with its field path.
pub fn local(manifest: &Local) -> Result<Spec, Vec<FieldError>> {
    let mut errors = Errors::default();
    let e = &mut errors;
    let (name, namespace) = identity(&manifest.metadata, e);
    let LocalSpec {
        package_type,
        access,
        immutable_tags,
        untagged_ttl,
        read_only,
        allow_deletes,
        terraform,
        quota,
        deletion_policy,
    } = &manifest.spec;
    let LocalAccess { read, anonymous_write } = access;
    if *package_type == LocalType::Terraform && !immutable_tags.is_empty() {
        e.push("spec.immutableTags", "typeBlock", "only a Local of type docker has tags");
    }
    if *package_type == LocalType::Terraform && untagged_ttl.is_some() {
        e.push("spec.untaggedTTL", "typeBlock", "only a Local of type docker has tags");
    }
    if *package_type == LocalType::Docker && terraform.is_some() {
        e.push("spec.terraform", "typeBlock", "only a Local of type terraform has this block");
    }
    let immutable_tags = patterns::whole("spec.immutableTags", immutable_tags, e);
    let quota =
        quota.as_ref().and_then(|Quota { bytes }| e.keep("spec.quota.bytes", "quantity", bytes.parse()));
    let untagged_ttl = match untagged_ttl {
        Some(text) => duration("spec.untaggedTTL", text, e),
        None => UNTAGGED_TTL,
    };
    let local = name.map(|name| Spec {
        name,
        namespace,
        package_type: match package_type {
            LocalType::Docker => PackageType::Docker,
            LocalType::Terraform => PackageType::Terraform,
        },
        read: (*read).into(),
        anonymous_write: *anonymous_write,
        immutable_tags,
        untagged_ttl: (!untagged_ttl.is_zero()).then_some(untagged_ttl),
        read_only: *read_only,
        allow_deletes: *allow_deletes,
        terraform_protocols: protocols(*package_type, terraform.as_ref()),
        quota,
        deletion: match deletion_policy {
            DeletionPolicy::Retain => Deletion::Retain,
            DeletionPolicy::Purge => Deletion::Purge,
        },
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
