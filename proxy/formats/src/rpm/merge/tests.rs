//! Merged repositories, as dnf reads them.

mod hostile;
mod oracle;
mod properties;
mod repository;

use std::{collections::BTreeMap, io::Read as _};

use artifactapi_model::{Checksum, Digest, PackageType};

use self::repository::{Package, REPOMD, Repository, package};
use super::*;
use crate::{
    Fact, Method, Reach,
    merge::{
        merge_of,
        testing::{Fake, Generation, Table, merged},
    },
    rpm::Rpm,
    testing::{self, Document},
};

fn merge(members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&RpmMerge, REPOMD, members, rules)
}

/// The only file of the generation whose name ends with `end`, inflated.
fn file(generation: &Generation, end: &str) -> Option<String> {
    let mut found = generation.files.iter().filter(|(path, _)| path.ends_with(end));
    let (_, body) = found.next()?;
    assert!(found.next().is_none(), "two files end with {end}");
    let mut text = String::new();
    crate::inflate::open(&mut &body[..]).unwrap().read_to_string(&mut text).unwrap();
    Some(text)
}

fn facts(generation: &Generation, path: &str) -> Vec<Fact> {
    let url = "https://own.test/";
    let document = Document { path, content_type: "text/xml", url, body: &generation.files[path] };
    document.facts(&Rpm, &testing::remote(PackageType::Rpm, url)).unwrap()
}

/// The packages that the type's own reading finds, from `repomd.xml` on.
fn advertised(generation: &Generation) -> Vec<String> {
    let named = facts(generation, REPOMD);
    let primary = named.iter().find(|fact| fact.reach == Reach::Index).unwrap();
    let mut paths: Vec<_> = facts(generation, &primary.path).into_iter().map(|fact| fact.path).collect();
    paths.sort();
    paths
}

#[test]
fn requests_belong_to_the_repository_around_them() {
    let merge = merge_of(PackageType::Rpm).unwrap();
    for (path, want) in [
        (REPOMD, Some(REPOMD)),
        ("repodata/repomd.xml.asc", Some(REPOMD)),
        ("repodata/repomd.xml.key", Some(REPOMD)),
        ("repodata/0123-primary.xml.gz", Some(REPOMD)),
        ("9/os/repodata/x", Some("9/os/repodata/repomd.xml")),
        ("-/m/one/Packages/a.rpm", Some(REPOMD)),
        ("9/os/-/m/one/a.rpm", Some("9/os/repodata/repomd.xml")),
        ("-/m/one/repodata/repomd.xml", Some(REPOMD)),
        ("Packages/a.rpm", None),
        ("repodata/", None),
        ("repodata", None),
        ("notrepodata/x", None),
        ("-/m/one/", None),
        ("mirrorlist", None),
        ("", None),
    ] {
        let path = RepoPath::from_canonical(path).unwrap();
        assert_eq!(merge.index_of(&path).as_ref().map(RepoPath::as_str), want, "{path}");
    }
}

#[test]
fn no_member_s_metalink_speaks_of_the_merged_index() {
    let request = Request { method: Method::Get, raw_path: "", query: "", accept: "" };
    let asked = |path: &str| {
        let merge = merge_of(PackageType::Rpm).unwrap();
        merge.asked(&RepoPath::from_canonical(path).unwrap(), &request).map(|asked| asked.is_ok())
    };
    assert_eq!(asked("metalink"), Some(false));
    assert_eq!(asked("9/os/metalink.xml"), Some(false));
    assert_eq!(asked("9/os/repodata/repomd.xml"), Some(true));
    assert_eq!(asked("mirrorlist"), None);
}

#[test]
fn the_first_member_wins_a_package_and_everything_else_about_it() {
    let one = [package("a", "1"), Package { epoch: "1", ..package("a", "1") }, package("b", "2^git<1>")];
    let two = [
        Package { note: "loser", epoch: "", ..package("a", "1") },
        package("a", "2"),
        Package { arch: "noarch", note: "two", ..package("a", "1") },
    ];
    let members = [Repository::of(&one).member("one"), Repository::of(&two).member("two")];
    let got = merge(&members, &Table::default()).unwrap();
    let want: BTreeMap<_, _> = [
        ("-/m/one/Packages/a-0:1.x86_64.rpm", 0),
        ("-/m/one/Packages/a-1:1.x86_64.rpm", 0),
        ("-/m/one/Packages/b-0:2^git<1>.x86_64.rpm", 0),
        ("-/m/two/Packages/a-0:1.noarch.rpm", 1),
        ("-/m/two/Packages/a-0:2.x86_64.rpm", 1),
    ]
    .map(|(path, member)| (path.to_owned(), member))
    .into();
    assert_eq!(got.listed, want);
    assert_eq!(advertised(&got), want.into_keys().collect::<Vec<_>>());
    for (end, root) in
        [("-primary.xml.gz", "metadata"), ("-filelists.xml.gz", "filelists"), ("-other.xml.gz", "otherdata")]
    {
        let text = file(&got, end).unwrap();
        assert!(text.contains("packages=\"5\">\n<package "), "{text}");
        assert_eq!(text.matches("<package ").count(), 5, "{end}: {text}");
        assert!(text.ends_with(&format!("</package>\n</{root}>\n")) && !text.contains("loser"), "{text}");
    }
    let primary = file(&got, "-primary.xml.gz").unwrap();
    for kept in [
        "<summary>A &lt;b&gt; &amp; &#252; of </summary>",
        "<rpm:entry name=\"x\" flags='EQ'/>",
        "<![CDATA[<x>]]>",
    ] {
        assert!(primary.contains(kept), "{kept} is not as it was in {primary}");
    }
    assert!(!primary.contains("xml:base") && !primary.contains("<!--"), "{primary}");
    assert!(file(&got, "-filelists.xml.gz").unwrap().contains("<file>/usr/bin/two</file>"));
    assert!(file(&got, "-other.xml.gz").unwrap().contains("author=\"two\""));
}

