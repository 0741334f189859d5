//! The checksum database below `sumdb/{name}/` (golang.org/design/25530-sumdb, "Proxying a checksum database").

use std::io::{BufRead, Read};

use artifactapi_model::Checksum;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::escape;
use crate::{Fact, IndexError, Reach};

/// The database that the go command uses unless told otherwise.
pub(super) const PUBLIC: &str = "sum.golang.org";
/// Most bytes of a lookup that are read; a record has two lines.
const MAX_RECORD: u64 = 64 << 10;
/// Most bits of a tile's height, and the highest level (golang.org/x/mod/sumdb/tlog, `ParseTilePath`).
const MAX_HEIGHT: u32 = 30;
const MAX_LEVEL: u32 = 63;

/// What is asked of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'p> {
    /// Whether it is proxied here.
    Supported,
    /// Its signed tree head.
    Latest,
    /// The record of an escaped module and version.
    Lookup {
        /// Escaped module path.
        module: &'p str,
        /// Escaped version.
        version: &'p str,
    },
    /// A tile of the tree or of its data.
    Tile,
}

impl<'p> Request<'p> {
    /// Reads what follows `sumdb/`; `None` for anything else.
    pub(super) fn parse(rest: &'p str) -> Option<Self> {
        let (name, rest) = rest.split_once('/')?;
        if !is_name(name) {
            return None;
        }
        if let Some(tile) = rest.strip_prefix("tile/") {
            return is_tile(tile).then_some(Request::Tile);
        }
        if let Some(record) = rest.strip_prefix("lookup/") {
            let (module, version) = record.split_once('@')?;
            let valid = escape::is_module(module) && escape::is_version(version);
            return valid.then_some(Request::Lookup { module, version });
        }
        match rest {
            "supported" => Some(Request::Supported),
            "latest" => Some(Request::Latest),
            _ => None,
        }
    }
}

/// A database's name looks like a host name, with a port perhaps.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_:".contains(&b);
    name.len() <= 255
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// `{H}/{L}/{K}[.p/{W}]` or `{H}/data/{K}[.p/{W}]`, where `K` is `NNN` after any number of `xNNN/`.
fn is_tile(tile: &str) -> bool {
    let mut segments: Vec<&str> = tile.split('/').collect();
    let partial = match segments.as_slice() {
        [.., index, width] if index.ends_with(".p") => Some(*width),
        _ => None,
    };
    if partial.is_some() {
        segments.pop();
    }
    let [height, level, high @ .., low] = segments.as_slice() else { return false };
    let low = if partial.is_some() { low.strip_suffix(".p").unwrap_or(low) } else { low };
    let Some(height) = number(height).filter(|height| (1..=MAX_HEIGHT).contains(height)) else {
        return false;
    };
    (*level == "data" || number(level).is_some_and(|level| level <= MAX_LEVEL))
        && high.len() <= 6
        && high.iter().all(|part| part.strip_prefix('x').is_some_and(is_thousand))
        && is_thousand(low)
        && partial.is_none_or(|width| number(width).is_some_and(|w| w > 0 && u64::from(w) < 1 << height))
}

fn is_thousand(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A decimal number in its only spelling.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// The facts of a lookup's record: `{module} {version} h1:…` for the zip, `{module} {version}/go.mod h1:…` for
/// the module file. Lines about anything but what was looked up say nothing here.
///
/// # Errors
/// [`IndexError::Malformed`] when the record is not text, [`IndexError::Io`] when it cannot be read.
pub(super) fn facts(
    module: &str,
    version: &str,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let mut body = Vec::new();
    input.take(MAX_RECORD).read_to_end(&mut body)?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| IndexError::malformed("a checksum database record is not UTF-8"))?;
    // Behind the first empty line stands the signed tree head.
    for line in text.lines().take_while(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (Some(name), Some(what), Some(hash), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (of, is_mod) = match what.strip_suffix("/go.mod") {
            Some(of) => (of, true),
            None => (what, false),
        };
        if escape::escape(name) != module || escape::escape(of) != version {
            continue;
        }
        let Some(hash) = h1(hash) else { continue };
        let (kind, checksum) =
            if is_mod { ("mod", Checksum::GoMod(hash)) } else { ("zip", Checksum::GoZip(hash)) };
        sink(Fact {
            path: format!("{module}/@v/{version}.{kind}"),
            reach: Reach::File,
            url: None,
            checksums: vec![checksum],
        });
    }
    Ok(())
}

fn h1(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.strip_prefix("h1:")?).ok()?.try_into().ok()
}
