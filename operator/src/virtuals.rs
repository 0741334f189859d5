//! Virtuals: what a validated one adds to its status.

use artifactapi_crds::validate::ValidVirtual;
use artifactapi_model::{PackageType, PublicUrl};
use serde_json::json;

use crate::{remotes::url_of, validate::Accepted};

/// Completes `accepted`.
pub fn describe(virt: &ValidVirtual, public_url: Option<&PublicUrl>, accepted: &mut Accepted) {
    if let Some(url) = public_url {
        let path = match virt.package_type {
            PackageType::Docker => format!("v2/{}/", virt.name),
            _ => format!("api/v1/virtual/{}/", virt.name),
        };
        accepted.status.insert("url".into(), json!(url_of(url, &path)));
    }
}
