//! `updateinfo.xml` and `comps.xml`: elements with an id, of which the first member's is taken.

use std::io::Write;

use quick_xml::events::Event;

use super::{
    Part,
    elements::{self, gather, walk},
    repomd::{GROUP, UPDATEINFO},
};
use crate::{
    IndexError,
    limits::Allowance,
    merge::{Seen, copy_from, entries_of_all},
};

/// Largest element with an id, in bytes.
const MAX_ELEMENT: usize = 8 << 20;
/// Longest id, in bytes.
const MAX_ID: usize = 4096;

/// A document whose elements are united.
#[derive(Clone, Copy, Debug)]
pub(super) struct United {
    kind: &'static str,
    root: &'static str,
    /// Elements that are nothing without an id; of all others there is one of a name.
    with_id: &'static [&'static str],
}

/// Advisories.
pub(super) const UPDATES: United = United { kind: UPDATEINFO, root: "updates", with_id: &["update"] };
/// Groups of packages.
pub(super) const COMPS: United =
    United { kind: GROUP, root: "comps", with_id: &["group", "environment", "category"] };

impl United {
    /// Writes the merged document.
    ///
    /// # Errors
    /// [`IndexError`] for broken documents, and those of `out`.
    pub(super) fn write(self, parts: &[Part<'_>], out: &mut dyn Write) -> Result<(), IndexError> {
        writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{}>", self.root)?;
        let (mut seen, mut entries) = (Seen::default(), entries_of_all());
        for part in parts {
            copy_from(part.member, out, |out| self.copy(part, &mut seen, &mut entries, out))?;
        }
        Ok(writeln!(out, "</{}>", self.root)?)
    }

    fn copy(
        self,
        part: &Part<'_>,
        seen: &mut Seen,
        entries: &mut Allowance,
        out: &mut dyn Write,
    ) -> Result<(), IndexError> {
        let Some(mut document) = part.open(self.kind)? else { return Ok(()) };
        let (mut element, mut name, mut id, mut in_id) = (Vec::new(), String::new(), None::<String>, false);
        walk(&mut *document, self.root, &mut |level, event| {
            let tag = match event {
                Event::Start(tag) | Event::Empty(tag) => Some(tag.local_name()),
                _ => None,
            };
            match (level, &tag) {
                (0, _) => return Ok(()),
                (1, Some(tag)) => {
                    tag.as_ref().clone_into(&mut name);
                    (id, in_id) = (None, false);
                    element.clear();
                }
                (2, Some(tag)) if tag.as_ref() == "id" => {
                    if id.replace(String::new()).is_some() {
                        return Err(IndexError::malformed(format!("its <{name}> has two ids")));
                    }
                    in_id = matches!(event, Event::Start(_));
                }
                (2, None) if matches!(event, Event::End(_)) => in_id = false,
                (2, None) if in_id => gather(id.get_or_insert_default(), event, MAX_ID)?,
                _ => {}
            }
            elements::write(&mut element, event)?;
            if element.len() > MAX_ELEMENT {
                return Err(IndexError::TooLarge("size of one element"));
            }
            if let (1, Event::End(_) | Event::Empty(_)) = (level, event) {
                entries.take(1)?;
                let id = id.take().unwrap_or_default();
                let id = id.trim();
                if id.is_empty() && self.with_id.contains(&name.as_str()) {
                    return Err(IndexError::malformed("an element has no id"));
                }
                if seen.first(&[&name, id]) {
                    out.write_all(&element)?;
                    out.write_all(b"\n")?;
                }
            }
            Ok(())
        })
    }
}
