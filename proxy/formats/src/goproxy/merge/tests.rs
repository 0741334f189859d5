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
        ("example.com/!a/b/@v/master.info", None),
        ("example.com/!a/b/@v/v1.info", None),
        ("example.com/!a/b/@latest", None),
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

#[test]
fn rs_63_what_is_no_list_is_an_error_that_names_the_member() {
    for list in
        ["<html>sign in</html>", "v1.0.0\nlatest\n", &format!("v1.0.0-{}", "a".repeat(5000)), "v1.0.0-\u{e9}"]
    {
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
