//! Writing JSON whose values come from elsewhere: brackets, keys and commas are ours.

use std::io::{self, Write};

use super::quoted;

/// What stands before each of several values: nothing before the first, and then commas.
#[derive(Debug, Default)]
pub(crate) struct Commas {
    is_due: bool,
}

impl Commas {
    /// What stands before the next value.
    pub(crate) fn next(&mut self) -> &'static str {
        if std::mem::replace(&mut self.is_due, true) { "," } else { "" }
    }
}

/// An object being written, member by member.
pub(crate) struct Object<'o> {
    out: &'o mut dyn Write,
    commas: Commas,
}

impl<'o> Object<'o> {
    /// Begins an object in `out`.
    ///
    /// # Errors
    /// Those of `out`, here and below.
    pub(crate) fn begin(out: &'o mut dyn Write) -> io::Result<Self> {
        out.write_all(b"{")?;
        Ok(Object { out, commas: Commas::default() })
    }

    /// Writes a key; its value goes into what is returned.
    pub(crate) fn key(&mut self, key: &str) -> io::Result<&mut dyn Write> {
        self.out.write_all(self.commas.next().as_bytes())?;
        self.out.write_all(quoted(key).as_bytes())?;
        self.out.write_all(b":")?;
        Ok(self.out)
    }

    /// Writes a member that is a text.
    pub(crate) fn text(&mut self, key: &str, text: &str) -> io::Result<()> {
        self.key(key)?.write_all(quoted(text).as_bytes())
    }

    /// Ends the object.
    pub(crate) fn end(self) -> io::Result<()> {
        self.out.write_all(b"}")
    }
}

/// Writes an array of `values`, each of which is JSON already.
///
/// # Errors
/// Those of `out`.
pub(crate) fn array<'v>(out: &mut dyn Write, values: impl Iterator<Item = &'v [u8]>) -> io::Result<()> {
    let mut commas = Commas::default();
    out.write_all(b"[")?;
    for value in values {
        out.write_all(commas.next().as_bytes())?;
        out.write_all(value)?;
    }
    out.write_all(b"]")
}
