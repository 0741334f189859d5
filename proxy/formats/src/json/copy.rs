//! Copying one JSON value without looking at it, but never past its end.

use std::io::Write;

use super::{Reader, malformed};
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
        // Containers that are open, innermost last; true for objects.
        let mut open: Vec<bool> = Vec::new();
        let mut next = Next::Value;
        loop {
            let byte = self.peek(out)?;
            next = match (next, byte) {
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                    if open.len() == MAX_DEPTH {
                        return Err(limits::breached("nesting of JSON").into());
                    }
                    self.take(byte, out)?;
                    open.push(byte == b'{');
                    if byte == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd }
                }
                (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => self.close(byte, &mut open, out)?,
                (Next::Value | Next::ValueOrEnd, _) => {
                    self.scalar(byte, out)?;
                    Next::CommaOrEnd
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.text(out)?;
                    Next::Colon
                }
                (Next::Colon, b':') => {
                    self.take(byte, out)?;
                    Next::Value
                }
                (Next::CommaOrEnd, b',') => {
                    self.take(byte, out)?;
                    if open.last() == Some(&true) { Next::Key } else { Next::Value }
                }
                (Next::CommaOrEnd, b'}' | b']') => self.close(byte, &mut open, out)?,
                _ => return Err(malformed("the JSON has a stray character")),
            };
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    fn close(&mut self, byte: u8, open: &mut Vec<bool>, out: &mut dyn Write) -> Result<Next, IndexError> {
        if open.pop() != Some(byte == b'}') {
            return Err(malformed("the JSON has a mismatched bracket"));
        }
        self.take(byte, out)?;
        Ok(Next::CommaOrEnd)
    }

    fn scalar(&mut self, first: u8, out: &mut dyn Write) -> Result<(), IndexError> {
        if first == b'"' {
            return self.text(out);
        }
        // The longest number or literal that is any use; what follows it is judged by the caller.
        let mut word = Vec::with_capacity(16);
        while let Some(byte) = self.byte()? {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')) {
                break;
            }
            if word.len() == 1024 {
                return Err(limits::breached("length of a JSON number").into());
            }
            word.push(byte);
            self.at += 1;
        }
        serde_json::from_slice::<serde::de::IgnoredAny>(&word)
            .map_err(|_| malformed("the JSON has something that is no value"))?;
        out.write_all(&word)?;
        Ok(())
    }

    /// Copies a string, quotes included.
    fn text(&mut self, out: &mut dyn Write) -> Result<(), IndexError> {
        self.take(b'"', out)?;
        loop {
            if self.byte()?.is_none() {
                return Err(malformed("a JSON string has no end"));
            }
            let rest = &self.block[self.at..self.filled];
            match memchr::memchr2(b'"', b'\\', rest) {
                None => {
                    out.write_all(rest)?;
                    self.at = self.filled;
                }
                Some(end) if rest[end] == b'"' => {
                    out.write_all(&rest[..=end])?;
                    self.at += end + 1;
                    return Ok(());
                }
                Some(escape) => {
                    out.write_all(&rest[..=escape])?;
                    self.at += escape + 1;
                    let escaped = self.byte()?.ok_or_else(|| malformed("a JSON string has no end"))?;
                    self.take(escaped, out)?;
                }
            }
        }
    }
}
