//! Checksums and URLs of the tarballs a packument lists.

use std::io::{self, BufRead};

use super::dist::Links;
use crate::{Fact, IndexError, json, limits::Allowance};

/// Largest `dist` object, in bytes.
const MAX_DIST: usize = 1 << 20;

/// Hands over one fact per version.
pub(super) fn read(
    links: &Links<'_>,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let mut versions = Allowance::of_entries("number of versions");
    json::document(input, &mut io::sink(), |reader, out, key| match (key, reader.peek(out)?) {
        ("versions", b'{') => reader.object(out, |reader, out, version| {
            versions.take(1)?;
            if reader.peek(out)? != b'{' {
                return reader.value(out);
            }
            reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
                ("dist", b'{') => {
                    let dist = reader.parse(MAX_DIST)?;
                    if let Some(fact) = links.fact(version, &dist) {
                        sink(fact);
                    }
                    Ok(())
                }
                _ => reader.value(out),
            })
        }),
        _ => reader.value(out),
    })
}
