//! Merged pages, as pip reads them.

use std::collections::BTreeMap;

use artifactapi_model::{Digest, PackageType};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    Method,
    merge::{
        merge_of,
        testing::{Fake, Generation, Table, merged},
    },
    pypi::{Pypi, html},
    testing::{self, Document},
};

const PATH: &str = "simple/flask/";
const AS_JSON_FORM: &str = "simple/flask/-/json";
const BASE: &str = "http://own.test/v/";

fn sha256(text: &str) -> String {
    Digest::of(text.as_bytes()).to_hex()
}

/// A file of `member`, with everything that a page can say of one.
fn file(member: &str, name: &str) -> Value {
    json!({
        "filename": name, "url": format!("../../packages/{member}/{name}"),
        "hashes": {"sha256": sha256(&format!("{member} {name}"))}, "size": name.len(),
        "upload-time": "2024-01-01T00:00:00.000000Z", "requires-python": ">=3.8", "yanked": member,
        "core-metadata": {"sha256": sha256(name)},
    })
}

fn page(member: &str, names: &[&str]) -> Value {
    let versions: Vec<_> = names.iter().filter_map(|name| name::version_of(name)).collect();
    json!({
        "meta": {"api-version": "1.1"}, "name": "flask", "versions": versions,
        "files": names.iter().map(|name| file(member, name)).collect::<Vec<_>>(),
    })
}

fn at(path: &str, member: &str, page: &Value) -> Fake {
    Fake::new(member, &[(&format!("{path}{AS_JSON}"), page.to_string().as_bytes())])
}

fn member(name: &str, page: &Value) -> Fake {
    at(PATH, name, page)
}

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&PypiMerge, PATH, members, rules)
}

fn json_of(generation: &Generation) -> Value {
    serde_json::from_slice(&generation.files[AS_JSON_FORM]).unwrap()
}

fn names(generation: &Generation) -> Vec<String> {
    let text = |file: &Value| file["filename"].as_str().unwrap().to_owned();
    json_of(generation)["files"].as_array().unwrap().iter().map(text).collect()
}

/// The paths that the type's own reading of the JSON form finds.
fn advertised(generation: &Generation) -> Vec<String> {
    let url = format!("{BASE}{PATH}");
    let body = &generation.files[AS_JSON_FORM];
    let document = Document { path: PATH, content_type: Form::Json.content_type(), url: &url, body };
    let facts = document.facts(&Pypi, &testing::remote(PackageType::Pypi, BASE)).unwrap();
    let mut paths: Vec<_> =
        facts.into_iter().filter(|fact| fact.url.is_none()).map(|fact| fact.path).collect();
    paths.sort();
    paths
}

#[test]
fn requests_belong_to_their_page() {
    let merge = merge_of(PackageType::Pypi).unwrap();
    for (path, accept, want) in [
        ("simple/", "", Ok(Some(("simple/", "simple/")))),
        (PATH, "text/html", Ok(Some((PATH, PATH)))),
        (PATH, "application/vnd.pypi.simple.v1+json", Ok(Some((PATH, AS_JSON_FORM)))),
        (PATH, "application/vnd.pypi.simple.v1+html", Ok(Some((PATH, "simple/flask/-/html")))),
        ("whl/cpu/torch/", "", Ok(Some(("whl/cpu/torch/", "whl/cpu/torch/")))),
        (
            "simple/flask/-/m/one/-/top/a/flask-1.whl.metadata",
            "",
            Ok(Some((PATH, "simple/flask/-/m/one/-/top/a/flask-1.whl.metadata"))),
        ),
        // Moved to where the page is; a name that is none.
        ("simple/flask", "", Ok(None)),
        ("simple/Flask/", "", Ok(None)),
        ("simple/a b/", "", Ok(None)),
        (AS_JSON_FORM, "", Ok(None)),
        ("packages/flask-1.0.tar.gz", "", Err(())),
        ("-/x/AAAA/flask-1.0.tar.gz", "", Err(())),
        ("-/m/one/-/top/a/flask-1.whl", "", Err(())),
        ("pypi/flask/json", "", Err(())),
        ("simple/flask/index.html", "", Err(())),
    ] {
        let request = Request { method: Method::Get, raw_path: "", query: "", accept };
        let path = RepoPath::from_canonical(path).unwrap();
        let asked = merge.asked(&path, &request).transpose();
        let got = asked
            .as_ref()
            .map(|asked| asked.as_ref().map(|asked| (asked.index.as_str(), asked.path.as_str())));
        assert_eq!(got.map_err(|_| ()), want, "{path} {accept}");
    }
    let package = |path: &str| {
        merge.package(&RepoPath::from_canonical(path).unwrap()).map(str::to_owned).unwrap_or_default()
    };
    assert_eq!((package(PATH), package("root/+simple/a/")), ("flask".to_owned(), "a".to_owned()));
    assert_eq!((package("simple/"), package("whl/cpu/")), (String::new(), "whl/cpu/".to_owned()));
}

