//! Merged indexes, as apk reads them.

use std::{collections::BTreeMap, io::Read as _};

use artifactapi_model::PackageType;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::{
    alpine::Alpine,
    merge::{
        merge_of,
        testing::{Echo, Fake, Generation, Table, merged},
    },
    testing::{
        self, Document,
        archive::{entry, gzip as pack, tar, with_end},
    },
};

const PATH: &str = "v3.20/main/x86_64/APKINDEX.tar.gz";
const DIRECTORY: &str = "v3.20/main/x86_64/";

/// An index as `apk index` and `abuild-sign` leave it.
fn index(records: &str) -> Vec<u8> {
    let signature = pack(&tar(&[(".SIGN.RSA.demo.rsa.pub", b"signature")]));
    let rest = tar(&[("DESCRIPTION", b"v3.20.0"), ("APKINDEX", records.as_bytes())]);
    [signature, pack(&with_end(rest))].concat()
}

fn record(name: &str, version: &str, arch: &str, note: &str) -> String {
    let checksum = STANDARD.encode([7; 20]);
    format!("C:Q1{checksum}\nP:{name}\nV:{version}\nA:{arch}\nS:7\nT:{note}\np:so:x=1\n\n")
}

fn member(name: &str, records: &[String]) -> Fake {
    Fake::new(name, &[(PATH, &index(&records.concat()))])
}

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&AlpineMerge, PATH, members, rules)
}

/// A name and a content.
type File = (String, Vec<u8>);

/// The gzip member that the signature covers, as stored, and the files in both.
fn opened(index: &[u8]) -> (Vec<u8>, Vec<File>) {
    let mut rest = index;
    let mut first = GzDecoder::new(&mut rest);
    let mut plain = Vec::new();
    first.read_to_end(&mut plain).unwrap();
    assert_eq!(plain.len(), 1024, "a header and a block, no end of the archive");
    let covered = rest.to_vec();
    GzDecoder::new(&covered[..]).read_to_end(&mut plain).unwrap();
    let mut files = Vec::new();
    crate::inspect::tar::walk(&mut &plain[..], |name, content| {
        let mut body = Vec::new();
        content.read_to_end(&mut body)?;
        files.push((name.to_owned(), body));
        Ok(())
    })
    .unwrap();
    (covered, files)
}

fn records_of(generation: &Generation) -> String {
    let (_, mut files) = opened(&generation.files[PATH]);
    String::from_utf8(files.pop().unwrap().1).unwrap()
}

fn advertised(generation: &Generation) -> Vec<String> {
    let url = "https://own.test/";
    let document =
        Document { path: PATH, content_type: "application/gzip", url, body: &generation.files[PATH] };
    let remote = testing::remote(PackageType::Alpine, url);
    let mut paths: Vec<_> =
        document.facts(&Alpine, &remote).unwrap().into_iter().map(|fact| fact.path).collect();
    paths.sort();
    paths
}

#[test]
fn requests_belong_to_the_index_beside_them() {
    let merge = merge_of(PackageType::Alpine).unwrap();
    for (path, want) in [
        (PATH, Some(PATH)),
        ("APKINDEX.tar.gz", Some("APKINDEX.tar.gz")),
        ("v3.20/main/x86_64/busybox-1.36.1-r29.apk", Some(PATH)),
        ("a-1.apk", Some("APKINDEX.tar.gz")),
        ("x86_64/.apk", None),
        ("x86_64/Packages.adb", None),
        ("keys/a.rsa.pub", None),
        ("x86_64/", None),
        ("", None),
    ] {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(merge.index_of(&path).as_ref().map(RepoPath::as_str), want, "{path}");
    }
}

#[test]
fn records_are_joined_byte_for_byte_and_the_first_member_has_the_file_name() {
    let one = [record("a", "1-r0", "x86_64", "one"), record("c-1", "2-r0", "x86_64", "one")];
    let two = [
        record("a", "1-r0", "noarch", "loser: the same file name"),
        record("c", "1-2-r0", "x86_64", "loser: the same file name"),
        record("a", "2-r0", "x86_64", "two"),
    ];
    let got = merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap();
    assert_eq!(records_of(&got), [&one[..], &two[2..]].concat().concat());
    let listed = [("a-1-r0.apk", 0), ("a-2-r0.apk", 1), ("c-1-2-r0.apk", 0)];
    let want: BTreeMap<_, _> = listed.map(|(name, member)| (format!("{DIRECTORY}{name}"), member)).into();
    assert_eq!(got.listed, want);
    assert_eq!(
        got.listed.into_keys().collect::<Vec<_>>(),
        advertised(&merge(&[member("one", &one), member("two", &two)], &Table::default()).unwrap())
    );
}

