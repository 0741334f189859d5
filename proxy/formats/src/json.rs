//! A JSON document as a stream: members are visited one by one, and what nobody looks at is copied byte
//! for byte.
//!
//! Every step takes the writer that gets the bytes it passes over: the document's output to keep them,
//! [`std::io::sink`] to leave them out. So a rewrite changes exactly the values it names, at the position it
//! names them, and memory holds one buffer, whatever the size of the document. The grammar is RFC 8259's;
//! nesting is bounded by [`crate::limits::MAX_DEPTH`].

mod copy;
mod fields;
mod names;
mod skim;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashSet,
    io::{self, BufRead, Write},
};

use serde::Deserialize;

pub(crate) use self::{
    fields::Fields,
    names::{MAX_FOLDED, folded},
    write::{Commas, Object, array},
};
use crate::IndexError;

/// Bytes read from the document at a time.
const BLOCK: usize = 64 << 10;
/// Longest key that is told apart, and longest string that is replaced, in bytes.
const MAX_KEY: usize = 64 << 10;

/// Reads one JSON document.
pub(crate) struct Reader<'i> {
    input: &'i mut dyn BufRead,
    block: Box<[u8]>,
    at: usize,
    filled: usize,
    /// Bytes of the document before the block.
    passed: u64,
}

