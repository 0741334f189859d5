//! Reading an index in whichever form it comes, piece by piece.
//!
//! JSON streams through the JSON reader. YAML as Go writes it goes through the layout scanner ([`layout`]);
//! everything else is left to a complete YAML parser ([`yaml`]). Which of the two is decided on the first
//! [`HEAD`] bytes, the whole of most indexes; past them no writer changes its layout, and one that does is
//! refused.

use std::io::{self, BufRead, Read};

use serde_json::Value;

use super::{layout, layout::Stop, yaml};
use crate::{IndexError, json::Reader};

/// How much of an index is looked at before its parser is chosen, in bytes.
const HEAD: u64 = 1 << 20;
/// Largest chart version, and largest top-level field, in bytes.
pub(super) const MAX_ENTRY: usize = 1 << 20;

/// A piece of an index, in the order it is written.
#[derive(Clone, Debug, PartialEq)]
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
        return Err(IndexError::Malformed("the document is empty".to_owned()));
    }
    Ok(())
}

fn document(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut head = Vec::new();
    (&mut *input).take(HEAD).read_to_end(&mut head)?;
    // What is read first must not depend on how the stream comes in pieces.
    if head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return json(&mut head.as_slice().chain(input), sink);
    }
    let fits = match layout::index(&mut complete_part(&head), &mut |_| Ok(())) {
        Ok(()) => true,
        Err(Stop::Misfit) => false,
        Err(Stop::Failed(error)) => return Err(error),
    };
    let mut all = io::BufReader::new(head.as_slice().chain(input));
    if !fits {
        return yaml::index(all, sink);
    }
    layout::index(&mut all, sink).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Misfit => IndexError::Malformed("the YAML changes its layout midway".to_owned()),
    })
}

/// The head without the chart version that its end may have cut.
fn complete_part(head: &[u8]) -> &[u8] {
    if (head.len() as u64) < HEAD {
        return head;
    }
    let last = memchr::memmem::rfind(head, layout::ENTRY.as_bytes());
    last.map_or(head, |at| &head[..=at])
}

fn json(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), IndexError> {
    let mut reader = Reader::new(input)?;
    reader.object(&mut io::sink(), |reader, out, key| match (key, reader.peek(out)?) {
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
    })?;
    reader.end(&mut io::sink())
}
