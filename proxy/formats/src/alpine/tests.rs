//! Tables over paths and indexes, as apk and `apk index` write them.

use std::io::Cursor;

use artifactapi_model::{Checksum, RepoPath, Spelling};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

use super::*;
use crate::{
    Method, Reach, inspect,
    testing::{
        self, Document,
        archive::{entry, gzip, tar, with_end},
    },
};

const UPSTREAM: &str = "https://upstream.example/alpine/";

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Alpine, UPSTREAM)
}

fn plan(raw_path: &str, query: &str) -> Result<Resource, PlanError> {
    let request = Request { method: Method::Get, raw_path, query, accept: "" };
    match Alpine.plan(&request, &remote(), &testing::links())? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{raw_path}: {other:?}"),
    }
}

fn facts(path: &str, body: &[u8]) -> Result<Vec<Fact>, IndexError> {
    Document { path, content_type: "application/gzip", url: UPSTREAM, body }.facts(&Alpine, &remote())
}

/// An index as `apk index` and `abuild-sign` leave it: a signature member without end marker, then the rest.
fn index(records: &str) -> Vec<u8> {
    let signature = gzip(&tar(&[(".SIGN.RSA.demo.rsa.pub", b"signature")]));
    let rest = tar(&[("DESCRIPTION", b"v3.20.0"), ("APKINDEX", records.as_bytes())]);
    [signature, gzip(&with_end(rest))].concat()
}

#[test]
fn paths_are_classified() {
    use Mutability::{Immutable, Mutable};
    for (path, want) in [
        ("v3.20/main/x86_64/APKINDEX.tar.gz", Mutable),
        ("edge/main/x86_64/Packages.adb", Mutable),
        ("v3.20/main/x86_64/busybox-1.36.1-r29.apk", Immutable),
        ("v3.20/main/x86_64/libstdc++-13.2.1_git20240309-r0.apk", Immutable),
        ("edge/testing/x86_64/demo-1.0-r0.apk", Immutable),
        ("latest-stable/main/x86_64/busybox-1.36.1-r29.apk", Mutable),
        ("not-latest-stable/main/x86_64/busybox-1.36.1-r29.apk", Immutable),
        ("latest-stable/releases/x86_64/latest-releases.yaml", Mutable),
        ("keys/alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub", Mutable),
        ("v3.20/releases/x86_64/alpine-minirootfs-3.20.0-x86_64.tar.gz", Mutable),
        ("", Mutable),
    ] {
        assert_eq!(plan(path, "").unwrap().mutability, want, "{path}");
    }
}

#[test]
fn rs_07_a_package_knows_its_index_and_its_magic() {
    let resource = plan("v3.20/main/x86_64/busybox-1.36.1-r29.apk", "a=b").unwrap();
    let index = IndexRef::held("v3.20/main/x86_64/APKINDEX.tar.gz".into());
    assert_eq!((resource.indexes, resource.query.as_str()), (vec![index], ""));
    let magic = resource.magic.unwrap();
    for (head, fits) in
        [(&b"\x1f\x8b\x08"[..], true), (b"ADB.pckg", true), (b"ADBd", true), (b"<html>", false)]
    {
        assert_eq!(magic.fits(head), fits, "{head:?}");
    }
    let post = Request { method: Method::Post, raw_path: "a.apk", query: "", accept: "" };
    let refused = Alpine.plan(&post, &remote(), &testing::links());
    assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
}

#[test]
fn rs_09_a_record_gives_identity_and_size() {
    let records = "C:Q1XwDwkJaNbR0OuhH0eqJDh3kzBmg=\nP:libstdc++\nV:13.2.1-r0\nA:x86_64\nS:612\nI:1290\n\
                   T:demo\nU:https://demo.example\nL:MIT\no:gcc\nt:1\nc:abc\nD:musl\np:so:x=1\n\n\
                   C:Q2AAAA\nP:other\nV:1-r0\nS:7\n\nP:last\nV:2-r0\nS:8";
    let facts = facts("v3.20/main/x86_64/APKINDEX.tar.gz", &index(records)).unwrap();
    let identity = STANDARD.decode("XwDwkJaNbR0OuhH0eqJDh3kzBmg=").unwrap().try_into().unwrap();
    let file = |path: &str, checksums| Fact { path: path.into(), reach: Reach::File, url: None, checksums };
    assert_eq!(
        facts,
        [
            file(
                "v3.20/main/x86_64/libstdc++-13.2.1-r0.apk",
                vec![Checksum::ApkControl(identity), Checksum::Size(612)]
            ),
            file("v3.20/main/x86_64/other-1-r0.apk", vec![Checksum::Size(7)]),
            file("v3.20/main/x86_64/last-2-r0.apk", vec![Checksum::Size(8)]),
        ]
    );
    assert_eq!(self::facts("v3.20/main/x86_64/Packages.adb", b"ADB.").unwrap(), []);
}

