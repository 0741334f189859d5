//! Whether a complete body is what it should be, before it becomes visible.

use std::{io, sync::Arc};

use artifactapi_formats::{Magic, inspect};
use artifactapi_model::{Checksum, digest::Hashed, ports::BlobReader};

use crate::{blocking::BlockingReader, error::FetchError};

/// Holds `hashed` and, for checksums that look inside, the staged bytes against every claim.
///
/// # Errors
/// [`FetchError::Mismatch`] for the first claim that fails, also when the archive cannot be read.
pub(crate) async fn check(
    checksums: &[Checksum],
    hashed: &Hashed,
    reader: &Arc<dyn BlobReader>,
) -> Result<(), FetchError> {
    for checksum in checksums {
        let mismatch = || FetchError::Mismatch { algorithm: checksum.algorithm() };
        let agrees = match hashed.agrees(checksum) {
            Some(agrees) => agrees,
            None => look_inside(checksum.clone(), hashed.size, reader.clone()).await.ok_or_else(mismatch)?,
        };
        if !agrees {
            return Err(mismatch());
        }
    }
    Ok(())
}

/// As [`check`], for a body that is not at hand any more: claims about its inside cannot be judged.
pub(crate) fn check_outside(checksums: &[Checksum], hashed: &Hashed) -> Result<(), FetchError> {
    match checksums.iter().find(|checksum| hashed.agrees(checksum) == Some(false)) {
        Some(checksum) => Err(FetchError::Mismatch { algorithm: checksum.algorithm() }),
        None => Ok(()),
    }
}

async fn look_inside(checksum: Checksum, size: u64, reader: Arc<dyn BlobReader>) -> Option<bool> {
    let handle = tokio::runtime::Handle::current();
    let look = move || {
        let mut body = io::BufReader::with_capacity(256 << 10, BlockingReader::new(reader, size, handle));
        inspect::agrees(&checksum, &mut body)
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(agrees)) => agrees,
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "a body could not be inspected for its checksum");
            None
        }
        Err(_) => None,
    }
}

/// Whether the claims identify the bytes: enough to trust a body whose end is not framed (RS-05).
pub(crate) fn identifies(checksums: &[Checksum]) -> bool {
    checksums.iter().any(|checksum| !matches!(checksum, Checksum::Size(_)))
}

/// Refuses an HTML page or other bytes where an archive is due (RS-07). `head` are the first bytes.
///
/// # Errors
/// [`FetchError::WrongKind`].
pub(crate) fn check_kind(magic: Option<Magic>, content_type: &str, head: &[u8]) -> Result<(), FetchError> {
    let Some(magic) = magic else { return Ok(()) };
    let wanted = match magic {
        Magic::Zip => "a zip archive",
        Magic::Gzip => "a gzip archive",
        Magic::Rpm => "an RPM package",
        Magic::Apk => "an Alpine package",
        Magic::Json => "a JSON document",
    };
    if !magic.fits(head) {
        let got = if content_type.is_empty() {
            "bytes of another kind".to_owned()
        } else {
            content_type.chars().take(80).collect()
        };
        return Err(FetchError::WrongKind { got, wanted });
    }
    Ok(())
}
