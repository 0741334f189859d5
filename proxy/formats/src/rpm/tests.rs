//! Tables over paths and documents, as dnf and createrepo_c write them.

use std::{fs, io::Write as _, path::PathBuf};

use artifactapi_model::{Checksum, Digest, Spelling};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::{
    Method, Reach,
    testing::{self, Document},
};

const UPSTREAM: &str = "https://upstream.example/pub/";

const PRIMARY: &str = "7276b4510da5e8fe36df95ac7f5ad77d8d4fb003e9591505092f5a2619d2fe88-primary.xml.gz";
const PACKAGE: &str = "Packages/d/demo-plus++-1.0~rc1-1.noarch.rpm";

fn fixture(path: &str) -> Vec<u8> {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    fs::read(PathBuf::from(root).join("fixtures/rpm").join(path)).unwrap()
}

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Rpm, UPSTREAM)
}

fn plan(raw_path: &str, query: &str) -> Result<Resource, PlanError> {
    let request = Request { method: Method::Get, raw_path, query, accept: "" };
    match Rpm.plan(&request, &remote(), &testing::links())? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{raw_path}: {other:?}"),
    }
}

fn document<'a>(path: &'a str, body: &'a [u8]) -> Document<'a> {
    Document { path, content_type: "text/plain", url: UPSTREAM, body }
}

fn facts(path: &str, body: &[u8]) -> Result<Vec<Fact>, IndexError> {
    document(path, body).facts(&Rpm, &remote())
}

fn hex(digits: usize) -> String {
    "0123456789abcdef".repeat(8)[..digits].to_owned()
}

#[test]
fn paths_are_classified() {
    use Mutability::{Immutable, Mutable};
    for (path, want) in [
        ("repodata/repomd.xml", Mutable),
        ("9/BaseOS/x86_64/os/repodata/repomd.xml", Mutable),
        ("repodata/repomd.xml.asc", Mutable),
        ("repodata/repomd.xml.key", Mutable),
        (&*format!("repodata/{}-primary.xml.gz", hex(64)), Immutable),
        (&*format!("os/repodata/{}-comps-BaseOS.x86_64.xml", hex(64)), Immutable),
        (&*format!("repodata/{}-modules.yaml.xz", hex(32)), Immutable),
        (&*format!("repodata/{}-primary.xml.zck", hex(96)), Immutable),
        (&*format!("repodata/{}-", hex(64)), Mutable),
        (&*format!("repodata/{}-x", hex(31)), Mutable),
        (&*format!("repodata/{}-x", hex(64).to_uppercase()), Mutable),
        (&*format!("notrepodata/{}-x", hex(64)), Mutable),
        (&*format!("repodata/deeper/{}-x", hex(64)), Mutable),
        ("repodata/primary.xml.gz", Mutable),
        ("repodata/", Mutable),
        ("Packages/b/bash-5.1-1.el9.x86_64.rpm", Immutable),
        ("drpms/bash-5.0_5.1.x86_64.drpm", Immutable),
        ("Packages/b/bash-5.1-1.el9.x86_64.rpm.sig", Mutable),
        (".treeinfo", Mutable),
        ("images/pxeboot/vmlinuz", Mutable),
        ("media.repo", Mutable),
        ("RPM-GPG-KEY-demo", Mutable),
        ("mirrorlist", Mutable),
        ("", Mutable),
    ] {
        assert_eq!(plan(path, "").unwrap().mutability, want, "{path}");
    }
}

#[test]
fn a_checksum_in_the_name_is_held_against_the_body() {
    for (digits, algorithm) in [(32, "md5"), (40, "sha1"), (64, "sha256"), (128, "sha512")] {
        let resource = plan(&format!("repodata/{}-other.xml.gz", hex(digits)), "").unwrap();
        assert_eq!(resource.checksums.iter().map(Checksum::algorithm).collect::<Vec<_>>(), [algorithm]);
    }
    assert_eq!(plan(&format!("repodata/{}-other.xml.gz", hex(96)), "").unwrap().checksums, []);
}

