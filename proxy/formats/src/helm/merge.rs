//! Merging chart indexes, as Helm's own `Merge` does: one entry per chart name and version, the first member's;
//! each chart's versions in descending order.
//!
//! A member's index comes as we serve it: JSON, with one kind of relative URL. Each entry is read once per document
//! ([`summary`]), checked against the types that Helm decodes it into (one number in a text field would make Helm refuse
//! the whole index, everybody's charts with it), and written as the member has it but for its `urls`. Entries that nobody
//! could download are left out.
//!
//! A member that changes costs the reading of its own index, and copying the others'. The documents are held while
//! they are merged, since each chart's list is sorted over all of them, and JSON from elsewhere may have charts in
//! any order; that is bounded by [`MAX_HELD`].
//!
//! Source: helm/helm:pkg/repo/v1/index.go (`Merge`, `SortEntries`, `loadIndex`).

mod entry;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::HashSet,
    io::{self, Write},
    ops::Range,
    sync::Arc,
};

use artifactapi_model::{RepoPath, path};

use self::{
    entry::Target,
    summary::{Advertised, Summary},
};
use crate::{
    IndexError,
    json::quoted,
    limits::Allowance,
    merge::{
        Claims, Inputs, Listed, Member, Merge, Order, Output, Rules, directory_of, entries_of_all, of_member,
        own,
    },
};

const INDEX: &str = "index.yaml";
/// Largest sum of the members' indexes, in bytes.
const MAX_HELD: usize = 256 << 20;

/// The merge of `index.yaml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelmMerge;

impl Merge for HelmMerge {
    fn version(&self) -> u32 {
        2
    }

    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        if path.file_name().is_empty() {
            return None;
        }
        if let Some(directory) = directory_of(path.as_str()) {
            return RepoPath::from_canonical(&format!("{directory}{INDEX}")).ok();
        }
        (path.file_name() == INDEX).then(|| path.clone())
    }

    fn needs(&self, path: &RepoPath, _member: &dyn Member) -> Result<Vec<String>, IndexError> {
        Ok(vec![path.as_str().to_owned()])
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        let (mut indexes, mut entries, mut left) =
            (Vec::new(), entries_of_all(), Allowance::of(MAX_HELD, "size of the members' indexes together"));
        for (place, member) in inputs.members.iter().enumerate() {
            let Some(index) = Index::of(place, *member, path, &mut left)? else { continue };
            entries.take(index.summary.count())?;
            indexes.push(index);
        }
        if indexes.is_empty() {
            return Ok(());
        }
        let joined = Joined::of(&indexes, inputs.rules);
        joined.list(output)?;
        output.put(path.as_str(), "application/json", &mut |out| joined.write(path.parent(), out))
    }
}

/// A member's index.
struct Index<'m> {
    place: usize,
    member: &'m dyn Member,
    /// Where it lies, as all of them do.
    directory: &'m str,
    document: Vec<u8>,
    summary: Arc<Summary>,
}

impl<'m> Index<'m> {
    /// The index of `member` at `path`, `None` when it has none; `left` is what may still be held.
    fn of(
        place: usize,
        member: &'m dyn Member,
        path: &'m RepoPath,
        left: &mut Allowance,
    ) -> Result<Option<Self>, IndexError> {
        let directory = path.parent();
        let of_member = of_member(member);
        let Some(mut input) = member.open(path.as_str()).map_err(&of_member)? else { return Ok(None) };
        let kept = member.kept(path.as_str()).and_then(|kept| kept.downcast::<Summary>().ok());
        let size = kept.as_ref().map_or(0, |summary| summary.size());
        let mut document = Vec::with_capacity(size.min(left.left()));
        loop {
            let block = match input.fill_buf() {
                Ok([]) => break,
                Ok(block) => block,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(of_member(error.into())),
            };
            let read = block.len();
            left.take(read)?;
            document.extend_from_slice(block);
            input.consume(read);
        }
        let summary = match kept {
            Some(summary) => summary,
            None => {
                let summary = Summary::read(&document, directory, member.name()).map_err(of_member)?;
                let summary = Arc::new(summary);
                member.keep(path.as_str(), summary.clone(), summary.bytes());
                summary
            }
        };
        Ok(Some(Index { place, member, directory, document, summary }))
    }

