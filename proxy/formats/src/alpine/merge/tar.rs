//! Writing the few files of an index as a tar archive whose headers say nothing but name and size.

use std::io::{self, Write};

use crate::IndexError;

const BLOCK: usize = 512;
/// Two blocks of zeros end an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The header of a regular file (POSIX ustar: read by everyone, dated 1970).
///
/// # Errors
/// [`IndexError::Io`] for a name or size that the header has no room for.
pub(super) fn header(name: &str, size: u64) -> Result<[u8; BLOCK], IndexError> {
    let digits = format!("{size:011o}");
    if name.len() >= 100 || digits.len() > 11 {
        return Err(IndexError::Io(io::Error::other(format!("a tar header has no room for {name:?}"))));
    }
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(digits.as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[148..156].fill(b' ');
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[265..269].copy_from_slice(b"root");
    block[297..301].copy_from_slice(b"root");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(block)
}

/// What fills the last block of a file of `size` bytes.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { &[] } else { &END[..BLOCK - over] }
}

/// Writes a whole file.
///
/// # Errors
/// As [`header`], and those of `out`.
pub(super) fn entry(out: &mut dyn Write, name: &str, content: &[u8]) -> Result<(), IndexError> {
    out.write_all(&header(name, content.len() as u64)?)?;
    out.write_all(content)?;
    Ok(out.write_all(padding(content.len() as u64))?)
}
