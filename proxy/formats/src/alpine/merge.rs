//! Merging `APKINDEX.tar.gz`: the members' records one after another, byte for byte, signed with our own key.
//!
//! apk derives a package's location itself, `{name}-{version}.apk` beside the index; so each file name belongs
//! to the first member that has it, whatever its architecture and checksum are, and is listed under the member's
//! own path.
//!
//! The index is written behind its signature, which covers it as it is compressed. So the members are read three
//! times: to choose the records (the archive states their size first), to hash, and to write. Memory holds a name
//! in 16 bytes and a mark per record.
//!
//! A record that apk would not take makes it refuse the whole index: such a member is an error here.
//!
//! Sources: apk-tools `database.c` (`load_index`), `package.c`, `extract_v2.c`; abuild `abuild-sign`, `abuild-tar`.

mod record;
mod tar;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};

use artifactapi_model::{Digest, RepoPath};

use self::record::Identity;
use super::{INDEX, index};
use crate::{
    IndexError,
    merge::{
        Claims, Inputs, Marks, Measured, Member, Merge, Output, Seen, Signer, changed, copy_from,
        entries_of_all, gzip,
    },
};

/// What apk shows of the index; at most 160 bytes.
const DESCRIPTION: &[u8] = b"merged";

/// The merge of `APKINDEX.tar.gz`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AlpineMerge;

impl Merge for AlpineMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        let name = path.file_name();
        if name == INDEX {
            return Some(path.clone());
        }
        let is_package = name.strip_suffix(".apk").is_some_and(|name| !name.is_empty());
        is_package.then(|| RepoPath::from_canonical(&format!("{}{INDEX}", path.parent())).ok())?
    }

    fn needs(&self, path: &RepoPath, _member: &dyn Member) -> Result<Vec<String>, IndexError> {
        Ok(vec![path.as_str().to_owned()])
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let index = choose(inputs, output)?;
        if index.parts.is_empty() {
            return Ok(());
        }
        let mut nowhere = io::sink();
        let mut measured = Measured::new(&mut nowhere);
        index.write(&mut measured)?;
        let signature = sign(&measured.finish().digest, inputs.signer)?;
        output.put(inputs.index.as_str(), "application/gzip", &mut |out| {
            out.write_all(&signature)?;
            index.write(out)
        })
    }
}

/// The records that are merged.
struct Index<'a> {
    path: &'a RepoPath,
    parts: Vec<Part<'a>>,
    /// Bytes of all of them.
    size: u64,
}

/// Which records of a member are among them.
struct Part<'a> {
    member: &'a dyn Member,
    chosen: Vec<bool>,
}

fn choose<'a>(inputs: Inputs<'a>, output: &mut dyn Output) -> Result<Index<'a>, IndexError> {
    let (mut claims, mut entries, mut seen) = (Claims::new(inputs.rules), entries_of_all(), Seen::default());
    let path = inputs.index;
    let mut index = Index { path, parts: Vec::new(), size: 0 };
    inputs.choose_from(path.as_str(), output, |place, member, document| {
        let mut part = Part { member, chosen: Vec::new() };
        let mut listed = Vec::new();
        index::records(document, &mut |lines| {
            entries.take(1)?;
            let record = Identity::parse(path.parent(), lines)?;
            let is_chosen = member.permits(record.path.as_str())
                && claims.admit(place, record.name)
                && seen.first(&[record.path.as_str()]);
            part.chosen.push(is_chosen);
            if is_chosen {
                index.size += written(lines);
                listed.push(record.path.as_str().to_owned());
            }
            Ok(())
        })?;
        index.parts.push(part);
        Ok(listed)
    })?;
    Ok(index)
}

/// Bytes that a record takes: its lines, the last one ended, and an empty one.
fn written(lines: &[u8]) -> u64 {
    lines.len() as u64 + u64::from(!lines.ends_with(b"\n")) + 1
}

impl Index<'_> {
    /// Writes the member that the signature covers.
    fn write(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        let mut packed = BufWriter::with_capacity(64 << 10, gzip(out));
        tar::entry(&mut packed, "DESCRIPTION", DESCRIPTION)?;
        packed.write_all(&tar::header("APKINDEX", self.size)?)?;
        let mut left = self.size;
        for part in &self.parts {
            copy_from(part.member, &mut packed, |out| part.copy(self.path, out, &mut left))?;
        }
        if left > 0 {
            return Err(changed());
        }
        packed.write_all(tar::padding(self.size))?;
        packed.write_all(&tar::END)?;
        packed.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
        Ok(())
    }
}

impl Part<'_> {
    /// Copies its records; `left` is what the archive has room for.
    fn copy(&self, path: &RepoPath, out: &mut dyn Write, left: &mut u64) -> Result<(), IndexError> {
        let mut document = self.member.open_again(path.as_str())?;
        let mut chosen = Marks::of(&self.chosen);
        index::records(&mut *document, &mut |lines| {
            if *chosen.next()? {
                *left = left.checked_sub(written(lines)).ok_or_else(changed)?;
                out.write_all(lines)?;
                out.write_all(if lines.ends_with(b"\n") { b"\n" } else { b"\n\n" })?;
            }
            Ok(())
        })
    }
}

/// The gzip member in front, with the signature of the one whose SHA-256 is `digest`. Its archive has no end, so
/// that the two are one.
fn sign(digest: &Digest, signer: &dyn Signer) -> Result<Vec<u8>, IndexError> {
    let signature = signer.rsa_sha256(digest).map_err(IndexError::Signing)?;
    let mut packed = gzip(Vec::new());
    tar::entry(&mut packed, &format!(".SIGN.RSA256.{}", signer.rsa_name()), &signature)?;
    Ok(packed.finish()?)
}
