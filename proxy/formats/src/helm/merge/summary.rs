//! What a merge needs to know of a member's index: read once per document, however often other members change.

use std::{io, ops::Range};

use super::entry::{Chart, Target};
use crate::{IndexError, helm::read::MAX_ENTRY, json, limits::MAX_ENTRIES, merge::Order};

/// A text in [`Summary::texts`].
#[derive(Clone, Copy)]
struct Text {
    start: u32,
    length: u32,
}

/// A chart of the index.
struct Versions {
    name: Text,
    /// Its entries, as they follow one another in [`Summary::entries`].
    entries: Range<u32>,
    /// Whether they are in Helm's order, each version once.
    is_sorted: bool,
}

/// An entry that can be advertised.
struct Entry {
    version: Text,
    target: Target<Text>,
    /// Where the document has it, and where its value of `urls`.
    at: Range<u32>,
    urls: Range<u32>,
}

/// The charts of a member's index, with places in the document instead of what stands there.
pub(super) struct Summary {
    texts: String,
    charts: Vec<Versions>,
    entries: Vec<Entry>,
    /// How many entries the index has, with those that nobody could install.
    count: usize,
    /// Bytes of the index.
    size: usize,
}

/// An entry as it is advertised, with what the document has before and after the value of `urls`.
pub(super) struct Advertised<'s> {
    pub(super) version: &'s str,
    pub(super) target: Target<&'s str>,
    pub(super) before: Range<usize>,
    pub(super) after: Range<usize>,
}

impl Summary {
    /// Reads the index `document` of `member`; the index lies in `directory`.
    ///
    /// # Errors
    /// [`IndexError`] when Helm would not take it, or when it is too large.
    pub(super) fn read(document: &[u8], directory: &str, member: &str) -> Result<Self, IndexError> {
        let mut summary = Summary {
            texts: String::new(),
            charts: Vec::new(),
            entries: Vec::new(),
            count: 0,
            size: document.len(),
        };
        scan(&mut &*document, &mut |name, at| {
            summary.count += 1;
            if summary.count > MAX_ENTRIES {
                return Err(IndexError::TooLarge("number of entries"));
            }
            let json = document.get(at.clone()).ok_or(TOO_LARGE)?;
            summary.add(name, json, at.start, directory, member)
        })?;
        summary.note_order();
        Ok(summary)
    }

    fn add(
        &mut self,
        name: &str,
        json: &[u8],
        start: usize,
        directory: &str,
        member: &str,
    ) -> Result<(), IndexError> {
        let chart = Chart::parse(json)?;
        let Some((version, target)) = chart.advertised(directory, member) else { return Ok(()) };
        let place = |offset: usize| u32::try_from(start + offset).map_err(|_| TOO_LARGE);
        let entry = Entry {
            version: self.text(version)?,
            target: match target {
                Target::Ours(path) => Target::Ours(self.text(&path)?),
                Target::Elsewhere(url) => Target::Elsewhere(self.text(&url)?),
            },
            at: place(0)?..place(json.len())?,
            urls: place(chart.urls_at().start)?..place(chart.urls_at().end)?,
        };
        let next = u32::try_from(self.entries.len()).map_err(|_| TOO_LARGE)?;
        self.entries.push(entry);
        match self.charts.last_mut() {
            Some(chart) if chart.name.of(&self.texts) == name => chart.entries.end = next + 1,
            _ => {
                let name = self.text(name)?;
                self.charts.push(Versions { name, entries: next..next + 1, is_sorted: false });
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Text, IndexError> {
        let (start, length) = (u32::try_from(self.texts.len()), u32::try_from(text.len()));
        let (Ok(start), Ok(length)) = (start, length) else { return Err(TOO_LARGE) };
        self.texts.push_str(text);
        Ok(Text { start, length })
    }

    fn note_order(&mut self) {
        for chart in &mut self.charts {
            let entries = &self.entries[range(&chart.entries)];
            // Versions of one place may be one and the same.
            chart.is_sorted = entries
                .iter()
                .map(|entry| Order::of(entry.version.of(&self.texts)))
                .is_sorted_by(|earlier, later| earlier > later);
        }
    }

    /// How many entries the index has.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes the index has.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.texts.capacity()
            + self.charts.capacity() * size_of::<Versions>()
            + self.entries.capacity() * size_of::<Entry>()
    }

    /// Each chart: its name, the places of its entries, and whether those are in Helm's order, each version once.
    pub(super) fn charts(&self) -> impl Iterator<Item = (&str, Range<usize>, bool)> {
        self.charts.iter().map(|chart| (chart.name.of(&self.texts), range(&chart.entries), chart.is_sorted))
    }

    /// The entry at `place`.
    pub(super) fn entry(&self, place: usize) -> Advertised<'_> {
        let Entry { version, target, at, urls } = &self.entries[place];
        Advertised {
            version: version.of(&self.texts),
            target: match target {
                Target::Ours(path) => Target::Ours(path.of(&self.texts)),
                Target::Elsewhere(url) => Target::Elsewhere(url.of(&self.texts)),
            },
            before: range(&(at.start..urls.start)),
            after: range(&(urls.end..at.end)),
        }
    }
}

const TOO_LARGE: IndexError = IndexError::TooLarge("size of the index");

impl Text {
    fn of(self, texts: &str) -> &str {
        &texts[range(&(self.start..self.start + self.length))]
    }
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Receives an entry: its chart, and where the document has it.
type Sink<'s> = dyn FnMut(&str, Range<usize>) -> Result<(), IndexError> + 's;

/// Hands each entry of a member's index to `sink`.
fn scan(document: &mut &[u8], sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut has_entries = false;
    json::document(document, &mut io::sink(), |reader, out, key| {
        if key != "entries" {
            return reader.value(out);
        }
        if std::mem::replace(&mut has_entries, true) {
            return Err(IndexError::malformed("the index has \"entries\" twice"));
        }
        if reader.peek(out)? == b'n' {
            return reader.parse::<()>(MAX_ENTRY);
        }
        reader.object(out, |reader, out, name| {
            if reader.peek(out)? == b'n' {
                return reader.parse::<()>(MAX_ENTRY);
            }
            reader.array(out, |reader, out| {
                let start = reader.position();
                reader.value(out)?;
                let (start, end) = (usize::try_from(start), usize::try_from(reader.position()));
                let (Ok(start), Ok(end)) = (start, end) else { return Err(TOO_LARGE) };
                if end - start > MAX_ENTRY {
                    return Err(IndexError::TooLarge("size of one JSON value"));
                }
                sink(name, start..end)
            })
        })
    })?;
    if has_entries { Ok(()) } else { Err(IndexError::malformed("the index has no \"entries\"")) }
}
