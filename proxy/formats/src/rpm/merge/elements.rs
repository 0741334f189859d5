//! The elements of a document, in a form that can be written again as they are.

use std::io::{self, BufRead, Write};

use quick_xml::{
    XmlVersion,
    events::{BytesStart, Event},
};

use super::super::xml::{Xml, character, xml_error};
use crate::{IndexError, inflate, limits::Allowance};

/// Receives each event with its level: how many elements are around the tag, or around the element that a text is
/// in; so the root is at 0.
pub(super) type Visit<'v> = dyn FnMut(usize, &Event<'_>) -> Result<(), IndexError> + 'v;

/// Visits tags, texts and references of the document `input`, packed or not, whose root is `root`. Comments and
/// instructions are passed over.
///
/// # Errors
/// [`IndexError`] for what is not well-formed, exceeds a limit, or has another root, and whatever `visit` returns.
pub(super) fn walk(input: &mut dyn BufRead, root: &str, visit: &mut Visit<'_>) -> Result<(), IndexError> {
    let mut xml = Xml::verbatim(inflate::open(input).map_err(inflate::index_error)?);
    let (mut roots, mut entries) = (0, Allowance::of_entries("number of entries"));
    loop {
        let depth = xml.depth();
        let event = xml.next()?;
        let level = match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                if depth == 0 {
                    roots += 1;
                    if roots > 1 || tag.local_name().as_ref() != root {
                        return Err(IndexError::malformed(format!("its root is not one <{root}>")));
                    }
                }
                entries.take(usize::from(depth == 1))?;
                check_tag(tag)?;
                depth
            }
            Event::End(_) => depth.saturating_sub(1),
            Event::Text(text) => {
                check_text(text)?;
                if depth == 0 && !text.trim().is_empty() {
                    return Err(IndexError::malformed("it has text around its root"));
                }
                depth.saturating_sub(1)
            }
            Event::CData(text) if depth > 0 => {
                check_text(text)?;
                depth - 1
            }
            Event::GeneralRef(reference) if depth > 0 => {
                check_text(character(reference)?.encode_utf8(&mut [0; 4]))?;
                depth - 1
            }
            Event::CData(_) | Event::GeneralRef(_) => {
                return Err(IndexError::malformed("it has text around its root"));
            }
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
        };
        visit(level, &event)?;
    }
}

/// The parser looks at attributes only when asked, and a broken one would break everybody's document.
fn check_tag(tag: &BytesStart<'_>) -> Result<(), IndexError> {
    check_text(tag)?;
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| xml_error(quick_xml::Error::from(error)))?;
        check_text(&attribute.normalized_value(XmlVersion::Implicit1_0).map_err(xml_error)?)?;
    }
    Ok(())
}

/// XML 1.0, 2.2: most control characters do not exist in it, however they are written.
fn check_text(text: &str) -> Result<(), IndexError> {
    let is_none = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    if text.bytes().any(is_none) || text.contains(['\u{fffe}', '\u{ffff}']) {
        return Err(IndexError::malformed("it has a character that XML does not know"));
    }
    Ok(())
}

/// Writes an event as it was read.
pub(super) fn write(out: &mut dyn Write, event: &Event<'_>) -> io::Result<()> {
    let (before, content, after): (&[u8], &str, &[u8]) = match event {
        Event::Start(tag) => (b"<", tag, b">"),
        Event::Empty(tag) => (b"<", tag, b"/>"),
        Event::End(tag) => (b"</", tag, b">"),
        Event::Text(text) => (b"", text, b""),
        Event::CData(text) => (b"<![CDATA[", text, b"]]>"),
        Event::GeneralRef(reference) => (b"&", reference, b";"),
        _ => return Ok(()),
    };
    out.write_all(before)?;
    out.write_all(content.as_bytes())?;
    out.write_all(after)
}

/// Adds what a text event says to `text`, of which at most `most` bytes are of use.
///
/// # Errors
/// [`IndexError::TooLarge`] for more.
pub(super) fn gather(text: &mut String, event: &Event<'_>, most: usize) -> Result<(), IndexError> {
    match event {
        Event::Text(more) => text.push_str(&more.xml10_content()),
        Event::CData(more) => text.push_str(&more.xml10_content()),
        Event::GeneralRef(reference) => text.push(character(reference)?),
        _ => {}
    }
    if text.len() > most { Err(IndexError::TooLarge("length of a text")) } else { Ok(()) }
}