    fn permits(&self, entry: &Advertised<'_>) -> bool {
        match entry.target {
            Target::Ours(path) => self.member.permits(&own(self.directory, self.member.name(), path)),
            Target::Elsewhere(_) => true,
        }
    }
}

/// The merged index: of each chart, which entries of which index.
struct Joined<'i> {
    indexes: &'i [Index<'i>],
    charts: Vec<(&'i str, Range<usize>)>,
    /// The place of the index among `indexes`, and that of the entry in its summary.
    entries: Vec<(usize, usize)>,
}

impl<'i> Joined<'i> {
    fn of(indexes: &'i [Index<'i>], rules: &dyn Rules) -> Self {
        let charts_of = |(number, index): (usize, &'i Index<'i>)| {
            index.summary.charts().map(move |(name, entries, is_sorted)| (name, number, entries, is_sorted))
        };
        let mut all: Vec<_> = indexes.iter().enumerate().flat_map(charts_of).collect();
        // Stable: each name's indexes stay in the order of the members.
        all.sort_by_key(|(name, ..)| *name);
        let mut joined = Joined { indexes, charts: Vec::new(), entries: Vec::new() };
        let mut versions = HashSet::new();
        for same in all.chunk_by(|(one, ..), (other, ..)| one == other) {
            versions.clear();
            // Then its versions are in Helm's order, each once.
            let is_alone = matches!(same, [(.., true)]);
            let (begin, mut claims) = (joined.entries.len(), Claims::new(rules));
            for (name, number, entries, _) in same {
                let Index { place, summary, .. } = &indexes[*number];
                for entry in entries.clone() {
                    let found = summary.entry(entry);
                    if indexes[*number].permits(&found)
                        && claims.admit(*place, name)
                        && (is_alone || versions.insert(found.version))
                    {
                        joined.entries.push((*number, entry));
                    }
                }
            }
            joined.close(begin, same[0].0, is_alone);
        }
        joined
    }

    /// Ends the chart `name`, whose entries begin at `begin`.
    fn close(&mut self, begin: usize, name: &'i str, is_sorted: bool) {
        let end = self.entries.len();
        if begin == end {
            return;
        }
        if !is_sorted {
            let indexes = self.indexes;
            let order = |(number, entry): &(usize, usize)| {
                Reverse(Order::of(indexes[*number].summary.entry(*entry).version))
            };
            // Stable: equal versions stay in the order of the members.
            self.entries[begin..].sort_by_cached_key(order);
        }
        self.charts.push((name, begin..end));
    }

    /// Tells of the files that are advertised.
    fn list(&self, output: &mut dyn Output) -> Result<(), IndexError> {
        for (number, entry) in &self.entries {
            let index = &self.indexes[*number];
            if let Target::Ours(path) = index.summary.entry(*entry).target {
                output.list(Listed { path: path.to_owned(), member: index.place })?;
            }
        }
        Ok(())
    }

    fn write(&self, directory: &str, out: &mut dyn Write) -> Result<(), IndexError> {
        let mut url = String::new();
        out.write_all(b"{\"apiVersion\":\"v1\",\"entries\":{")?;
        for (place, (name, entries)) in self.charts.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(out, "{comma}{}:[", quoted(name))?;
            for (place, (number, entry)) in self.entries[entries.clone()].iter().enumerate() {
                let Index { document, summary, .. } = &self.indexes[*number];
                let Advertised { target, before, after, .. } = summary.entry(*entry);
                if place > 0 {
                    out.write_all(b",")?;
                }
                out.write_all(&document[before])?;
                match target {
                    Target::Ours(path) => {
                        url.clear();
                        path::encode_to(path.strip_prefix(directory).unwrap_or(path), &mut url);
                        // With nothing in it that JSON would escape.
                        out.write_all(b"[\"")?;
                        out.write_all(url.as_bytes())?;
                        out.write_all(b"\"]")?;
                    }
                    Target::Elsewhere(url) => write!(out, "[{}]", quoted(url))?,
                }
                out.write_all(&document[after])?;
            }
            out.write_all(b"]")?;
        }
        Ok(out.write_all(b"}}")?)
    }
}
