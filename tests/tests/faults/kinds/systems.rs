//! rpm and alpine.

use artifactapi_model::PackageType;
use artifactapi_tests::{Upstream, fingerprint::of_bytes, upstream::gzip};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use super::{FILE_BYTES, Kind, Place, Stock, Versions, noise, nothing};

const PACKAGE: &str = "Packages/widget-1.0-1.noarch.rpm";
const REPOMD: &str = "repodata/repomd.xml";

fn rpm() -> Bytes {
    [&b"\xed\xab\xee\xdb"[..], &noise(FILE_BYTES)].concat().into()
}

fn primary() -> (String, Bytes) {
    let package = rpm();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <metadata xmlns=\"http://linux.duke.edu/metadata/common\" packages=\"1\"><package type=\"rpm\"><name>widget</name>\
         <arch>noarch</arch><version epoch=\"0\" ver=\"1.0\" rel=\"1\"/><checksum type=\"sha256\" pkgid=\"YES\">{}</checksum>\
         <size package=\"{}\"/><location href=\"{PACKAGE}\"/></package></metadata>\n",
        of_bytes(&package),
        package.len()
    );
    let packed = gzip(xml.as_bytes());
    (format!("repodata/{}-primary.xml.gz", of_bytes(&packed)), packed)
}

fn repomd(revision: u8) -> String {
    let (path, packed) = primary();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>{revision}</revision><data type=\"primary\">\
         <checksum type=\"sha256\">{}</checksum><location href=\"{path}\"/><size>{}</size></data></repomd>\n",
        of_bytes(&packed),
        packed.len()
    )
}

pub(super) const RPM: Kind = Kind {
    package_type: PackageType::Rpm,
    spec: nothing,
    stock: |upstream| {
        let (path, packed) = primary();
        upstream.put(REPOMD, repomd(1)).put(&path, packed).put(PACKAGE, rpm());
        Stock {
            index: (REPOMD, REPOMD),
            versions: Versions::Raw(repomd(1).into(), repomd(2).into()),
            change: Box::new(|upstream| {
                upstream.put(REPOMD, repomd(2));
            }),
            way: vec![path],
            file: Place::Named(PACKAGE.into()),
            file_upstream: PACKAGE.into(),
            bytes: rpm(),
            published: true,
            block: "^Packages/widget-",
            aliases: Vec::new(),
        }
    },
};

/// A tar block for each started one of `bytes`, behind a head (ustar).
fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[108..116].copy_from_slice(b"0000000\0");
    head[116..124].copy_from_slice(b"0000000\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[148..156].copy_from_slice(b"        ");
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut member = [&head[..], bytes].concat();
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// The control member, and the package: control, then data.
fn apk() -> (Bytes, Bytes) {
    let data = gzip(&[member("usr/share/widget", &noise(FILE_BYTES)), vec![0; 1024]].concat());
    let info = format!("pkgname = widget\npkgver = 1.0-r0\narch = x86_64\ndatahash = {}\n", of_bytes(&data));
    let control = gzip(&member(".PKGINFO", info.as_bytes()));
    let package = [control.clone(), data].concat();
    (control, package.into())
}

fn apk_index(second: bool) -> Bytes {
    let (control, package) = apk();
    let mut records = format!(
        "C:Q1{}\nP:widget\nV:1.0-r0\nA:x86_64\nS:{}\nI:4096\nT:A widget\n\n",
        STANDARD.encode(Sha1::digest(&control)),
        package.len()
    );
    if second {
        records.push_str("P:gadget\nV:1.0-r0\nA:x86_64\nS:1\n\n");
    }
    gzip(&[member("APKINDEX", records.as_bytes()), vec![0; 1024]].concat())
}

const APKINDEX: &str = "v3.20/main/x86_64/APKINDEX.tar.gz";
const APK: &str = "v3.20/main/x86_64/widget-1.0-r0.apk";

fn stock_alpine(upstream: &Upstream) -> Stock {
    upstream.put(APKINDEX, apk_index(false)).put(APK, apk().1);
    Stock {
        index: (APKINDEX, APKINDEX),
        versions: Versions::Raw(apk_index(false), apk_index(true)),
        change: Box::new(|upstream| {
            upstream.put(APKINDEX, apk_index(true));
        }),
        way: Vec::new(),
        file: Place::Named(APK.into()),
        file_upstream: APK.into(),
        bytes: apk().1,
        published: true,
        block: "/widget-1[.]0-r0[.]apk$",
        aliases: Vec::new(),
    }
}

pub(super) const ALPINE: Kind =
    Kind { package_type: PackageType::Alpine, spec: nothing, stock: stock_alpine };
