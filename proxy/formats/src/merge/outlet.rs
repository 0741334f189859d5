//! What a merge writes through: failures told apart, and one fixed form of gzip.

use std::io::{self, ErrorKind, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::{Member, of_member};
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
        let mut full = Full;
        let mut outlet = Outlet::new(&mut full);
        let failed = outlet.write_all(b"x").map_err(IndexError::from);
        let error = outlet.copied(&member, failed).unwrap_err();
        assert!(matches!(error, IndexError::TooLarge("size of a generation")), "{error}");
        let own = outlet.copied(&member, Err(IndexError::Malformed("x".into()))).unwrap_err();
        assert_eq!(own.to_string(), "member one: the index is malformed: x");
    }
}
