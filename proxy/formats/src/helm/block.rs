//! The part of YAML that Go's writer uses: block mappings and lists, plain and quoted scalars over several
//! lines, literal blocks, and the empty flow collections. Everything else is a [`Misfit`], never a guess.
//!
//! Source: YAML 1.2.2, chapters 7.3 (flow scalars) and 8 (block styles).

use serde_json::{Map, Value};

use super::{
    scalar::{self, Quoted},
    shape::Shape,
};
use crate::limits::MAX_DEPTH;

/// The text uses something that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit;

/// Longest key, in bytes.
const MAX_KEY: usize = 512;

#[derive(Clone, Copy)]
struct Line<'t> {
    indent: usize,
    /// The line without indentation; empty for a blank one.
    text: &'t str,
    whole: &'t str,
}

/// Reads `text`, one block node, as a value of `shape`.
pub(super) fn value(text: &str, shape: Shape) -> Result<Value, Misfit> {
    let lines = text
        .lines()
        .map(|whole| {
            let text = whole.trim_start_matches(' ');
            Line { indent: whole.len() - text.len(), text, whole }
        })
        .collect();
    let mut block = Block { lines, at: 0 };
    let indent = block.next_line().ok_or(Misfit)?.indent;
    let value = block.node(indent, shape, 0)?;
    if block.next_line().is_none() { Ok(value) } else { Err(Misfit) }
}

/// Splits `key: rest`.
pub(super) fn key(text: &str) -> Result<(&str, &str), Misfit> {
    let end = text
        .match_indices(':')
        .map(|(end, _)| end)
        .find(|end| text[end + 1..].is_empty() || text[end + 1..].starts_with(' '))
        .ok_or(Misfit)?;
    let (key, rest) = (&text[..end], text[end + 1..].trim_matches(' '));
    let is_plain = !key.is_empty()
        && key.len() <= MAX_KEY
        && scalar::begins_plain(key)
        && !key.ends_with(' ')
        && !key.contains(" #")
        && !scalar::is_null(key)
        && key != "<<";
    if is_plain { Ok((key, rest)) } else { Err(Misfit) }
}

struct Block<'t> {
    lines: Vec<Line<'t>>,
    at: usize,
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

