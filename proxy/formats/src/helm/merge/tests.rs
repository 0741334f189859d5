//! Merged chart indexes, as Helm reads them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::BufRead,
};

use artifactapi_model::PackageType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    helm::{Helm, read::MAX_ENTRY},
    merge::{
        Kept, merge_of,
        testing::{Echo, Fake, Generation, Table, merged},
    },
    testing::{self, Document},
};

fn member(name: &str, index: &Value) -> Fake {
    Fake::new(name, &[(INDEX, index.to_string().as_bytes())])
}

fn index(charts: &[(&str, &[(&str, &str)])]) -> Value {
    let entries: serde_json::Map<_, _> = charts
        .iter()
        .map(|(name, versions)| {
            let versions = versions.iter().map(|(version, url)| {
                json!({"name": name, "version": version, "urls": [url], "digest": format!("of {url}")})
            });
            ((*name).to_owned(), versions.collect())
        })
        .collect();
    json!({"apiVersion": "v1", "entries": entries, "generated": "2024-01-01T00:00:00Z"})
}

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&HelmMerge, INDEX, members, rules)
}

fn json_of(generation: &Generation) -> Value {
    serde_json::from_slice(&generation.files[INDEX]).unwrap()
}

/// Chart → (version, first URL), in the order of the index.
fn charts(generation: &Generation) -> BTreeMap<String, Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let index = json_of(generation);
    let entries = index["entries"].as_object().unwrap().iter();
    entries
        .map(|(name, versions)| {
            let versions = versions.as_array().unwrap().iter();
            (name.clone(), versions.map(|entry| (text(&entry["version"]), text(&entry["urls"][0]))).collect())
        })
        .collect()
}

/// The paths that the type's own reading of the index finds.
fn advertised(generation: &Generation) -> Vec<String> {
    let document = Document {
        path: INDEX,
        content_type: "application/json",
        url: "https://own.test/index.yaml",
        body: &generation.files[INDEX],
    };
    let remote = testing::remote(PackageType::Helm, "https://own.test/");
    let mut paths: Vec<_> = document
        .facts(&Helm, &remote)
        .unwrap()
        .into_iter()
        .filter(|fact| fact.url.is_none())
        .map(|fact| fact.path)
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn pairs(versions: &[(&str, &str)]) -> Vec<(String, String)> {
    versions.iter().map(|(version, url)| ((*version).to_owned(), (*url).to_owned())).collect()
}

#[test]
fn requests_belong_to_the_index_that_names_them() {
    let merge = merge_of(PackageType::Helm).unwrap();
    for (path, want) in [
        ("index.yaml", Some("index.yaml")),
        ("a/b/index.yaml", Some("a/b/index.yaml")),
        ("-/m/one/charts/a-1.tgz", Some("index.yaml")),
        ("a/-/m/one/a-1.tgz.prov", Some("a/index.yaml")),
        ("-/m/one/-/x/id/a.tgz", Some("index.yaml")),
        ("a/-/m/one/index.yaml", Some("a/index.yaml")),
        ("charts/a-1.tgz", None),
        ("index.json", None),
        ("-/m/one", None),
        ("-/m/one/a/", None),
        ("", None),
    ] {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(merge.index_of(&path).as_ref().map(RepoPath::as_str), want, "{path}");
    }
}

#[test]
fn the_first_member_wins_a_version_and_helm_s_order_holds() {
    let one = index(&[
        ("a", &[("1.2.0", "charts/a-1.2.0.tgz"), ("1.10.0", "a-1.10.0.tgz")]),
        ("b", &[("latest", "b.tgz")]),
    ]);
    let two = index(&[
        ("a", &[("2.0.0-rc.1", "a-2.tgz"), ("1.2.0", "evil.tgz"), ("1.2.0+b", "a-1.2.0+b.tgz")]),
        ("b", &[("0.1", "b-0.1.tgz")]),
        ("c", &[]),
    ]);
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    let want = BTreeMap::from([
        (
            "a".to_owned(),
            pairs(&[
                ("2.0.0-rc.1", "-/m/two/a-2.tgz"),
                ("1.10.0", "-/m/one/a-1.10.0.tgz"),
                ("1.2.0", "-/m/one/charts/a-1.2.0.tgz"),
                ("1.2.0+b", "-/m/two/a-1.2.0+b.tgz"),
            ]),
        ),
        ("b".to_owned(), pairs(&[("0.1", "-/m/two/b-0.1.tgz"), ("latest", "-/m/one/b.tgz")])),
    ]);
    assert_eq!(charts(&got), want);
    assert_eq!(json_of(&got)["apiVersion"], "v1");
    let entry = &json_of(&got)["entries"]["a"][2];
    assert_eq!(entry["digest"], "of charts/a-1.2.0.tgz", "what is not ours to change stays");
    assert!(!String::from_utf8_lossy(&got.files[INDEX]).contains("evil"), "a loser is kept out entirely");
    assert_eq!(got.listed["-/m/two/a-2.tgz"], 1);
    assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), advertised(&got));
}

