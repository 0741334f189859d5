//! A tar archive as a stream of regular files, for members that two parsers must not read differently.
//!
//! Packers disagree on how extension headers change the entry that follows (RUSTSEC-2025-0111 and its kin).
//! The few small members that are read here need none of it, so anything that renames or resizes an entry is
//! refused instead of interpreted: PAX `path`, `size` and `linkpath`, GNU long names, sparse files (RS-15).

use std::io::{self, Read};

use super::MAX_MEMBERS;
use crate::{
    IndexError,
    inflate::index_error,
    limits::{Capped, breached},
};

const BLOCK: usize = 512;
/// Largest PAX header, in bytes.
const MAX_PAX: u64 = 64 << 10;

/// Hands every regular file's name and content to `visit`, in order, and reads `input` to its end: at a
/// block of zeros, behind which only zeros may follow, or where a last entry ends (an archive cut before its
/// end marker, as Alpine concatenates them).
///
/// # Errors
/// [`IndexError`] for a malformed or ambiguous archive, for too many entries, and whatever `visit` returns.
pub(crate) fn walk(
    input: &mut dyn Read,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    for _ in 0..MAX_MEMBERS {
        let mut block = [0; BLOCK];
        match fill(input, &mut block)? {
            0 => return Ok(()),
            BLOCK => {}
            _ => return Err(malformed("is cut inside a header")),
        }
        if block == [0; BLOCK] {
            return only_zeros(input);
        }
        let header = Header::parse(&block)?;
        let mut content = (&mut *input).take(header.size);
        match header.kind {
            Entry::File => visit(&header.name, &mut content)?,
            Entry::Pax => check_pax(&mut content)?,
            Entry::Empty if header.size > 0 => return Err(malformed("has a link or directory with content")),
            Entry::Empty => {}
        }
        io::copy(&mut content, &mut io::sink()).map_err(index_error)?;
        if content.limit() > 0 {
            return Err(malformed("is cut inside an entry"));
        }
        let padding = header.size.next_multiple_of(BLOCK as u64) - header.size;
        let skipped = io::copy(&mut (&mut *input).take(padding), &mut io::sink()).map_err(index_error)?;
        if skipped < padding {
            return Err(malformed("is cut inside padding"));
        }
    }
    Err(breached("number of archive members").into())
}

struct Header {
    name: String,
    size: u64,
    kind: Entry,
}

enum Entry {
    File,
    /// Directories, links, devices: nothing to read.
    Empty,
    /// An extension header for the next entry (`x`) or all that follow (`g`).
    Pax,
}

impl Header {
    fn parse(block: &[u8; BLOCK]) -> Result<Self, IndexError> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| u64::from(if (148..156).contains(&i) { b' ' } else { *b }))
            .sum();
        if octal(&block[148..156]) != Some(sum) {
            return Err(malformed("has a header whose checksum is wrong"));
        }
        let kind = match block[156] {
            0 | b'0' | b'7' => Entry::File,
            b'1'..=b'6' => Entry::Empty,
            b'x' | b'g' => Entry::Pax,
            _ => return Err(malformed("has an entry of a kind that parsers read differently")),
        };
        let size =
            octal(&block[124..136]).ok_or_else(|| malformed("has an entry whose size is no octal number"))?;
        if size > i64::MAX as u64 {
            return Err(malformed("has an entry of impossible size"));
        }
        let mut name = text(&block[..100]);
        if block[257..262] == *b"ustar" && block[262] == 0 && block[345] != 0 {
            name = format!("{}/{name}", text(&block[345..500]));
        }
        Ok(Header { name, size, kind })
    }
}

/// Text up to the first NUL; what is no UTF-8 cannot be a name that is looked for.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A number as tar pads it: spaces before, spaces or NULs behind.
fn octal(field: &[u8]) -> Option<u64> {
    let text = str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    let is_octal = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if is_octal { u64::from_str_radix(text, 8).ok() } else { None }
}

/// Refuses PAX records that change what the next entry is; times and checksums pass.
fn check_pax(content: &mut dyn Read) -> Result<(), IndexError> {
    let mut records = Vec::new();
    Capped::new(content, MAX_PAX, "size of a PAX header").read_to_end(&mut records).map_err(index_error)?;
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        // "LENGTH KEY=VALUE\n", where LENGTH counts itself.
        let record = rest
            .iter()
            .position(|b| *b == b' ')
            .and_then(|space| Some((space, str::from_utf8(&rest[..space]).ok()?.parse::<usize>().ok()?)))
            .and_then(|(space, length)| rest.get(space + 1..length));
        let key = record
            .filter(|record| record.ends_with(b"\n"))
            .and_then(|record| record.split(|b| *b == b'=').next())
            .ok_or_else(|| malformed("has a broken PAX header"))?;
        let changes_entry = matches!(key, b"path" | b"size" | b"linkpath") || key.starts_with(b"GNU.sparse");
        if changes_entry {
            return Err(malformed("renames or resizes an entry by a PAX header"));
        }
        let length = record.map_or(0, <[u8]>::len);
        let space = rest.iter().position(|b| *b == b' ').unwrap_or(0);
        rest = &rest[space + 1 + length..];
    }
    Ok(())
}

fn only_zeros(input: &mut dyn Read) -> Result<(), IndexError> {
    let mut block = [0; BLOCK];
    loop {
        let read = fill(input, &mut block)?;
        if block[..read].iter().any(|b| *b != 0) {
            return Err(malformed("goes on behind its end"));
        }
        if read < BLOCK {
            return Ok(());
        }
    }
}

/// Reads until `block` is full or the input ends.
fn fill(input: &mut dyn Read, block: &mut [u8; BLOCK]) -> Result<usize, IndexError> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(index_error(error)),
        }
    }
    Ok(filled)
}

fn malformed(what: &str) -> IndexError {
    IndexError::malformed(format!("the archive {what}"))
}