#[test]
fn every_file_knows_the_indexes_that_may_speak_of_it() {
    let above = ["9/os/Packages/b/repodata/repomd.xml", "9/os/Packages/repodata/repomd.xml"];
    let above = [&above[..], &["9/os/repodata/repomd.xml", "9/repodata/repomd.xml", "repodata/repomd.xml"]];
    for (path, want) in [
        ("9/os/Packages/b/bash.rpm", above.concat()),
        ("bash.rpm", vec!["repodata/repomd.xml"]),
        ("9/os/repodata/primary.xml.gz", vec!["9/os/repodata/repomd.xml"]),
        ("9/os/repodata/repomd.xml", vec![]),
        (".treeinfo", vec![]),
    ] {
        let indexes = plan(path, "").unwrap().indexes;
        assert_eq!(indexes.iter().map(|index| &*index.path).collect::<Vec<_>>(), want, "{path}");
        assert!(indexes.iter().all(|index| index.when == crate::IndexUse::Held), "{path}");
    }
    assert_eq!(plan(&format!("{}x.rpm", "a/".repeat(500)), "").unwrap().indexes.len(), 16);
    assert_eq!(plan("os/repodata/repomd.xml.asc", "").unwrap().fresh_with.unwrap(), "os/repodata/repomd.xml");
}

#[test]
fn rs_07_rs_22_magic_methods_and_queries() {
    assert_eq!(plan("a.rpm", "").unwrap().magic, Some(Magic::Rpm));
    assert_eq!(plan("a.drpm", "x=1").unwrap().query, "");
    let list = plan("mirrorlist", "countme=3&arch=x86_64&repo=base%2Dos&arch=aarch64").unwrap();
    assert_eq!(list.query, "repo=base-os&arch=aarch64");
    assert_eq!(list.location, Location::Below("mirrorlist?repo=base-os&arch=aarch64".into()));
    let post = Request { method: Method::Post, raw_path: "a.rpm", query: "", accept: "" };
    let refused = Rpm.plan(&post, &remote(), &testing::links());
    assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
}

#[test]
fn rs_09_repomd_leads_to_primary_and_primary_to_the_package() {
    let repomd = facts("repodata/repomd.xml", &fixture("repodata/repomd.xml")).unwrap();
    let primary = repomd.iter().find(|fact| fact.reach == Reach::Index).unwrap();
    assert_eq!(primary.path, format!("repodata/{PRIMARY}"));
    let body = fixture(&primary.path);
    assert_eq!(primary.checksums, [Checksum::Sha256(Digest::of(&body).0), Checksum::Size(686)]);
    assert_eq!(repomd.iter().filter(|fact| fact.reach == Reach::File).count(), 2);

    let package = fixture(PACKAGE);
    assert!(Magic::Rpm.fits(&package));
    let want = Fact {
        path: PACKAGE.to_owned(),
        reach: Reach::File,
        url: None,
        checksums: vec![Checksum::Sha256(Digest::of(&package).0), Checksum::Size(package.len() as u64)],
    };
    for name in [PRIMARY, "primary.xml.xz", "primary.xml.zst"] {
        let facts = facts(&format!("repodata/{name}"), &fixture(&format!("repodata/{name}"))).unwrap();
        assert_eq!(facts.len(), 2, "{name}");
        assert_eq!(facts[0], want, "{name}");
    }
}

#[test]
fn facts_of_a_repository_in_a_directory_carry_it() {
    let body = fixture("repodata/repomd.xml");
    let facts = facts("9/Base%OS/repodata/repomd.xml".replace('%', " ").as_str(), &body).unwrap();
    assert_eq!(facts[0].path, format!("9/Base OS/repodata/{PRIMARY}"));
    assert!(self::facts("repodata/filelists.xml.gz", b"no xml at all").unwrap().is_empty());
    assert!(self::facts("elsewhere/repomd.xml", b"no xml at all").unwrap().is_empty());
}

fn primary(location: &str) -> Vec<u8> {
    format!(
        "<metadata><package type='rpm'><checksum type='sha' pkgid='YES'>\n{}\n</checksum>\
         <size package='7'/>{location}</package></metadata>",
        hex(40)
    )
    .into_bytes()
}