#[test]
fn files_are_united_with_all_that_is_said_of_them() {
    let mut one = page("one", &["flask-1.0.tar.gz", "flask-2.0-py3-none-any.whl"]);
    let mut two = page("two", &["flask-2.0-py3-none-any.whl", "flask-3.0+x.zip"]);
    one["project-status"] = json!({"status": "archived", "reason": "<b>"});
    two["project-status"] = json!({"status": "active"});
    one["meta"]["tracks"] = json!(["https://a.test/simple/flask/"]);
    one["alternate-locations"] = json!(["https://b.test/simple/flask/"]);
    one["meta"]["_last-serial"] = json!(7);
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    let found = json_of(&got);
    assert_eq!(found["versions"], json!(["1.0", "2.0", "3.0+x"]));
    assert_eq!(found["meta"], json!({"api-version": "1.1"}), "nothing is said of other repositories");
    assert_eq!(found["project-status"], json!({"status": "archived", "reason": "<b>"}));
    assert_eq!((&found["name"], found.get("alternate-locations")), (&json!("flask"), None));
    assert_eq!(names(&got), ["flask-1.0.tar.gz", "flask-2.0-py3-none-any.whl", "flask-3.0+x.zip"]);
    let last = &found["files"][2];
    let mut want = file("two", "flask-3.0+x.zip");
    want["url"] = json!("-/m/two/-/top/packages/two/flask-3.0+x.zip");
    want["data-dist-info-metadata"] = want["core-metadata"].clone();
    assert_eq!(*last, want);
    assert_eq!(found["files"][1]["yanked"], "one", "the first member's");
    assert_eq!(advertised(&got), got.listed.keys().cloned().collect::<Vec<_>>());
    let members: Vec<_> = got.listed.values().copied().collect();
    assert_eq!(members, [0, 0, 0, 0, 1, 1]);
}

#[test]
fn every_form_says_the_same() {
    let two = page("two", &["flask-2.0.tar.gz", "flask-3.0.zip"]);
    let got =
        merge(&[member("one", &page("one", &["flask-2.0.tar.gz"])), member("two", &two)], &Table::default())
            .unwrap();
    assert_eq!(got.files[PATH], got.files["simple/flask/-/html"]);
    let url = Url::parse(&format!("{BASE}{PATH}")).unwrap();
    let mut seen = Vec::new();
    html::html(&url, &mut &got.files[PATH][..], &mut |item| {
        if let Item::File(file) = item {
            let hash = file.hashes["sha256"].clone();
            assert_eq!(file.requires_python.as_deref(), Some(">=3.8"));
            assert!(matches!(file.metadata, Metadata::Hashed(_)));
            seen.push((file.name.clone(), hash, file.url.to_string()));
        }
        Ok(())
    })
    .unwrap();
    let of_json = |file: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&file["filename"]),
            text(&file["hashes"]["sha256"]),
            url.join(&text(&file["url"])).unwrap().to_string(),
        )
    };
    let want: Vec<_> = json_of(&got)["files"].as_array().unwrap().iter().map(of_json).collect();
    assert_eq!(seen, want);
}

