//! Reading members' documents: lists of versions, and what is said of one.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read as _},
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    IndexError, document,
    goproxy::escape,
    json::{MAX_FOLDED, folded},
};

/// Longest line of a list, in bytes.
const MAX_LINE: u64 = 4096;
/// Largest document about one version, in bytes.
const MAX_INFO: u64 = 64 << 10;

/// Hands the versions of a list to `visit`: the first word of each line; what follows it, and pseudo-versions, the
/// go command passes over.
pub(super) fn versions(
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(&str) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut *input).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_LINE {
            return Err(IndexError::TooLarge("line of a list of versions"));
        }
        let text = document::text(&line)?;
        let Some(version) = text.split_ascii_whitespace().next() else { continue };
        if !is_version(version) {
            return Err(IndexError::malformed("it has a line that is no version"));
        }
        if !is_pseudo(version) {
            visit(version)?;
        }
    }
}

/// The version that a document answers with, and the document as it came.
///
/// # Errors
/// [`IndexError`] when it names none.
pub(super) fn info(input: &mut dyn BufRead) -> Result<(String, Vec<u8>), IndexError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info {
        version: String,
    }
    let mut json = Vec::new();
    // A document about one version, of which one byte more than it may have is read.
    if input.take(MAX_INFO + 1).read_to_end(&mut json)? as u64 > MAX_INFO {
        return Err(IndexError::TooLarge("size of what is said of a version"));
    }
    let none = |error| IndexError::malformed(format!("it names no version: {error}"));
    let info: Info = serde_json::from_slice(&json).map_err(none)?;
    if !is_version(&info.version) {
        return Err(IndexError::malformed("what it names is no version"));
    }
    // To the go command `version` is the same member, and the last one counts.
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&json).map_err(none)?;
    let is_version = |key: &&String| folded(key, &mut [0; MAX_FOLDED]) == Some("version");
    if members.keys().filter(is_version).count() > 1 {
        return Err(IndexError::malformed("it names several versions"));
    }
    Ok((info.version, json))
}

/// Whether `text` is a canonical version as it stands in documents, where nothing is escaped: two that are escaped alike
/// would be two versions with the same files.
fn is_version(text: &str) -> bool {
    escape::is_canonical(text) && !text.contains('!')
}

/// Whether a canonical version names a commit: it ends with a time and a hash (golang.org/x/mod/module,
/// `IsPseudoVersion`).
pub(super) fn is_pseudo(version: &str) -> bool {
    let version = version.strip_suffix("+incompatible").unwrap_or(version);
    let Some((rest, hash)) = version.rsplit_once('-') else { return false };
    let time = rest.rsplit(['-', '.']).next().unwrap_or_default();
    hash.len() == 12
        && hash.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && time.len() == 14
        && time.bytes().all(|byte| byte.is_ascii_digit())
}
