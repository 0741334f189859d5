//! Directory hashes against values made with `sha256sum`, as dirhash's documentation describes.

use std::io::{Cursor, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

const MEMBERS: [(&str, &str); 4] = [
    ("ex.org/m@v1.0.0/m.go", "package m\n"),
    ("ex.org/m@v1.0.0/go.mod", "module ex.org/m\n"),
    ("ex.org/m@v1.0.0/b/é.txt", "hello\n"),
    ("ex.org/m@v1.0.0/B.go", ""),
];
const H1: &str = "YT8D4ZiBjU6Kums8LtP1FhqmL+yIupuEp8ifGVx5wKc=";

fn zip(members: &[(&str, &str)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, body) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(body.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn h1(body: Vec<u8>) -> Result<String, IndexError> {
    zip_hash(&mut Cursor::new(body)).map(|hash| STANDARD.encode(hash))
}

#[test]
fn rs_09_a_module_zip_hashes_as_go_hashes_it() {
    let mut reversed = MEMBERS;
    reversed.reverse();
    for members in [MEMBERS, reversed] {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            assert_eq!(h1(zip(&members, method)).unwrap(), H1, "{method:?}");
        }
    }
    let mut other = MEMBERS;
    other[0].1 = "package n\n";
    assert_ne!(h1(zip(&other, CompressionMethod::Stored)).unwrap(), H1);
    other = MEMBERS;
    other[0].0 = "ex.org/n@v1.0.0/m.go";
    assert_ne!(h1(zip(&other, CompressionMethod::Stored)).unwrap(), H1);
}

#[test]
fn rs_09_a_lone_go_mod_hashes_as_go_hashes_it() {
    let hash = mod_hash(&mut "module ex.org/m\n".as_bytes()).unwrap();
    assert_eq!(STANDARD.encode(hash), "ZttO7qnEg0/nTvltyzyuG2NILQkdFbwKoDhFv0c9fh0=");
    let huge = std::io::repeat(b'x').take(MAX_MOD + 1);
    assert!(matches!(mod_hash(&mut { huge }), Err(IndexError::TooLarge(_))));
}

#[test]
fn rs_15_members_of_one_name_all_count() {
    // Written under two names of one length, then renamed in both headers.
    let two = [("m@v1/a.go", "one"), ("m@v1/b.go", "two")];
    let body = zip(&two, CompressionMethod::Stored);
    let renamed = replace(&body, b"m@v1/b.go", b"m@v1/a.go");
    let alone = h1(zip(&two[..1], CompressionMethod::Stored)).unwrap();
    let twice = h1(renamed).unwrap();
    assert_ne!(twice, alone);
    assert_ne!(twice, h1(body).unwrap());
}

#[test]
fn rs_15_a_damaged_or_hostile_archive_is_an_error() {
    let good = zip(&MEMBERS, CompressionMethod::Deflated);
    assert!(h1(Vec::new()).is_err());
    assert!(h1(b"PK\x05\x06 and nothing else".to_vec()).is_err());
    assert!(h1(good[..good.len() / 2].to_vec()).is_err());
    assert!(matches!(h1(b"<!doctype html>".repeat(50)), Err(IndexError::Malformed(_))));
    let flipped = replace(&zip(&MEMBERS, CompressionMethod::Stored), b"package m", b"package n");
    assert!(h1(flipped).is_err(), "a member that is not what its CRC says");
    assert!(h1(replace(&good, b"m@v1.0.0/m.go", b"m@v1.0.0/m.g\n")).is_err());
}

#[test]
fn rs_63_a_bomb_ends_at_the_cap() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let block = vec![0; 1 << 20];
    for member in 0..=MAX_INFLATED >> 26 {
        zip.start_file(format!("m@v1/{member}"), options).unwrap();
        for _ in 0..64 {
            zip.write_all(&block).unwrap();
        }
    }
    let body = zip.finish().unwrap().into_inner();
    assert!(matches!(h1(body), Err(IndexError::TooLarge("inflated size"))));
}

fn replace(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut body = body.to_vec();
    let mut at = 0;
    while let Some(found) = body[at..].windows(from.len()).position(|window| window == from) {
        body[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    body
}
