//! What an `APKINDEX` says about the packages beside it (apk-tools `package.c`, `blob.c`).
//!
//! The file is a row of gzip members, whose contents joined are one tar archive: signatures (written without
//! an end marker), `DESCRIPTION`, `APKINDEX`. A record is a line per field, `X:value`; an empty line ends it.

use std::io::{BufRead, BufReader, Read};

use artifactapi_model::{Checksum, Checksums, RepoPath};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    Fact, IndexError, Reach,
    inflate::{self, index_error},
    inspect::tar,
    limits::Allowance,
};

/// Longest line, in bytes: a description, or what a large package provides.
const MAX_LINE: u64 = 1 << 20;
/// Longest record, in bytes.
const MAX_RECORD: usize = 4 << 20;

/// Streams a fact per package in `directory` (canonical, with trailing slash).
///
/// # Errors
/// [`IndexError`] for an archive that is malformed, has no `APKINDEX` or two, or exceeds a limit.
pub(super) fn read_facts(
    directory: &str,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    records(input, &mut |lines| {
        let mut record = Record::default();
        for line in lines.split(|byte| *byte == b'\n') {
            if let [field, b':', value @ ..] = line {
                record.set(*field, value);
            }
        }
        record.fact(directory).map(&mut *sink);
        Ok(())
    })
}

/// Hands each record's lines, as they are written, to `visit`.
///
/// # Errors
/// As [`read_facts`], and whatever `visit` returns.
pub(super) fn records(
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut indexes = 0;
    let mut archive = inflate::open(input).map_err(index_error)?;
    tar::walk(&mut archive, |name, content| {
        if name != "APKINDEX" {
            return Ok(());
        }
        indexes += 1;
        split(content, visit)
    })?;
    match indexes {
        1 => Ok(()),
        0 => Err(IndexError::malformed("it has no APKINDEX")),
        _ => Err(IndexError::malformed("it has two APKINDEX")),
    }
}

fn split(
    content: &mut dyn Read,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut content = BufReader::new(content);
    let mut records = Allowance::of_entries("number of packages");
    let mut record = Vec::new();
    loop {
        let start = record.len();
        let read = content.by_ref().take(MAX_LINE).read_until(b'\n', &mut record).map_err(index_error)?;
        if read as u64 == MAX_LINE {
            return Err(IndexError::TooLarge("line of an APKINDEX"));
        }
        if record.len() > MAX_RECORD {
            return Err(IndexError::TooLarge("record of an APKINDEX"));
        }
        if matches!(record[start..], [] | [b'\n']) {
            records.take(1)?;
            if start > 0 {
                visit(&record[..start])?;
            }
            if read == 0 {
                return Ok(());
            }
            record.clear();
        }
    }
}

/// The fields of a package that say where it is and what it must be.
#[derive(Default)]
struct Record {
    name: Option<String>,
    version: Option<String>,
    identity: Option<[u8; 20]>,
    size: Option<u64>,
}

impl Record {
    fn set(&mut self, field: u8, value: &[u8]) {
        let Ok(text) = str::from_utf8(value) else { return };
        match field {
            b'P' => self.name = Some(text.to_owned()),
            b'V' => self.version = Some(text.to_owned()),
            b'C' => self.identity = identity(text),
            b'S' => self.size = text.parse().ok(),
            _ => {}
        }
    }

    /// The fact; `None` for a record without name, version or any claim, or whose name is no file name.
    fn fact(self, directory: &str) -> Option<Fact> {
        let (name, version) = (self.name?, self.version?);
        if [&name, &version].iter().any(|part| part.is_empty() || part.contains('/')) {
            return None;
        }
        let path = RepoPath::from_canonical(&format!("{directory}{name}-{version}.apk")).ok()?;
        let mut checksums: Checksums = self.identity.map(Checksum::ApkControl).into_iter().collect();
        checksums.extend(self.size.map(Checksum::Size));
        if checksums.is_empty() {
            return None;
        }
        Some(Fact { path: path.as_str().to_owned(), reach: Reach::File, url: None, checksums })
    }
}

/// The SHA-1 of `Q1{base64}`. apk-tools 3 also reads a SHA-256 there (`Q2`, or 32 bytes behind `Q1`): its
/// scope is another, so such a package is held against its size alone.
fn identity(text: &str) -> Option<[u8; 20]> {
    STANDARD.decode(text.strip_prefix("Q1")?).ok()?.try_into().ok()
}
