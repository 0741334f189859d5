//! Go's `h1:` directory hash (golang.org/x/mod/sumdb/dirhash, `Hash1`): the SHA-256 over one line
//! `{sha256 of the member}  {name}\n` per member, sorted by name.
//!
//! Members are inflated one after another into a hash, never to disk (RS-15). Names are hashed as their raw
//! bytes (`mod@v/path`), so a zip that hashes to the published value is the published one, and what its names
//! look like is no question here. Of members that share a name each counts by its own content: such a zip,
//! which the go command refuses too, never hashes to the value of an honest one.

#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read, Seek};

use sha2::{Digest as _, Sha256};
use zip::{ZipReadOptions, read::Config, result::ZipError, unstable::read::ZipIterable};

use super::MAX_MEMBERS;
use crate::{IndexError, limits::Capped};

/// Largest sum of inflated members, in bytes (golang.org/x/mod/zip, `MaxZipFile`).
pub const MAX_INFLATED: u64 = 500 << 20;
/// Largest sum of member names, in bytes.
const MAX_NAMES: usize = 32 << 20;
/// Largest lone `go.mod`, in bytes (golang.org/x/mod/zip, `MaxGoMod`).
const MAX_MOD: u64 = 16 << 20;
/// Bytes hashed at a time.
const BLOCK: usize = 64 << 10;

/// Hash of a module zip.
///
/// # Errors
/// [`IndexError`] for a malformed archive, one with members that are neither stored nor deflated, and one
/// that exceeds [`MAX_MEMBERS`], [`MAX_INFLATED`] or the cap on names.
pub fn zip_hash<R: Read + Seek>(body: &mut R) -> Result<[u8; 32], IndexError> {
    // The iterator keeps no directory in memory and keeps members that share a name apart.
    let mut archive = ZipIterable::try_new(body, Config::default()).map_err(malformed)?;
    if archive.len() > MAX_MEMBERS {
        return Err(IndexError::TooLarge("number of archive members"));
    }
    let entries = archive.files().map_err(malformed)?;
    let mut members: Vec<(Box<[u8]>, [u8; 32])> = Vec::new();
    let (mut left, mut names) = (MAX_INFLATED, 0);
    let mut block = vec![0; BLOCK];
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(malformed)?;
        let name: Box<[u8]> = entry.name_raw().into();
        names += name.len();
        if names > MAX_NAMES {
            return Err(IndexError::TooLarge("names of archive members"));
        }
        if name.contains(&b'\n') {
            return Err(IndexError::malformed("an archive member has a line break in its name"));
        }
        let member = entry.with_reader(entries.reader_mut(), ZipReadOptions::new()).map_err(malformed)?;
        let (digest, size) = sha256(Capped::new(member, left, "inflated size"), &mut block)?;
        left -= size;
        members.push((name, digest));
    }
    members.sort_unstable();
    Ok(hash1(members.iter().map(|(name, digest)| (&**name, digest))))
}

/// Hash of a lone `go.mod`.
///
/// # Errors
/// [`IndexError`] when it cannot be read or is larger than 16 MiB.
pub fn mod_hash<R: Read>(body: &mut R) -> Result<[u8; 32], IndexError> {
    let (digest, _) = sha256(Capped::new(body, MAX_MOD, "size of a go.mod"), &mut vec![0; BLOCK])?;
    Ok(hash1([(&b"go.mod"[..], &digest)]))
}

fn hash1<'m>(members: impl IntoIterator<Item = (&'m [u8], &'m [u8; 32])>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, digest) in members {
        hash.update(hex::encode(digest));
        hash.update(b"  ");
        hash.update(name);
        hash.update(b"\n");
    }
    hash.finalize().into()
}

fn sha256(mut reader: impl Read, block: &mut [u8]) -> Result<([u8; 32], u64), IndexError> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        match reader.read(block) {
            Ok(0) => return Ok((hash.finalize().into(), size)),
            Ok(read) => {
                hash.update(&block[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn malformed(error: ZipError) -> IndexError {
    match error {
        ZipError::Io(error) => error.into(),
        error => IndexError::malformed(format!("not a module zip: {error}")),
    }
}
