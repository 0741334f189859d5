//! Tables over paths and documents, as the Forge answers them.

use artifactapi_model::{Checksum, Spelling};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::{
    IndexUse, Method,
    testing::{self, Document},
};

const UPSTREAM: &str = "https://forge.example/api/";
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const MD5: &str = "098f6bcd4621d373cade4e832627b4f6";

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Puppet, UPSTREAM)
}

fn plan(raw_path: &str, query: &str) -> Result<Resource, PlanError> {
    let request = Request { method: Method::Get, raw_path, query, accept: "" };
    match Puppet.plan(&request, &remote(), &testing::links())? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{raw_path}: {other:?}"),
    }
}

fn document<'a>(path: &'a str, body: &'a [u8]) -> Document<'a> {
    Document { path, content_type: "application/json; charset=utf-8", url: UPSTREAM, body }
}

fn facts(path: &str, body: &str) -> Result<Vec<Fact>, IndexError> {
    document(path, body.as_bytes()).facts(&Puppet, &remote())
}

fn rewrite(body: &str) -> Result<String, IndexError> {
    let (content_type, out) =
        document("v3/releases", body.as_bytes()).rewrite(&Puppet, &remote(), ROOT_RELATIVE.0)?;
    assert_eq!(content_type, "application/json; charset=utf-8");
    Ok(out)
}

fn release(file_uri: &str) -> Value {
    json!({
        "slug": "puppetlabs-stdlib-9.4.1",
        "module": {"slug": "puppetlabs-stdlib", "owner": {"slug": "puppetlabs"}},
        "metadata": {"name": "puppetlabs-stdlib", "version": "9.4.1", "dependencies": [], "file_uri": "https://x/"},
        "file_uri": file_uri, "file_size": 1234, "file_md5": MD5, "file_sha256": SHA256, "deleted_at": null,
    })
}

#[test]
fn paths_are_classified() {
    use Mutability::{Immutable, Mutable};
    for (path, want) in [
        ("v3/modules", Mutable),
        ("v3/modules/puppetlabs-stdlib", Mutable),
        ("v3/releases", Mutable),
        ("v3/releases/puppetlabs-stdlib-9.4.1", Mutable),
        ("v3/users/puppetlabs", Mutable),
        ("v3/files/puppetlabs-stdlib-9.4.1.tar.gz", Immutable),
        ("v3/files/nested/puppetlabs-stdlib-9.4.1.tar.gz", Immutable),
        ("v3/files/.tar.gz", Mutable),
        ("v3/files/puppetlabs-stdlib-9.4.1.zip", Mutable),
        ("v3/search_filters", Mutable),
        ("other/v3/files/puppetlabs-stdlib-9.4.1.tar.gz", Mutable),
        ("", Mutable),
    ] {
        let resource = plan(path, "").unwrap();
        assert_eq!(resource.mutability, want, "{path}");
        let is_document =
            ["v3/modules", "v3/releases", "v3/users"].iter().any(|start| path.starts_with(start));
        assert_eq!(resource.representation.is_some(), is_document, "{path}");
    }
    let post = Request { method: Method::Post, raw_path: "v3/releases", query: "", accept: "" };
    let refused = Puppet.plan(&post, &remote(), &testing::links());
    assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
}

#[test]
fn rs_22_queries_have_one_form() {
    for (path, query, want) in [
        (
            "v3/releases",
            "sort_by=version&exclude_fields=readme+changelog&module=puppetlabs/stdlib&utm=1",
            "module=puppetlabs-stdlib&sort_by=version&exclude_fields=readme%20changelog",
        ),
        (
            "v3/releases",
            "module=a-b&offset=20&limit=20&with_html=1",
            "module=a-b&limit=20&offset=20&with_html=1",
        ),
        ("v3/releases", "owner=a&limit=1&module=a-b", "module=a-b&owner=a&limit=1"),
        ("v3/modules", "query=ntp&module_groups=base%20pe_only", "query=ntp&module_groups=base%20pe_only"),
        ("v3/modules/a-b", "module=c-d&with_html=true", "with_html=true"),
        ("v3/files/a-b-1.0.0.tar.gz", "module=a-b", ""),
        ("v3/other", "module=a-b", ""),
    ] {
        let resource = plan(path, query).unwrap();
        assert_eq!(resource.query, want, "{path}?{query}");
        if let Location::Below(below) = &resource.location {
            let tail = if want.is_empty() { String::new() } else { format!("?{want}") };
            assert_eq!(*below, format!("{path}{tail}"));
        }
    }
    assert_eq!(plan("v3/releases", "module=%00").unwrap_err(), PlanError::Query("module"));
}

