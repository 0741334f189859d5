//! What OCI paths mean, and what lists look like to clients.

use artifactapi_model::{
    Checksum, PathError,
    policy::{PathPolicy, Patterns},
};
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::{Method, testing};

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HUB: &str = "https://registry-1.docker.io/";
const OTHER: &str = "https://quay.io/";

fn sha512() -> String {
    format!("sha512:{}", "ab".repeat(64))
}

fn remote(base_url: &str) -> RemoteSpec {
    testing::remote(PackageType::Docker, base_url)
}

fn plan(base_url: &str, target: &str) -> Result<Resource, PlanError> {
    match testing::get(&Docker, &remote(base_url), target, "")? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{other:?}"),
    }
}

fn base() -> PublicBase {
    PublicBase { origin: "http://cache.test".into(), prefix: "/v2/hub/".into() }
}

#[test]
fn only_images_of_docker_hub_tell_that_they_are_behind_a_remote_s_name() {
    let manifest = "library/alpine/manifests/3";
    for (base_url, ns, below, want) in [
        (HUB, "docker.io", manifest, true),
        (HUB, "Registry-1.Docker.io", "acme/app/tags/list", true),
        // Somebody's `hub/alpine`.
        (HUB, "docker.io", "alpine/manifests/3", false),
        (HUB, "docker.io", "alpine/tags//list/", false),
        (HUB, "quay.io", manifest, false),
        (OTHER, "quay.io", manifest, false),
        (OTHER, "docker.io", manifest, false),
        ("https://docker.io.evil.test/", "docker.io", manifest, false),
        ("https://registry-1.docker.io/evil/", "docker.io", manifest, false),
        (HUB, "", manifest, false),
        (HUB, "docker.io", "", false),
    ] {
        assert_eq!(is_behind_its_name(&remote(base_url), ns, below), want, "{base_url} {ns} {below}");
    }
}

#[test]
fn classification() {
    use Mutability::*;
    let hex = &SHA256[7..];
    for (path, mutability) in [
        ("a/manifests/latest".to_owned(), Mutable),
        ("a/b/c/manifests/1.0-rc_1".to_owned(), Mutable),
        (format!("a/manifests/sha256-{hex}"), Mutable),
        (format!("a/manifests/sha256-{hex}.sig"), Mutable),
        (format!("a/manifests/{SHA256}"), Immutable),
        (format!("a/manifests/{}", sha512()), Immutable),
        (format!("a/blobs/{SHA256}"), Immutable),
        ("a/tags/list".to_owned(), Mutable),
        (format!("a/referrers/{SHA256}"), Mutable),
    ] {
        let resource = plan(OTHER, &path).unwrap();
        assert_eq!(resource.mutability, mutability, "{path}");
        assert_eq!(resource.path.as_str(), path);
        assert_eq!(resource.location, Location::Below(format!("v2/{path}")), "{path}");
        assert!(resource.denied_means_missing, "{path}");
    }
}

#[test]
fn paths_are_read_from_the_right() {
    for (path, name) in [
        ("tools/blobs/manifests/1".to_owned(), "tools/blobs"),
        ("a/manifests/tags/list".to_owned(), "a/manifests"),
        ("a/tags/manifests/list".to_owned(), "a/tags"),
        (format!("a/blobs/uploads/blobs/{SHA256}"), "a/blobs/uploads"),
        (format!("manifests/manifests/{SHA256}"), "manifests"),
    ] {
        let resource = plan(OTHER, &path).unwrap();
        assert_eq!(resource.scope.as_deref(), Some(&*format!("repository:{name}:pull")), "{path}");
    }
}

#[test]
fn what_is_no_pull_endpoint_is_not_found() {
    for path in [
        "",
        "a",
        "_catalog",
        "a/manifests/",
        "a/blobs/",
        "a/blobs/uploads/",
        "a/blobs/uploads/123",
        "a/tags/other",
        "manifests/latest",
        "a/tags/list/",
    ] {
        assert!(matches!(plan(OTHER, path), Err(PlanError::NotFound(_))), "{path}");
    }
}

