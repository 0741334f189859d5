//! What no schema can say: names parse, patterns compile, Secrets hold what they should, members exist.
//!
//! Each kind has one pure function, `(manifest, what it refers to) → validated form or every error`. A
//! manifest need not have passed [`crate::schema`]: whatever it holds gives an error and never a panic.

mod credentials;
mod dockerconfig;
mod local;
mod patterns;
mod remote;
mod remote_parts;
mod robot;
#[cfg(test)]
mod tests;
mod tls;
mod urls;
mod virtuals;

use artifactapi_model::RepoName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use local::local;
pub use remote::remote;
pub use robot::{ValidRobot, robot};
pub use virtuals::{Repositories, Repository, Reserved, ValidVirtual, virtual_repository};

use crate::{DEFAULT_NAMESPACE, duration::DurationString, error::Errors};

/// Name and namespace of an object.
fn identity(metadata: &ObjectMeta, errors: &mut Errors) -> (Option<RepoName>, String) {
    let name = metadata.name.as_deref().unwrap_or_default();
    let name = errors.keep("metadata.name", "name", RepoName::try_from(name));
    let namespace = metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    (name, namespace)
}

/// A duration; zero after an error, which then keeps the whole manifest from being used.
fn duration(path: &str, text: &DurationString, errors: &mut Errors) -> std::time::Duration {
    errors.keep(path, "duration", text.parse()).unwrap_or_default()
}