#[test]
fn repomd_names_what_was_written() {
    let old =
        Repository { revision: "word", timestamp: "1700000005.25", ..Repository::of(&[package("a", "1")]) };
    let new = Repository { revision: "1700000009", ..Repository::of(&[package("b", "1")]) };
    let got = merge(&[old.member("one"), new.member("two")], &Table::default()).unwrap();
    let repomd = file(&got, "repomd.xml").unwrap();
    assert!(repomd.contains("<revision>1700000009</revision>"), "{repomd}");
    assert_eq!(repomd.matches("<timestamp>1700000009</timestamp>").count(), 3);
    let named = facts(&got, REPOMD);
    assert_eq!(named.len() + 2, got.files.len(), "every file but repomd.xml and its signature is named");
    for fact in named {
        let body = &got.files[&fact.path];
        assert_eq!(fact.checksums, [Checksum::Sha256(Digest::of(body).0), Checksum::Size(body.len() as u64)]);
        assert!(fact.path.starts_with(&format!("repodata/{}-", Digest::of(body).to_hex())));
        let mut plain = Vec::new();
        crate::inflate::open(&mut &body[..]).unwrap().read_to_end(&mut plain).unwrap();
        let open = format!("<open-checksum type=\"sha256\">{}</open-checksum>", Digest::of(&plain).to_hex());
        assert!(repomd.contains(&open), "{open} is not in {repomd}");
        assert!(repomd.contains(&format!("<open-size>{}</open-size>", plain.len())));
    }
    let signature = format!("signed {}", repomd.len());
    assert_eq!(got.files["repodata/repomd.xml.asc"], signature.as_bytes());
}

#[test]
fn rs_48_rs_49_rules_hold_for_every_document() {
    let one = [package("a", "1"), package("kept", "9")];
    let two = [package("a", "2"), package("kept", "1"), package("b", "1"), package("hidden", "1")];
    let mut members = [Repository::of(&one).member("one"), Repository::of(&two).member("two")];
    members[1].hidden.push("Packages/hidden-0:1.x86_64.rpm".to_owned());
    let rules = Table { names_first: true, owners: BTreeMap::from([("kept".to_owned(), 1)]) };
    let got = merge(&members, &rules).unwrap();
    let want = ["one/Packages/a-0:1", "two/Packages/b-0:1", "two/Packages/kept-0:1"]
        .map(|path| format!("-/m/{path}.x86_64.rpm"));
    assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), want);
    assert_eq!(advertised(&got), want);
    for end in ["-primary.xml.gz", "-filelists.xml.gz", "-other.xml.gz"] {
        let text = file(&got, end).unwrap();
        assert!(!text.contains("hidden") && text.contains("packages=\"3\""), "{text}");
    }
}

#[test]
fn locations_stay_below_the_repository() {
    for (href, want) in [
        ("a%2Bb.rpm", Some(("9/os/-/m/one/a+b.rpm", "-/m/one/a%2Bb.rpm"))),
        ("./x//y/../a^b.rpm", Some(("9/os/-/m/one/x/a^b.rpm", "-/m/one/x/a^b.rpm"))),
        ("a&amp;b.rpm", Some(("9/os/-/m/one/a&b.rpm", "-/m/one/a&amp;b.rpm"))),
        ("../a.rpm", None),
        ("/a.rpm", None),
        ("https://evil.test/a.rpm", None),
        ("a/%2e%2e/b.rpm", None),
    ] {
        let one =
            Repository::of(&[Package { href: Some(href), ..package("a", "1") }]).below("9/os/").member("one");
        let got = merged(&RpmMerge, "9/os/repodata/repomd.xml", &[one], &Table::default()).unwrap();
        let listed: Vec<_> = got.listed.keys().map(String::as_str).collect();
        assert_eq!(listed, Vec::from_iter(want.map(|(path, _)| path)), "{href}");
        let primary = file(&got, "-primary.xml.gz").unwrap();
        let location = want.map(|(_, location)| format!("<location href=\"{location}\"/>"));
        assert_eq!(primary.matches("<location href").count(), usize::from(want.is_some()), "{href}");
        assert!(location.is_none_or(|location| primary.contains(&location)), "{href}: {primary}");
    }
}

