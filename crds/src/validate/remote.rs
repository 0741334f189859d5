//! `Remote` → [`RemoteSpec`], the form the data path works with.

use std::time::Duration;

use artifactapi_model::{
    PackageType, PathPolicy, Ttl,
    repository::{ReadAccess, RemoteSpec},
};

use super::{credentials, duration, identity, patterns, remote_parts as parts, tls, urls};
use crate::{
    FieldError, References, Remote,
    error::Errors,
    remotes::{Auth, DeletionPolicy, RemoteSpec as Spec},
};

/// Validates a Remote and reads the Secrets and ConfigMaps of its namespace that it names.
///
/// # Errors
/// Every error, with its field path. An authenticated Remote whose Secret is missing is an error too: it
/// would work with the wrong rights.
pub fn remote(manifest: &Remote, references: &References) -> Result<RemoteSpec, Vec<FieldError>> {
    let mut errors = Errors::default();
    let (name, namespace) = identity(&manifest.metadata, &mut errors);
    // No `..`: a field that is added to the manifest must not be forgotten here.
    let Spec {
        package_type,
        base_url,
        immutable_ttl,
        mutable_ttl,
        patterns,
        blocklist,
        mutable_patterns,
        immutable_patterns,
        docker,
        generic,
        stale_if_error,
        stale_while_revalidate,
        negative_ttl,
        on_upstream_gone,
        auth,
        tls,
        file_hosts,
        egress,
        auth_realms,
        timeouts,
        max_concurrent,
        delivery,
        access,
        suspend,
        retention,
        // Concerns the object's end, not its service: the operator reads it from the manifest.
        deletion_policy: DeletionPolicy::Retain | DeletionPolicy::Purge,
    } = &manifest.spec;
    let e = &mut errors;
    let lookup = tls::Lookup { references, namespace: &namespace };
    let base_url = urls::base("spec.baseURL", base_url, *package_type, e);
    let mutable_ttl = mutable_ttl.as_ref().map(|text| duration("spec.mutableTTL", text, e));
    let immutable_ttl = duration("spec.immutableTTL", immutable_ttl, e);
    let policy = path_policy(blocklist, patterns, mutable_patterns, immutable_patterns, e);
    let docker = parts::docker(*package_type, docker.as_ref(), e);
    let query_parameters = parts::query_parameters(*package_type, generic.as_ref(), e);
    let stale_if_error = duration("spec.staleIfError", stale_if_error, e);
    let stale_while_revalidate = duration("spec.staleWhileRevalidate", stale_while_revalidate, e);
    let negative_ttl = duration("spec.negativeTTL", negative_ttl, e);
    let credentials = credentials::read(auth.as_ref(), base_url.as_ref(), &lookup, e);
    let tls = tls::read(tls.as_ref(), &lookup, e);
    let file_hosts = parts::file_hosts(file_hosts, e);
    let egress = parts::egress(egress.as_ref(), e);
    let auth_realms = parts::hosts("spec.authRealms", auth_realms, e);
    let timeouts = parts::timeouts(timeouts, e);
    let max_concurrent = parts::max_concurrent(*max_concurrent, e);
    let retention = parts::retention(retention.as_ref(), e);
    let spec = name.zip(base_url).map(|(name, base_url)| RemoteSpec {
        name,
        namespace: namespace.clone(),
        package_type: *package_type,
        base_url,
        immutable_ttl: if immutable_ttl.is_zero() { Ttl::Forever } else { Ttl::For(immutable_ttl) },
        mutable_ttl: Ttl::For(mutable_ttl.unwrap_or_else(|| default_mutable_ttl(*package_type))),
        policy,
        docker,
        query_parameters,
        stale_if_error,
        stale_while_revalidate,
        negative_ttl,
        on_upstream_gone: parts::on_upstream_gone(*on_upstream_gone),
        credentials,
        auth_realms,
        tls,
        file_hosts,
        egress,
        timeouts,
        max_concurrent,
        delivery: parts::delivery(*delivery),
        read: access.as_ref().and_then(|access| access.read).map_or_else(|| default_read(auth), Into::into),
        suspend: *suspend,
        retention,
    });
    errors.finish(spec)
}

fn path_policy(
    blocklist: &[String],
    patterns: &[String],
    mutable: &[String],
    immutable: &[String],
    errors: &mut Errors,
) -> PathPolicy {
    PathPolicy {
        blocklist: patterns::unanchored("spec.blocklist", blocklist, errors),
        patterns: patterns::unanchored("spec.patterns", patterns, errors),
        mutable: patterns::unanchored("spec.mutablePatterns", mutable, errors),
        immutable: patterns::unanchored("spec.immutablePatterns", immutable, errors),
    }
}

/// What needs credentials upstream is not handed to everybody here.
fn default_read(auth: &Option<Auth>) -> ReadAccess {
    if auth.is_some() { ReadAccess::Authenticated } else { ReadAccess::Anonymous }
}

/// Tags move often and their revalidation is cheap (HEAD); other indexes are larger and move less.
fn default_mutable_ttl(package_type: PackageType) -> Duration {
    match package_type {
        PackageType::Docker => Duration::from_secs(5 * 60),
        _ => Duration::from_secs(15 * 60),
    }
}
