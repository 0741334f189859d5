//! The files an upstream has: bytes with the validators and types a good server would send.

use std::{fs, io, path::Path};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// One file of an upstream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its bytes.
    pub bytes: Bytes,
    /// Strong validator, made from the bytes.
    pub etag: String,
    /// Weak validator, one second later for each version of the path.
    pub last_modified: String,
    /// Media type.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

/// Seconds since the epoch of a path's first version.
const FIRST_VERSION: u64 = 1_700_000_000;

impl Entry {
    /// The `version`th content of `path`.
    pub(super) fn new(path: &str, bytes: Bytes, version: u64) -> Self {
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(FIRST_VERSION + version);
        Entry {
            etag: format!("\"{}\"", &hex::encode(Sha256::digest(&bytes))[..20]),
            last_modified: httpdate::fmt_http_date(modified),
            content_type: content_type(path).to_owned(),
            headers: Vec::new(),
            bytes,
        }
    }
}

/// Paths below an upstream's root with their bytes, in path order.
#[derive(Clone, Debug, Default)]
pub struct Tree(pub std::collections::BTreeMap<String, Bytes>);

impl Tree {
    /// Every file below `dir`, symbolic links followed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(dir: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        tree.read_below(dir, "")?;
        Ok(tree)
    }

    fn read_below(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name =
                entry.file_name().into_string().map_err(|_| io::Error::other("file name is no UTF-8"))?;
            let path = format!("{prefix}{name}");
            if fs::metadata(entry.path())?.is_dir() {
                self.read_below(&entry.path(), &format!("{path}/"))?;
            } else {
                self.0.insert(path, fs::read(entry.path())?.into());
            }
        }
        Ok(())
    }

    /// Adds or replaces a file.
    pub fn put(&mut self, path: impl Into<String>, bytes: impl Into<Bytes>) {
        self.0.insert(path.into(), bytes.into());
    }

    /// The bytes at `path`, which must be there.
    ///
    /// # Panics
    /// When it is not: the fixture and the test disagree.
    pub fn get(&self, path: &str) -> &Bytes {
        self.0.get(path).unwrap_or_else(|| panic!("the fixture has no {path}: {:?}", self.0.keys()))
    }

    /// The only path that matches, which must be there.
    ///
    /// # Panics
    /// When none or several match.
    pub fn find(&self, matches: impl Fn(&str) -> bool) -> &str {
        let found: Vec<_> = self.0.keys().filter(|path| matches(path)).collect();
        assert_eq!(found.len(), 1, "one path should match: {found:?} of {:?}", self.0.keys());
        found[0]
    }
}

fn content_type(path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.').map(|(_, ext)| ext) {
        _ if name.is_empty() => "text/html",
        Some("json" | "info") => "application/json",
        Some("html") => "text/html",
        Some("xml") => "application/xml",
        Some("yaml" | "yml") => "application/yaml",
        Some("txt" | "mod" | "asc" | "prov") => "text/plain; charset=utf-8",
        Some("zip" | "whl") => "application/zip",
        Some("tgz" | "gz") => "application/gzip",
        Some("rpm") => "application/x-rpm",
        _ => "application/octet-stream",
    }
}