#[test]
fn the_signature_covers_exactly_what_follows_it() {
    let got = merge(&[member("one", &[record("a", "1-r0", "x86_64", "")])], &Table::default()).unwrap();
    let (covered, files) = opened(&got.files[PATH]);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [".SIGN.RSA256.echo.rsa.pub", "DESCRIPTION", "APKINDEX"]);
    assert_eq!(files[0].1, Echo.rsa_sha256(&Digest::of(&covered)).unwrap());
    assert!(files[1].1.len() <= 160);
    for member in [&got.files[PATH][..], &covered] {
        assert_eq!(member[..10], *b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "no time, no name, no system");
    }
}

#[test]
fn a_key_that_fails_is_no_member_s_fault() {
    struct Broken;
    impl Signer for Broken {
        fn rsa_name(&self) -> String {
            "broken.rsa.pub".to_owned()
        }
        fn rsa_sha256(&self, _: &Digest) -> Result<Vec<u8>, String> {
            Err("no key".to_owned())
        }
        fn openpgp(&self, _: &[u8]) -> Result<Option<String>, String> {
            Err("no key".to_owned())
        }
    }
    let told = sign(&Digest::of(b"x"), &Broken).unwrap_err().to_string();
    assert_eq!(told, "the index cannot be signed: no key");
}

#[test]
fn rs_48_rs_49_rules_hold_for_index_and_list_alike() {
    let one = [record("a", "1-r0", "x86_64", ""), record("kept", "9-r0", "x86_64", "")];
    let two = ["a", "kept", "b", "hidden"].map(|name| record(name, "2-r0", "x86_64", ""));
    let mut members = [member("one", &one), member("two", &two)];
    members[1].hidden.push(format!("{DIRECTORY}hidden-2-r0.apk"));
    let rules = Table { names_first: true, owners: BTreeMap::from([("kept".to_owned(), 1)]) };
    let got = merge(&members, &rules).unwrap();
    let want = ["a-1-r0.apk", "b-2-r0.apk", "kept-2-r0.apk"].map(|name| format!("{DIRECTORY}{name}"));
    assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), want);
    assert_eq!(advertised(&got), want);
}

#[test]
fn an_index_that_nobody_has_and_one_that_is_empty() {
    assert_eq!(merge(&[Fake::new("one", &[])], &Table::default()).unwrap(), Generation::default());
    let got = merge(&[Fake::new("zero", &[]), member("one", &[])], &Table::default()).unwrap();
    assert_eq!((records_of(&got).as_str(), got.listed.len()), ("", 0));
    // Empty lines between records, and none at the end.
    let loose = format!("\n\n{}\n\n{}", record("a", "1", "x", ""), record("b", "1", "x", "").trim_end());
    let got = merge(&[member("one", &[loose])], &Table::default()).unwrap();
    assert_eq!(records_of(&got), record("a", "1", "x", "") + &record("b", "1", "x", ""));
}

#[test]
fn rs_63_what_apk_would_refuse_is_an_error_that_names_the_member() {
    let good = record("a", "1-r0", "x86_64", "");
    let records = |text: &str| index(&format!("{good}{text}"));
    for (what, body) in [
        ("no name", records("C:Q1AA==\nV:1\n")),
        ("no version", records("C:Q1AA==\nP:b\n")),
        ("empty version", records("C:Q1AA==\nP:b\nV:\n")),
        ("no checksum", records("P:b\nV:1\n")),
        ("two names", records("C:Q1AA==\nP:b\nV:1\nP:kept\n")),
        ("no field", records("C:Q1AA==\nP:b\nV:1\nno field\n")),
        ("name with a slash", records("C:Q1AA==\nP:../b\nV:1\n")),
        ("version with a slash", records("C:Q1AA==\nP:b\nV:1/2\n")),
        ("name not UTF-8", pack(&entry("APKINDEX", b"C:Q1AA==\nP:\xff\nV:1\n"))),
        ("torn", records("")[..200].to_vec()),
        ("gzip bomb", pack(&vec![0; 64 << 20])),
        ("long line", pack(&entry("APKINDEX", &vec![b'x'; 2 << 20]))),
        ("long record", pack(&entry("APKINDEX", &b"x:0123456789abcde\n".repeat(300_000)))),
        ("HTML", b"<html>sign in</html>".to_vec()),
        ("empty", Vec::new()),
    ] {
        let members = [member("good", std::slice::from_ref(&good)), Fake::new("bad", &[(PATH, &body)])];
        let error = merge(&members, &Table::default()).unwrap_err().to_string();
        assert!(error.starts_with("member bad: the index "), "{what}: {error}");
    }
}

