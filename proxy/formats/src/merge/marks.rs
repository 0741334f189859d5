//! Reading a member's document twice: to choose its entries, and to copy those that were chosen.

use std::{io::BufRead, slice};

use super::{Inputs, Member, Output, of_member};
use crate::IndexError;

impl<'a> Inputs<'a> {
    /// Has `choose` read the document at `path` of each member that has one, first member first, and tells `output` of
    /// the files that it chooses: the Virtual's paths of them.
    ///
    /// # Errors
    /// Those of `output`, and those of the members, which name the member.
    pub(crate) fn choose_from<L: IntoIterator<Item = String>>(
        self,
        path: &str,
        output: &mut dyn Output,
        mut choose: impl FnMut(usize, &'a dyn Member, &mut dyn BufRead) -> Result<L, IndexError>,
    ) -> Result<(), IndexError> {
        for (place, member) in self.members.iter().copied().enumerate() {
            let Some(mut document) = member.open(path).map_err(of_member(member))? else { continue };
            let listed = choose(place, member, &mut *document).map_err(of_member(member))?;
            output.list_all(place, listed)?;
        }
        Ok(())
    }
}

/// What was noted of each entry of a document, in their order, when the document is read again.
pub(crate) struct Marks<'m, T>(slice::Iter<'m, T>);

impl<'m, T> Marks<'m, T> {
    /// Those that `noted` has.
    pub(crate) fn of(noted: &'m [T]) -> Self {
        Marks(noted.iter())
    }

    /// What was noted of the entry that comes next.
    ///
    /// # Errors
    /// [`changed`] when there were fewer entries.
    pub(crate) fn next(&mut self) -> Result<&'m T, IndexError> {
        self.0.next().ok_or_else(changed)
    }

    /// Ends the document.
    ///
    /// # Errors
    /// [`changed`] when there were more entries.
    pub(crate) fn end(self) -> Result<(), IndexError> {
        if self.0.len() == 0 { Ok(()) } else { Err(changed()) }
    }
}

impl dyn Member + '_ {
    /// Opens a document that was there when its entries were chosen.
    ///
    /// # Errors
    /// Those of [`Member::open`], and [`changed`] when it is gone.
    pub(crate) fn open_again(&self, path: &str) -> Result<Box<dyn BufRead + '_>, IndexError> {
        self.open(path)?.ok_or_else(changed)
    }
}

/// The error of a document that is not the one that was read before.
pub(crate) fn changed() -> IndexError {
    IndexError::malformed("it changed while it was read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_with_more_or_fewer_entries_is_another_one() {
        let mut marks = Marks::of(&[true, false]);
        assert!(*marks.next().unwrap() && !*marks.next().unwrap());
        assert_eq!(
            marks.next().unwrap_err().to_string(),
            "the index is malformed: it changed while it was read"
        );
        marks.end().unwrap();
        let mut marks = Marks::of(&[true, false]);
        marks.next().unwrap();
        marks.end().unwrap_err();
    }
}
