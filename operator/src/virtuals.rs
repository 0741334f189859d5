//! Virtuals: what a validated one adds to its row and its status.

use artifactapi_crds::validate::ValidVirtual;
use artifactapi_model::{PackageType, PublicUrl};
use artifactapi_stores::postgres::Declared;
use serde_json::json;

use crate::{remotes::url_of, validate::Accepted};

/// Completes `accepted`.
pub fn describe(virt: &ValidVirtual, public_url: Option<&PublicUrl>, accepted: &mut Accepted) {
    // The others have nothing of their own that stores would keep.
    if virt.is_merged() {
        accepted.declared = Some(Declared {
            namespace: virt.namespace.clone(),
            name: virt.name.clone(),
            package_type: virt.package_type,
            base_url: String::new(),
        });
    }
    if let Some(url) = public_url {
        let path = match virt.package_type {
            PackageType::Docker => format!("v2/{}/", virt.name),
            _ => format!("api/v1/virtual/{}/", virt.name),
        };
        accepted.status.insert("url".into(), json!(url_of(url, &path)));
    }
}