#[test]
fn a_file_knows_every_document_that_may_speak_of_it() {
    for (name, module) in [
        ("puppetlabs-stdlib-9.4.1", Some("puppetlabs-stdlib")),
        ("a-b_c-1.0.0-rc1", Some("a-b_c")),
        ("a-b", None),
        ("a--1.0.0", None),
        ("a&x=-b-1.0.0", None),
    ] {
        let mut want = vec![format!("v3/releases/{name}"), format!("v3/releases/{name}?")];
        want.extend(module.into_iter().flat_map(|module| {
            let list = format!("v3/releases?module={module}");
            [
                list.clone(),
                format!("{list}&"),
                format!("v3/modules/{module}"),
                format!("v3/modules/{module}?"),
            ]
        }));
        let indexes = plan(&format!("v3/files/{name}.tar.gz"), "").unwrap().indexes;
        assert_eq!(indexes.iter().map(|index| index.path.as_str()).collect::<Vec<_>>(), want);
        for index in indexes {
            let is_prefix = index.path.ends_with(['?', '&']);
            assert_eq!(index.when == IndexUse::HeldPrefix, is_prefix, "{}", index.path);
        }
    }
    // The key under which `puppet module` leaves its list is found by the prefix.
    let list = plan("v3/releases", "module=puppetlabs-stdlib&sort_by=version&exclude_fields=readme").unwrap();
    assert!(format!("{}?{}", list.path, list.query).starts_with("v3/releases?module=puppetlabs-stdlib&"));
}

#[test]
fn rs_09_every_document_gives_the_facts_of_its_releases() {
    let release = release("/v3/files/puppetlabs-stdlib-9.4.1.tar.gz");
    let list = json!({"pagination": {"next": null}, "results": [release, null, 1]});
    let module =
        json!({"slug": "puppetlabs-stdlib", "current_release": release, "releases": [{"slug": "x"}]});
    let modules = json!({"results": [module]});
    for (path, body) in [
        ("v3/releases", &list),
        ("v3/releases/puppetlabs-stdlib-9.4.1", &release),
        ("v3/modules/puppetlabs-stdlib", &module),
        ("v3/modules", &modules),
    ] {
        let want = Fact {
            path: "v3/files/puppetlabs-stdlib-9.4.1.tar.gz".into(),
            reach: crate::Reach::File,
            url: None,
            checksums: vec![Checksum::from_hex("sha256", SHA256).unwrap(), Checksum::Size(1234)],
        };
        assert_eq!(facts(path, &body.to_string()).unwrap(), [want], "{path}");
    }
    let mut weak = release.clone();
    weak["file_sha256"] = Value::Null;
    weak["file_size"] = json!("odd");
    assert_eq!(
        facts("v3/releases/x", &weak.to_string()).unwrap()[0].checksums,
        [Checksum::from_hex("md5", MD5).unwrap()]
    );
    assert_eq!(facts("v3/files/a-b-1.tar.gz", "no JSON").unwrap(), []);
}

#[test]
fn rs_26_absolute_file_urls_are_stripped_and_remembered() {
    let path = "v3/files/puppetlabs-stdlib-9.4.1.tar.gz";
    let here = format!("/{path}");
    let cdn = "https://cdn.example/a/puppetlabs-stdlib-9.4.1.tar.gz?sig=1";
    for (uri, shown, fact) in [
        (&*here, Some(&*here), Some((path, None))),
        (path, None, Some((path, None))),
        (
            "https://forge.example/api/v3/files/puppetlabs-stdlib-9.4.1.tar.gz",
            Some(&here),
            Some((path, None)),
        ),
        (cdn, Some(&here), Some((path, Some(cdn)))),
        ("/other/place.tar.gz", None, Some(("other/place.tar.gz", None))),
        ("file:///etc/passwd.tar.gz", None, None),
        ("gopher://x/y.tar.gz", None, None),
        ("https://u:p@cdn.example/y.tar.gz", None, None),
        ("https://cdn.example/y.zip", None, None),
        ("https://cdn.example/%2e%2e%2fy.tar.gz", None, None),
        ("/v3/files/../../../etc/passwd", None, None),
        ("//evil.example/y.tar.gz", None, None),
        ("", None, None),
    ] {
        let body = release(uri).to_string();
        let want = release(shown.unwrap_or(uri)).to_string();
        assert_eq!(rewrite(&body).unwrap(), want, "{uri}");
        let facts = facts("v3/releases/x", &body).unwrap();
        let got = facts.first().map(|fact| (fact.path.as_str(), fact.url.as_ref().map(Url::as_str)));
        assert_eq!(got, fact, "{uri}");
    }
}

