//! Go's `h1:` directory hash (golang.org/x/mod/sumdb/dirhash, Hash1).

use std::io::{Read, Seek};

use crate::IndexError;

/// Hash of a module zip.
///
/// # Errors
/// [`IndexError`] for a malformed or oversized archive.
pub fn zip_hash<R: Read + Seek>(_body: &mut R) -> Result<[u8; 32], IndexError> {
    Err(IndexError::Malformed("not supported yet".into()))
}

/// Hash of a lone `go.mod`.
///
/// # Errors
/// [`IndexError`] when it cannot be read.
pub fn mod_hash<R: Read>(_body: &mut R) -> Result<[u8; 32], IndexError> {
    Err(IndexError::Malformed("not supported yet".into()))
}
