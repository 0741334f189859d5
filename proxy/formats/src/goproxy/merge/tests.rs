//! Merged lists of versions, as the go command reads them.

use std::collections::BTreeMap;

use artifactapi_model::PackageType;
use proptest::prelude::*;

use super::*;
use crate::merge::{
    merge_of,
    testing::{Fake, Generation, Table, merged},
};

const PATH: &str = "example.com/!a/b/@v/list";

fn merge(lists: &[&str], rules: &Table) -> Result<Generation, IndexError> {
    let members: Vec<_> = lists
        .iter()
        .enumerate()
        .map(|(place, list)| Fake::new(&format!("m{place}"), &[(PATH, list.as_bytes())]))
        .collect();
    merged(&GoproxyMerge, PATH, &members, rules)
}

#[test]
fn requests_belong_to_the_list_of_their_module() {
    let merge = merge_of(PackageType::Goproxy).unwrap();
    for (path, want) in [
        (PATH, Some(PATH)),
        ("example.com/!a/b/@v/v1.0.0.info", Some(PATH)),
        ("example.com/!a/b/@v/v1.0.0-!r!c1.zip", Some(PATH)),
        ("example.com/!a/b/@v/v2.0.0+incompatible.mod", Some(PATH)),
        ("example.com/!a/b/@v/v0.0.0-20240102030405-0123456789ab.zip", None),
        ("example.com/!a/b/@v/v1.2.4-0.20240102030405-0123456789ab.zip", None),
        ("example.com/!a/b/@v/master.info", Some("example.com/!a/b/@v/master.info")),
        ("example.com/!a/b/@v/v1.info", Some("example.com/!a/b/@v/v1.info")),
        ("example.com/!a/b/@v/v1.zip", None),
        ("example.com/!a/b/@latest", Some("example.com/!a/b/@latest")),
        ("Example.com/b/@latest", None),
        ("sumdb/sum.golang.org/latest", None),
        ("@v/list", None),
    ] {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(merge.index_of(&path).as_ref().map(RepoPath::as_str), want, "{path}");
    }
}

#[test]
fn each_version_is_the_first_member_s() {
    let got = merge(
        &[
            "v1.0.0\nv1.1.0 2024-01-02T03:04:05Z\n",
            "v1.1.0\n\nv1.0.0-RC1\nv0.0.0-20240102030405-0123456789ab",
        ],
        &Table::default(),
    )
    .unwrap();
    assert_eq!(got.files[PATH], b"v1.0.0\nv1.1.0\nv1.0.0-RC1\n");
    let of =
        |version: &str, member| FILES.map(|kind| (format!("example.com/!a/b/@v/{version}.{kind}"), member));
    let want: BTreeMap<_, _> =
        [of("v1.0.0", 0), of("v1.1.0", 0), of("v1.0.0-!r!c1", 1)].concat().into_iter().collect();
    assert_eq!(got.listed, want);
}

#[test]
fn rs_49_rules_hold_and_an_empty_list_is_one() {
    let owners = [("example.com/!a/b".to_owned(), 1)].into();
    let got = merge(&["v1.0.0\n", "v2.0.0\n"], &Table { names_first: false, owners }).unwrap();
    assert_eq!(got.files[PATH], b"v2.0.0\n");
    let first = Table { names_first: true, ..Table::default() };
    assert_eq!(merge(&["", "v1.0.0\n", "v2.0.0\n"], &first).unwrap().files[PATH], b"v1.0.0\n");
    assert_eq!(merge(&["", ""], &first).unwrap().files[PATH], b"");
    assert_eq!(merge(&[], &first).unwrap(), Generation::default());
    let mut hiding = Fake::new("one", &[(PATH, b"v1.0.0\nv1.1.0\n")]);
    hiding.hidden.push("example.com/!a/b/@v/v1.1.0.zip".to_owned());
    assert_eq!(merged(&GoproxyMerge, PATH, &[hiding], &first).unwrap().listed.len(), 3);
}

const LATEST: &str = "example.com/!a/b/@latest";

fn said(version: &str, of: &str) -> String {
    format!("{{\"Version\":\"{version}\",\"Time\":\"{of}\"}}")
}

/// A member with a list, an answer at `path`, and what it says of the versions.
fn answering(name: &str, list: &str, path: &str, answer: Option<&str>) -> Fake {
    let mut member = Fake::new(name, &[(PATH, list.as_bytes())]);
    for version in list.lines().chain(answer) {
        let info = format!("example.com/!a/b/@v/{}.info", escape::escape(version));
        member.documents.insert(info, said(version, name).into_bytes());
    }
    if let Some(answer) = answer {
        member.documents.insert(path.to_owned(), said(answer, name).into_bytes());
    }
    member
}

