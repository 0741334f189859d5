//! Remotes: what a validated one adds to its row and its status.

use std::time::Duration;

use artifactapi_crds::duration::DurationString;
use artifactapi_model::{
    PackageType, PublicUrl, Ttl,
    repository::{ReadAccess, RemoteSpec},
};
use artifactapi_stores::postgres::Declared;
use serde_json::json;

use crate::validate::Accepted;

/// Completes `accepted`.
pub fn describe(remote: &RemoteSpec, public_url: Option<&PublicUrl>, accepted: &mut Accepted) {
    accepted.declared = Some(Declared {
        namespace: remote.namespace.clone(),
        name: remote.name.clone(),
        package_type: remote.package_type,
        base_url: remote.base_url.to_string(),
    });
    if let Some(url) = public_url {
        let path = match remote.package_type {
            PackageType::Docker => format!("v2/{}/", remote.name),
            _ => format!("api/v1/remote/{}/", remote.name),
        };
        accepted.status.insert("url".into(), json!(url_of(url, &path)));
    }
    let ttl = match remote.mutable_ttl {
        Ttl::Forever => Duration::ZERO,
        Ttl::For(ttl) => ttl,
    };
    let mutable_ttl = DurationString::from(ttl);
    let read = match remote.read {
        ReadAccess::Anonymous => "anonymous",
        ReadAccess::Authenticated => "authenticated",
    };
    accepted.status.insert("effective".into(), json!({ "mutableTTL": mutable_ttl, "read": read }));
}

/// `path` below the public URL.
pub fn url_of(public: &PublicUrl, path: &str) -> String {
    format!("{}{}/{path}", public.origin, public.prefix)
}