#[test]
fn rs_20_malformed_names_references_and_digests_are_refused() {
    let upper = SHA256.to_uppercase().replace("SHA", "sha");
    for path in [
        "A/manifests/latest".to_owned(),
        "a_/manifests/latest".to_owned(),
        "a___b/manifests/latest".to_owned(),
        "a..b/manifests/latest".to_owned(),
        "a._b/manifests/latest".to_owned(),
        ".a/manifests/latest".to_owned(),
        format!("{}/manifests/latest", ["a"; 129].join("/")),
        "a/manifests/.hidden".to_owned(),
        "a/manifests/-x".to_owned(),
        "a/manifests/a b".to_owned(),
        format!("a/manifests/{}", "t".repeat(129)),
        "a/manifests/sha256:12".to_owned(),
        "a/manifests/md5:00000000000000000000000000000000".to_owned(),
        format!("a/manifests/{upper}"),
        "a/blobs/latest".to_owned(),
        "a/referrers/latest".to_owned(),
        format!("a/blobs/{SHA256}0"),
    ] {
        let refused = plan(OTHER, &path).unwrap_err();
        assert!(matches!(refused, PlanError::Path(PathError::NotOfThisType(_))), "{path}: {refused:?}");
    }
    for path in ["a__b/manifests/x", "a-----b.c_d/manifests/x", "0/1/manifests/_"] {
        assert!(plan(OTHER, path).is_ok(), "{path}");
    }
}

#[test]
fn a_digest_is_a_claim_about_the_body() {
    let claim = |target: &str| plan(OTHER, target).unwrap().checksums;
    assert_eq!(claim(&format!("a/blobs/{SHA256}")), [Checksum::parse_oci(SHA256).unwrap()]);
    assert_eq!(claim(&format!("a/manifests/{}", sha512())), [Checksum::Sha512([0xab; 64])]);
    assert_eq!(claim("a/manifests/latest"), []);
    let escaped = SHA256.replace(':', "%3A");
    assert_eq!(claim(&format!("a/blobs/{escaped}")), claim(&format!("a/blobs/{SHA256}")));
}

#[test]
fn manifests_and_blobs_are_asked_for_in_one_way() {
    let tag = plan(OTHER, "a/manifests/latest").unwrap();
    assert_eq!(tag.accept, Some(MANIFESTS));
    assert_eq!(MANIFESTS.split(", ").count(), 4);
    assert_eq!(tag.revalidation, Revalidation::HeadDigest);
    assert_eq!(tag.tag.as_deref(), Some("latest"));
    assert_eq!((tag.max_size, tag.magic), (Some(4 << 20), Some(Magic::Json)));
    assert_eq!(tag.representation, None, "stored bytes are what clients get");
    let digest = plan(OTHER, &format!("a/manifests/{SHA256}")).unwrap();
    assert_eq!((digest.accept, digest.tag), (Some(MANIFESTS), None));
    let blob = plan(OTHER, &format!("a/blobs/{SHA256}")).unwrap();
    assert_eq!((blob.accept, blob.content_type), (None, Some("application/octet-stream")));
    assert_eq!(blob.max_size, None);
}

#[test]
fn rs_21_official_images_have_one_key_and_both_spellings_for_patterns() {
    for host in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
        for name in ["nginx", "library/nginx"] {
            let image = plan(&format!("https://{host}/"), &format!("{name}/manifests/1")).unwrap();
            assert_eq!(image.path.as_str(), "library/nginx/manifests/1");
            assert_eq!(image.aliases, ["nginx/manifests/1"]);
            assert_eq!(image.location, Location::Below("v2/library/nginx/manifests/1".into()));
            assert_eq!(image.scope.as_deref(), Some("repository:library/nginx:pull"));
        }
    }
    for (base_url, name) in
        [(OTHER, "nginx"), (OTHER, "library/nginx"), (HUB, "bitnami/nginx"), (HUB, "library/a/b")]
    {
        let image = plan(base_url, &format!("{name}/manifests/1")).unwrap();
        assert_eq!(image.path.as_str(), format!("{name}/manifests/1"));
        assert!(image.aliases.is_empty(), "{name}");
    }
}