fn hiding(mut member: Fake, versions: &[&str]) -> Fake {
    // Any of the three.
    let hidden = |(kind, version): (&str, &&str)| format!("example.com/!a/b/@v/{version}.{kind}");
    member.hidden.extend(FILES.into_iter().cycle().zip(versions).map(hidden));
    member
}

/// What one member says that owns the name, or what several say that are united.
fn answer(path: &str, members: &[Fake]) -> Option<String> {
    answer_by(&Table { names_first: members.len() == 1, ..Table::default() }, path, members)
}

fn answer_by(rules: &Table, path: &str, members: &[Fake]) -> Option<String> {
    let got = merged(&GoproxyMerge, path, members, rules).unwrap();
    assert!(got.listed.is_empty());
    got.files.get(path).map(|json| String::from_utf8(json.clone()).unwrap())
}

const COMMIT: &str = "v0.0.0-20240102030405-0123456789ab";

#[test]
fn rs_48_the_newest_version_is_one_that_can_be_had() {
    let list = "v1.0.0\nv1.2.0\nv1.10.0\nv2.0.0-rc.1\n";
    let one = |answer| answering("one", list, LATEST, answer);
    for (member, want) in [
        (one(Some("v1.10.0")), Some("v1.10.0")),
        (one(Some("v1.2.0")), Some("v1.2.0")),
        (hiding(one(Some("v1.10.0")), &["v1.10.0"]), Some("v1.2.0")),
        (hiding(one(None), &["v1.0.0", "v1.10.0"]), Some("v1.2.0")),
        // Previews only where there is nothing else.
        (hiding(one(Some("v1.10.0")), &["v1.10.0", "v1.2.0", "v1.0.0"]), Some("v2.0.0-rc.1")),
        (hiding(one(Some("v1.10.0")), &["v1.10.0", "v1.2.0", "v1.0.0", "v2.0.0-rc.1"]), None),
        // It is younger than the list, or the list has none.
        (one(Some("v1.11.0")), Some("v1.11.0")),
        (answering("one", "", LATEST, Some(COMMIT)), Some(COMMIT)),
        (hiding(answering("one", "", LATEST, Some(COMMIT)), &[COMMIT]), None),
        (answering("one", "", LATEST, None), None),
    ] {
        let hidden = member.hidden.clone();
        assert_eq!(answer(LATEST, &[member]), want.map(|version| said(version, "one")), "{hidden:?}");
    }
    let united = answer_by(&Table::default(), LATEST, &[one(Some("v1.11.0"))]);
    assert_eq!(
        united,
        Some(said("v1.10.0", "one")),
        "what is not listed cannot be had where versions are united"
    );
    let lost = Fake { documents: [(PATH.to_owned(), b"v1.0.0".to_vec())].into(), ..Fake::new("one", &[]) };
    assert_eq!(answer(LATEST, &[lost]), None, "nothing is known of it");
    let mut closed = one(Some("v1.10.0"));
    closed.hidden.push(LATEST.to_owned());
    assert_eq!(answer(LATEST, &[closed]), None, "it is not to be asked");
}

#[test]
fn the_newest_version_of_several_members_is_the_highest_that_can_be_had() {
    let of = |name: &str, list: &str, version| answering(name, list, LATEST, Some(version));
    for (members, want) in [
        ([of("one", "v1.0.0", "v1.0.0"), of("two", "v1.1.0", "v1.1.0")], said("v1.1.0", "two")),
        ([of("one", "v1.0.0", "v1.0.0"), of("two", "v1.0.0", "v1.0.0")], said("v1.0.0", "one")),
        ([of("one", "v1.0.0", "v1.0.0"), of("two", "v2.0.0-rc.1", "v2.0.0-rc.1")], said("v1.0.0", "one")),
        // A commit is the owner's, and what no list has is nobody's.
        ([of("one", "", COMMIT), of("two", "v0.1.0-a", "v0.1.0-a")], said("v0.1.0-a", "two")),
        ([of("one", "", COMMIT), of("two", "", COMMIT)], said(COMMIT, "one")),
        ([of("one", "v1.0.0", "v9.0.0"), of("two", "", COMMIT)], said("v1.0.0", "one")),
    ] {
        assert_eq!(answer(LATEST, &members), Some(want));
    }
    let first = Table { names_first: true, ..Table::default() };
    let members = [of("one", "v1.0.0", "v1.0.0"), of("two", "v1.1.0", "v1.1.0")];
    let got = merged(&GoproxyMerge, LATEST, &members, &first).unwrap();
    assert_eq!(got.files[LATEST], said("v1.0.0", "one").as_bytes());
}

