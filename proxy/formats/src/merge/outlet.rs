//! What a merge writes through: failures told apart, sizes and digests of what passes, and one fixed form of gzip.

use std::io::{self, ErrorKind, Write};

use artifactapi_model::Digest;
use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::{Member, Written, of_member};
use crate::IndexError;

/// Remembers a failure of the output, which is not one of the member that is being copied to it.
pub(crate) struct Outlet<'o> {
    out: &'o mut dyn Write,
    failed: Option<io::Error>,
}

impl<'o> Outlet<'o> {
    /// An outlet to `out`.
    pub(crate) fn new(out: &'o mut dyn Write) -> Self {
        Outlet { out, failed: None }
    }

    /// What came of copying from `member`: its own errors name it, those of the output do not.
    pub(crate) fn copied(
        &mut self,
        member: &dyn Member,
        result: Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        match self.failed.take() {
            Some(error) => Err(error.into()),
            None => result.map_err(of_member(member)),
        }
    }
}

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Has `copy` write to `out` what `member` has: its own errors name it, those of `out` do not.
pub(crate) fn copy_from(
    member: &dyn Member,
    out: &mut dyn Write,
    copy: impl FnOnce(&mut dyn Write) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut outlet = Outlet::new(out);
    let copied = copy(&mut outlet);
    outlet.copied(member, copied)
}

/// Counts and hashes what passes, for formats that state the size and checksum of an opened form.
pub(crate) struct Measured<'w> {
    inner: &'w mut dyn Write,
    hasher: sha2::Sha256,
    size: u64,
}

impl<'w> Measured<'w> {
    /// Measures what goes to `inner`.
    pub(crate) fn new(inner: &'w mut dyn Write) -> Self {
        Measured { inner, hasher: sha2::Digest::new(), size: 0 }
    }

    /// What has passed.
    pub(crate) fn finish(self) -> Written {
        let digest: [u8; 32] = sha2::Digest::finalize(self.hasher).into();
        Written { digest: Digest(digest), size: self.size }
    }
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        sha2::Digest::update(&mut self.hasher, &bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Packs into one gzip member whose header says nothing: the same content gives the same bytes everywhere.
pub(crate) fn gzip<W: Write>(out: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::new(6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::testing::Fake;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(crate::limits::breached("size of a generation"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_output_is_no_fault_of_the_member() {
        let member = Fake::new("one", &[]);
        let error = copy_from(&member, &mut Full, |out| Ok(out.write_all(b"x")?)).unwrap_err();
        assert!(matches!(error, IndexError::TooLarge("size of a generation")), "{error}");
        let own = copy_from(&member, &mut Full, |_| Err(IndexError::malformed("x"))).unwrap_err();
        assert_eq!(own.to_string(), "member one: the index is malformed: x");
    }
}