#[test]
fn rs_09_the_fact_of_an_index_holds_for_its_package() {
    let data = gzip(&with_end(tar(&[("usr/bin/demo", b"#!/bin/sh\n")])));
    let info = format!("pkgname = demo\ndatahash = {}\n", artifactapi_model::Digest::of(&data).to_hex());
    let control = gzip(&entry(".PKGINFO", info.as_bytes()));
    let package = [gzip(&entry(".SIGN.RSA.demo.rsa.pub", b"s")), control.clone(), data].concat();
    let q1 = STANDARD.encode(Sha1::digest(&control));
    let body = index(&format!("C:Q1{q1}\nP:demo\nV:1.0-r0\nS:{}\n\n", package.len()));
    let facts = facts("x86_64/APKINDEX.tar.gz", &body).unwrap();
    let [identity, size] = facts[0].checksums.as_slice() else { panic!("{facts:?}") };
    assert_eq!(inspect::agrees(identity, &mut Cursor::new(&package)).unwrap(), Some(true));
    assert_eq!(size, &Checksum::Size(package.len() as u64));
}

#[test]
fn rs_26_names_that_are_no_file_names_are_dropped() {
    for record in [
        "P:../../etc/passwd\nV:1\nS:1\n",
        "P:a\nV:1/../../b\nS:1\n",
        "P:elsewhere/a\nV:1\nS:1\n",
        "P:a%2fb\nV:1\nS:1\n",
        "P:a\\b\nV:1\nS:1\n",
        "P:\nV:1\nS:1\n",
        "P:a\nS:1\n",
        "P:a\nV:1\n",
        "P:a\nV:1\nS:-1\nC:Q1AA==\n",
        "no field\n",
    ] {
        assert_eq!(facts("x86_64/APKINDEX.tar.gz", &index(record)).unwrap(), [], "{record}");
    }
}

#[test]
fn rs_62_rs_63_hostile_indexes_end_in_an_error() {
    let long = format!("P:{}\n", "x".repeat(2 << 20));
    for (name, body, too_large) in [
        ("gzip bomb", gzip(&vec![0; 64 << 20]), true),
        ("bomb in an entry", gzip(&entry("APKINDEX", &vec![b'\n'; 64 << 20])), true),
        ("long line", entry("APKINDEX", long.as_bytes()), true),
        ("no APKINDEX", gzip(&entry("DESCRIPTION", b"")), false),
        ("two APKINDEX", gzip(&[entry("APKINDEX", b""), entry("APKINDEX", b"")].concat()), false),
        ("cut", index("P:a\n")[..120].to_vec(), false),
        ("empty", Vec::new(), false),
        ("HTML", b"<html>sign in</html>".to_vec(), false),
    ] {
        let error = facts("x86_64/APKINDEX.tar.gz", &body).unwrap_err();
        let right = match too_large {
            true => matches!(error, IndexError::TooLarge(_)),
            false => matches!(error, IndexError::Malformed(_)),
        };
        assert!(right, "{name}: {error:?}");
    }
}

proptest! {
    #[test]
    fn plan_is_total_and_its_key_is_the_path(raw in "(latest-stable/|a/|%2e|%2F|\\PC|x\\.apk|x\\.adb){0,8}") {
        if let Ok(resource) = plan(&raw, "q") {
            prop_assert_eq!(&resource.path, &RepoPath::parse(&raw, Spelling::Plain).unwrap());
            prop_assert_eq!(&plan(&resource.path.encode(), "").unwrap().path, &resource.path);
        }
    }

    #[test]
    fn facts_name_canonical_paths_beside_the_index(records in "(([CPVSA]:)?[a-z0-9+./%\\\\]{0,6}\n){0,12}|\\PC{0,40}") {
        for fact in facts("x86_64/APKINDEX.tar.gz", &index(&records)).unwrap() {
            let path = RepoPath::from_canonical(&fact.path).unwrap();
            prop_assert_eq!((path.as_str(), path.parent()), (fact.path.as_str(), "x86_64/"));
        }
    }
}
