//! A generation: its files, and which member each advertised file comes from.
//!
//! It is stored as one text document, so that any replica has the whole from one row:
//!
//! ```text
//! artifactapi generation 1
//! file <path> <sha256> <size> <gzip sha256 or -> <gzip size or 0> <content type>
//! member <name>
//! listed <place of the member> <path>
//! ```
//!
//! Paths are percent-encoded, so that a line has one reading.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, BufRead},
};

use artifactapi_model::{Digest, RepoPath, Timestamp, path, ports::metadata::DerivedRow};
use bytes::Bytes;
use quick_cache::Weighter;

const HEAD: &str = "artifactapi generation 1";
/// What Helm appends to a chart's path.
const PROVENANCE: &str = ".prov";

/// A file that a merge wrote.
#[derive(Debug)]
pub(crate) struct File {
    /// Where its bytes are.
    pub(crate) row: DerivedRow,
    /// The bytes, when they are few.
    pub(crate) body: Option<Bytes>,
    /// Their gzip form, when it is small.
    pub(crate) gzip: Option<Bytes>,
}

/// A generation in memory.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    files: HashMap<Box<str>, File>,
    members: Vec<Box<str>>,
    listed: HashMap<Box<str>, u16>,
    /// When it was stored, or met first.
    pub(crate) made_at: Timestamp,
}

impl Generation {
    pub(crate) fn new(members: impl IntoIterator<Item = String>, made_at: Timestamp) -> Self {
        let members = members.into_iter().map(String::into_boxed_str).collect();
        Generation { members, made_at, ..Generation::default() }
    }

    pub(crate) fn add(&mut self, path: &str, file: File) {
        self.files.insert(path.into(), file);
    }

    pub(crate) fn list(&mut self, path: &str, member: u16) {
        self.listed.insert(path.into(), member);
    }

    /// How many files of members it advertises.
    pub(crate) fn len(&self) -> usize {
        self.listed.len()
    }

    /// The file at canonical `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (&**path, file))
    }

    /// All files, to be completed.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut File> {
        self.files.values_mut()
    }

    /// The member that advertises `path` of the Virtual, and the path there.
    pub(crate) fn listed(&self, path: &str) -> Option<(&str, String)> {
        let file = path.strip_suffix(PROVENANCE).filter(|file| self.listed.contains_key(*file));
        let member = self.listed.get(file.unwrap_or(path))?;
        let name = &**self.members.get(usize::from(*member))?;
        let own = match artifactapi_formats::merge::unqualified(path) {
            Some((member, own)) if member == name => own,
            _ => path.to_owned(),
        };
        Some((name, own))
    }

    /// Whether one of its files has the bytes `digest`, plain or gzip.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        let has = |row: &DerivedRow| row.digest == *digest || row.gzip.is_some_and(|(it, _)| it == *digest);
        self.files.values().any(|file| has(&file.row))
    }

    /// As it is stored.
    pub(crate) fn document(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let mut files: Vec<_> = self.files().collect();
        files.sort_unstable_by_key(|(path, _)| *path);
        for (path, File { row, .. }) in files {
            let (gzip, gzip_size) = match row.gzip {
                Some((digest, size)) => (digest.to_hex(), size),
                None => ("-".to_owned(), 0),
            };
            let (path, digest, size) = (path::encode(path), row.digest.to_hex(), row.size);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "file {path} {digest} {size} {gzip} {gzip_size} {}", row.content_type);
        }
        for member in &self.members {
            let _ = writeln!(text, "member {member}");
        }
        let mut listed: Vec<_> = self.listed.iter().collect();
        listed.sort_unstable();
        for (path, member) in listed {
            let _ = writeln!(text, "listed {member} {}", path::encode(path));
        }
        text
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// When it cannot be read or is no such document.
    pub(crate) fn read(input: &mut dyn BufRead, made_at: Timestamp) -> io::Result<Self> {
        let mut generation = Generation { made_at, ..Generation::default() };
        let mut lines = input.lines();
        if lines.next().transpose()?.as_deref() != Some(HEAD) {
            return Err(malformed());
        }
        for line in lines {
            generation.take(&line?).ok_or_else(malformed)?;
        }
        Ok(generation)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "file" => {
                let mut words = rest.splitn(6, ' ');
                let path = decoded(words.next()?)?;
                let (digest, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let gzip = match (words.next()?, words.next()?) {
                    ("-", _) => None,
                    (digest, size) => Some((digest.parse().ok()?, size.parse().ok()?)),
                };
                let content_type = words.next()?.to_owned();
                let row = DerivedRow { digest, size, gzip, content_type };
                self.files.insert(path, File { row, body: None, gzip: None });
            }
            "member" => self.members.push(rest.into()),
            "listed" => {
                let (member, path) = rest.split_once(' ')?;
                self.listed.insert(decoded(path)?, member.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }
}

fn decoded(text: &str) -> Option<Box<str>> {
    let path = RepoPath::parse(text, artifactapi_model::Spelling::Plain).ok()?;
    Some(path.as_str().into())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a stored generation is malformed")
}

/// What a generation takes in memory.
#[derive(Clone)]
pub(crate) struct ByBytes;

impl Weighter<Digest, std::sync::Arc<Generation>> for ByBytes {
    fn weight(&self, _: &Digest, generation: &std::sync::Arc<Generation>) -> u64 {
        let kept = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let files: usize = generation
            .files
            .iter()
            .map(|(path, file)| 256 + path.len() + kept(&file.body) + kept(&file.gzip))
            .sum();
        let listed: usize = generation.listed.keys().map(|path| 48 + path.len()).sum();
        (256 + files + listed) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        let mut generation = Generation::new(["one".to_owned(), "two".to_owned()], Timestamp(7));
        let row = |text: &[u8], gzip| DerivedRow {
            digest: Digest::of(text),
            size: text.len() as u64,
            gzip,
            content_type: "application/json; charset=utf-8".to_owned(),
        };
        let packed = Some((Digest::of(b"packed"), 6));
        generation.add("index.yaml", File { row: row(b"index", packed), body: None, gzip: None });
        generation.add("repo data/a+b", File { row: row(b"other", None), body: None, gzip: None });
        generation.list("-/m/two/charts/a-1.0.0+b c.tgz", 1);
        generation.list("x86_64/a-1.apk", 0);
        generation
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let document = generation().document();
        let again = Generation::read(&mut document.as_bytes(), Timestamp(7)).unwrap();
        assert_eq!(again.document(), document);
        assert_eq!(again.listed("x86_64/a-1.apk"), Some(("one", "x86_64/a-1.apk".to_owned())));
        let chart = "-/m/two/charts/a-1.0.0+b c.tgz";
        assert_eq!(again.listed(chart), Some(("two", "charts/a-1.0.0+b c.tgz".to_owned())));
        let proof = again.listed(&format!("{chart}.prov"));
        assert_eq!(proof, Some(("two", "charts/a-1.0.0+b c.tgz.prov".to_owned())));
        assert_eq!(again.listed("-/m/one/charts/a-1.0.0+b c.tgz"), None);
        assert_eq!(again.listed("x86_64/b-1.apk"), None);
        assert!(again.has(&Digest::of(b"packed")) && again.has(&Digest::of(b"other")));
    }

    #[test]
    fn damaged_documents_are_errors() {
        let whole = generation().document();
        for damage in [
            "",
            "artifactapi generation 2\n",
            &whole.replace("listed 1", "listed x"),
            &whole.replace("file ", "fill "),
        ] {
            assert!(Generation::read(&mut damage.as_bytes(), Timestamp(0)).is_err(), "{damage}");
        }
    }
}