/// Visits every member of the object that the whole document `input` is, as [`Reader::object`] does.
///
/// # Errors
/// [`IndexError::Malformed`] when the document is something else, and whatever `member` returns.
pub(crate) fn document(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    member: impl FnMut(&mut Reader<'_>, &mut dyn Write, &str) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut reader = Reader::new(input)?;
    reader.object(out, member)?;
    reader.end(out)
}

/// The same for a document that is only read, and in which no key of the object comes twice: parsers differ on which
/// of the two counts.
///
/// # Errors
/// As [`document`], and [`IndexError::Malformed`] for a key that comes again.
pub(crate) fn distinct(
    input: &mut dyn BufRead,
    mut member: impl FnMut(&mut Reader<'_>, &mut dyn Write, &str) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut keys = HashSet::new();
    document(input, &mut io::sink(), |reader, out, key| {
        if !keys.insert(key.to_owned()) {
            return Err(IndexError::malformed(format!("it has {key:?} twice")));
        }
        member(reader, out, key)
    })
}

/// Reads `json` as a `T`.
///
/// # Errors
/// [`IndexError::Malformed`] when it is something else.
pub(crate) fn parse<'d, T: Deserialize<'d>>(json: &'d [u8]) -> Result<T, IndexError> {
    serde_json::from_slice(json).map_err(|error| IndexError::malformed(error.to_string()))
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) {
        return serde_json::Value::from(text).to_string();
    }
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    json.push_str(text);
    json.push('"');
    json
}

impl<'i> Reader<'i> {
    /// A reader at the beginning of `input`; a byte order mark is skipped.
    pub(crate) fn new(input: &'i mut dyn BufRead) -> Result<Self, IndexError> {
        let mut reader =
            Reader { input, block: vec![0; BLOCK].into_boxed_slice(), at: 0, filled: 0, passed: 0 };
        // A first read may be shorter than a byte order mark.
        while reader.filled < 3 {
            match reader.input.read(&mut reader.block[reader.filled..]) {
                Ok(0) => break,
                Ok(read) => reader.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if reader.block[..reader.filled].starts_with("\u{feff}".as_bytes()) {
            reader.at = 3;
        }
        Ok(reader)
    }

    /// Fills the empty buffer; false at the end of the document.
    fn more(&mut self) -> Result<bool, IndexError> {
        self.passed += self.filled as u64;
        (self.at, self.filled) = (0, 0);
        loop {
            match self.input.read(&mut self.block) {
                Ok(read) => self.filled = read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            return Ok(self.filled > 0);
        }
    }

    /// The next byte, which stays unread; `None` at the end of the document.
    fn byte(&mut self) -> Result<Option<u8>, IndexError> {
        if self.at == self.filled && !self.more()? {
            return Ok(None);
        }
        Ok(Some(self.block[self.at]))
    }

    /// How many bytes of the document have been taken; after [`Reader::peek`], where the byte that it showed lies.
    pub(crate) fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// Copies white space to `out` and returns the byte after it, which stays unread.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] at the end of the document.
    pub(crate) fn peek(&mut self, out: &mut dyn Write) -> Result<u8, IndexError> {
        self.skip_space(out)?.ok_or_else(|| IndexError::malformed("the JSON ends too early"))
    }

    fn skip_space(&mut self, out: &mut dyn Write) -> Result<Option<u8>, IndexError> {
        loop {
            let Some(first) = self.byte()? else { return Ok(None) };
            if !is_space(first) {
                return Ok(Some(first));
            }
            let rest = &self.block[self.at..self.filled];
            let spaces = rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
            out.write_all(&rest[..spaces])?;
            self.at += spaces;
        }
    }

    /// Takes the byte that [`Reader::peek`] showed.
    fn take(&mut self, byte: u8, out: &mut dyn Write) -> Result<(), IndexError> {
        self.at += 1;
        out.write_all(&[byte])?;
        Ok(())
    }

    fn expect(&mut self, want: u8, out: &mut dyn Write) -> Result<(), IndexError> {
        let found = self.peek(out)?;
        if found != want {
            return Err(IndexError::malformed(format!(
                "the JSON has {:?} where {:?} is expected",
                char::from(found),
                char::from(want)
            )));
        }
        self.take(want, out)
    }

    /// Visits every member of the object that comes next. `member` gets the reader before the value, `out`
    /// and the decoded key, and takes the value by exactly one call.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is no object, and whatever `member` returns.
    pub(crate) fn object(
        &mut self,
        out: &mut dyn Write,
        mut member: impl FnMut(&mut Self, &mut dyn Write, &str) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        self.expect(b'{', out)?;
        if self.peek(out)? == b'}' {
            return self.take(b'}', out);
        }
        let (mut key, mut is_first) = (String::new(), true);
        loop {
            if !self.head(is_first, &mut key, out)? {
                if !is_first {
                    match self.peek(out)? {
                        b',' => self.take(b',', out)?,
                        b'}' => return self.take(b'}', out),
                        _ => {
                            return Err(IndexError::malformed(
                                "a JSON object has no comma between two members",
                            ));
                        }
                    }
                }
                if self.peek(out)? != b'"' {
                    return Err(IndexError::malformed("a JSON object has a member without a key"));
                }
                key = self.key(out)?;
                self.expect(b':', out)?;
                self.peek(out)?;
            }
            is_first = false;
            member(self, out, &key)?;
        }
    }

    /// Copies a comma, unless the member is the first, and a key into `key` and to `out` up to its value. False when the
    /// block does not have them as nearly all are; then nothing is taken.
    fn head(&mut self, is_first: bool, key: &mut String, out: &mut dyn Write) -> Result<bool, IndexError> {
        let rest = &self.block[self.at..self.filled];
        let Some((name, length)) = skim::head(rest, is_first) else { return Ok(false) };
        key.clear();
        key.push_str(name);
        out.write_all(&rest[..length])?;
        self.at += length;
        Ok(true)
    }

    /// Copies the string that comes next to `out` and returns it.
    fn key(&mut self, out: &mut dyn Write) -> Result<String, IndexError> {
        let raw = self.raw(MAX_KEY)?;
        out.write_all(&raw)?;
        parse(&raw)
    }

    /// Visits every element of the array that comes next, like [`Reader::object`].
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is no array, and whatever `element` returns.
    pub(crate) fn array(
        &mut self,
        out: &mut dyn Write,
        mut element: impl FnMut(&mut Self, &mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        self.expect(b'[', out)?;
        if self.peek(out)? == b']' {
            return self.take(b']', out);
        }
        loop {
            self.peek(out)?;
            element(self, out)?;
            match self.peek(out)? {
                b',' => self.take(b',', out)?,
                b']' => return self.take(b']', out),
                _ => return Err(IndexError::malformed("a JSON array has no comma between two elements")),
            }
        }
    }

    /// Takes the next value as it is written, at most `max` bytes of it.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] when it is longer.
    pub(crate) fn raw(&mut self, max: usize) -> Result<Vec<u8>, IndexError> {
        let mut held = Held { bytes: Vec::new(), max };
        self.value(&mut held)?;
        Ok(held.bytes)
    }

    /// Takes the next value as `T`, holding at most `max` bytes of it.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is something else, [`IndexError::TooLarge`] when it is longer.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&mut self, max: usize) -> Result<T, IndexError> {
        parse(&self.raw(max)?)
    }

    /// Writes `new(value)` in place of the string that comes next; `None` keeps its bytes.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is no string.
    pub(crate) fn replace_text(
        &mut self,
        out: &mut dyn Write,
        new: impl FnOnce(&str) -> Option<String>,
    ) -> Result<(), IndexError> {
        let rest = &self.block[self.at..self.filled];
        if let Some(old) = skim::plain(rest) {
            let length = old.len() + 2;
            match new(old) {
                Some(new) => out.write_all(quoted(&new).as_bytes())?,
                None => out.write_all(&rest[..length])?,
            }
            self.at += length;
            return Ok(());
        }
        let raw = self.raw(MAX_KEY)?;
        let old: String = parse(&raw)?;
        match new(&old) {
            Some(new) => out.write_all(quoted(&new).as_bytes())?,
            None => out.write_all(&raw)?,
        }
        Ok(())
    }

    /// Ends the document: only white space may follow.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when something else does.
    pub(crate) fn end(&mut self, out: &mut dyn Write) -> Result<(), IndexError> {
        match self.skip_space(out)? {
            None => Ok(()),
            Some(_) => Err(IndexError::malformed("something follows the JSON document")),
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A value held in memory, up to a bound.
struct Held {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(crate::limits::breached("size of one JSON value"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