#[test]
fn rs_50_a_blocked_short_name_blocks_the_long_one() {
    let policy = artifactapi_model::PathPolicy {
        blocklist: Patterns::compile(&["^nginx/"]).unwrap(),
        ..Default::default()
    };
    let image = plan(HUB, "library/nginx/manifests/1").unwrap();
    let names = [image.path.as_str(), image.aliases[0].as_str()];
    assert!(policy.permits(names).is_err());
}

#[test]
fn pushing_is_no_method_of_a_remote() {
    for method in [Method::Post, Method::Other] {
        let request = Request { method, raw_path: "a/blobs/uploads/", query: "", accept: "" };
        let refused = Docker.plan(&request, &remote(OTHER), &testing::links());
        assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
    }
}

#[test]
fn rs_68_pages_are_clamped_and_canonical() {
    for (query, key, upstream) in [
        ("", "", ""),
        ("n=5", "n=5", "n=5"),
        ("n=007", "n=7", "n=7"),
        ("last=b&n=5", "last=b&n=5", "last=b&n=5"),
        ("n=5&last=b", "last=b&n=5", "last=b&n=5"),
        ("n=1001", "n=1000", "n=1000"),
        ("n=9223372036854775808", "n=1000", "n=1000"),
        ("n=99999999999999999999999999999999", "n=1000", "n=1000"),
        ("n=0", "n=0", "n=1"),
        ("last=", "", ""),
        ("ns=docker.io&x=1", "", ""),
        ("last=a%2Fb%26n%3D1", "last=a%2Fb%26n%3D1", "last=a%2Fb%26n%3D1"),
    ] {
        let list = plan(OTHER, &format!("a/tags/list?{query}")).unwrap();
        assert_eq!(list.query, key, "{query}");
        let separator = if upstream.is_empty() { "" } else { "?" };
        assert_eq!(list.location, Location::Below(format!("v2/a/tags/list{separator}{upstream}")), "{query}");
    }
    for query in ["n=", "n=-1", "n=x", "n=1&n=2", "last=%0d%0a", "last=a&last=b", "last=%ff"] {
        let refused = plan(OTHER, &format!("a/tags/list?{query}"));
        assert!(matches!(refused, Err(PlanError::Query(_))), "{query}");
    }
}

#[test]
fn rs_22_immutable_paths_have_no_query() {
    let blob = plan(OTHER, &format!("a/blobs/{SHA256}?ns=docker.io&n=1")).unwrap();
    assert_eq!((&*blob.query, blob.location), ("", Location::Below(format!("v2/a/blobs/{SHA256}"))));
}

fn rewrite(remote: &RemoteSpec, target: &str, body: &str) -> Result<(String, String), IndexError> {
    rewrite_hiding(&[], remote, target, body)
}

/// The same where clients may not have what is at the paths `hidden`.
fn rewrite_hiding(
    hidden: &[&str],
    remote: &RemoteSpec,
    target: &str,
    body: &str,
) -> Result<(String, String), IndexError> {
    let resource = testing::resource(&Docker, remote, target, "");
    let url = Url::parse("https://quay.io/v2/").unwrap();
    let source = Source { path: &resource.path, query: &resource.query, content_type: "", url: &url };
    let (base, links) = (base(), testing::links());
    let permits = |path: &str| !hidden.contains(&path);
    let cx = RewriteContext { base: &base, links: &links, remote, permits: &permits };
    let mut out = Vec::new();
    let kind = Docker.rewrite(&resource, &source, &cx, &mut body.as_bytes(), &mut out)?;
    Ok((kind, String::from_utf8(out).unwrap()))
}