#[test]
fn advisories_groups_and_modules_are_united() {
    let updates = |id: &str, title: &str| {
        format!("<update from='x'><title>{title}</title><id>{id}</id><pkglist/></update>")
    };
    let group =
        |kind: &str, id: &str, name: &str| format!("<{kind}><id> {id} </id><name>{name}</name></{kind}>");
    let module = |stream: &str, note: &str| {
        format!(
            "---\ndocument: modulemd\nversion: 2\ndata:\n  name: perl\n  stream: {stream}\n  version: 8010\n  summary: {note}\n...\n"
        )
    };
    let defaults =
        |note: &str| format!("---\ndocument: modulemd-defaults\ndata:\n  module: perl\n  stream: '{note}'\n");
    let comps = "<!DOCTYPE comps PUBLIC \"-//Red Hat, Inc.//DTD Comps info//EN\" \"comps.dtd\">\n<comps>";
    let one = Repository::of(&[package("a", "1")])
        .with("updateinfo", "<updates>".to_owned() + &updates("RHSA-1", "one") + "</updates>")
        .with(
            "group_gz",
            format!(
                "{comps}{}{}<langpacks><match name='a'/></langpacks></comps>",
                group("group", "core", "one"),
                group("category", "core", "one")
            ),
        )
        .with(
            "group",
            format!("{comps}{}{}</comps>", group("group", "core", "plain"), group("category", "core", "one")),
        )
        .with("modules", format!("%YAML 1.2\n{}{}", module("1.10", "one"), defaults("one")));
    let two = Repository::of(&[package("b", "1")])
        .with(
            "updateinfo",
            "<updates>".to_owned() + &updates("RHSA-1", "loser") + &updates("RHSA-2", "two") + "</updates>",
        )
        .with(
            "group_xz",
            format!(
                "{comps}{}{}</comps>",
                group("group", "core", "loser"),
                group("environment", "core", "two")
            ),
        )
        .with(
            "modules",
            format!("{}# note\n{}{}", defaults("loser"), module("\"1.10\"", "loser"), module("1.1", "two")),
        );
    let zero = Repository::of(&[]);
    let got = merge(&[one.member("one"), zero.member("zero"), two.member("two")], &Table::default()).unwrap();
    let updateinfo = file(&got, "-updateinfo.xml.gz").unwrap();
    assert_eq!(
        updateinfo,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<updates>\n{}\n{}\n</updates>\n",
            updates("RHSA-1", "one"),
            updates("RHSA-2", "two")
        )
    );
    let united = file(&got, "-comps.xml").unwrap();
    assert_eq!(
        united,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<comps>\n{}\n{}\n{}\n</comps>\n",
            group("group", "core", "plain"),
            group("category", "core", "one"),
            group("environment", "core", "two")
        )
    );
    let modules = file(&got, "-modules.yaml.gz").unwrap();
    assert_eq!(modules, [module("1.10", "one"), defaults("one") + "...\n", module("1.1", "two")].concat());
    let repomd = file(&got, "repomd.xml").unwrap();
    for kind in ["primary", "filelists", "other", "updateinfo", "group", "modules"] {
        assert_eq!(repomd.matches(&format!("<data type=\"{kind}\">")).count(), 1, "{kind}: {repomd}");
    }
}

#[test]
fn a_member_without_lists_of_files_has_packages_without_files() {
    let one = Repository { lists: false, ..Repository::of(&[package("a", "1"), package("b&", "2")]) };
    let got =
        merge(&[one.member("one"), Repository::of(&[package("c", "1")]).member("two")], &Table::default())
            .unwrap();
    let filelists = file(&got, "-filelists.xml.gz").unwrap();
    assert_eq!(filelists.matches("<package ").count(), 3, "{filelists}");
    assert!(
        filelists.contains("name=\"b&amp;\" arch=\"x86_64\">\n  <version epoch=\"0\" ver=\"2\" rel=\"\"/>"),
        "{filelists}"
    );
}

#[test]
fn a_repository_that_nobody_has_and_one_that_is_empty() {
    assert_eq!(merge(&[Fake::new("one", &[])], &Table::default()).unwrap(), Generation::default());
    let got = merge(&[Fake::new("zero", &[]), Repository::of(&[]).member("one")], &Table::default()).unwrap();
    assert_eq!((got.listed.len(), got.files.len()), (0, 5));
    assert!(file(&got, "-primary.xml.gz").unwrap().contains("packages=\"0\""));
}

fn build(members: &[Vec<Package>], hidden: &str) -> Vec<Fake> {
    let build = |(place, packages): (usize, &Vec<Package>)| {
        let mut member = Repository::of(packages).member(&format!("m{place}"));
        member.hidden.push(hidden.to_owned());
        member
    };
    members.iter().enumerate().map(build).collect()
}
