//! Merged releases, as puppet and r10k read them.

use std::collections::BTreeMap;

use artifactapi_model::PackageType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    Method,
    merge::{
        merge_of,
        testing::{Fake, Generation, Table, merged},
    },
};

const MODULE: &str = "acme-tool";
const INDEX: &str = "v3/releases?module=acme-tool";

fn release(note: &str, version: &str) -> Value {
    json!({
        "uri": format!("/v3/releases/{MODULE}-{version}"), "slug": format!("{MODULE}-{version}"),
        "version": version, "file_sha256": note, "file_size": note.len(), "deleted_at": null,
        "metadata": {"name": "acme/tool", "version": version, "summary": note},
        "file_uri": format!("/v3/files/{MODULE}-{version}.tar.gz"),
    })
}

fn page(results: &[Value], next: Option<&str>) -> Value {
    json!({"pagination": {"limit": 100, "offset": 0, "next": next, "total": 7}, "results": results})
}

fn first_page() -> String {
    format!("{INDEX}{PAGE}")
}

fn member(name: &str, versions: &[&str]) -> Fake {
    let results: Vec<_> = versions.iter().map(|version| release(name, version)).collect();
    let about =
        json!({"slug": MODULE, "name": "tool", "homepage_url": name, "current_release": 1, "releases": 2});
    with(name, &page(&results, None), &about)
}

fn with(name: &str, list: &Value, about: &Value) -> Fake {
    let (list, about) = (list.to_string(), about.to_string());
    Fake::new(name, &[(&first_page(), list.as_bytes()), ("v3/modules/acme-tool", about.as_bytes())])
}

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&PuppetMerge, INDEX, members, rules)
}

fn json_of(generation: &Generation, path: &str) -> Value {
    serde_json::from_slice(&generation.files[path]).unwrap()
}

/// Versions and whose they are, in the order of the list.
fn versions(generation: &Generation) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = json_of(generation, INDEX);
    let results = list["results"].as_array().unwrap();
    assert_eq!(
        (&list["pagination"]["next"], &list["pagination"]["total"]),
        (&json!(null), &json!(results.len()))
    );
    results.iter().map(|release| (text(&release["version"]), text(&release["file_sha256"]))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(version, note)| ((*version).to_owned(), (*note).to_owned())).collect()
}

#[test]
fn requests_belong_to_the_list_of_their_module() {
    let merge = merge_of(PackageType::Puppet).unwrap();
    let ask = |target: &str| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request { method: Method::Get, raw_path: path, query, accept: "" };
        let asked = merge.asked(&RepoPath::from_canonical(path).unwrap(), &request)?;
        Some(asked.map(|asked| {
            assert_eq!(asked.index.as_str(), INDEX);
            assert_eq!(merge.package(&asked.index), Some(MODULE));
            asked.path.as_str().to_owned()
        }))
    };
    for (target, want) in [
        ("v3/releases?module=acme-tool", INDEX),
        ("v3/releases?sort_by=version&module=acme/tool&exclude_fields=readme&limit=1&offset=0", INDEX),
        ("v3/releases/?module=acme-tool&module_groups=base", INDEX),
        ("v3/releases?module=acme-tool&limit=20&offset=20", "v3/releases?module=acme-tool&offset"),
        ("v3/modules/acme-tool?exclude_fields=x", "v3/modules/acme-tool"),
        ("v3/modules/acme-tool/", "v3/modules/acme-tool"),
        ("v3/releases/acme-tool-1.0.0", "v3/releases/acme-tool-1.0.0"),
        ("v3/files/acme-tool-1.0.0-rc.1.tar.gz", "v3/files/acme-tool-1.0.0-rc.1.tar.gz"),
    ] {
        assert_eq!(ask(target), Some(Ok(want.to_owned())), "{target}");
    }
    for target in ["v3/releases?module=acme-tool&only_latest=true", "v3/releases?module=acme-tool&offset=x"] {
        assert!(ask(target).unwrap().is_err(), "{target}");
    }
    for target in
        ["v3/modules?query=x", "v3/releases", "v3/users/acme", INDEX.replace('?', "%3F").as_str(), ""]
    {
        if target.contains('%') {
            continue;
        }
        assert_eq!(ask(target), None, "{target}");
    }
    // The name of a merged list, as a path.
    let request = Request { method: Method::Get, raw_path: "", query: "", accept: "" };
    assert!(merge.asked(&RepoPath::from_canonical(INDEX).unwrap(), &request).is_none());
}

