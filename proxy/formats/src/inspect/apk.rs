//! Alpine's identity chain (apk-tools `package.c`, `extract_v2.c`; apk-v2(5)).
//!
//! A version 2 package is a row of gzip members: signatures, one control member, data. The index names the
//! SHA-1 of the control member *as compressed*; `.PKGINFO` inside it names the SHA-256 of everything behind
//! it, again as compressed. So the data is hashed and never inflated, and of the rest only small members are.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::tar;
use crate::{IndexError, inflate::index_error, limits::Capped};

/// Largest signature or control member once inflated, in bytes: install scripts and triggers are small.
const MAX_MEMBER: u64 = 8 << 20;
/// Most members before the data: signatures by several keys, then control.
const MAX_HEADS: usize = 8;

/// Whether the control member hashes to `want` and names the data's SHA-256 rightly.
///
/// # Errors
/// [`IndexError`] for a malformed, ambiguous or oversized package.
pub fn agrees<R: Read + Seek>(want: &[u8; 20], body: &mut R) -> Result<bool, IndexError> {
    body.seek(SeekFrom::Start(0))?;
    let mut input = BufReader::with_capacity(64 << 10, body);
    for _ in 0..MAX_HEADS {
        let mut member = Hashing { inner: &mut input, sha1: Sha1::new() };
        let head = read_head(&mut member)?;
        let sha1: [u8; 20] = member.sha1.finalize().into();
        match head {
            Head::Signatures => {}
            Head::Control { .. } if sha1 != *want => return Ok(false),
            Head::Control { datahash } => return Ok(hash_rest(&mut input)? == datahash),
        }
    }
    Err(malformed("has no control member"))
}

/// What a member before the data holds.
enum Head {
    Signatures,
    Control { datahash: [u8; 32] },
}

/// Reads one gzip member, to its last byte and no further.
fn read_head(member: &mut dyn BufRead) -> Result<Head, IndexError> {
    let mut signatures = false;
    let mut control = false;
    let mut datahash = None;
    let mut inflated = Capped::new(GzDecoder::new(member), MAX_MEMBER, "inflated control member");
    tar::walk(&mut inflated, |name, content| {
        match name {
            ".PKGINFO" if datahash.is_some() => return Err(malformed("has two .PKGINFO")),
            ".PKGINFO" => datahash = Some(read_datahash(content)?),
            name if name.starts_with(".SIGN.") => signatures = true,
            name if !name.starts_with('.') => return Err(malformed("has data before its control member")),
            _ => control = true,
        }
        Ok(())
    })?;
    match datahash {
        Some(_) if signatures => Err(malformed("signs and describes itself in one member")),
        Some(datahash) => Ok(Head::Control { datahash }),
        None if signatures && !control => Ok(Head::Signatures),
        None => Err(malformed("has no .PKGINFO")),
    }
}

/// The one `datahash` of a `.PKGINFO`.
fn read_datahash(content: &mut dyn Read) -> Result<[u8; 32], IndexError> {
    let mut text = String::new();
    content.read_to_string(&mut text).map_err(index_error)?;
    let mut values = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| key.trim() == "datahash")
        .map(|(_, value)| value.trim());
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(malformed("names no datahash, or two"));
    };
    let mut hash = [0; 32];
    hex::decode_to_slice(value, &mut hash).map_err(|_| malformed("has a datahash that is no SHA-256"))?;
    Ok(hash)
}

fn hash_rest(input: &mut dyn BufRead) -> Result<[u8; 32], IndexError> {
    let mut sha256 = Sha256::new();
    loop {
        let block = match input.fill_buf() {
            Ok([]) => return Ok(sha256.finalize().into()),
            Ok(block) => block,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        sha256.update(block);
        let taken = block.len();
        input.consume(taken);
    }
}

fn malformed(what: &str) -> IndexError {
    IndexError::malformed(format!("the package {what}"))
}

/// Hashes exactly the bytes a decoder takes: it reads ahead in the buffer, but consumes no byte behind its
/// member.
struct Hashing<'a, R> {
    inner: &'a mut R,
    sha1: Sha1,
}

impl<R: BufRead> Read for Hashing<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Hashing<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        // What is consumed lies in the buffer, so this reads nothing.
        if let Ok(block) = self.inner.fill_buf() {
            self.sha1.update(&block[..amount.min(block.len())]);
        }
        self.inner.consume(amount);
    }
}
