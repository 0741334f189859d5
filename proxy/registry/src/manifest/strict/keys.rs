//! Whether an object has a key twice, at the price of its keys' bytes and a few more for each.

use std::num::TryFromIntError;

/// The keys of the objects that lead to where a reader is. They are kept themselves: of a hash, somebody would
/// find two keys that share one.
#[derive(Default)]
pub(super) struct Keys {
    text: String,
    /// Where in `text` each begins and ends.
    spans: Vec<(u32, u32)>,
}

impl Keys {
    /// Begins an object; what [`close`](Self::close) wants to know of it.
    pub(super) fn open(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn push(&mut self, key: &str) -> Result<(), TryFromIntError> {
        let start = self.text.len().try_into()?;
        self.text.push_str(key);
        self.spans.push((start, self.text.len().try_into()?));
        Ok(())
    }

    pub(super) fn last(&self) -> &str {
        self.spans.last().map_or("", |span| slice(&self.text, *span))
    }

    /// Ends the object that was opened as `first`; whether no two of its keys are the same.
    pub(super) fn close(&mut self, first: usize) -> bool {
        let keys = &mut self.spans[first..];
        let Some((start, _)) = keys.first().copied() else { return true };
        keys.sort_unstable_by(|a, b| slice(&self.text, *a).cmp(slice(&self.text, *b)));
        let differ = keys.windows(2).all(|two| slice(&self.text, two[0]) != slice(&self.text, two[1]));
        self.spans.truncate(first);
        self.text.truncate(start as usize);
        differ
    }
}

fn slice(text: &str, (start, end): (u32, u32)) -> &str {
    &text[start as usize..end as usize]
}