#[test]
fn rs_26_locations_are_resolved_or_dropped() {
    for (location, want) in [
        ("<location href='a/b.rpm'/>", Some(("r/a/b.rpm", None))),
        ("<location href='./a//b.rpm'></location>", Some(("r/a/b.rpm", None))),
        ("<location href='../a/b.rpm'/>", Some(("a/b.rpm", None))),
        ("<location href='a%2Bb.rpm'/>", Some(("r/a+b.rpm", None))),
        ("<location href='a&amp;b.rpm'/>", Some(("r/a&b.rpm", None))),
        ("<location href='../../b.rpm'/>", None),
        ("<location href='a/%2e%2e/b.rpm'/>", None),
        ("<location href='/b.rpm'/>", None),
        ("<location href='a\\b.rpm'/>", None),
        ("<location href='a&#10;b.rpm'/>", None),
        ("<location href='https://evil.example/b.rpm'/>", None),
        ("<location href='//evil.example/b.rpm'/>", None),
        ("<location href=''/>", None),
        ("", None),
        (
            "<location xml:base='https://cdn.example/p' href='a/b.rpm'/>",
            Some(("r/a/b.rpm", Some("https://cdn.example/p/a/b.rpm"))),
        ),
        ("<location xml:base='https://upstream.example/pub/r/' href='a/b.rpm'/>", Some(("r/a/b.rpm", None))),
        ("<location xml:base='file:///etc' href='passwd'/>", None),
        ("<location xml:base='https://u:p@cdn.example/' href='a.rpm'/>", None),
        ("<location xml:base='../elsewhere' href='a.rpm'/>", None),
    ] {
        let facts = facts("r/repodata/primary.xml", &primary(location)).unwrap();
        let got = facts.first().map(|fact| (fact.path.as_str(), fact.url.as_ref().map(Url::as_str)));
        assert_eq!(got, want, "{location}");
        if let Some(fact) = facts.first() {
            assert_eq!(fact.checksums.iter().map(Checksum::algorithm).collect::<Vec<_>>(), ["sha1", "size"]);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rs_62_rs_63_hostile_documents_end_in_an_error() {
    let spaces = vec![b' '; 64 << 20];
    let deep = "<metadata>".repeat(100_000);
    let entities = "<!DOCTYPE m [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><metadata>&b;</metadata>";
    let attribute = format!("<metadata><package type='{}'/></metadata>", "x".repeat(2 << 20));
    let text = format!("<metadata>{}</metadata>", "x".repeat(2 << 20));
    for (name, body, too_large) in [
        ("gzip bomb", gzip(&spaces), true),
        ("depth", deep.into_bytes(), true),
        ("attribute", attribute.into_bytes(), true),
        ("text", text.into_bytes(), true),
        ("entities", entities.as_bytes().to_vec(), false),
        ("unknown entity in a location", primary("<location href='&x;'/>"), false),
        ("another root", b"<html><package/></html>".to_vec(), false),
        ("cut", b"<metadata><package>".to_vec(), false),
        ("mismatched", b"<metadata></package>".to_vec(), false),
        ("empty", Vec::new(), false),
        ("not UTF-8", b"<metadata>\xff\xfe</metadata>".to_vec(), false),
        ("cut gzip", gzip(&spaces[..100_000])[..60].to_vec(), false),
    ] {
        let error = facts("repodata/primary.xml.gz", &body).unwrap_err();
        let right = if too_large {
            matches!(error, IndexError::TooLarge(_))
        } else {
            matches!(error, IndexError::Malformed(_))
        };
        assert!(right, "{name}: {error:?}");
    }
}

fn rewritten(path: &str, body: &str) -> String {
    document(path, body.as_bytes()).rewrite(&Rpm, &remote(), OWN_MIRROR.0).unwrap().1
}

#[test]
fn a_mirror_list_leads_back_here() {
    for (path, list, want) in [
        ("mirrorlist", "# comment\nhttp://other.example/el/\n", ""),
        ("9/os/mirrorlist", "http://other.example/el/\n", "9/os/"),
        ("mirrorlist", "http://other.example/el\nhttp://upstream.example/pub/9/os/\n", "9/os/"),
        ("mirrorlist", "https://upstream.example/pub", ""),
        ("mirrorlist", "https://other.example/pub/9/os/", ""),
        ("mirrorlist", "https://upstream.example:8443/pub/9/os/", ""),
        ("mirrorlist", "https://upstream.example/public/9\n", ""),
        ("mirrorlist", "", ""),
    ] {
        assert_eq!(rewritten(path, list), format!("http://cache.test/api/v1/remote/r/{want}\n"), "{list}");
    }
}

#[test]
fn a_metalink_keeps_its_hashes_and_names_us_alone() {
    let metalink = r#"<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
   <mm0:timestamp>1</mm0:timestamp>
   <verification><hash type="sha256">aa</hash></verification>
   <mm0:alternates><mm0:alternate><verification><hash type="sha256">bb</hash></verification></mm0:alternate></mm0:alternates>
   <resources maxconnections="1">
    <url protocol="rsync" type="rsync" location="DE" preference="100">rsync://other.example/el/repodata/repomd.xml</url>
    <url protocol="https" type="https" location="DE" preference="99">https://other.example/el/repodata/repomd.xml</url>
   </resources>
  </file>
 </files>
</metalink>"#;
    let out = rewritten("9/os/metalink", metalink);
    let ours = r#"<resources maxconnections="1"><url protocol="http" type="http" preference="100">http://cache.test/api/v1/remote/r/9/os/repodata/repomd.xml</url></resources>"#;
    let start = metalink.find("<resources").unwrap();
    let end = metalink.find("</resources>").unwrap() + "</resources>".len();
    assert_eq!(out, format!("{}{ours}{}", &metalink[..start], &metalink[end..]));

    let known = metalink.replace("https://other.example/el/", "https://upstream.example/pub/9/App&amp;s/");
    assert!(rewritten("metalink", &known).contains("/remote/r/9/App&amp;s/repodata/repomd.xml</url>"));
}

#[test]
fn rs_63_a_tag_whose_name_is_markup_is_refused() {
    for broken in
        ["<m><<2<x</></m>", "<m><a//></m>", "<m><a\"b></a\"b></m>", "<m><a=b></a=b></m>", "<m><a b='<'/></m>"]
    {
        let mut out = Vec::new();
        let metalink = plan("metalink", "").unwrap();
        let (base, links, url) = (testing::base(), testing::links(), Url::parse(UPSTREAM).unwrap());
        let cx = RewriteContext { base: &base, links: &links, remote: &remote(), permits: &|_| true };
        let source = Source { path: &metalink.path, query: "", content_type: "", url: &url };
        let taken = Rpm.rewrite(&metalink, &source, &cx, &mut broken.as_bytes(), &mut out);
        assert!(matches!(taken, Err(IndexError::Malformed(_))), "{broken}");
    }
}

#[test]
fn rs_62_a_metalink_cannot_make_us_write_without_end() {
    let file = format!("<metalink><file name='{}'>", "x".repeat(1000));
    for (name, body) in [
        ("resources", file + &"<resources/>".repeat(100_000) + "</file></metalink>"),
        ("URL", format!("<metalink><file><resources><url>{}", "x".repeat(100_000))),
        ("document type", "<!DOCTYPE m SYSTEM 'file:///etc/passwd'><metalink/>".to_owned()),
        (
            "own entity",
            "<metalink><file><resources><url>&own;</url></resources></file></metalink>".to_owned(),
        ),
        ("cut", "<metalink><file>".to_owned()),
    ] {
        assert!(
            document("metalink", body.as_bytes()).rewrite(&Rpm, &remote(), OWN_MIRROR.0).is_err(),
            "{name}"
        );
    }
    let line = vec![b'#'; 100_000];
    assert!(document("mirrorlist", &line).rewrite(&Rpm, &remote(), OWN_MIRROR.0).is_err());
}

proptest! {
    #[test]
    fn plan_is_total_and_its_key_is_the_path(
        raw in "(repodata/|a/|[0-9a-f]{40}-|%2e|%2F|\\PC|x\\.rpm|mirrorlist){0,8}",
        query in "((repo|arch|x)=[a-z&%+]{0,4}&?){0,4}|\\PC{0,16}",
    ) {
        if let Ok(resource) = plan(&raw, &query) {
            prop_assert_eq!(&resource.path, &RepoPath::parse(&raw, Spelling::Plain).unwrap());
            let again = plan(&resource.path.encode(), &resource.query).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(again.query, resource.query);
        }
    }

    #[test]
    fn facts_name_canonical_paths(href in "([a-z+~^ %]|/|\\.\\.|\\.|%2f|%20|\\PC){0,12}") {
        let href = href.replace(['<', '&', '\''], "");
        if let Ok(facts) = facts("r/repodata/primary.xml", &primary(&format!("<location href='{href}'/>"))) {
            for fact in facts {
                let path = RepoPath::from_canonical(&fact.path).unwrap();
 prop_assert_eq!(path.as_str(), &fact.path);
            }
        }
    }
}