#[test]
fn rs_48_rs_49_rules_hold_for_index_and_list_alike() {
    let one = index(&[("a", &[("1", "a-1.tgz")]), ("kept", &[("9", "kept-9.tgz")])]);
    let two = index(&[
        ("a", &[("2", "a-2.tgz")]),
        ("kept", &[("1", "kept-1.tgz")]),
        ("b", &[("1", "b-1.tgz"), ("2", "b-2.tgz")]),
    ]);
    let mut members = [member("one", &one), member("two", &two)];
    members[1].hidden.push("b-2.tgz".to_owned());
    let rules = Table { names_first: true, owners: BTreeMap::from([("kept".to_owned(), 1)]) };
    let got = merge(&members, &rules).unwrap();
    assert_eq!(
        got.listed.into_iter().collect::<Vec<_>>(),
        [("-/m/one/a-1.tgz", 0), ("-/m/two/b-1.tgz", 1), ("-/m/two/kept-1.tgz", 1)]
            .map(|(path, member)| (path.to_owned(), member))
    );
    // What a member hides it does not have.
    members[0].hidden.push("a-1.tgz".to_owned());
    assert!(merge(&members, &rules).unwrap().listed.contains_key("-/m/two/a-2.tgz"));
}

#[test]
fn only_the_first_usable_url_stays() {
    let link = "-/x/id/a.tgz";
    for (urls, want, path) in [
        (json!(["charts/a b.tgz"]), Some("-/m/one/charts/a%20b.tgz"), Some("charts/a b.tgz")),
        (json!(["./a:1.tgz", "b.tgz"]), Some("-/m/one/a:1.tgz"), Some("a:1.tgz")),
        (json!([link]), Some("-/m/one/-/x/id/a.tgz"), Some(link)),
        (json!(["file:///etc/passwd", "../a.tgz", "a.tgz"]), Some("-/m/one/a.tgz"), Some("a.tgz")),
        (json!([null, "a.tgz"]), Some("-/m/one/a.tgz"), Some("a.tgz")),
        (json!(["oci://r.test/a:1", "a.tgz"]), Some("oci://r.test/a:1"), None),
        (json!(["https://cdn.test/a.tgz?t=1"]), Some("https://cdn.test/a.tgz?t=1"), None),
        (json!(["a.tgz?t=1"]), None, None),
        (json!(["/a.tgz"]), None, None),
        (json!(["javascript:alert(1)"]), None, None),
        (json!([]), None, None),
        (json!(null), None, None),
    ] {
        let index = json!({"entries": {"a": [{"version": "1", "urls": urls, "x": [{"urls": ["kept"]}]}, null, {"urls": ["b.tgz"]}]}});
        let got = merge(&[member("one", &index)], &Table::default()).unwrap();
        let left: Vec<_> = charts(&got).into_values().flatten().map(|(_, url)| url).collect();
        assert_eq!(left, Vec::from_iter(want), "{urls}");
        let listed: Vec<_> = got.listed.keys().map(String::as_str).collect();
        let path = path.map(|path| format!("-/m/one/{path}"));
        assert_eq!(listed, Vec::from_iter(path.as_deref()), "{urls}");
        if want.is_some() {
            assert_eq!(json_of(&got)["entries"]["a"][0]["x"][0]["urls"][0], "kept");
        }
    }
}