#[test]
fn versions_are_united_newest_first_and_all_else_is_the_first_member_s() {
    let one = member("one", &["1.0.0", "1.10.0"]);
    let two = member("two", &["2.0.0-rc.1", "1.10.0", "1.9.0"]);
    let got = merge(&[Fake::new("zero", &[]), one, two], &Table::default()).unwrap();
    let want = [("2.0.0-rc.1", "two"), ("1.10.0", "one"), ("1.9.0", "two"), ("1.0.0", "one")];
    assert_eq!(versions(&got), owned(&want));
    let about = json_of(&got, "v3/modules/acme-tool");
    assert_eq!((&about["name"], &about["homepage_url"]), (&json!("tool"), &json!("one")));
    assert_eq!(about["current_release"], release("one", "1.10.0"), "no preview, as there is a release");
    let brief = &about["releases"][0];
    assert_eq!((&brief["version"], brief.get("metadata")), (&json!("2.0.0-rc.1"), None));
    assert_eq!(about["releases"].as_array().map(Vec::len), Some(4));
    let listed = [("1.0.0", 1), ("1.10.0", 1), ("1.9.0", 2), ("2.0.0-rc.1", 2)].into_iter().flat_map(
        |(version, member)| {
            [
                (format!("v3/files/{MODULE}-{version}.tar.gz"), member),
                (format!("v3/releases/{MODULE}-{version}"), member),
            ]
        },
    );
    assert_eq!(got.listed, listed.collect());
    let rest = json_of(&got, "v3/releases?module=acme-tool&offset");
    assert_eq!((&rest["results"], &rest["pagination"]["offset"]), (&json!([]), &json!(4)));
    for path in got.listed.keys() {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(PuppetMerge.index_of(&path).unwrap().as_str(), INDEX);
    }
}

#[test]
fn all_pages_of_a_member_s_list_are_read() {
    let next = "/v3/releases?module=acme%2Ftool&limit=100&offset=100";
    let mut one = with("one", &page(&[release("one", "1.0.0")], Some(next)), &json!({}));
    let error = merge(&[one], &Table::default()).unwrap_err().to_string();
    assert!(
        error.contains("member one") && error.contains("a page of the list of releases is missing"),
        "{error}"
    );
    // A page that leads back is the last one.
    one = with("one", &page(&[release("one", "1.0.0")], Some(next)), &json!({}));
    let second =
        page(&[release("one", "2.0.0"), release("one", "1.0.0")], Some(&format!("/{}", first_page())));
    one.documents.insert(next[1..].to_owned(), second.to_string().into_bytes());
    let got = merge(&[one], &Table::default()).unwrap();
    assert_eq!(versions(&got), owned(&[("2.0.0", "one"), ("1.0.0", "one")]));
    // As is one that is somebody else's.
    let strange = with("one", &page(&[], Some("/v3/releases?module=corp-secret&offset=1")), &json!({}));
    assert_eq!(versions(&merge(&[strange], &Table::default()).unwrap()), []);
}

#[test]
fn rs_48_rs_49_rules_hold_for_list_and_files_alike() {
    let members = || [member("one", &["1.0.0"]), member("two", &["1.0.0", "2.0.0"])];
    let owners = Table { names_first: false, owners: [(MODULE.to_owned(), 1)].into() };
    let got = merge(&members(), &owners).unwrap();
    assert_eq!((versions(&got).len(), got.listed.values().min()), (2, Some(&1)));
    assert_eq!(json_of(&got, "v3/modules/acme-tool")["homepage_url"], "two");
    let first = Table { names_first: true, ..Table::default() };
    assert_eq!(versions(&merge(&members(), &first).unwrap()), owned(&[("1.0.0", "one")]));
    let mut hiding = members();
    hiding[0].hidden.push("v3/files/acme-tool-1.0.0.tar.gz".to_owned());
    hiding[1].hidden.push("v3/releases/acme-tool-2.0.0".to_owned());
    assert_eq!(versions(&merge(&hiding, &first).unwrap()), owned(&[("1.0.0", "two")]));
    // Who may not have the module is not even asked.
    hiding[1].hidden.push("v3/modules/acme-tool".to_owned());
    let got = merge(&hiding, &Table::default()).unwrap();
    assert_eq!((versions(&got), got.files.len()), (Vec::new(), 2));
    assert_eq!(merge(&[Fake::new("one", &[])], &Table::default()).unwrap(), Generation::default());
}

