//! Locals: what a validated one adds to its row and its status.

use artifactapi_model::{PackageType, PublicUrl, repository::LocalSpec};
use artifactapi_stores::postgres::Declared;
use serde_json::json;

use crate::{remotes::url_of, validate::Accepted};

/// Completes `accepted`.
pub fn describe(local: &LocalSpec, public_url: Option<&PublicUrl>, accepted: &mut Accepted) {
    accepted.declared = Some(Declared {
        namespace: local.namespace.clone(),
        name: local.name.clone(),
        package_type: local.package_type,
        base_url: String::new(),
    });
    if let Some(url) = public_url {
        let path = match local.package_type {
            PackageType::Terraform => format!("v1/providers/{}/", local.name),
            _ => format!("v2/{}/", local.name),
        };
        accepted.status.insert("url".into(), json!(url_of(url, &path)));
    }
}
