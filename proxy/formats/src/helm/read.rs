//! Reading an index in whichever form it comes, piece by piece.
//!
//! JSON streams through the JSON reader. YAML as Go writes it goes through the layout scanner ([`layout`]);
//! everything else is left to a complete YAML parser ([`yaml`]). Which of the two is decided on the first
//! [`HEAD`] bytes, the whole of most indexes. One that changes its layout past them (edited by hand, or put
//! together from two) is read again from its beginning by the complete parser, which skips the pieces that
//! were handed on. For that the text past the head is kept, compressed, since it cannot be asked for twice.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufRead, Read, Write},
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde_json::Value;

use super::{layout, layout::Stop, yaml};
use crate::{IndexError, json};

/// How much of an index is looked at before its parser is chosen, in bytes.
const HEAD: u64 = 1 << 20;
/// Largest chart version, and largest top-level field, in bytes.
pub(super) const MAX_ENTRY: usize = 1 << 20;

/// A piece of an index, in the order it is written.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) enum Piece {
    /// A top-level field other than `entries`.
    Field(String, Value),
    /// The versions that follow belong to the chart of this name.
    Chart(String),
    /// A chart version.
    Entry(Value),
}

/// Receives pieces.
pub(super) type Sink<'s> = dyn FnMut(Piece) -> Result<(), IndexError> + 's;

/// Reads the index `input` into `sink`.
///
/// # Errors
/// [`IndexError`], and whatever `sink` returns.
pub(super) fn index(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut is_empty = true;
    document(input, &mut |piece| {
        is_empty = false;
        sink(piece)
    })?;
    if is_empty {
        return Err(IndexError::malformed("the document is empty"));
    }
    Ok(())
}

fn document(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut head = Vec::new();
    (&mut *input).take(HEAD).read_to_end(&mut head)?;
    // What is read first must not depend on how the stream comes in pieces.
    if head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return as_json(&mut head.as_slice().chain(input), sink);
    }
    let fits = match layout::index(&mut complete_part(&head), &mut |_| Ok(())) {
        Ok(()) => true,
        Err(Stop::Misfit) => false,
        Err(Stop::Failed(error)) => return Err(error),
    };
    if !fits {
        return yaml::index(io::BufReader::new(head.as_slice().chain(input)), sink);
    }
    let mut tail = Kept { inner: input, copy: DeflateEncoder::new(Vec::new(), Compression::fast()) };
    let mut given = Given::default();
    let mut all = io::BufReader::new(head.as_slice().chain(&mut tail));
    let stop = layout::index(&mut all, &mut |piece| {
        given.note(&piece);
        sink(piece)
    });
    match stop {
        Ok(()) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Misfit) => rest(head.as_slice().chain(tail.replay()?), &given, sink),
    }
}

/// Reads a whole index by the complete parser and hands on what comes after the pieces already `given`.
fn rest(all: impl Read, given: &Given, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let changed = || IndexError::malformed("the YAML changes its layout midway");
    let mut again = Given::default();
    yaml::index(io::BufReader::new(all), &mut |piece| {
        if again.pieces == given.pieces {
            return sink(piece);
        }
        again.note(&piece);
        // The scanner does not guess; had it, its pieces must not be mixed with the parser's.
        let agree = again.pieces < given.pieces || again.hash.finish() == given.hash.finish();
        if agree { Ok(()) } else { Err(changed()) }
    })?;
    if again.pieces == given.pieces { Ok(()) } else { Err(changed()) }
}

/// How many pieces were handed on, and which.
#[derive(Default)]
struct Given {
    pieces: usize,
    hash: DefaultHasher,
}

impl Given {
    fn note(&mut self, piece: &Piece) {
        self.pieces += 1;
        piece.hash(&mut self.hash);
    }
}

/// Passes `inner` on and keeps a compressed copy of it.
struct Kept<R> {
    inner: R,
    copy: DeflateEncoder<Vec<u8>>,
}

impl<R: Read> Kept<R> {
    /// What was read and what was not yet.
    fn replay(self) -> io::Result<impl Read> {
        let copy = io::Cursor::new(self.copy.finish()?);
        Ok(DeflateDecoder::new(copy).chain(self.inner))
    }
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.copy.write_all(&buf[..read])?;
        Ok(read)
    }
}

/// The head without the chart version that its end may have cut.
fn complete_part(head: &[u8]) -> &[u8] {
    if (head.len() as u64) < HEAD {
        return head;
    }
    let last = memchr::memmem::rfind(head, layout::ENTRY.as_bytes());
    last.map_or(head, |at| &head[..=at])
}

fn as_json(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    json::document(input, &mut io::sink(), |reader, out, key| match (key, reader.peek(out)?) {
        ("entries", b'{') => reader.object(out, |reader, out, name| {
            sink(Piece::Chart(name.to_owned()))?;
            if reader.peek(out)? != b'[' {
                return reader.value(out);
            }
            reader.array(out, |reader, _| sink(Piece::Entry(reader.parse(MAX_ENTRY)?)))
        }),
        ("entries", _) => reader.value(out),
        _ => {
            let value = reader.parse(MAX_ENTRY)?;
            sink(Piece::Field(key.to_owned(), value))
        }
    })
}
