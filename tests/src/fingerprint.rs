//! What an installation left on disk, in a form that two runs can be compared by.

use std::{fs, io, path::Path};

use sha2::{Digest as _, Sha256};

/// One line for each regular file below `dir`, sorted: path and digest. Files for which `ignore` says so
/// (by their path below `dir`) are left out.
///
/// # Errors
/// When a file cannot be read.
pub fn of_dir(dir: &Path, ignore: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.path().strip_prefix(dir).unwrap_or(&entry.path()).to_string_lossy().into_owned();
            if ignore(&name) {
                continue;
            }
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                lines.push(format!("{name} {}", of_bytes(&fs::read(entry.path())?)));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// sha256 in hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
