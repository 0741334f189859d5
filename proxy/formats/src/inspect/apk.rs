//! Alpine's identity chain (apk-tools `package.c`, `extract_v2.c`).

use std::io::{Read, Seek};

use crate::IndexError;

/// Whether the control member hashes to `want` and names the data member's SHA-256 rightly.
///
/// # Errors
/// [`IndexError`] for a malformed or oversized package.
pub fn agrees<R: Read + Seek>(_want: &[u8; 20], _body: &mut R) -> Result<bool, IndexError> {
    Err(IndexError::Malformed("not supported yet".into()))
}
