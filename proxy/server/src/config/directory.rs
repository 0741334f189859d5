//! A directory of manifest files: what is in it, and whether it has changed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Largest manifest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Times and sizes of the files by path: what a change is told by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

/// A file that cannot be taken for what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct Unreadable {
    /// Its name.
    pub file: String,
    /// Why, for its author.
    pub reason: String,
}

/// The manifest files of a directory.
#[derive(Debug, Default)]
pub struct Files {
    /// Name and text of each, sorted by name.
    pub texts: Vec<(String, String)>,
    /// Those that could not be read. They cost nobody else anything.
    pub unreadable: Vec<Unreadable>,
}

impl Stamps {
    /// Looks at the manifest files (`.yaml`, `.yml`, `.json`; no hidden ones) directly below `dir`. Links are
    /// followed, as a mounted ConfigMap has them.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let is_manifest =
                matches!(path.extension().and_then(|ext| ext.to_str()), Some("yaml" | "yml" | "json"));
            if !is_manifest || name_of(&path).starts_with('.') {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    found.insert(path, (metadata.modified().ok(), metadata.len()));
                }
                Ok(_) => {}
                // A dangling link: reported when it is read.
                Err(_) => drop(found.insert(path, (None, 0))),
            }
        }
        Ok(Stamps(found))
    }

    /// Reads the files.
    pub fn read(&self) -> Files {
        let mut files = Files::default();
        for (path, (_, size)) in &self.0 {
            let file = name_of(path);
            match text_of(path, *size) {
                Ok(text) => files.texts.push((file, text)),
                Err(reason) => files.unreadable.push(Unreadable { file, reason }),
            }
        }
        files
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn text_of(path: &Path, size: u64) -> Result<String, String> {
    if size > MAX_FILE {
        return Err(format!("is larger than {} MiB", MAX_FILE >> 20));
    }
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        put("b.yaml", b"b");
        put("a.yml", b"a");
        put("c.json", b"c");
        put("binary.yaml", b"\xff\xfe");
        put(".hidden.yaml", b"x");
        put("notes.txt", b"x");
        put("large.yaml", &vec![b' '; (4 << 20) + 1]);
        fs::create_dir(dir.path().join("d.yaml")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("gone.yaml")).unwrap();
        let stamps = Stamps::of(dir.path()).unwrap();
        let files = stamps.read();
        let names: Vec<_> = files.texts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.yml", "b.yaml", "c.json"]);
        let bad: Vec<_> = files.unreadable.iter().map(|bad| bad.file.as_str()).collect();
        assert_eq!(bad, ["binary.yaml", "gone.yaml", "large.yaml"]);
        assert_eq!(stamps, Stamps::of(dir.path()).unwrap());
        put("b.yaml", b"bb");
        assert_ne!(stamps, Stamps::of(dir.path()).unwrap());
    }
}
