//! What the targets share: a Remote to plan for, a reader that tears its input into pieces, and the promises
//! that every index keeps whatever its type.

pub mod index;
pub mod merge;
pub mod torn;

use artifactapi_formats::{LinkSigner, Method, Plan, PlanError, Request, Resource, format_of};
use artifactapi_model::{PackageType, RepoName, Ttl, repository::RemoteSpec};

/// A Remote of `package_type` with default settings; `baseURL` has a path, so that a file may lie beside it.
pub fn remote(package_type: PackageType) -> RemoteSpec {
    RemoteSpec {
        name: RepoName::try_from("fuzz").expect("a valid name"),
        namespace: "default".into(),
        package_type,
        base_url: "https://upstream.example/base/".parse().expect("a valid URL"),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::Forever,
        policy: Default::default(),
        docker: Default::default(),
        query_parameters: vec!["a".into(), "b".into()],
        stale_if_error: Default::default(),
        stale_while_revalidate: Default::default(),
        negative_ttl: Default::default(),
        on_upstream_gone: Default::default(),
        credentials: None,
        auth_realms: Vec::new(),
        tls: Default::default(),
        file_hosts: Default::default(),
        egress: Default::default(),
        timeouts: Default::default(),
        max_concurrent: 1,
        delivery: Default::default(),
        read: Default::default(),
        suspend: false,
        retention: Default::default(),
    }
}

/// The key that signs links here.
pub fn links() -> LinkSigner {
    LinkSigner::new([7; 32])
}

/// Plans a GET of `target`: a raw path, then `?` and a query where there is one.
///
/// # Errors
/// As the format refuses it.
pub fn plan(remote: &RemoteSpec, target: &str, accept: &str) -> Result<Plan, PlanError> {
    let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request { method: Method::Get, raw_path, query, accept };
    format_of(remote.package_type).plan(&request, remote, &links())
}

/// The resource that a GET of `target` means, where it means one.
pub fn resource(remote: &RemoteSpec, target: &str, accept: &str) -> Option<Resource> {
    match plan(remote, target, accept) {
        Ok(Plan::Serve(resource)) => Some(*resource),
        _ => None,
    }
}