#[test]
fn an_index_in_a_directory_and_one_that_nobody_has() {
    let index = index(&[("a", &[("1", "charts/a.tgz")])]).to_string();
    let one = Fake::new("one", &[("x y/index.yaml", index.as_bytes())]);
    let got =
        merged(&HelmMerge, "x y/index.yaml", &[Fake::new("zero", &[]), one], &Table::default()).unwrap();
    assert_eq!(got.listed, BTreeMap::from([("x y/-/m/one/charts/a.tgz".to_owned(), 1)]));
    assert!(
        String::from_utf8_lossy(&got.files["x y/index.yaml"]).contains(r#""urls":["-/m/one/charts/a.tgz"]"#)
    );
    assert_eq!(merge(&[Fake::new("one", &[])], &Table::default()).unwrap(), Generation::default());
}

#[test]
fn a_name_that_helm_takes_for_another_is_read_as_that() {
    let body = br#"{"entries":{"a":[{"Ver\u017fion":"1","URLs":["a.tgz"],"appversion":"x"}]}}"#;
    let got = merge(&[Fake::new("one", &[(INDEX, body)])], &Table::default()).unwrap();
    let want = br#"{"Ver\u017fion":"1","URLs":["-/m/one/a.tgz"],"appversion":"x"}"#;
    let text = String::from_utf8_lossy(&got.files[INDEX]).into_owned();
    assert!(text.contains(&*String::from_utf8_lossy(want)), "{text}");
}

#[test]
fn rs_63_what_helm_would_refuse_is_an_error_that_names_the_member() {
    let good = member("good", &index(&[("a", &[("1", "a.tgz")])]));
    let entry = |fields: &str| format!(r#"{{"entries":{{"a":[{fields}]}}}}"#);
    let deep = format!(r#"{{"entries":{{"a":[{{"x":{}"#, "[".repeat(100_000));
    for body in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        "entries: {}".to_owned(),
        r#"{"entries":[]}"#.to_owned(),
        r#"{"entries":{},"entries":{}}"#.to_owned(),
        r#"{"entries":{}} x"#.to_owned(),
        r#"{"entries":{"a":{}}}"#.to_owned(),
        r#"{"entries":{"a":[{"version":"1""#.to_owned(),
        entry(r#""x""#),
        entry(r#"["1",["a.tgz"]]"#),
        entry(r#"{"version":1}"#),
        entry(r#"{"version":"1","version":"2"}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"urls":["b.tgz"]}"#),
        // To Helm, which is written in Go, each of these names is one that it knows.
        entry(r#"{"version":"2","ver\u017fion":"1","urls":["a.tgz"]}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"URLs":["https://a.test/b.tgz"]}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"appversion":1.10}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"\u212aeywords":"a"}"#),
        entry(r#"{"version":"1","urls":"a.tgz"}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"appVersion":1.10}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"annotations":{"a":1}}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"maintainers":[["a"]]}"#),
        entry(r#"{"version":"1","urls":["a.tgz"],"created":"yesterday"}"#),
        entry("{\"version\":\"1\",\"urls\":[\"a.tgz\"],\"x\":\"\n\"}"),
        entry(&format!(r#"{{"x":"{}"}}"#, "y".repeat(MAX_ENTRY))),
        deep,
    ] {
        let bad = Fake::new("bad", &[(INDEX, body.as_bytes())]);
        let error = merge(&[good_copy(&good), bad], &Table::default()).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {:.80}", body);
    }
    let not_text =
        Fake::new("bad", &[(INDEX, b"{\"entries\":{\"a\":[{\"version\":\"1\",\"x\":\"\xff\"}]}}")]);
    assert!(merge(&[not_text], &Table::default()).is_err());
}

fn good_copy(member: &Fake) -> Fake {
    Fake { name: member.name.clone(), documents: member.documents.clone(), hidden: Vec::new() }
}

#[test]
fn names_are_text_whatever_they_look_like() {
    let name = "<script>\"\\\u{1}</script>";
    let got = merge(&[member("one", &index(&[(name, &[("1", "a<b>.tgz")])]))], &Table::default()).unwrap();
    assert_eq!(charts(&got)[name], pairs(&[("1", "-/m/one/a%3Cb%3E.tgz")]));
    assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), advertised(&got));
}

/// A member whose merges are remembered, as the engine does.
struct Remembered {
    member: Fake,
    kept: RefCell<Option<Kept>>,
    read: Cell<usize>,
}

impl Member for Remembered {
    fn name(&self) -> &str {
        self.member.name()
    }

    fn permits(&self, path: &str) -> bool {
        self.member.permits(path)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        self.member.open(path)
    }

    fn kept(&self, _: &str) -> Option<Kept> {
        self.kept.borrow().clone()
    }

    fn keep(&self, _: &str, kept: Kept, bytes: usize) {
        assert!(bytes > 0);
        self.kept.replace(Some(kept));
        self.read.set(self.read.get() + 1);
    }
}

#[test]
fn an_index_that_stays_is_read_once_whatever_changes_beside_it() {
    let of = |member: Fake| Remembered { member, kept: RefCell::default(), read: Cell::new(0) };
    let run = |members: &[Remembered], rules: &Table| {
        let members: Vec<&dyn Member> = members.iter().map(|member| member as &dyn Member).collect();
        let mut output = Generation::default();
        let path = RepoPath::from_canonical(INDEX).unwrap();
        let inputs = Inputs { index: &path, members: &members, rules, signer: &Echo };
        HelmMerge.merge(inputs, &mut output).unwrap();
        output
    };
    let one = index(&[("a", &[("1", "a-1.tgz"), ("3", "a-3.tgz")]), ("b", &[("1", "b.tgz")])]);
    let two = |version| index(&[("a", &[(version, "a-2.tgz")])]);
    let mut members = [of(member("one", &one)), of(member("two", &two("2")))];
    let rules = Table::default();
    run(&members, &rules);
    members[1] = of(member("two", &two("2.1")));
    let got = run(&members, &rules);
    assert_eq!(got, merge(&[member("one", &one), member("two", &two("2.1"))], &rules).unwrap());
    // What others decide may be otherwise each time.
    members[0].member.hidden.push("a-3.tgz".to_owned());
    let first = Table { names_first: true, ..Table::default() };
    let found = charts(&run(&members, &first));
    assert_eq!(found["a"], pairs(&[("1", "-/m/one/a-1.tgz")]));
    assert_eq!(members.map(|member| member.read.get()), [1, 1]);
}

type Generated = Vec<Vec<(u8, u8, u8)>>;

fn any_members() -> impl Strategy<Value = Generated> {
    prop::collection::vec(prop::collection::vec((0..3u8, 0..6u8, 0..4u8), 0..12), 1..4)
}

const VERSIONS: [&str; 6] = ["1.0.0", "1.0.0-a", "v1.0.0", "1.10.0", "1.9.0", "none"];

fn build(members: &Generated) -> Vec<Fake> {
    let documents = members.iter().enumerate().map(|(place, entries)| {
        let mut charts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (chart, version, file) in entries {
            let version = VERSIONS[usize::from(*version)];
            let entry = json!({"version": version, "urls": [format!("{file}.tgz")], "description": format!("of {place}")});
            charts.entry(format!("c{chart}")).or_default().push(entry);
        }
        member(&format!("m{place}"), &json!({"entries": charts}))
    });
    documents.collect()
}

/// Chart → version → its member and file, by going through everything in order.
fn naive(members: &Generated, rules: &Table, hidden: u8) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    let mut want: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    for (place, entries) in members.iter().enumerate() {
        for (chart, version, file) in entries {
            let name = format!("c{chart}");
            let is_owner = rules.owners.get(&name).is_none_or(|owner| *owner == place);
            if *file == hidden || !is_owner {
                continue;
            }
            if rules.names_first && *owners.entry(name.clone()).or_insert(place) != place {
                continue;
            }
            let url = format!("-/m/m{place}/{file}.tgz");
            want.entry(name).or_default().entry(VERSIONS[usize::from(*version)]).or_insert(url);
        }
    }
    want
}

proptest! {
    #[test]
    fn a_merge_is_what_going_through_everything_gives(
        members in any_members(), names_first: bool, owned in prop::option::of((0..3u8, 0..3usize)), hidden in 0..5u8,
    ) {
        let owners = owned.map(|(chart, owner)| (format!("c{chart}"), owner % members.len())).into_iter().collect();
        let rules = Table { names_first, owners };
        let mut built = build(&members);
        built.iter_mut().for_each(|member| member.hidden.push(format!("{hidden}.tgz")));
        let got = merge(&built, &rules).unwrap();
        let found = charts(&got);
        for versions in found.values() {
            prop_assert!(versions.is_sorted_by(|a, b| Order::of(&a.0) >= Order::of(&b.0)), "{:?}", versions);
        }
        let found: BTreeMap<_, BTreeMap<_, _>> =
            found.into_iter().map(|(name, versions)| (name, versions.into_iter().collect())).collect();
        let want: BTreeMap<_, BTreeMap<_, _>> = naive(&members, &rules, hidden)
            .into_iter()
            .map(|(name, versions)| (name, versions.into_iter().map(|(version, url)| (version.to_owned(), url)).collect()))
            .collect();
        prop_assert_eq!(found, want);
        prop_assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), advertised(&got));
        prop_assert_eq!(&merge(&built, &rules).unwrap(), &got, "deterministic");
        // A member behind itself adds nothing.
        let mut twice = build(&members);
        twice.extend(build(&members));
        twice.iter_mut().for_each(|member| member.hidden.push(format!("{hidden}.tgz")));
        prop_assert_eq!(&merge(&twice, &rules).unwrap(), &got, "idempotent");
    }

    #[test]
    fn rs_63_a_torn_index_is_an_error(cut in 0..200usize) {
        let body = index(&[("a", &[("1.0.0", "charts/a-1.0.0.tgz")])]).to_string();
        let cut = cut.min(body.len() - 1);
        let torn = Fake::new("torn", &[(INDEX, &body.as_bytes()[..cut])]);
        prop_assert!(merge(&[torn], &Table::default()).is_err());
    }
}
