//! Checksums that look inside a complete body: Go's directory hash and Alpine's identity chain.
//!
//! Nothing is extracted to disk (RS-15); members are counted and capped.

pub mod apk;
pub mod go_zip;
pub(crate) mod tar;

use std::io::{Read, Seek};

use artifactapi_model::Checksum;

use crate::IndexError;

/// Most members of an archive (RS-15).
pub const MAX_MEMBERS: usize = 100_000;

/// Whether a complete body agrees with `checksum`; `None` for checksums that need no look inside.
///
/// # Errors
/// [`IndexError`] when the archive is malformed or exceeds a limit: then it does not agree either.
pub fn agrees<R: Read + Seek>(checksum: &Checksum, body: &mut R) -> Result<Option<bool>, IndexError> {
    match checksum {
        Checksum::GoZip(want) => Ok(Some(go_zip::zip_hash(body)? == *want)),
        Checksum::GoMod(want) => Ok(Some(go_zip::mod_hash(body)? == *want)),
        Checksum::ApkControl(want) => apk::agrees(want, body).map(Some),
        Checksum::Sha256(_)
        | Checksum::Sha512(_)
        | Checksum::Sha1(_)
        | Checksum::Md5(_)
        | Checksum::Size(_) => Ok(None),
    }
}
