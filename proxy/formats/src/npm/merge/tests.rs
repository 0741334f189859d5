//! Merged packuments, as npm reads them.

use artifactapi_model::PackageType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    merge::{
        merge_of,
        testing::{Fake, Generation, Table, merged},
    },
    npm::Npm,
    testing::{self, Document},
};

const NAME: &str = "@s/a";
const BASE: &str = "http://own.test/api/v1/virtual/v/";

fn packument(note: &str, versions: &[&str]) -> Value {
    let of = |version: &&str| {
        let tarball = format!("{BASE}@s/a/-/a-{}.tgz", artifactapi_model::path::encode(version));
        (
            (*version).to_owned(),
            json!({"version": version, "description": note, "dist": {"tarball": tarball, "shasum": "0".repeat(40)}}),
        )
    };
    let time =
        |version: &&str| ((*version).to_owned(), json!(format!("2024-01-01T00:00:00.{}Z", note.len())));
    let tags = json!({"latest": versions.last(), "gone": "9.9.9"});
    json!({
        "_id": NAME, "_rev": "1-x", "name": NAME, "readme": note, "dist-tags": tags,
        "versions": versions.iter().map(of).collect::<serde_json::Map<_, _>>(),
        "time": versions.iter().map(time).collect::<serde_json::Map<_, _>>(),
    })
}

fn member(name: &str, packument: &Value) -> Fake {
    Fake::new(name, &[(NAME, packument.to_string().as_bytes())])
}

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&NpmMerge, NAME, members, rules)
}

fn json_of(generation: &Generation) -> Value {
    serde_json::from_slice(&generation.files[NAME]).unwrap()
}

fn advertised(generation: &Generation) -> Vec<String> {
    let document = Document { path: NAME, content_type: FULL_TYPE, url: BASE, body: &generation.files[NAME] };
    let facts = document.facts(&Npm, &testing::remote(PackageType::Npm, BASE)).unwrap();
    let mut paths: Vec<_> = facts.into_iter().map(|fact| fact.path).collect();
    paths.sort();
    paths
}

#[test]
fn requests_belong_to_the_packument() {
    let merge = merge_of(PackageType::Npm).unwrap();
    for (path, want) in [
        ("a", Some("a")),
        (NAME, Some(NAME)),
        ("a/-/a-1.0.0.tgz", Some("a")),
        ("@s/a/-/a-1.0.0.tgz", Some(NAME)),
        ("a/1.0.0", Some("a")),
        ("@s/a/latest", Some(NAME)),
        ("a/b/c", None),
        ("@s", None),
        ("-/ping", None),
        ("-/package/a/dist-tags", Some("a")),
        ("-/package/@s/a/dist-tags", Some(NAME)),
        ("-/package/@s/a/dist-tags/latest", Some(NAME)),
        ("-/package/@s/a/visibility", None),
        ("-/package/@s/dist-tags", None),
        ("-/npm/v1/attestations/@s/a@1.0.0", Some(NAME)),
        ("-/npm/v1/attestations/@s/a", None),
        ("-/npm/v1/keys", None),
        ("", None),
    ] {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(merge.index_of(&path).as_ref().map(RepoPath::as_str), want, "{path}");
    }
}

#[test]
fn versions_are_united_and_all_else_is_the_first_member_s() {
    let mut one = packument("one", &["1.0.0", "1.1.0"]);
    let mut two = packument("other", &["1.1.0", "2.0.0"]);
    (one["time"]["created"], two["time"]["created"]) = (json!("2020"), json!("2019"));
    (one["time"]["modified"], two["time"]["modified"]) = (json!("2023"), json!("2024"));
    (one["time"]["7.7.7"], one["time"]["unpublished"]) = (json!("2022"), json!({"by": "x"}));
    one["dist-tags"]["next"] = json!("2.0.0");
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    let found = json_of(&got);
    assert_eq!((&found["name"], &found["readme"], found.get("_rev")), (&json!(NAME), &json!("one"), None));
    assert_eq!(found["dist-tags"], json!({"latest": "1.1.0", "next": "2.0.0"}), "no tag leads nowhere");
    let versions = found["versions"].as_object().unwrap();
    let notes: Vec<_> =
        versions.iter().map(|(version, document)| (version.as_str(), &document["description"])).collect();
    assert_eq!(notes, [("1.0.0", &json!("one")), ("1.1.0", &json!("one")), ("2.0.0", &json!("other"))]);
    assert_eq!(
        found["time"],
        json!({
            "created": "2019", "modified": "2024", "1.0.0": "2024-01-01T00:00:00.3Z",
            "1.1.0": "2024-01-01T00:00:00.3Z", "2.0.0": "2024-01-01T00:00:00.5Z",
        })
    );
    let want = [("1.0.0", 0), ("1.1.0", 0), ("2.0.0", 1)];
    assert_eq!(got.listed, want.map(|(version, member)| (format!("@s/a/-/a-{version}.tgz"), member)).into());
}

