//! Merging chart indexes, as Helm's own `Merge` does: one entry per chart name and version, the first member's;
//! each chart's versions in descending order.
//!
//! A member's index comes as we serve it: JSON, with one kind of relative URL. Each entry is read once, checked
//! against the types that Helm decodes it into (one number in a text field would make Helm refuse the whole
//! index, everybody's charts with it), and kept as it is written but for its `urls`. Entries that nobody could
//! download are left out.
//!
//! Entries must be held while the members are read, since each chart's list is sorted over all of them; that is
//! the size of the output, bounded by [`MAX_KEPT`].
//!
//! Source: helm/helm:pkg/repo/v1/index.go (`Merge`, `SortEntries`, `loadIndex`).

mod entry;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Write},
};

use artifactapi_model::RepoPath;

use self::entry::Chart;
use super::read::MAX_ENTRY;
use crate::{
    IndexError,
    json::{Reader, quoted},
    merge::{
        Claims, Entries, Listed, Member, Merge, Order, Output, Rules, Seen, Signer, directory_of, of_member,
        qualified,
    },
};

const INDEX: &str = "index.yaml";
/// Largest sum of the entries of a merged index, in bytes.
const MAX_KEPT: usize = 256 << 20;

/// The merge of `index.yaml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelmMerge;

impl Merge for HelmMerge {
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

    fn merge(
        &self,
        path: &RepoPath,
        members: &[&dyn Member],
        rules: &dyn Rules,
        _signer: &dyn Signer,
        output: &mut dyn Output,
    ) -> Result<(), IndexError> {
        let mut merging = Merging::new(path.parent(), rules);
        let mut is_there = false;
        for (place, member) in members.iter().enumerate() {
            let Some(mut document) = member.open(path.as_str()).map_err(of_member(*member))? else {
                continue;
            };
            is_there = true;
            let listed = merging.add(place, *member, &mut *document).map_err(of_member(*member))?;
            for path in listed {
                output.list(Listed { path, member: place })?;
            }
        }
        if !is_there {
            return Ok(());
        }
        let charts = merging.sorted();
        output.file(&mut |out| write(&charts, out))?;
        output.publish(path.as_str().to_owned(), "application/json");
        Ok(())
    }
}

/// An entry of the merged index.
struct Kept {
    order: Order,
    json: Box<[u8]>,
}

type Charts = BTreeMap<Box<str>, Vec<Kept>>;

/// What the members read so far have come to.
struct Merging<'a> {
    directory: &'a str,
    rules: &'a dyn Rules,
    claims: Claims,
    entries: Entries,
    seen: Seen,
    kept: usize,
    charts: Charts,
}

impl<'a> Merging<'a> {
    fn new(directory: &'a str, rules: &'a dyn Rules) -> Self {
        Merging {
            directory,
            rules,
            claims: Claims::default(),
            entries: Entries::default(),
            seen: Seen::default(),
            kept: 0,
            charts: Charts::new(),
        }
    }

    /// Adds the index of the member at `place`; the Virtual's paths of the charts it contributes.
    fn add(
        &mut self,
        place: usize,
        member: &dyn Member,
        document: &mut dyn BufRead,
    ) -> Result<BTreeSet<String>, IndexError> {
        let mut listed = BTreeSet::new();
        scan(document, &mut |name, json| {
            self.entries.count()?;
            let chart = Chart::parse(&json)?;
            let Some((version, file)) = chart.advertised(self.directory, member.name()) else {
                return Ok(());
            };
            if file.path.as_ref().is_some_and(|path| !member.permits(path.as_str()))
                || !self.claims.admit(self.rules, place, name)
                || !self.seen.first(&[name, version])
            {
                return Ok(());
            }
            if let Some(path) = &file.path {
                // Below the directory, or it had no path.
                listed.extend(qualified(self.directory, member.name(), path.as_str()));
            }
            let kept = Kept { order: Order::of(version), json: chart.with_url(&json, &file.url) };
            self.kept += kept.json.len();
            if self.kept > MAX_KEPT {
                return Err(IndexError::TooLarge("size of the merged index"));
            }
            match self.charts.get_mut(name) {
                Some(chart) => chart.push(kept),
                None => drop(self.charts.insert(name.into(), vec![kept])),
            }
            Ok(())
        })?;
        Ok(listed)
    }

    /// Every chart's entries as Helm sorts them; equal versions stay in the order of the members.
    fn sorted(mut self) -> Charts {
        for entries in self.charts.values_mut() {
            entries.sort_by(|a, b| b.order.cmp(&a.order));
        }
        self.charts
    }
}

/// Receives an entry: its chart, and how it is written.
type Sink<'s> = dyn FnMut(&str, Vec<u8>) -> Result<(), IndexError> + 's;

/// Hands each entry of a member's index to `sink`.
fn scan(document: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut reader = Reader::new(document)?;
    let mut has_entries = false;
    reader.object(&mut io::sink(), |reader, out, key| {
        if key != "entries" {
            return reader.value(out);
        }
        if std::mem::replace(&mut has_entries, true) {
            return Err(IndexError::Malformed("the index has \"entries\" twice".to_owned()));
        }
        if reader.peek(out)? == b'n' {
            return reader.parse::<()>(MAX_ENTRY);
        }
        reader.object(out, |reader, out, name| {
            if reader.peek(out)? == b'n' {
                return reader.parse::<()>(MAX_ENTRY);
            }
            reader.array(out, |reader, _| sink(name, reader.raw(MAX_ENTRY)?))
        })
    })?;
    reader.end(&mut io::sink())?;
    if has_entries { Ok(()) } else { Err(IndexError::Malformed("the index has no \"entries\"".to_owned())) }
}

fn write(charts: &Charts, out: &mut dyn Write) -> Result<(), IndexError> {
    let mut out = io::BufWriter::with_capacity(64 << 10, out);
    out.write_all(b"{\"apiVersion\":\"v1\",\"entries\":{")?;
    for (place, (name, entries)) in charts.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(out, "{comma}{}:[", quoted(name))?;
        for (place, entry) in entries.iter().enumerate() {
            if place > 0 {
                out.write_all(b",")?;
            }
            out.write_all(&entry.json)?;
        }
        out.write_all(b"]")?;
    }
    out.write_all(b"}}")?;
    Ok(out.flush()?)
}
