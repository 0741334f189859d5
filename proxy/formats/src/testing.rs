//! What the formats' tests share: a Remote, a key, and short ways to plan, rewrite and read facts.

pub(crate) mod archive;

use std::time::Duration;

use artifactapi_model::{
    PackageType, RepoName, RepoPath, Spelling, Ttl,
    repository::{
        Delivery, DockerOptions, Egress, FileHosts, OnUpstreamGone, ReadAccess, RemoteSpec, Retention,
        Timeouts, UpstreamTls,
    },
};
use url::Url;

use crate::{
    Fact, IndexError, LinkSigner, Method, PackageFormat, Plan, PlanError, PublicBase, Representation,
    Request, Resource, RewriteContext, Source,
};

/// A Remote of `package_type` in front of `base_url`, with default settings.
pub(crate) fn remote(package_type: PackageType, base_url: &str) -> RemoteSpec {
    RemoteSpec {
        name: RepoName::try_from("r").unwrap(),
        namespace: "default".into(),
        package_type,
        base_url: Url::parse(base_url).unwrap(),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::For(Duration::from_secs(900)),
        policy: Default::default(),
        docker: DockerOptions::default(),
        query_parameters: Vec::new(),
        stale_if_error: Duration::from_secs(3600),
        stale_while_revalidate: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(60),
        on_upstream_gone: OnUpstreamGone::Keep,
        credentials: None,
        auth_realms: Vec::new(),
        tls: UpstreamTls::default(),
        file_hosts: FileHosts::Public,
        egress: Egress::default(),
        timeouts: Timeouts::default(),
        max_concurrent: 64,
        delivery: Delivery::Auto,
        read: ReadAccess::Anonymous,
        suspend: false,
        retention: Retention::default(),
    }
}

/// The key every test signs with.
pub(crate) fn links() -> LinkSigner {
    LinkSigner::new([7; 32])
}

/// The repository's external base in tests.
pub(crate) fn base() -> PublicBase {
    PublicBase { origin: "http://cache.test".into(), prefix: "/api/v1/remote/r/".into() }
}

/// Plans a GET of `target` (path, then `?query`) with `accept`.
pub(crate) fn get(
    format: &dyn PackageFormat,
    remote: &RemoteSpec,
    target: &str,
    accept: &str,
) -> Result<Plan, PlanError> {
    let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
    format.plan(&Request { method: Method::Get, raw_path, query, accept }, remote, &links())
}

/// The resource a GET of `target` means.
pub(crate) fn resource(
    format: &dyn PackageFormat,
    remote: &RemoteSpec,
    target: &str,
    accept: &str,
) -> Resource {
    match get(format, remote, target, accept) {
        Ok(Plan::Serve(resource)) => *resource,
        other => panic!("{target}: {other:?}"),
    }
}

/// A stored document of a test.
pub(crate) struct Document<'a> {
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) url: &'a str,
    pub(crate) body: &'a [u8],
}

impl Document<'_> {
    /// Rewrites it to `representation`: Content-Type and body.
    pub(crate) fn rewrite(
        &self,
        format: &dyn PackageFormat,
        remote: &RemoteSpec,
        representation: &'static str,
    ) -> Result<(String, String), IndexError> {
        let path = RepoPath::parse(self.path, Spelling::NpmScope).unwrap();
        let url = Url::parse(self.url).unwrap();
        let source = Source { path: &path, query: "", content_type: self.content_type, url: &url };
        let resource = Resource {
            representation: Some(Representation(representation)),
            ..Resource::index(path.clone())
        };
        let (base, links) = (base(), links());
        let cx = RewriteContext { base: &base, links: &links, remote, permits: &|_| true };
        let mut out = Vec::new();
        let content_type = format.rewrite(&resource, &source, &cx, &mut &*self.body, &mut out)?;
        Ok((content_type, String::from_utf8(out).unwrap()))
    }

    /// Its facts.
    pub(crate) fn facts(
        &self,
        format: &dyn PackageFormat,
        remote: &RemoteSpec,
    ) -> Result<Vec<Fact>, IndexError> {
        let path = RepoPath::parse(self.path, Spelling::NpmScope).unwrap();
        let url = Url::parse(self.url).unwrap();
        let source = Source { path: &path, query: "", content_type: self.content_type, url: &url };
        let mut facts = Vec::new();
        format.read_facts(&source, remote, &mut &*self.body, &mut |fact| facts.push(fact))?;
        Ok(facts)
    }
}
