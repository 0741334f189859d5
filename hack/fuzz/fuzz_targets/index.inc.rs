//! What every index target does: plan a path, read the input as that document, rewrite it, read it for facts.
//! Nothing may panic, every fact must carry a canonical path, and output must stay in proportion to input.

use std::io::BufReader;

use artifactapi_formats::{LinkSigner, Method, Plan, PublicBase, Request, RewriteContext, Source, format_of};
use artifactapi_model::{PackageType, RepoName, RepoPath, Ttl, repository::*};

pub fn spec(package_type: PackageType) -> RemoteSpec {
    RemoteSpec {
        name: RepoName::try_from("fuzz").expect("a valid name"),
        namespace: "default".into(),
        package_type,
        base_url: "https://upstream.example/base/".parse().expect("a valid URL"),
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::Forever,
        policy: Default::default(),
        docker: Default::default(),
        query_parameters: Vec::new(),
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

/// Reads `data` as the document at `path` of a repository of `package_type`.
pub fn read(package_type: PackageType, path: &str, content_type: &str, accept: &str, data: &[u8]) {
    let spec = spec(package_type);
    let links = LinkSigner::new([7; 32]);
    let format = format_of(package_type);
    let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
    let request = Request { method: Method::Get, raw_path, query, accept };
    let Ok(Plan::Serve(resource)) = format.plan(&request, &spec, &links) else { panic!("{path} is a document") };
    let url = spec.base_url.join(raw_path).expect("a valid URL");
    let source = Source { path: &resource.path, query: &resource.query, content_type, url: &url };
    let base = PublicBase { origin: "https://own.example".into(), prefix: "/api/v1/remote/fuzz/".into() };
    let cx = RewriteContext { base: &base, links: &links, remote: &spec };
    if resource.representation.is_some() {
        let mut output = Vec::new();
        let _ = format.rewrite(&resource, &source, &cx, &mut BufReader::new(data), &mut output);
        assert!(output.len() <= 4096 + data.len() * 64, "{} bytes from {}", output.len(), data.len());
    }
    let _ = format.read_facts(&source, &spec, &mut BufReader::new(data), &mut |fact| {
        assert!(RepoPath::from_canonical(&fact.path).is_ok(), "{:?}", fact.path);
    });
}
