//! Writing an index as JSON, piece by piece.

use std::io::Write;

use super::read::Piece;
use crate::{IndexError, json::quoted, limits::Allowance};

/// Where the writer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Among the top-level fields.
    Top,
    /// In a chart's list, so many versions on.
    Chart(usize),
}

/// An index being written.
pub(super) struct Index<'o> {
    out: &'o mut dyn Write,
    inside: Inside,
    fields: usize,
    has_entries: bool,
    /// How many pieces may still come.
    left: Allowance,
}

impl<'o> Index<'o> {
    /// An index to be written to `out`.
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Index {
            out,
            inside: Inside::Top,
            fields: 0,
            has_entries: false,
            left: Allowance::of_entries("number of chart versions"),
        }
    }

    /// Writes the next piece.
    pub(super) fn piece(&mut self, piece: Piece) -> Result<(), IndexError> {
        self.left.take(1)?;
        match piece {
            Piece::Field(key, value) => {
                self.leave_entries()?;
                self.key(&key)?;
                write!(self.out, "{value}")?;
            }
            Piece::Chart(name) => {
                match self.inside {
                    Inside::Top => self.enter_entries()?,
                    Inside::Chart(_) => self.out.write_all(b"],")?,
                }
                self.inside = Inside::Chart(0);
                write!(self.out, "{}:[", quoted(&name))?;
            }
            Piece::Entry(value) => {
                let Inside::Chart(versions) = self.inside else {
                    return Err(IndexError::malformed("a chart version without a chart"));
                };
                let comma = if versions > 0 { "," } else { "" };
                write!(self.out, "{comma}{value}")?;
                self.inside = Inside::Chart(versions + 1);
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &str) -> Result<(), IndexError> {
        let before = if self.fields == 0 { "{" } else { "," };
        self.fields += 1;
        Ok(write!(self.out, "{before}{}:", quoted(key))?)
    }

    fn enter_entries(&mut self) -> Result<(), IndexError> {
        if std::mem::replace(&mut self.has_entries, true) {
            return Err(IndexError::malformed("the index has \"entries\" twice"));
        }
        self.key("entries")?;
        Ok(self.out.write_all(b"{")?)
    }

    fn leave_entries(&mut self) -> Result<(), IndexError> {
        if self.inside != Inside::Top {
            self.inside = Inside::Top;
            self.out.write_all(b"]}")?;
        }
        Ok(())
    }

    /// Ends the index. One without charts says so, since Helm wants the field.
    pub(super) fn end(mut self) -> Result<(), IndexError> {
        self.leave_entries()?;
        if !self.has_entries {
            self.enter_entries()?;
            self.out.write_all(b"}")?;
        }
        Ok(self.out.write_all(b"}")?)
    }
}
