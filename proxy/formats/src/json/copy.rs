//! Copying one JSON value without looking at it, but never past its end.

use std::io::Write;

use super::{Reader, is_space, skim};
use crate::{
    IndexError,
    limits::{self, MAX_DEPTH},
};

/// What may come next inside a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A value.
    Value,
    /// A value, or the end of an array that has none yet.
    ValueOrEnd,
    /// A key.
    Key,
    /// A key, or the end of an object that has none yet.
    KeyOrEnd,
    /// The colon after a key.
    Colon,
    /// A comma or the end.
    CommaOrEnd,
}

impl Reader<'_> {
    /// Copies the next value to `out`.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is no value, [`IndexError::TooLarge`] when it is nested deeper than
    /// [`MAX_DEPTH`].
    pub(crate) fn value(&mut self, out: &mut dyn Write) -> Result<(), IndexError> {
        let rest = &self.block[self.at..self.filled];
        if let Some(length) = skim::value(rest) {
            out.write_all(&rest[..length])?;
            self.at += length;
            return Ok(());
        }
        let from = self.at;
        let mut passage = Passage { reader: self, out, from };
        passage.value()?;
        passage.flush()
    }
}

/// Passes over a document and writes what it has passed in few pieces: when the block ends, and at the end.
struct Passage<'p, 'i> {
    reader: &'p mut Reader<'i>,
    out: &'p mut dyn Write,
    /// Where in the block begins what has been passed and not written.
    from: usize,
}

impl Passage<'_, '_> {
    fn value(&mut self) -> Result<(), IndexError> {
        // Containers that are open, innermost last; true for objects.
        let mut open: Vec<bool> = Vec::new();
        let mut next = Next::Value;
        loop {
            let byte = self.peek()?;
            next = match (next, byte) {
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                    if open.len() == MAX_DEPTH {
                        return Err(limits::breached("nesting of JSON").into());
                    }
                    self.reader.at += 1;
                    open.push(byte == b'{');
                    if byte == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd }
                }
                (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => self.close(byte, &mut open)?,
                (Next::Value | Next::ValueOrEnd, _) => {
                    self.scalar(byte)?;
                    Next::CommaOrEnd
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.text()?;
                    Next::Colon
                }
                (Next::Colon, b':') => {
                    self.reader.at += 1;
                    Next::Value
                }
                (Next::CommaOrEnd, b',') => {
                    self.reader.at += 1;
                    if open.last() == Some(&true) { Next::Key } else { Next::Value }
                }
                (Next::CommaOrEnd, b'}' | b']') => self.close(byte, &mut open)?,
                _ => return Err(IndexError::malformed("the JSON has a stray character")),
            };
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    fn close(&mut self, byte: u8, open: &mut Vec<bool>) -> Result<Next, IndexError> {
        if open.pop() != Some(byte == b'}') {
            return Err(IndexError::malformed("the JSON has a mismatched bracket"));
        }
        self.reader.at += 1;
        Ok(Next::CommaOrEnd)
    }

    fn scalar(&mut self, first: u8) -> Result<(), IndexError> {
        if first == b'"' {
            return self.text();
        }
        // The longest number or literal that is any use; what follows it is judged by the caller.
        let mut word = Vec::with_capacity(16);
        while let Some(byte) = self.byte()? {
            if !skim::is_of_word(byte) {
                break;
            }
            if word.len() == skim::MAX_WORD {
                return Err(limits::breached("length of a JSON number").into());
            }
            word.push(byte);
            self.reader.at += 1;
        }
        if skim::is_value(&word) {
            Ok(())
        } else {
            Err(IndexError::malformed("the JSON has something that is no value"))
        }
    }

    /// Passes over a string, quotes included.
    fn text(&mut self) -> Result<(), IndexError> {
        let no_end = || IndexError::malformed("a JSON string has no end");
        self.reader.at += 1;
        loop {
            self.byte()?.ok_or_else(no_end)?;
            let Reader { block, at, filled, .. } = &mut *self.reader;
            match memchr::memchr2(b'"', b'\\', &block[*at..*filled]) {
                None => *at = *filled,
                Some(end) => {
                    let is_end = block[*at + end] == b'"';
                    *at += end + 1;
                    if is_end {
                        return Ok(());
                    }
                    self.byte()?.ok_or_else(no_end)?;
                    self.reader.at += 1;
                }
            }
        }
    }

    /// The next byte that is no white space, which stays unread.
    fn peek(&mut self) -> Result<u8, IndexError> {
        loop {
            match self.byte()? {
                Some(byte) if is_space(byte) => self.reader.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(IndexError::malformed("the JSON ends too early")),
            }
        }
    }

    /// The next byte, which stays unread; `None` at the end of the document.
    fn byte(&mut self) -> Result<Option<u8>, IndexError> {
        if self.reader.at == self.reader.filled {
            self.flush()?;
            self.from = 0;
            if !self.reader.more()? {
                return Ok(None);
            }
        }
        Ok(Some(self.reader.block[self.reader.at]))
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let from = std::mem::replace(&mut self.from, self.reader.at);
        Ok(self.out.write_all(&self.reader.block[from..self.reader.at])?)
    }
}
