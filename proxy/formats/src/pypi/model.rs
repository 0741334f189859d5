//! What a simple page says, whichever form it came in.

use std::collections::BTreeMap;

use artifactapi_model::{Checksum, Checksums};
use url::Url;

use crate::IndexError;

/// Newest minor version of the simple API whose data we can carry (PEP 792). Everything above is unknown
/// to us and would be dropped, so it is not claimed.
const NEWEST_MINOR: u32 = 4;

/// Hash algorithm → hex digits.
pub(super) type Hashes = BTreeMap<String, String>;

/// One thing a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A file.
    File(Box<File>),
    /// A project, in a list of projects, by its display name.
    Project(String),
    /// `meta.api-version`: the minor number of major version 1.
    Minor(u32),
    /// All versions of the project (PEP 700).
    Versions(Vec<String>),
    /// The project's status and why (PEP 792).
    Status {
        /// A status word.
        status: String,
        /// Why.
        reason: Option<String>,
    },
    /// Projects elsewhere that this one tracks (PEP 708).
    Tracks(Vec<String>),
    /// Other places of this project (PEP 708).
    AlternateLocations(Vec<String>),
}

/// One file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its name: one path segment without control characters.
    pub(super) name: String,
    /// Where it is, without fragment.
    pub(super) url: Url,
    /// What it hashes to.
    pub(super) hashes: Hashes,
    /// Length in bytes.
    pub(super) size: Option<u64>,
    /// When it was uploaded.
    pub(super) upload_time: Option<String>,
    /// Versions of Python it is for.
    pub(super) requires_python: Option<String>,
    /// Whether it is withdrawn; the text says why, and may be empty.
    pub(super) yanked: Option<String>,
    /// Whether its metadata is to be had alone, and what that hashes to.
    pub(super) metadata: Metadata,
    /// Whether a signature lies beside it.
    pub(super) gpg_sig: Option<bool>,
}

/// Core metadata as a file of its own (PEP 658).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    /// Nothing is said.
    Unsaid,
    /// There is none, or there is one without a published hash.
    Known(bool),
    /// There is one.
    Hashed(Hashes),
}

impl File {
    /// A file about which only name and URL are known; `None` when the name is no file name (RS-56).
    pub(super) fn new(name: String, mut url: Url) -> Option<File> {
        url.set_fragment(None);
        let is_name = !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
        is_name.then(|| File {
            name,
            url,
            hashes: Hashes::new(),
            size: None,
            upload_time: None,
            requires_python: None,
            yanked: None,
            metadata: Metadata::Unsaid,
            gpg_sig: None,
        })
    }

    /// What the body must be.
    pub(super) fn checksums(&self) -> Checksums {
        strongest(&self.hashes).into_iter().chain(self.size.map(Checksum::Size)).collect()
    }
}

/// The strong hashes; where there is none, the best of the weak ones.
pub(super) fn strongest(hashes: &Hashes) -> Checksums {
    let of = |name: &str| hashes.get(name).and_then(|digits| Checksum::from_hex(name, digits));
    let strong: Checksums = ["sha256", "sha512"].into_iter().filter_map(of).collect();
    if strong.is_empty() { of("sha1").or_else(|| of("md5")).into_iter().collect() } else { strong }
}

/// `hashes` without what is no hash: an algorithm is a word, a hash is hex digits.
pub(super) fn sane(hashes: Hashes) -> Hashes {
    let is_word = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let is_hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hashes
        .into_iter()
        .map(|(name, digits)| (name.to_ascii_lowercase(), digits))
        .filter(|(name, digits)| is_word(name) && is_hex(digits))
        .collect()
}

/// Reads `algorithm=digits`, as fragments and attributes have it.
pub(super) fn hash_of(text: &str) -> Option<(String, String)> {
    let (name, digits) = text.split_once('=')?;
    sane(Hashes::from([(name.to_owned(), digits.to_owned())])).pop_first()
}

/// Reads an API version.
///
/// # Errors
/// [`IndexError::Malformed`] for another major version, which nobody may guess at (PEP 629).
pub(super) fn minor_of(version: &str) -> Result<u32, IndexError> {
    let (major, minor) = version.trim().split_once('.').unwrap_or((version.trim(), "0"));
    match (major.parse::<u32>(), minor.parse::<u32>()) {
        (Ok(1), Ok(minor)) => Ok(minor.min(NEWEST_MINOR)),
        _ => Err(IndexError::malformed("the page is of an unknown version of the simple API")),
    }
}
