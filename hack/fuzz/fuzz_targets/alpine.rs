//! Alpine indexes, packed from the input as well as the input itself: facts name packages beside the index,
//! it does not matter how many gzip members and tar entries carry a record, and a merged index lists what it names.
#![no_main]

use std::io::Write;

use artifactapi_formats::{Fact, inspect};
use artifactapi_fuzz::{index::Document, merge};
use artifactapi_model::{Checksum, PackageType::Alpine};
use flate2::{Compression, write::GzEncoder};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("memory takes it")
}

/// One tar entry without an end marker, as abuild concatenates them.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut entry = header.to_vec();
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn facts(data: &[u8]) -> Option<Vec<Fact>> {
    let index = Document {
        package_type: Alpine,
        target: "v3.20/main/x86_64/APKINDEX.tar.gz",
        content_type: "",
        accept: "",
    };
    let facts = index.read(data).facts;
    for fact in facts.iter().flatten() {
        let name = fact.path.strip_prefix("v3.20/main/x86_64/").expect("beside the index");
        assert!(name.ends_with(".apk") && !name.contains('/'), "{fact:?}");
        assert!(!fact.checksums.is_empty());
    }
    facts
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = facts(data);
    let _ = facts(&gzip(data));
    let index = entry("APKINDEX", data);
    let whole = facts(&gzip(&index));
    assert!(whole.is_some(), "any record is readable");
    let mut members = gzip(&entry(".SIGN.RSA.key", b"signature"));
    members.extend(gzip(&entry("DESCRIPTION", b"v1")));
    let cut = index.len() / 3;
    members.extend(gzip(&index[..cut]));
    members.extend(gzip(&index[cut..]));
    assert_eq!(facts(&members), whole, "members and entries around it say nothing");
    let path = "v3.20/main/x86_64/APKINDEX.tar.gz";
    for body in [data.to_vec(), members.clone()] {
        merge::check(Alpine, path, &[(path.to_owned(), body)].into());
    }
    // The identity chain of a package never panics, and no package is what it is not.
    let chained = Checksum::ApkControl([0; 20]);
    for package in [data.to_vec(), gzip(&index), members] {
        if let Ok(agrees) = inspect::agrees(&chained, &mut std::io::Cursor::new(package)) {
            assert_eq!(agrees, Some(false));
        }
    }
});