#[test]
fn no_more_is_claimed_than_every_member_has() {
    let one = page("one", &["flask-1.0.tar.gz"]);
    let mut two = page("two", &["flask-2.0.tar.gz"]);
    two["meta"]["api-version"] = json!("1.0");
    two.as_object_mut().unwrap().remove("versions");
    two["files"][0].as_object_mut().unwrap().remove("size");
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    let found = json_of(&got);
    assert_eq!((&found["meta"]["api-version"], found.get("versions")), (&json!("1.0"), None));
    // A member of which nothing is taken has no say.
    two["files"][0]["filename"] = json!("flask-1.0.tar.gz");
    let found = json_of(&merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap());
    assert_eq!((&found["meta"]["api-version"], &found["versions"]), (&json!("1.1"), &json!(["1.0"])));
}

#[test]
fn rs_48_rs_49_rules_hold_for_page_and_list_alike() {
    let pages = [page("one", &["flask-1.0.zip"]), page("two", &["flask-1.0.zip", "flask-2.0.zip"])];
    let members = || [member("one", &pages[0]), member("two", &pages[1])];
    let owned = Table { names_first: false, owners: [("flask".to_owned(), 1)].into() };
    let got = merge(&members(), &owned).unwrap();
    assert_eq!((names(&got).len(), got.listed.values().min()), (2, Some(&1)));
    let first = Table { names_first: true, ..Table::default() };
    assert_eq!(names(&merge(&members(), &first).unwrap()), ["flask-1.0.zip"]);
    // What a member hides it does not have, and its version goes with its last file.
    let mut hiding = members();
    hiding[0].hidden.push("packages/one/flask-1.0.zip".to_owned());
    hiding[1].hidden.push("packages/two/flask-2.0.zip".to_owned());
    let got = merge(&hiding, &Table::default()).unwrap();
    assert_eq!(
        (names(&got), json_of(&got)["versions"].clone()),
        (vec!["flask-1.0.zip".to_owned()], json!(["1.0"]))
    );
    assert_eq!(got.listed.values().collect::<Vec<_>>(), [&1, &1]);
    // Metadata that is hidden is not spoken of.
    let mut hiding = members();
    hiding[0].hidden.push("packages/one/flask-1.0.zip.metadata".to_owned());
    let got = merge(&hiding[..1], &Table::default()).unwrap();
    assert_eq!((json_of(&got)["files"][0].get("core-metadata"), got.listed.len()), (None, 1));
    assert_eq!(merge(&[], &Table::default()).unwrap(), Generation::default());
}

#[test]
fn lists_of_projects_are_united_by_normalised_names() {
    let list = |names: &[&str]| {
        let projects: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"meta": {"api-version": "1.1"}, "projects": projects})
    };
    let mut members = [
        at("simple/", "one", &list(&["Flask", "inner", "hidden"])),
        at("simple/", "two", &list(&["flask", "Z.x", "inner", "<b>"])),
    ];
    members[0].hidden.push("simple/hidden/".to_owned());
    let rules = Table { names_first: false, owners: [("inner".to_owned(), 1)].into() };
    let got = merged(&PypiMerge, "simple/", &members, &rules).unwrap();
    let found: Value = serde_json::from_slice(&got.files["simple/-/json"]).unwrap();
    assert_eq!(
        found["projects"],
        json!([{"name": "Flask"}, {"name": "Z.x"}, {"name": "inner"}, {"name": "<b>"}])
    );
    let html = String::from_utf8(got.files["simple/"].clone()).unwrap();
    assert!(html.contains("<a href=\"z-x/\">Z.x</a>") && !html.contains("<b>"), "{html}");
    assert!(got.listed.is_empty());
}

#[test]
fn a_url_leads_to_one_file_of_one_member() {
    let mut one =
        page("one", &["flask-1.0.zip", "flask-2.0.zip", "flask-3.0.zip", "flask-4.0.zip", "flask-5.0.zip"]);
    let urls =
        ["https://cdn.test/flask-1.0.zip", "javascript:x", "../../a/", "../../a/f.zip?x", "flask-9.0.zip"];
    for (file, url) in one["files"].as_array_mut().unwrap().iter_mut().zip(urls) {
        file["url"] = json!(url);
    }
    let mut two = page("two", &["flask-9.0.zip", "flask-8.0.zip"]);
    two["files"][1]["url"] = json!("../../-/x/token/flask-8.0.zip");
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    let found = json_of(&got);
    let urls: Vec<_> =
        found["files"].as_array().unwrap().iter().map(|file| file["url"].as_str().unwrap()).collect();
    // Whoever goes by the last segment of the first member's URL has that version from it.
    let want = [
        "https://cdn.test/flask-1.0.zip",
        "-/m/one/-/top/simple/flask/flask-9.0.zip",
        "-/m/two/-/top/-/x/token/flask-8.0.zip",
    ];
    assert_eq!(urls, want);
    for path in got.listed.keys() {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(PypiMerge.index_of(&path).unwrap().as_str(), PATH);
    }
}