#[test]
fn rs_48_rs_49_rules_hold_for_document_and_list_alike() {
    let documents = [packument("one", &["1.0.0"]), packument("two", &["1.0.0", "2.0.0"])];
    let members = || [member("one", &documents[0]), member("two", &documents[1])];
    let owned = Table { names_first: false, owners: [(NAME.to_owned(), 1)].into() };
    let got = merge(&members(), &owned).unwrap();
    assert_eq!((&json_of(&got)["readme"], got.listed.values().min()), (&json!("two"), Some(&1)));
    let first = Table { names_first: true, ..Table::default() };
    assert_eq!(merge(&members(), &first).unwrap().listed.len(), 1);
    // What a member hides it does not have.
    let mut hiding = members();
    hiding[0].hidden.push("@s/a/-/a-1.0.0.tgz".to_owned());
    assert_eq!(json_of(&merge(&hiding, &first).unwrap())["readme"], "two");
    hiding[1].hidden = vec!["@s/a/-/a-1.0.0.tgz".to_owned(), "@s/a/-/a-2.0.0.tgz".to_owned()];
    assert_eq!(merge(&hiding, &first).unwrap(), Generation::default(), "no version is left");
}

#[test]
fn rs_48_no_document_names_a_version_that_is_not_there() {
    let mut one = packument("one", &["1.0.0", "1.1.0", "2.0.0"]);
    one["dist-tags"] =
        json!({"latest": "2.0.0", "old": "1.0.0", "both": "1.1.0", "a/b": "1.0.0", "3.0.0": "1.0.0"});
    let mut hiding = member("one", &one);
    hiding.hidden = ["@s/a/-/a-2.0.0.tgz", "@s/a/both"].map(str::to_owned).into();
    let got = merge(&[hiding, member("two", &packument("two", &["3.0.0"]))], &Table::default()).unwrap();
    let tags = json_of(&got)["dist-tags"].clone();
    assert_eq!(tags, json!({"old": "1.0.0", "both": "1.1.0", "a/b": "1.0.0", "3.0.0": "1.0.0"}), "as ever");
    let document: Value = serde_json::from_slice(&got.files["-/package/@s/a/dist-tags"]).unwrap();
    assert_eq!(document, tags);
    // The path of a tag may be hidden as well, and not every tag makes a path: one that could be a version would take
    // over that of another member's.
    let aliases = [("@s/a/old".to_owned(), (0, "@s/a/1.0.0".to_owned()))];
    assert_eq!(got.aliases, aliases.into());
    let mut closed = member("one", &one);
    closed.hidden.push("-/package/@s/a/dist-tags".to_owned());
    let got = merge(&[closed], &Table::default()).unwrap();
    assert_eq!(got.files.keys().collect::<Vec<_>>(), [NAME]);
}

