//! Lines of a YAML file: where documents begin, and where a field stands.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Line of its first content, from 1.
    pub(super) line: usize,
    /// Its text from that line on.
    pub(super) text: &'a str,
}

/// Splits at `---` lines, which end a document wherever they stand at a line's start (YAML 1.2, 9.1.2), even
/// inside a block of text. Documents of blank lines and comments are left out.
pub(super) fn split(text: &str) -> impl Iterator<Item = Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut bounds = vec![(0, 1)];
    let mut ends = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) {
            ends.push(offset);
            // What follows on the same line belongs to the new document.
            bounds.push((offset + 3, index + 1));
        }
        offset += line.len();
    }
    ends.push(text.len());
    bounds
        .into_iter()
        .zip(ends)
        .filter_map(move |((start, line), end)| first_content(&text[start..end], line))
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Drops blank lines and comments in front.
fn first_content(mut text: &str, mut line: usize) -> Option<Document<'_>> {
    while !text.is_empty() {
        let end = text.find('\n').map_or(text.len(), |newline| newline + 1);
        let first = text[..end].trim();
        if !(first.is_empty() || first.starts_with('#') || first == "...") {
            return Some(Document { line, text });
        }
        text = &text[end..];
        line += 1;
    }
    None
}

/// The line of `path` (as `spec.members[2]`) in a document that begins at line `first`: the deepest field of
/// the path that a block mapping shows. A guess for messages, good for manifests as people write them; flow
/// collections point to the line of the key that holds them.
pub fn line_of(text: &str, first: usize, path: &str) -> usize {
    let mut found = first;
    let mut lines = text.lines().enumerate().filter_map(content).peekable();
    let mut parent = None;
    for segment in path.split('.') {
        let (key, index) = match segment.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (segment, None),
        };
        let Some(line) = find_key(&mut lines, parent, key) else { return found };
        found = first + line.at;
        parent = Some(line.indent);
        if let Some(index) = index {
            let Some(item) = find_item(&mut lines, line.indent, index) else { return found };
            found = first + item.at;
        }
    }
    found
}

/// A line that says something.
#[derive(Clone, Copy)]
struct Line<'a> {
    at: usize,
    indent: usize,
    text: &'a str,
}

fn content((at, line): (usize, &str)) -> Option<Line<'_>> {
    let text = line.trim_start();
    let blank = text.is_empty() || text.starts_with('#');
    (!blank).then_some(Line { at, indent: line.len() - text.len(), text })
}

/// The line of `key` in the mapping that is deeper than `parent` and begins at the next line.
fn find_key<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = Line<'a>>>,
    parent: Option<usize>,
    key: &str,
) -> Option<Line<'a>> {
    let block = lines.peek()?.indent;
    while let Some(line) =
        lines.next_if(|line| line.indent >= block && parent.is_none_or(|p| line.indent > p))
    {
        let is_key = line.text.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        if line.indent == block && is_key {
            return Some(line);
        }
    }
    None
}

/// The line of the item `index` of the list that begins at the next line; a list may stand at the indent of
/// its own key.
fn find_item<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = Line<'a>>>,
    key_indent: usize,
    index: usize,
) -> Option<Line<'a>> {
    let block = lines.peek()?.indent;
    let in_list = |line: &Line<'_>| {
        line.indent > block || (line.indent == block && block >= key_indent && line.text.starts_with('-'))
    };
    let mut left = index;
    while let Some(line) = lines.next_if(in_list) {
        if line.indent == block {
            if left == 0 {
                return Some(line);
            }
            left -= 1;
        }
    }
    None
}