#[test]
fn rs_56_markup_in_names_is_text() {
    let mut one = page("one", &["flask-1.0.zip"]);
    one["files"][0]["filename"] = json!("<script>\"'&-1.0.zip");
    one["files"][0]["requires-python"] = json!("\"><img src=x>");
    let got = merge(&[member("one", &one)], &Table::default()).unwrap();
    let html = String::from_utf8(got.files[PATH].clone()).unwrap();
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
}

#[test]
fn rs_63_hostile_pages_end_in_an_error_that_names_the_member() {
    let deep = format!(r#"{{"files":[{}"#, "[".repeat(100_000));
    for body in [
        "",
        "[]",
        "<html>sign in</html>",
        r#"{"files":[1]}"#,
        r#"{"files":[{"filename":1,"url":"a"}]}"#,
        r#"{"meta":{"api-version":"2.0"}}"#,
        r#"{"versions":[1]}"#,
        r#"{"files":[]"#,
        r#"{"files":[]}x"#,
        &deep,
    ] {
        let bad = Fake::new("bad", &[(&format!("{PATH}{AS_JSON}"), body.as_bytes())]);
        let error = merge(&[member("good", &page("good", &["flask-1.0.zip"])), bad], &Table::default());
        let shown = error.unwrap_err().to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {body:.60}");
    }
}

const FILES: [&str; 6] = [
    "flask-1.0.tar.gz",
    "flask-1.0-py3-none-any.whl",
    "flask-2.0+local.zip",
    "Flask-2.0.egg",
    "flask-<b>-3.zip",
    "flask-10.0.exe",
];

proptest! {
    #[test]
    fn a_merge_is_every_file_once(members in prop::collection::vec(prop::collection::vec(0..FILES.len(), 0..8), 1..4)) {
        let build = || -> Vec<Fake> {
            let of = |(place, files): (usize, &Vec<usize>)| {
                let names: Vec<_> = files.iter().map(|file| FILES[*file]).collect();
                member(&format!("m{place}"), &page(&format!("m{place}"), &names))
            };
            members.iter().enumerate().map(of).collect()
        };
        let got = merge(&build(), &Table::default()).unwrap();
        // The reference: names in the order of their first mention, each with the member of that.
        let mut want: Vec<(&str, usize)> = Vec::new();
        for (place, files) in members.iter().enumerate() {
            for file in files {
                if !want.iter().any(|(name, _)| *name == FILES[*file]) {
                    want.push((FILES[*file], place));
                }
            }
        }
        let found: Vec<_> = json_of(&got)["files"].as_array().unwrap().iter().map(|file| {
            (file["filename"].as_str().unwrap().to_owned(), file["yanked"].as_str().unwrap().to_owned())
        }).collect();
        let wanted: Vec<_> = want.iter().map(|(name, place)| ((*name).to_owned(), format!("m{place}"))).collect();
        prop_assert_eq!(found, wanted);
        let listed: BTreeMap<_, _> = want
            .iter()
            .flat_map(|(name, place)| {
                let path = format!("{PATH}-/m/m{place}/-/top/packages/m{place}/{name}");
                [(format!("{path}.metadata"), *place), (path, *place)]
            })
            .collect();
        prop_assert_eq!(advertised(&got), listed.keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(&got.listed, &listed);
        prop_assert_eq!(&merge(&build(), &Table::default()).unwrap(), &got, "deterministic");
        let twice: Vec<_> = build().into_iter().chain(build()).collect();
        prop_assert_eq!(merge(&twice, &Table::default()).unwrap(), got, "idempotent");
    }
}
