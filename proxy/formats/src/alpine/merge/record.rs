//! Which package a record is about, read as strictly as apk reads it.

use artifactapi_model::RepoPath;

use crate::IndexError;

/// What identifies a package.
pub(super) struct Identity<'l> {
    /// Its name.
    pub(super) name: &'l str,
    /// Where it lies.
    pub(super) path: RepoPath,
}

impl<'l> Identity<'l> {
    /// Reads the `lines` of a record of the index in `directory`.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] for what apk refuses, and for a package whose name is no file name.
    pub(super) fn parse(directory: &str, lines: &'l [u8]) -> Result<Self, IndexError> {
        let (mut name, mut version, mut checksum) = (None, None, None);
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        for line in lines.split(|byte| *byte == b'\n') {
            let [field, b':', value @ ..] = line else {
                return Err(IndexError::malformed("a line of a record is no field"));
            };
            let known = match field {
                b'P' => &mut name,
                b'V' => &mut version,
                b'C' => &mut checksum,
                _ => continue,
            };
            if known.replace(value).is_some() {
                return Err(IndexError::malformed("a record has a field twice"));
            }
        }
        let text = |value: Option<&'l [u8]>, what| {
            let text = value.and_then(|value| str::from_utf8(value).ok());
            text.filter(|text| !text.is_empty()).ok_or_else(|| IndexError::malformed(what))
        };
        let name = text(name, "a record has no name")?;
        let version = text(version, "a record has no version")?;
        // Or else a name that is reserved could be spelled as another name with a part of it for a version.
        if !version.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(IndexError::malformed("a version does not begin with a digit"));
        }
        text(checksum, "a record has no checksum")?;
        let path = RepoPath::from_canonical(&format!("{directory}{name}-{version}.apk"))
            .ok()
            .filter(|_| !name.contains('/') && !version.contains('/'))
            .ok_or_else(|| IndexError::malformed("a package's name or version is no part of a file name"))?;
        Ok(Identity { name, path })
    }
}
