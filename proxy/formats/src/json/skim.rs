//! What lies in memory whole is passed over in one go; everything else is left to the steps that can wait for more.
//!
//! Each function says where something ends, and `None` both when the bytes do not have all of it and when it is not
//! well formed: whoever gets `None` takes the slow way from the same place, which has the same grammar and says what is
//! wrong.

use super::is_space;
use crate::limits::MAX_DEPTH;

/// Containers that are open: a bit each, the innermost the lowest, 1 for objects.
#[derive(Default)]
struct Open {
    kinds: u64,
    depth: usize,
}

const _: () = assert!(MAX_DEPTH <= u64::BITS as usize, "one bit for each container");

impl Open {
    fn push(&mut self, is_object: bool) -> Option<()> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.kinds = self.kinds << 1 | u64::from(is_object);
        self.depth += 1;
        Some(())
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.depth -= 1;
    }

    fn is_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}

/// Where the value ends that `bytes` begins with.
pub(super) fn value(bytes: &[u8]) -> Option<usize> {
    let (mut open, mut at) = (Open::default(), 0);
    loop {
        at = match *bytes.get(at)? {
            b'"' => text(bytes, at)?,
            byte @ (b'{' | b'[') => {
                let is_object = byte == b'{';
                open.push(is_object)?;
                let first = space(bytes, at + 1)?;
                if bytes[first] != if is_object { b'}' } else { b']' } {
                    at = if is_object { key(bytes, first)? } else { first };
                    continue;
                }
                open.pop();
                first + 1
            }
            _ => word(bytes, at)?,
        };
        // A value has ended: what comes next is of the container that it is in.
        loop {
            if open.depth == 0 {
                return Some(at);
            }
            at = space(bytes, at)?;
            match (bytes[at], open.is_object()) {
                (b',', is_object) => {
                    at = space(bytes, at + 1)?;
                    if is_object {
                        at = key(bytes, at)?;
                    }
                    break;
                }
                (b'}', true) | (b']', false) => {
                    open.pop();
                    at += 1;
                }
                _ => return None,
            }
        }
    }
}

/// A key without escapes, and where the value behind it begins. `is_first` tells whether no comma comes before.
pub(super) fn head(bytes: &[u8], is_first: bool) -> Option<(&str, usize)> {
    let mut at = space(bytes, 0)?;
    if !is_first {
        if bytes[at] != b',' {
            return None;
        }
        at = space(bytes, at + 1)?;
    }
    let name = plain(&bytes[at..])?;
    Some((name, colon(bytes, at + name.len() + 2)?))
}

/// The string that `bytes` begins with, when it stands there as it is meant.
pub(super) fn plain(bytes: &[u8]) -> Option<&str> {
    let [b'"', inner @ ..] = bytes else { return None };
    let end = inner.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    if inner[end] == b'"' { str::from_utf8(&inner[..end]).ok() } else { None }
}

/// Where the value begins behind the key at `at`.
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at] == b'"' { colon(bytes, text(bytes, at)?) } else { None }
}

/// Where the value begins behind the colon that comes at `at`.
fn colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = space(bytes, at)?;
    if bytes[at] == b':' { space(bytes, at + 1) } else { None }
}

/// The first byte from `at` that is no white space.
fn space(bytes: &[u8], at: usize) -> Option<usize> {
    let spaces = bytes.get(at..)?.iter().position(|byte| !is_space(*byte))?;
    Some(at + spaces)
}

/// Where the string ends that begins at `at`.
fn text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let rest = bytes.get(from..)?;
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        if rest[end] == b'"' {
            return Some(from + end + 1);
        }
        from += end + 2;
    }
}

/// Whether a number or literal may have `byte`.
pub(super) fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Where the number or literal ends that begins at `at`. One that ends the bytes may go on.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes[at..].iter().position(|byte| !is_of_word(*byte))?;
    let word = &bytes[at..at + length];
    // Numbers as most are; serde judges the others.
    let is_plain =
        || matches!(word, [b'1'..=b'9', rest @ ..] if rest.len() < 18 && rest.iter().all(u8::is_ascii_digit));
    let is_known = matches!(word, b"true" | b"false" | b"null" | b"0") || is_plain();
    (is_known || is_value(word)).then_some(at + length)
}

/// Longest number or literal that is any use.
pub(super) const MAX_WORD: usize = 1024;

/// Whether `word` is a value.
pub(super) fn is_value(word: &[u8]) -> bool {
    word.len() <= MAX_WORD && serde_json::from_slice::<serde::de::IgnoredAny>(word).is_ok()
}