#[test]
fn rs_62_many_small_records_are_merged_in_little() {
    let many: Vec<_> = (0..20_000).map(|number| format!("C:Q1\nP:p{number}\nV:1\n\n")).collect();
    let got = merge(&[member("one", &many), member("two", &many)], &Table::default()).unwrap();
    assert_eq!((got.listed.len(), got.listed.values().max()), (20_000, Some(&0)));
}

type Generated = Vec<Vec<(u8, u8, bool)>>;

fn build(members: &Generated, hidden: u8) -> Vec<Fake> {
    let build = |(place, records): (usize, &Vec<(u8, u8, bool)>)| {
        let records: Vec<_> = records.iter().map(|entry| generated(place, *entry)).collect();
        let mut member = member(&format!("m{place}"), &records);
        member.hidden.push(format!("{DIRECTORY}p{hidden}-1-r0.apk"));
        member
    };
    members.iter().enumerate().map(build).collect()
}

fn generated(place: usize, (name, version, noarch): (u8, u8, bool)) -> String {
    let arch = if noarch { "noarch" } else { "x86_64" };
    record(&format!("p{name}"), &format!("{version}-r0"), arch, &place.to_string())
}

fn naive(members: &Generated, rules: &Table, hidden: u8) -> (String, BTreeMap<String, usize>) {
    let (mut text, mut listed, mut owners) = (String::new(), BTreeMap::new(), BTreeMap::new());
    for (place, records) in members.iter().enumerate() {
        for entry @ (name, version, _) in records {
            let path = format!("{DIRECTORY}p{name}-{version}-r0.apk");
            let is_owner = rules.owners.get(&format!("p{name}")).is_none_or(|owner| *owner == place);
            let mut is_first = || !rules.names_first || *owners.entry(*name).or_insert(place) == place;
            if (*name, *version) == (hidden, 1) || !is_owner || !is_first() || listed.contains_key(&path) {
                continue;
            }
            text.push_str(&generated(place, *entry));
            listed.insert(path, place);
        }
    }
    (text, listed)
}

proptest! {
    #[test]
    fn a_merge_is_what_going_through_everything_gives(
        members in prop::collection::vec(prop::collection::vec((0..3u8, 0..3u8, any::<bool>()), 0..8), 1..4),
        names_first: bool, owned in prop::option::of((0..3u8, 0..3usize)), hidden in 0..4u8,
    ) {
        let owners = owned.map(|(name, owner)| (format!("p{name}"), owner % members.len()));
        let rules = Table { names_first, owners: owners.into_iter().collect() };
        let built = build(&members, hidden);
        let got = merge(&built, &rules).unwrap();
        let (text, listed) = naive(&members, &rules, hidden);
        prop_assert_eq!(records_of(&got), text);
        prop_assert_eq!(&got.listed, &listed);
        prop_assert_eq!(listed.into_keys().collect::<Vec<_>>(), advertised(&got));
        prop_assert_eq!(&merge(&built, &rules).unwrap(), &got, "deterministic");
        // A member behind itself adds nothing.
        let mut twice = build(&members, hidden);
        twice.extend(build(&members, hidden));
        prop_assert_eq!(&merge(&twice, &rules).unwrap(), &got, "idempotent");
    }

    #[test]
    fn any_bytes_end_in_an_index_that_reads_back_or_an_error(records in "(([CPVSA]:)?[a-z0-9+./%\\\\]{0,6}\n){0,12}|\\PC{0,40}") {
        if let Ok(got) = merge(&[member("one", &[records])], &Table::default()) {
            let facts = advertised(&got);
            prop_assert!(facts.iter().all(|path| got.listed.contains_key(path)));
        }
    }
}