#[test]
fn a_release_that_is_not_what_it_says_is_left_out() {
    let mut releases: Vec<_> = (0..8).map(|minor| release("one", &format!("1.{minor}.0"))).collect();
    releases[0]["file_uri"] = json!("/v3/files/acme-other-1.0.0.tar.gz");
    releases[1]["file_uri"] = json!("https://evil.test/v3/files/acme-tool-1.1.0.tar.gz");
    releases[2]["metadata"]["name"] = json!("corp/secret");
    releases[3]["metadata"]["version"] = json!("9.9.9");
    releases[4]["file_uri"] = json!(null);
    releases[5]["metadata"] = json!(null);
    releases[6]["version"] = json!(null);
    let got = merge(&[with("one", &page(&releases, None), &json!({}))], &Table::default()).unwrap();
    let list = json_of(&got, INDEX);
    let slugs: Vec<_> = list["results"].as_array().unwrap().iter().map(|release| &release["slug"]).collect();
    assert_eq!(slugs, ["acme-tool-1.7.0", "acme-tool-1.6.0", "acme-tool-1.5.0"]);
}

#[test]
fn rs_63_hostile_documents_end_in_an_error_that_names_the_member() {
    let deep = format!(r#"{{"results":[{}"#, "[".repeat(100_000));
    let long = format!(r#"{{"results":[],"pagination":{{"next":"{}"}}}}"#, "x".repeat(9000));
    for body in [
        "",
        "[]",
        "{}",
        "<html>sign in</html>",
        r#"{"results":{}}"#,
        r#"{"results":[],"results":[]}"#,
        r#"{"results":[1]}"#,
        r#"{"results":[{"version":1}]}"#,
        r#"{"results":[{"version":"1.0.0","version":"2.0.0"}]}"#,
        r#"{"results":[{"slug":"
"}]}"#,
        r#"{"results":[],"pagination":{"next":1}}"#,
        r#"{"results":[]"#,
        &long,
        &deep,
    ] {
        let bad = Fake::new("bad", &[(&first_page(), body.as_bytes())]);
        let members: Vec<&dyn Member> = vec![&bad];
        let mut output = Generation::default();
        let path = RepoPath::from_canonical(INDEX).unwrap();
        let signer = crate::merge::testing::Echo;
        let inputs = Inputs { index: &path, members: &members, rules: &Table::default(), signer: &signer };
        let error = PuppetMerge.merge(inputs, &mut output).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {body:.60}");
    }
    for body in ["", "[]", "<html>", r#"{"a":1,"a":2}"#, "{\"a\":\"\n\"}"] {
        let mut bad = member("bad", &["1.0.0"]);
        bad.documents.insert("v3/modules/acme-tool".to_owned(), body.into());
        let shown = merge(&[bad], &Table::default()).unwrap_err().to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {body:.60}");
    }
}

const VERSIONS: [&str; 6] = ["1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0+x", "10.0.0"];

proptest! {
    #[test]
    fn a_merge_is_every_version_once(members in prop::collection::vec(prop::collection::vec(0..VERSIONS.len(), 0..8), 1..4)) {
        let build = || -> Vec<Fake> {
            let of = |(place, versions): (usize, &Vec<usize>)| {
                let versions: Vec<_> = versions.iter().map(|version| VERSIONS[*version]).collect();
                member(&format!("m{place}"), &versions)
            };
            members.iter().enumerate().map(of).collect()
        };
        let got = merge(&build(), &Table::default()).unwrap();
        // The reference: of each version the first member, in descending order, which is the table's backwards.
        let owner = |version: usize| members.iter().position(|versions| versions.contains(&version));
        let want: Vec<_> = (0..VERSIONS.len()).rev().filter_map(|version| {
            Some((VERSIONS[version].to_owned(), format!("m{}", owner(version)?)))
        }).collect();
        prop_assert_eq!(versions(&got), want);
        let listed: BTreeMap<_, _> = (0..VERSIONS.len()).filter_map(|version| Some((version, owner(version)?))).flat_map(|(version, member)| {
            let slug = format!("{MODULE}-{}", VERSIONS[version]);
            [(format!("v3/files/{slug}.tar.gz"), member), (format!("v3/releases/{slug}"), member)]
        }).collect();
        prop_assert_eq!(&got.listed, &listed);
        prop_assert_eq!(&merge(&build(), &Table::default()).unwrap(), &got, "deterministic");
        let twice: Vec<_> = build().into_iter().chain(build()).collect();
        prop_assert_eq!(merge(&twice, &Table::default()).unwrap(), got, "idempotent");
    }
}