#[test]
fn rs_48_a_branch_leads_to_a_version_that_can_be_had() {
    let path = "example.com/!a/b/@v/master.info";
    let one = |version| answering("one", "v1.0.0\nv1.1.0\n", path, Some(version));
    for version in ["v1.1.0", COMMIT] {
        assert_eq!(answer(path, &[one(version)]), Some(said(version, "one")));
        assert_eq!(answer(path, &[hiding(one(version), &[version])]), None, "no other stands for a branch");
    }
    let two = || answering("two", "v1.1.0", path, Some("v1.1.0"));
    assert_eq!(answer(path, &[hiding(one("v1.1.0"), &["v1.1.0"]), two()]), Some(said("v1.1.0", "two")));
    assert_eq!(answer(path, &[one("v1.0.0"), two()]), Some(said("v1.0.0", "one")));
}

#[test]
fn the_files_of_a_version_are_had_together() {
    let together = |path: &str| GoproxyMerge.together(&RepoPath::from_canonical(path).unwrap());
    for version in ["v1.0.0", "v1.0.0-!r!c1", COMMIT] {
        for kind in FILES {
            let all = FILES.map(|kind| format!("example.com/!a/b/@v/{version}.{kind}"));
            assert_eq!(together(&format!("example.com/!a/b/@v/{version}.{kind}")), all);
        }
    }
    for path in [PATH, LATEST, "example.com/!a/b/@v/master.info", "sumdb/sum.golang.org/latest"] {
        assert_eq!(together(path), [""; 0], "{path}");
    }
}

#[test]
fn rs_63_what_is_no_answer_is_an_error_that_names_the_member() {
    let long = format!("{{\"Version\":\"v1.0.0\",\"a\":\"{}\"}}", "a".repeat(70_000));
    // The go command minds neither the case of a member nor that it comes twice.
    let twice = ["Version", "version", "VERSION"]
        .map(|key| format!("{{\"Version\":\"v1.0.0\",\"{key}\":\"v2.0.0\"}}"));
    let bodies =
        ["<html>", "{}", "{\"Version\":\"master\"}", "{\"Version\":\"v1.0.0-!r\"}", "{\"Version\":1}", &long];
    for body in bodies.into_iter().chain(twice.iter().map(String::as_str)) {
        let bad = Fake::new("bad", &[(PATH, b"v1.0.0"), (LATEST, body.as_bytes())]);
        let error = merged(&GoproxyMerge, LATEST, &[bad], &Table::default()).unwrap_err().to_string();
        assert!(error.starts_with("member bad: the index "), "{error}");
    }
}

#[test]
fn rs_63_what_is_no_list_is_an_error_that_names_the_member() {
    // The one before the last would take over the files of another member's v1.0.0-R.
    for list in [
        "<html>sign in</html>",
        "v1.0.0-!r",
        "v1.0.0\nlatest\n",
        &format!("v1.0.0-{}", "a".repeat(5000)),
        "v1.0.0-\u{e9}",
    ] {
        let error = merge(&["v1.0.0\n", list], &Table::default()).unwrap_err().to_string();
        assert!(error.starts_with("member m1: the index "), "{error}");
    }
}

proptest! {
    #[test]
    fn a_merge_is_every_version_once(lists in prop::collection::vec(prop::collection::vec((0..3u8, 0..3u8), 0..6), 1..4)) {
        let lists: Vec<String> = lists
            .iter()
            .map(|list| list.iter().map(|(minor, patch)| format!("v1.{minor}.{patch}\n")).collect())
            .collect();
        let texts: Vec<&str> = lists.iter().map(String::as_str).collect();
        let got = merge(&texts, &Table::default()).unwrap();
        let mut want: Vec<&str> = Vec::new();
        for version in texts.iter().flat_map(|list| list.lines()) {
            if !want.contains(&version) {
                want.push(version);
            }
        }
        let text = String::from_utf8(got.files[PATH].clone()).unwrap();
        prop_assert_eq!(text.lines().collect::<Vec<_>>(), want);
        prop_assert_eq!(got.listed.len(), 3 * text.lines().count());
        prop_assert_eq!(merge(&[texts.clone(), texts].concat(), &Table::default()).unwrap(), got, "idempotent");
    }
}