#[test]
fn pages_become_root_relative() {
    for (page, want) in [
        (
            json!("/v3/releases?module=a-b&limit=20&offset=20"),
            json!("/v3/releases?module=a-b&limit=20&offset=20"),
        ),
        (json!("https://forge.example/api/v3/releases?offset=20"), json!("/v3/releases?offset=20")),
        (json!("http://10.0.0.1:8080/x/v3/modules?query=v3/x"), json!("/v3/modules?query=v3/x")),
        (json!("https://forge.example/elsewhere"), json!("https://forge.example/elsewhere")),
        (json!(null), json!(null)),
        (json!(7), json!(7)),
    ] {
        for key in ["first", "previous", "current", "next"] {
            let body = json!({"pagination": {"limit": 20, key: page}, "results": []}).to_string();
            let out: Value = serde_json::from_str(&rewrite(&body).unwrap()).unwrap();
            assert_eq!(out["pagination"][key], want, "{key}");
        }
    }
}

#[test]
fn rs_56_everything_else_is_copied_byte_for_byte() {
    let body = r#"
  { "readme" : "<script>\u00e9\/", "n":1.50e+3, "big":12345678901234567890123,	"file_uri" : null,
    "file_uri":"\/v3\/files/a-b-1.0.0.tar.gz" , "a":[ ], "current_release":[], "results":{} }
"#;
    assert_eq!(rewrite(body).unwrap(), body);
}

#[test]
fn rs_62_rs_63_hostile_documents_end_in_an_error() {
    let deep = |open: &str| open.repeat(100_000);
    for (name, body) in [
        ("arrays", format!("{{\"x\":{}", deep("["))),
        ("objects", deep("{\"x\":")),
        ("releases in releases", deep("{\"current_release\":")),
        ("lists in lists", deep("{\"results\":[")),
        ("long file_uri", json!({"file_uri": "x".repeat(1 << 20)}).to_string()),
        ("cut", "{\"results\":[{".to_owned()),
        ("two documents", "{}{}".to_owned()),
        ("HTML", "<html>".to_owned()),
        ("empty", String::new()),
        ("no object", "[]".to_owned()),
    ] {
        assert!(rewrite(&body).is_err(), "{name}");
        assert!(facts("v3/releases", &body).is_err(), "{name}");
    }
}

proptest! {
    #[test]
    fn plan_is_total_and_its_key_is_canonical(
        raw in "(v3/|files/|releases|modules|/|a-b|-1\\.0|\\.tar\\.gz|%2e|%2F|\\PC){0,8}",
        query in "((module|limit|offset|query|x)=[a-z/&%+,]{0,6}&?){0,5}|\\PC{0,16}",
    ) {
        if let Ok(resource) = plan(&raw, &query) {
            prop_assert_eq!(&resource.path, &RepoPath::parse(&raw, Spelling::Plain).unwrap());
            let again = plan(&resource.path.encode(), &resource.query).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(again.query, resource.query);
        }
    }

    #[test]
    fn facts_name_canonical_paths(uri in "(https?://|/|v3/|files/|\\.\\.|%2f|\\.tar\\.gz|\\PC|[a-z]){0,10}") {
        let body = release(&uri).to_string();
        for fact in facts("v3/releases/x", &body).unwrap() {
            let path = RepoPath::from_canonical(&fact.path).unwrap();
            prop_assert_eq!(path.as_str(), &fact.path);
        }
        let out: Value = serde_json::from_str(&rewrite(&body).unwrap()).unwrap();
        prop_assert!(out["file_uri"].is_string());
    }
}