impl<'t> Block<'t> {
    /// The next line that is not blank; blank ones before it are passed over.
    fn next_line(&mut self) -> Option<Line<'t>> {
        while let Some(line) = self.lines.get(self.at) {
            if !line.text.is_empty() {
                return Some(*line);
            }
            self.at += 1;
        }
        None
    }

    fn node(&mut self, indent: usize, shape: Shape, depth: usize) -> Result<Value, Misfit> {
        if depth > MAX_DEPTH {
            return Err(Misfit);
        }
        let line = self.next_line().ok_or(Misfit)?;
        if is_item(line.text) { self.list(indent, shape, depth) } else { self.mapping(indent, shape, depth) }
    }

    fn mapping(&mut self, indent: usize, shape: Shape, depth: usize) -> Result<Value, Misfit> {
        let shape_of = match shape {
            Shape::Map(shape_of) => shape_of,
            Shape::Any => |_: &str| Shape::Any,
            Shape::Text | Shape::List(_) => return Err(Misfit),
        };
        let mut map = Map::new();
        while let Some(line) = self.next_line() {
            if line.indent < indent || (line.indent == indent && is_item(line.text)) {
                break;
            }
            if line.indent > indent {
                return Err(Misfit);
            }
            let (key, rest) = key(line.text)?;
            self.at += 1;
            let value = self.after(indent, rest, shape_of(key), true, depth)?;
            if map.insert(key.to_owned(), value).is_some() {
                return Err(Misfit);
            }
        }
        Ok(Value::Object(map))
    }

    fn list(&mut self, indent: usize, shape: Shape, depth: usize) -> Result<Value, Misfit> {
        let inner = match shape {
            Shape::List(inner) => *inner,
            Shape::Any => Shape::Any,
            Shape::Text | Shape::Map(_) => return Err(Misfit),
        };
        let mut list = Vec::new();
        while let Some(line) = self.next_line() {
            if line.indent != indent || !is_item(line.text) {
                break;
            }
            let rest = line.text.strip_prefix("- ").ok_or(Misfit)?;
            if rest.starts_with(' ') || is_item(rest) || rest.is_empty() {
                return Err(Misfit);
            }
            if key(rest).is_ok() {
                // The item's mapping goes on two columns further in.
                self.lines[self.at] = Line { indent: indent + 2, text: rest, whole: line.whole };
                list.push(self.mapping(indent + 2, inner, depth + 1)?);
            } else {
                self.at += 1;
                list.push(self.after(indent, rest.trim_end(), inner, false, depth)?);
            }
        }
        Ok(Value::Array(list))
    }

    /// The value whose first line is `rest`, and which belongs to a key or dash at column `parent`.
    fn after(
        &mut self,
        parent: usize,
        rest: &'t str,
        shape: Shape,
        in_mapping: bool,
        depth: usize,
    ) -> Result<Value, Misfit> {
        let is_text = matches!(shape, Shape::Text | Shape::Any);
        match rest.bytes().next() {
            None => match self.next_line() {
                Some(line) if line.indent > parent => self.node(line.indent, shape, depth + 1),
                Some(line) if in_mapping && line.indent == parent && is_item(line.text) => {
                    self.list(parent, shape, depth + 1)
                }
                _ => Ok(Value::Null),
            },
            Some(b'|') if is_text => self.literal(parent, rest).map(Value::from),
            Some(b'"') if is_text => self.quoted(parent, Quoted::double(), &rest[1..]).map(Value::from),
            Some(b'\'') if is_text => self.quoted(parent, Quoted::single(), &rest[1..]).map(Value::from),
            Some(b'{') if rest == "{}" && matches!(shape, Shape::Any | Shape::Map(_)) => {
                Ok(Value::Object(Map::new()))
            }
            Some(b'[') if rest == "[]" && matches!(shape, Shape::Any | Shape::List(_)) => {
                Ok(Value::Array(Vec::new()))
            }
            Some(_) => {
                let text = self.plain(parent, rest)?;
                scalar::typed(text, shape)
            }
        }
    }

    /// The next line of a scalar that began at a key or dash at column `parent`, and how many blank lines
    /// stand before it.
    fn continuation(&mut self, parent: usize) -> Option<(usize, &'t str)> {
        let blanks = self.lines[self.at..].iter().take_while(|line| line.text.is_empty()).count();
        let line = self.lines.get(self.at + blanks).filter(|line| line.indent > parent)?;
        self.at += blanks + 1;
        Some((blanks, line.text))
    }

    fn plain(&mut self, parent: usize, first: &str) -> Result<String, Misfit> {
        if !scalar::begins_plain(first) || !scalar::is_plain(first) {
            return Err(Misfit);
        }
        let mut text = first.trim_end().to_owned();
        while let Some((blanks, line)) = self.continuation(parent) {
            if line.starts_with(['#', '-']) || !scalar::is_plain(line) {
                return Err(Misfit);
            }
            scalar::fold(&mut text, blanks);
            text.push_str(line.trim_end());
        }
        Ok(text)
    }

    fn quoted(&mut self, parent: usize, mut quoted: Quoted, first: &str) -> Result<String, Misfit> {
        let mut line = first;
        loop {
            if let Some(rest) = quoted.line(line)? {
                return if rest.trim_matches(' ').is_empty() { Ok(quoted.text) } else { Err(Misfit) };
            }
            let (blanks, next) = self.continuation(parent).ok_or(Misfit)?;
            quoted.line_break(blanks)?;
            line = next;
        }
    }

    fn literal(&mut self, parent: usize, header: &str) -> Result<String, Misfit> {
        let lines = &self.lines[self.at..];
        let count = lines.iter().take_while(|line| line.text.is_empty() || line.indent > parent).count();
        let lines = &lines[..count];
        self.at += count;
        let indent = lines.iter().find(|line| !line.text.is_empty()).ok_or(Misfit)?.indent;
        let mut text = String::new();
        let mut trailing = 0;
        for line in lines {
            if line.text.is_empty() {
                // Spaces beyond the indentation would be content.
                if line.whole.len() > indent {
                    return Err(Misfit);
                }
                trailing += 1;
                continue;
            }
            text.extend(std::iter::repeat_n('\n', std::mem::take(&mut trailing)));
            text.push_str(line.whole.get(indent..).filter(|_| line.indent >= indent).ok_or(Misfit)?);
            text.push('\n');
        }
        match header {
            "|" => {}
            "|-" => drop(text.pop()),
            "|+" => text.extend(std::iter::repeat_n('\n', trailing)),
            _ => return Err(Misfit),
        }
        Ok(text)
    }
}