#[test]
fn rs_51_tag_lists_carry_our_name_and_no_tag_that_cannot_be_had() {
    let remote = remote(HUB);
    // As they are called in keys.
    let hidden = ["library/nginx/manifests/1-rc1", "library/nginx/manifests/latest", "a/b/manifests/latest"];
    for (target, body, want) in [
        (
            "nginx/tags/list",
            r#"{"name":"library/nginx","tags":["1","1-rc1","latest","latest-alpine"]}"#,
            r#"{"name":"hub/library/nginx","tags":["1","latest-alpine"]}"#,
        ),
        ("a/b/tags/list", r#"{"tags":["latest"],"name":"a/b"}"#, r#"{"name":"hub/a/b","tags":[]}"#),
        ("a/b/tags/list", r#"{"name":"a/b","tags":null}"#, r#"{"name":"hub/a/b","tags":[]}"#),
        ("a/b/tags/list", r#"{"name":"a/b"}"#, r#"{"name":"hub/a/b","tags":[]}"#),
        ("a/b/tags/list?n=0", r#"{"name":"a/b","tags":["x"]}"#, r#"{"name":"hub/a/b","tags":[]}"#),
        (
            "a/b/tags/list",
            r#"{"child":[],"manifest":{"sha256:1":{"tag":["x"]}},"tags":["x","\"<"]}"#,
            r#"{"name":"hub/a/b","tags":["x","\"<"]}"#,
        ),
    ] {
        assert_eq!(
            rewrite_hiding(&hidden, &remote, target, body).unwrap(),
            ("application/json".into(), want.into()),
            "{body}"
        );
    }
    for body in
        ["", "[]", "{", "<html>", r#"{"tags":[1]}"#, r#"{"tags":["a"],"tags":["b"]}"#, r#"{"tags":[]} x"#]
    {
        assert!(rewrite(&remote, "a/b/tags/list", body).is_err(), "{body}");
    }
}

#[test]
fn referrers_are_filtered_whether_or_not_upstream_did() {
    let body = concat!(
        r#"{"schemaVersion":2, "mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
        r#"{"digest":"sha256:1","artifactType":"sbom/x"}, {"digest":"sha256:2"},"#,
        r#"{"digest":"sha256:3","size": 1, "artifactType":"sbom/x"},{"artifactType":"sig"}]}"#
    );
    let target = format!("a/referrers/{SHA256}?artifactType=sbom/x");
    let (kind, got) = rewrite(&remote(OTHER), &target, body).unwrap();
    assert_eq!(kind, INDEX);
    assert_eq!(
        got,
        concat!(
            r#"{"schemaVersion":2, "mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
            r#"{"digest":"sha256:1","artifactType":"sbom/x"},"#,
            r#"{"digest":"sha256:3","size": 1, "artifactType":"sbom/x"}]}"#
        )
    );
    let all = plan(OTHER, &format!("a/referrers/{SHA256}")).unwrap();
    assert_eq!((all.representation, all.content_type), (None, Some(INDEX)));
    assert!(rewrite(&remote(OTHER), &target, r#"{"manifests":[3]}"#).is_err());
}

fn headers(target: &str, stored: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let resource = plan(HUB, target).unwrap();
    let stored = |name: &str| stored.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Docker.headers(&resource, Some(&Digest::of(b"")), &stored, &base())
}

#[test]
fn clients_get_the_digest_they_asked_for() {
    assert_eq!(headers("a/manifests/1", &[]), [("docker-content-digest", SHA256.to_owned())]);
    for kind in ["manifests", "blobs"] {
        let want = [("docker-content-digest", sha512())];
        assert_eq!(headers(&format!("a/{kind}/{}", sha512()), &[]), want);
    }
}

#[test]
fn the_next_page_is_ours() {
    let next = |target: &str, link: &str| {
        headers(target, &[("link", link)]).into_iter().find(|(name, _)| *name == "link").map(|(_, v)| v)
    };
    let tags = "nginx/tags/list?n=2";
    let want = Some("</v2/hub/library/nginx/tags/list?last=b&n=2>; rel=\"next\"".to_owned());
    for link in [
        "</v2/library/nginx/tags/list?last=b&n=2>; rel=\"next\"",
        "<https://registry-1.docker.io/v2/library/nginx/tags/list?n=2&last=b>; rel=next",
        "<?n=2&last=b>;rel=\"last next\"",
        "<list?n=9>; rel=\"prev\", <list?n=2&last=b>; REL=\"Next\"",
    ] {
        assert_eq!(next(tags, link), want, "{link}");
    }
    for link in [
        "",
        "</v2/library/nginx/tags/list?last=b>",
        "<?last=b>; rel=\"prev\"",
        "<?secret_cursor=1>; rel=\"next\"",
        "<?n=2>; rel=\"next\"",
        "<?last=%0d%0aX:y>; rel=\"next\"",
        "<list?n=2&last=b; rel=next",
    ] {
        assert_eq!(next(tags, link), None, "{link}");
    }
    assert_eq!(next("nginx/tags/list?n=0", "<?n=0&last=b>; rel=\"next\""), None);
    let referrers = format!("a/b/referrers/{SHA256}?artifactType=x");
    let got = headers(&referrers, &[("link", "<?artifactType=x&nextToken=t%3D>; rel=\"next\"")]);
    let link = format!("</v2/hub/a/b/referrers/{SHA256}?artifactType=x&nextToken=t%3D>; rel=\"next\"");
    assert_eq!(got, [("link", link), ("oci-filters-applied", "artifactType".to_owned())]);
}

#[test]
fn rs_23_no_host_name_is_part_of_a_derived_list() {
    let (links, mut remote) = (testing::links(), remote(OTHER));
    let other = PublicBase { origin: "https://evil.test".into(), ..base() };
    let print = |remote: &RemoteSpec, base: &PublicBase| {
        Docker.fingerprint(&RewriteContext { base, links: &links, remote, permits: &|_| true })
    };
    let before = print(&remote, &base());
    assert_eq!(before, print(&remote, &other));
    remote.docker.ban_tags = Patterns::compile(&["x"]).unwrap();
    assert_ne!(before, print(&remote, &base()), "other banned tags make another document");
    for policy in [
        PathPolicy { blocklist: Patterns::compile(&["x"]).unwrap(), ..PathPolicy::default() },
        PathPolicy { patterns: Patterns::compile(&["x"]).unwrap(), ..PathPolicy::default() },
    ] {
        let other = RemoteSpec { policy, ..testing::remote(PackageType::Docker, OTHER) };
        assert_ne!(before, print(&other, &base()), "so does another policy");
    }
}

proptest! {
    #[test]
    fn rs_21_planning_is_total_and_a_key_has_one_meaning(
        path in "(([a-z0-9._:-]|%3[aA]){1,6}/){0,3}(manifests|blobs|tags|referrers)/(list|[a-z0-9.:_-]{0,8}|sha256:[0-9a-f]{64})",
        query in "((n|last|artifactType|x)=[0-9a-z%2]{0,4}&?){0,3}",
    ) {
        if let Ok(resource) = plan(HUB, &format!("{path}?{query}")) {
            let again = plan(HUB, &format!("{}?{}", resource.path.encode(), resource.query)).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(again.query, resource.query);
            prop_assert_eq!(again.location, resource.location);
            for alias in &resource.aliases {
                prop_assert_eq!(&plan(HUB, alias).unwrap().path, &resource.path);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(path in "\\PC{0,40}", query in "\\PC{0,40}", link in "\\PC{0,60}") {
        let _ = plan(HUB, &format!("{path}?{query}"));
        let _ = headers("a/tags/list", &[("link", &link)]);
        let _ = rewrite(&remote(HUB), "a/tags/list", &path);
    }
}
