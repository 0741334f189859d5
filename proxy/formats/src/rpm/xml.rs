//! XML as a stream of events from strangers: depth, size of one token, and document types are held in check.
//!
//! quick-xml resolves no entities but the five predefined ones and character references, so there is nothing
//! to expand; a `<!DOCTYPE>` is refused all the same, since no repository has one (RS-63).

use std::io::{self, BufRead, Read};

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesRef, BytesStart, Event},
};

use crate::{
    IndexError,
    inflate::index_error,
    limits::{MAX_DEPTH, breach, breached},
};

/// Largest single tag, text or comment, in bytes.
const MAX_TOKEN: usize = 1 << 20;

/// A pull reader. Empty elements come as a start and an end, or as they are ([`Xml::verbatim`]).
pub(super) struct Xml<R: BufRead> {
    reader: Reader<Budget<R>>,
    buffer: Vec<u8>,
    depth: usize,
    seen_root: bool,
    names_document_type: bool,
}

impl<R: BufRead> Xml<R> {
    /// Reads a document from `input`.
    pub(super) fn new(input: R) -> Self {
        let mut reader = Reader::from_reader(Budget { inner: input, left: MAX_TOKEN });
        reader.config_mut().expand_empty_elements = true;
        Xml { reader, buffer: Vec::new(), depth: 0, seen_root: false, names_document_type: false }
    }

    /// Reads a document whose events are to be written again: empty elements stay empty. A document type may be
    /// named, as comps do, but declares nothing.
    pub(super) fn verbatim(input: R) -> Self {
        let mut xml = Xml { names_document_type: true, ..Xml::new(input) };
        xml.reader.config_mut().expand_empty_elements = false;
        xml
    }

    /// Elements open around the next event.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The next event; [`Event::Eof`] only after a whole document.
    ///
    /// # Errors
    /// [`IndexError::Malformed`], or [`IndexError::TooLarge`] at a limit.
    pub(super) fn next(&mut self) -> Result<Event<'_>, IndexError> {
        self.buffer.clear();
        self.reader.get_mut().left = MAX_TOKEN;
        let event = self.reader.read_event_into(&mut self.buffer).map_err(xml_error)?;
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                // The parser takes any bytes for a name; written again they could be other tags.
                if tag.contains('<') || tag.name().as_ref().contains(['/', '=', '"', '\'']) {
                    return Err(IndexError::malformed("it has a tag whose name is no name"));
                }
                self.depth += usize::from(matches!(event, Event::Start(_)));
                self.seen_root = true;
                if self.depth > MAX_DEPTH {
                    return Err(IndexError::TooLarge("XML depth"));
                }
            }
            Event::End(_) => self.depth = self.depth.saturating_sub(1),
            Event::DocType(name) if self.names_document_type && !name.contains('[') => {}
            Event::DocType(_) => return Err(IndexError::malformed("it declares a document type")),
            Event::Eof if self.depth > 0 || !self.seen_root => {
                return Err(IndexError::malformed("it ends before its root element does"));
            }
            _ => {}
        }
        Ok(event)
    }
}

/// The value of attribute `name` (with prefix, as `xml:base`), unescaped.
///
/// # Errors
/// [`IndexError::Malformed`] for broken attributes.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, IndexError> {
    let Some(found) = tag.try_get_attribute(name).map_err(xml_error)? else { return Ok(None) };
    let value = found.normalized_value(XmlVersion::Implicit1_0).map_err(xml_error)?;
    Ok(Some(value.into_owned()))
}

/// The character that a reference in text stands for.
///
/// # Errors
/// [`IndexError::Malformed`] for any but the predefined entities and character references.
pub(super) fn character(reference: &BytesRef<'_>) -> Result<char, IndexError> {
    if let Some(character) = reference.resolve_char_ref().map_err(xml_error)? {
        return Ok(character);
    }
    let name = reference.xml10_content();
    resolve_xml_entity(&name)
        .and_then(|text| text.chars().next())
        .ok_or_else(|| IndexError::malformed("it refers to an entity that XML does not define"))
}

/// The error of the parser, told apart from one of the bytes it reads.
pub(super) fn xml_error(error: impl Into<quick_xml::Error>) -> IndexError {
    match error.into() {
        quick_xml::Error::Io(io) => match breach(&io) {
            Some(limit) => IndexError::TooLarge(limit),
            None => index_error(io::Error::new(io.kind(), io.to_string())),
        },
        other => IndexError::malformed(other.to_string()),
    }
}

/// Fails once a single event has taken more than [`MAX_TOKEN`] bytes, before they all lie in memory.
struct Budget<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for Budget<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Budget<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(breached("size of an XML token"));
        }
        let available = self.inner.fill_buf()?;
        Ok(&available[..available.len().min(self.left)])
    }
    fn consume(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount);
        self.inner.consume(amount);
    }
}
