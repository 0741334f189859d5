//! The layout that Go's YAML writer gives an index, read line by line.
//!
//! ```yaml
//! apiVersion: v1
//! entries:
//!   alpine:
//!   - name: alpine
//!     version: 0.1.0
//! generated: "2024-01-01T00:00:00Z"
//! ```
//!
//! Indentation alone tells where a chart version begins and ends, so one version is held at a time. Its text
//! is read by [`block`]; what that does not know (anchors, folded blocks, flow style) is left to the complete
//! parser, for this version only. Anything that does not look like the above is [`Stop::Misfit`].

use std::{
    collections::HashSet,
    io::{BufRead, Read},
};

use serde_json::Value;

use super::{
    block,
    read::{MAX_ENTRY, Piece, Sink},
    shape::{self, CHARTS, Shape},
    yaml,
};
use crate::IndexError;

/// What stands before every chart version.
pub(super) const ENTRY: &str = "\n  - ";

/// Why reading by layout ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The document is laid out otherwise; it may be fine.
    Misfit,
    /// It is broken, or whoever takes the pieces failed.
    Failed(IndexError),
}

impl From<IndexError> for Stop {
    fn from(error: IndexError) -> Self {
        Stop::Failed(error)
    }
}

impl From<block::Misfit> for Stop {
    fn from(_: block::Misfit) -> Self {
        Stop::Misfit
    }
}

/// Reads the index `input` into `sink`. After [`Stop::Misfit`], `sink` has seen everything before the place
/// that did not fit.
pub(super) fn index(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), Stop> {
    let mut scanner = Scanner { sink, unit: String::new(), in_entries: false, seen: HashSet::new() };
    let mut line = String::new();
    loop {
        line.clear();
        // One byte more than allowed, so that a longer line is noticed.
        let mut limited = (&mut *input).take(MAX_ENTRY as u64 + 1);
        match limited.read_line(&mut line) {
            Ok(0) => return scanner.finish(),
            Ok(read) if read > MAX_ENTRY => return Err(IndexError::TooLarge("length of a YAML line").into()),
            Ok(_) => scanner.line(line.strip_suffix('\n').unwrap_or(&line))?,
            // Not UTF-8: the complete parser says it better.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(Stop::Misfit),
            Err(error) => return Err(IndexError::from(error).into()),
        }
    }
}

struct Scanner<'a, 's> {
    sink: &'a mut Sink<'s>,
    /// Lines of the chart version or top-level field under way.
    unit: String,
    in_entries: bool,
    /// Chart names so far, and (with a leading line feed, which no name has) top-level keys: a key that comes
    /// twice makes an index invalid.
    seen: HashSet<String>,
}

impl Scanner<'_, '_> {
    fn line(&mut self, line: &str) -> Result<(), Stop> {
        // U+2028, U+2029 and U+0085 are line breaks in YAML 1.1 and no longer in 1.2.
        if line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')) {
            return Err(Stop::Misfit);
        }
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let is_item = content == "-" || content.starts_with("- ");
        match indent {
            _ if content.is_empty() => {
                if !self.unit.is_empty() {
                    self.extend(line)?;
                }
                Ok(())
            }
            0 if is_item && !self.in_entries => self.extend(line),
            0 => {
                self.finish_unit()?;
                // Whatever reads the unit sees it alone, so it has to look like one from here too.
                block::key(line)?;
                self.in_entries = line == "entries:";
                if self.in_entries {
                    return self.unique("\nentries".to_owned());
                }
                self.unit.push_str(line);
                self.unit.push('\n');
                Ok(())
            }
            2 if self.in_entries && is_item => {
                self.finish_unit()?;
                self.unit.push_str(line);
                self.unit.push('\n');
                Ok(())
            }
            2 if self.in_entries => self.chart(content),
            1 | 3 if self.in_entries => Err(Stop::Misfit),
            _ => self.extend(line),
        }
    }

    fn extend(&mut self, line: &str) -> Result<(), Stop> {
        if self.unit.is_empty() {
            return Err(Stop::Misfit);
        }
        if self.unit.len() + line.len() >= MAX_ENTRY {
            return Err(IndexError::TooLarge("size of one chart version").into());
        }
        self.unit.push_str(line);
        self.unit.push('\n');
        Ok(())
    }

    fn unique(&mut self, key: String) -> Result<(), Stop> {
        if self.seen.insert(key) { Ok(()) } else { Err(Stop::Misfit) }
    }

    fn chart(&mut self, content: &str) -> Result<(), Stop> {
        self.finish_unit()?;
        let (name, rest) = block::key(content)?;
        if !matches!(rest, "" | "[]") {
            return Err(Stop::Misfit);
        }
        self.unique(name.to_owned())?;
        Ok((self.sink)(Piece::Chart(name.to_owned()))?)
    }

    fn finish_unit(&mut self) -> Result<(), Stop> {
        if self.unit.is_empty() {
            return Ok(());
        }
        let unit = std::mem::take(&mut self.unit);
        if self.in_entries {
            if !self.seen.iter().any(|key| !key.starts_with('\n')) {
                return Err(Stop::Misfit);
            }
            return Ok((self.sink)(Piece::Entry(entry(&unit)?))?);
        }
        let Value::Object(fields) = value(&unit, Shape::Map(shape::field))? else {
            return Err(Stop::Misfit);
        };
        for (key, value) in fields {
            self.unique(format!("\n{key}"))?;
            if key == "entries" {
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if !is_empty {
                    return Err(Stop::Misfit);
                }
                continue;
            }
            (self.sink)(Piece::Field(key, value))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Stop> {
        self.finish_unit()?;
        // An index has fields; what has none is something else.
        if self.seen.is_empty() { Err(Stop::Misfit) } else { Ok(()) }
    }
}

/// Reads one chart version, a list of one.
fn entry(text: &str) -> Result<Value, Stop> {
    match value(text, CHARTS)? {
        Value::Array(mut list) if list.len() == 1 => list.pop().ok_or(Stop::Misfit),
        _ => Err(Stop::Misfit),
    }
}

/// Reads one unit, by the complete parser where [`block`] does not know enough.
fn value(text: &str, shape: Shape) -> Result<Value, Stop> {
    match block::value(text, shape) {
        Ok(value) => Ok(value),
        Err(block::Misfit) => match yaml::value(text, shape) {
            Ok(value) => Ok(value),
            // It may name an anchor elsewhere in the document.
            Err(IndexError::Malformed(_)) => Err(Stop::Misfit),
            Err(error) => Err(error.into()),
        },
    }
}
