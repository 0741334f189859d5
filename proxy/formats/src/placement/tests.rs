use artifactapi_model::PackageType;

use super::*;
use crate::testing;

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Pypi, "https://up.test/root/")
}

fn placed(remote: &RemoteSpec, url: &str) -> Placement {
    place(remote, &remote.base_url, &Url::parse(url).unwrap())
}

#[test]
fn rs_26_only_http_urls_are_placed() {
    let remote = remote();
    for url in ["file:///etc/passwd", "gopher://h/x", "data:text/plain,x", "javascript:alert(1)"] {
        assert_eq!(placed(&remote, url), Placement::Dropped, "{url}");
    }
}

#[test]
fn a_file_is_below_our_base_only_when_the_plain_path_leads_back_to_it() {
    let remote = remote();
    let below = |path: &str| Placement::Below(RepoPath::parse(path, Spelling::Plain).unwrap());
    assert_eq!(placed(&remote, "https://up.test/root/p/a%2Bb.whl#sha256=1"), below("p/a+b.whl"));
    assert_eq!(placed(&remote, "https://up.test:443/root/a.whl"), below("a.whl"));
    assert_eq!(placed(&remote, "http://up.test/root/a.whl"), below("a.whl"), "the host moved to https");
    for linked in [
        "https://up.test/elsewhere/a.whl",
        "https://up.test/root/a.whl?token=1",
        "https://up.test/root/a%2fb.whl",
        "https://up.test/root/-/x/AAAA/a.whl",
        "https://up.test:8443/root/a.whl",
        "https://files.test/a.whl",
        "https://up.test/root/../a.whl",
    ] {
        assert!(matches!(placed(&remote, linked), Placement::Linked(_)), "{linked}");
    }
    assert!(matches!(placed(&remote, "http://files.test/a.whl"), Placement::Left(_)), "a downgrade");
}

#[test]
fn file_hosts_narrow_what_is_linked() {
    let mut remote = remote();
    remote.file_hosts = FileHosts::Only(vec!["files.test".into(), "other.test:8443".into()]);
    assert!(matches!(placed(&remote, "https://files.test/a.whl"), Placement::Linked(_)));
    assert!(matches!(placed(&remote, "https://other.test:8443/a.whl"), Placement::Linked(_)));
    assert!(matches!(placed(&remote, "https://other.test/a.whl"), Placement::Left(_)));
    assert!(matches!(placed(&remote, "https://up.test/elsewhere/a.whl"), Placement::Linked(_)));
}

#[test]
fn a_relative_reference_resolves_to_its_path() {
    for (document, path, want) in [
        ("simple/flask/", "packages/a.whl", "../../packages/a.whl"),
        ("simple/flask/", "simple/flask/a.whl", "a.whl"),
        ("simple/flask/", "simple/f/a.whl", "../f/a.whl"),
        ("index.yaml", "charts/a.tgz", "charts/a.tgz"),
        ("sub/index.yaml", "a.tgz", "../a.tgz"),
        ("index.yaml", "a:b.tgz", "./a:b.tgz"),
        ("a b/index.yaml", "a%20b/x.tgz", "x.tgz"),
    ] {
        let document = RepoPath::parse(&artifactapi_model::path::encode(document), Spelling::Plain).unwrap();
        let reference = relative(&document, path);
        assert_eq!(reference, want);
        let root = Url::parse("http://cache.test/r/").unwrap();
        let resolved = root.join(&document.encode()).unwrap().join(&reference).unwrap();
        assert_eq!(resolved.as_str(), format!("http://cache.test/r/{path}"));
    }
}

#[test]
fn a_link_opens_to_the_path_its_fact_names() {
    let remote = remote();
    let (base, links) = (testing::base(), testing::links());
    let cx = RewriteContext { base: &base, links: &links, remote: &remote, permits: &|_| true };
    for suffix in ["", ".metadata", ".prov"] {
        let placement = placed(&remote, "https://files.test/p/a%2Bb-1.whl?sig=x");
        let Some(Reference::Path(link)) = placement.reference("simple/a/", &cx) else { panic!() };
        let path = RepoPath::parse(&format!("{link}{suffix}"), Spelling::Plain).unwrap();
        let file = links.open(&remote, &path).unwrap().unwrap();
        let fact = placement.fact(suffix, Vec::new()).unwrap();
        assert_eq!(fact.path, file.path.as_str());
        assert_eq!(fact.url.as_ref(), Some(&file.url));
        assert_eq!(linked_file(file).indexes, [IndexRef::held("simple/a/".into())]);
    }
}

#[test]
fn rs_34_a_path_that_looks_like_a_url_stays_below_base_url() {
    let base: Url = "http://up.test/base/".parse().unwrap();
    for path in ["https:evil.test/a", "http:a", "C:a", "a:b/c", "x"] {
        let url = url_of(&base, path).unwrap();
        assert_eq!(url.as_str(), format!("http://up.test/base/{path}"));
    }
}