#[test]
fn rs_48_documents_of_versions_lie_beside_their_tarballs() {
    let asked = |path: &str| {
        let request = Request { method: crate::Method::Get, raw_path: path, query: "", accept: "" };
        let path = RepoPath::from_canonical(path).unwrap();
        let asked = NpmMerge.asked(&path, &request).unwrap().unwrap();
        assert_eq!((asked.path.as_str(), asked.index.as_str()), (path.as_str(), NAME));
        (asked.beside, asked.is_index)
    };
    let tarball = || Some("@s/a/-/a-1.0.0.tgz".to_owned());
    assert_eq!(asked("@s/a/1.0.0"), (tarball(), false));
    assert_eq!(asked("-/npm/v1/attestations/@s/a@1.0.0"), (tarball(), false));
    assert_eq!(asked("@s/a/-/a-1.0.0.tgz"), (None, false));
    assert_eq!(asked("-/package/@s/a/dist-tags"), (None, true));
    assert_eq!(asked(NAME), (None, true));
    for other in ["@s/a/1.0.0/", "@s/a/-/a-1.0.0.tgz/", "-/npm/v1/attestations/@s/a@1.0.0/", "-/package/@s/a"]
    {
        let request = Request { method: crate::Method::Get, raw_path: other, query: "", accept: "" };
        let path = RepoPath::from_canonical(other).unwrap();
        assert!(matches!(NpmMerge.asked(&path, &request), Some(Err(PlanError::NotFound(_)))), "{other}");
    }
}

#[test]
fn a_tarball_elsewhere_is_the_client_s_to_fetch() {
    let mut one = packument("one", &["1.0.0", "2.0.0", "3.0.0"]);
    one["versions"]["1.0.0"]["dist"]["tarball"] = json!("https://cdn.test/a.tgz");
    one["versions"]["2.0.0"]["dist"] = json!(null);
    let got = merge(&[member("one", &one)], &Table::default()).unwrap();
    let found = json_of(&got);
    assert_eq!(found["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0", "3.0.0"]);
    assert_eq!(
        got.listed.into_keys().collect::<Vec<_>>(),
        ["@s/a/-/a-3.0.0.tgz", "@s/a/1.0.0"],
        "its document is the member's all the same"
    );
}

#[test]
fn rs_63_hostile_documents_end_in_an_error_that_names_the_member() {
    let deep = format!(r#"{{"versions":{{"1.0.0":{}"#, "[".repeat(100_000));
    for body in [
        "",
        "[]",
        "{}",
        "<html>sign in</html>",
        r#"{"versions":[]}"#,
        r#"{"versions":{},"versions":{}}"#,
        r#"{"versions":{"1.0.0":[]}}"#,
        r#"{"versions":{"1.0.0":{"dist":{"tarball":1}}}}"#,
        r#"{"versions":{"1.0.0":{}},"dist-tags":{"latest":1}}"#,
        r#"{"versions":{"1.0.0":{}"#,
        "{\"versions\":{},\"readme\":\"\n\"}",
        r#"{"versions":{},"time":[]}"#,
        &deep,
    ] {
        let bad = Fake::new("bad", &[(NAME, body.as_bytes())]);
        let error =
            merge(&[member("good", &packument("x", &["1.0.0"])), bad], &Table::default()).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {body:.60}");
    }
}

const VERSIONS: [&str; 5] = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0", "<b>"];

proptest! {
    #[test]
    fn a_merge_is_every_version_once(members in prop::collection::vec(prop::collection::btree_set(0..5usize, 0..5), 1..4)) {
        let build = || -> Vec<Fake> {
            let of = |(place, versions): (usize, &std::collections::BTreeSet<usize>)| {
                let versions: Vec<_> = versions.iter().map(|version| VERSIONS[*version]).collect();
                member(&format!("m{place}"), &packument(&format!("m{place}"), &versions))
            };
            members.iter().enumerate().map(of).collect()
        };
        let got = merge(&build(), &Table::default()).unwrap();
        let mut want = BTreeMap::new();
        for (place, versions) in members.iter().enumerate() {
            for version in versions {
                want.entry(format!("@s/a/-/a-{}.tgz", VERSIONS[*version])).or_insert(place);
            }
        }
        prop_assert_eq!(&got.listed, &want);
        if !want.is_empty() {
            prop_assert_eq!(advertised(&got), want.into_keys().collect::<Vec<_>>());
        }
        let twice: Vec<_> = build().into_iter().chain(build()).collect();
        prop_assert_eq!(merge(&twice, &Table::default()).unwrap(), got, "idempotent");
    }
}
