//! A generation: its files, and which member each advertised file comes from.
//!
//! It is stored as one text document, so that any replica has the whole from one row:
//!
//! ```text
//! artifactapi generation 1
//! file <path> <sha256> <size> <gzip sha256 or -> <gzip size or 0> <content type>
//! piece <sha256> <gzip sha256> <size> <gzip size> <crc32>    (of the file before, in the order of its gzip form)
//! member <name>
//! listed <place of the member> <path>    (in the order of the paths)
//! alias <place of the member> <path> <path there>
//! ```
//!
//! Paths are percent-encoded, so that a line has one reading.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, BufRead, Write},
};

use artifactapi_formats::merge::Listed;
use artifactapi_model::{Digest, RepoPath, path, ports::metadata::DerivedRow};
use bytes::Bytes;
use quick_cache::Weighter;

use super::listing::Listing;
use crate::pieces::Piece;

/// Bytes of a document that are written together.
const BLOCK: usize = 64 << 10;
const HEAD: &str = "artifactapi generation 1";
/// What Helm appends to a chart's path.
pub(super) const PROVENANCE: &str = ".prov";

/// A file that a merge wrote.
#[derive(Debug)]
pub(crate) struct File {
    /// Where its bytes are.
    pub(crate) row: DerivedRow,
    /// The bytes, when they are few.
    pub(crate) body: Option<Bytes>,
    /// Their gzip form, when it is small.
    pub(crate) gzip: Option<Bytes>,
    /// What the gzip form consists of, when it was made in pieces.
    pub(crate) pieces: Vec<Piece>,
}

/// A generation in memory.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    files: HashMap<Box<str>, File>,
    members: Vec<Box<str>>,
    listed: Listing,
    /// Other names of what members have: the places of the members, and what is named there.
    aliases: HashMap<Box<str>, (u16, Box<str>)>,
}

impl Generation {
    pub(crate) fn new(members: impl IntoIterator<Item = String>) -> Self {
        let members = members.into_iter().map(String::into_boxed_str).collect();
        Generation { members, ..Generation::default() }
    }

    pub(crate) fn add(&mut self, path: &str, file: File) {
        self.files.insert(path.into(), file);
    }

    /// Advertises `listed`; `None` when it cannot hold as much.
    pub(crate) fn list(&mut self, listed: Vec<Listed>) -> Option<()> {
        self.listed = Listing::of(listed)?;
        Some(())
    }

    /// Gives what members have other names; `None` when it cannot hold as much.
    pub(crate) fn name(&mut self, aliases: Vec<(String, Listed)>) -> Option<()> {
        for (path, Listed { path: own, member }) in aliases {
            self.aliases.insert(path.into(), (u16::try_from(member).ok()?, own.into()));
        }
        Some(())
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

    /// The paths of its files and of what it advertises.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files().map(|(path, _)| path).chain(self.listed.iter().map(|(path, _)| path))
    }

    /// Whether it has or advertises `path`.
    pub(super) fn has_path(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.listed.get(path).is_some()
    }

    /// All files, to be completed.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut File> {
        self.files.values_mut()
    }

    /// The member that advertises `path` of the Virtual, and the path there.
    pub(crate) fn listed(&self, path: &str) -> Option<(&str, String)> {
        let of_chart = path.strip_suffix(PROVENANCE).and_then(|file| self.listed.get(file));
        let member = of_chart.or_else(|| self.listed.get(path))?;
        let name = &**self.members.get(usize::from(member))?;
        let own = match artifactapi_formats::merge::unqualified(path) {
            Some((member, own)) if member == name => own,
            _ => path.to_owned(),
        };
        Some((name, own))
    }

    /// The member that has what `path` of the Virtual is another name of, and the path there.
    pub(crate) fn named(&self, path: &str) -> Option<(&str, String)> {
        let (member, own) = self.aliases.get(path)?;
        Some((&**self.members.get(usize::from(*member))?, own.to_string()))
    }

    /// Whether one of its files has the bytes `digest`, plain or gzip.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        let has = |row: &DerivedRow| row.digest == *digest || row.gzip.is_some_and(|(it, _)| it == *digest);
        self.files.values().any(|file| has(&file.row))
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let kept = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let of = |file: &File| 256 + kept(&file.body) + kept(&file.gzip) + size_of_val(&*file.pieces);
        let files: usize = self.files.iter().map(|(path, file)| path.len() + of(file)).sum();
        let aliases: usize = self.aliases.iter().map(|(path, (_, own))| 64 + path.len() + own.len()).sum();
        (256 + files + self.listed.bytes() + aliases) as u64
    }

    /// Writes it as it is stored.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = format!("{HEAD}\n");
        let mut files: Vec<_> = self.files().collect();
        files.sort_unstable_by_key(|(path, _)| *path);
        for (path, File { row, pieces, .. }) in files {
            let (gzip, gzip_size) = match row.gzip {
                Some((digest, size)) => (digest.to_hex(), size),
                None => ("-".to_owned(), 0),
            };
            let (path, digest, size) = (path::encode(path), row.digest.to_hex(), row.size);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "file {path} {digest} {size} {gzip} {gzip_size} {}", row.content_type);
            for Piece { plain, packed, size, packed_size, crc } in pieces {
                let (plain, packed) = (plain.to_hex(), packed.to_hex());
                let _ = writeln!(text, "piece {plain} {packed} {size} {packed_size} {crc}");
            }
        }
        for member in &self.members {
            let _ = writeln!(text, "member {member}");
        }
        let members: Vec<_> = (0..self.members.len()).map(|place| format!("listed {place} ")).collect();
        for (path, member) in self.listed.iter() {
            text.push_str(members.get(usize::from(member)).ok_or_else(malformed)?);
            path::encode_to(path, &mut text);
            text.push('\n');
            if text.len() >= BLOCK {
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        let mut aliases: Vec<_> = self.aliases.iter().collect();
        aliases.sort_unstable();
        for (path, (member, own)) in aliases {
            let _ = writeln!(text, "alias {member} {} {}", path::encode(path), path::encode(own));
        }
        out.write_all(text.as_bytes())
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// When it cannot be read or is no such document.
    pub(crate) fn read(input: &mut dyn BufRead) -> io::Result<Self> {
        let mut generation = Generation::default();
        let (mut lines, mut last) = (input.lines(), None);
        if lines.next().transpose()?.as_deref() != Some(HEAD) {
            return Err(malformed());
        }
        for line in lines {
            generation.take(&line?, &mut last).ok_or_else(malformed)?;
        }
        Ok(generation)
    }

    /// Takes a line; `last` is the path of the last file.
    fn take(&mut self, line: &str, last: &mut Option<Box<str>>) -> Option<()> {
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
                *last = Some(path.clone());
                self.files.insert(path, File { row, body: None, gzip: None, pieces: Vec::new() });
            }
            "piece" => {
                let mut words = rest.split(' ');
                let piece = Piece {
                    plain: words.next()?.parse().ok()?,
                    packed: words.next()?.parse().ok()?,
                    size: words.next()?.parse().ok()?,
                    packed_size: words.next()?.parse().ok()?,
                    crc: words.next()?.parse().ok()?,
                };
                self.files.get_mut(last.as_ref()?)?.pieces.push(piece);
            }
            "member" => self.members.push(rest.into()),
            "listed" => {
                let (member, path) = rest.split_once(' ')?;
                self.listed.push(&decoded(path)?, member.parse().ok()?)?;
            }
            "alias" => {
                let mut words = rest.splitn(3, ' ');
                let member = words.next()?.parse().ok()?;
                let (path, own) = (decoded(words.next()?)?, decoded(words.next()?)?);
                self.aliases.insert(path, (member, own));
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

/// What a generation takes in memory; one that is larger than all the room takes all of it, and is not read for each
/// request.
#[derive(Clone)]
pub(crate) struct ByBytes {
    /// All the room that one may have.
    pub(crate) most: u64,
}

impl Weighter<Digest, std::sync::Arc<Generation>> for ByBytes {
    fn weight(&self, _: &Digest, generation: &std::sync::Arc<Generation>) -> u64 {
        generation.bytes().min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(generation: &Generation) -> String {
        let mut document = Vec::new();
        generation.write(&mut document).unwrap();
        String::from_utf8(document).unwrap()
    }

    fn generation() -> Generation {
        let mut generation = Generation::new(["one".to_owned(), "two".to_owned()]);
        let row = |text: &[u8], gzip| DerivedRow {
            digest: Digest::of(text),
            size: text.len() as u64,
            gzip,
            content_type: "application/json; charset=utf-8".to_owned(),
        };
        let packed = Some((Digest::of(b"packed"), 6));
        let file = |row, pieces| File { row, body: None, gzip: None, pieces };
        let piece = |of: &[u8]| Piece {
            plain: Digest::of(of),
            packed: Digest::of(b"blocks"),
            size: 3,
            packed_size: 6,
            crc: u32::MAX,
        };
        generation.add("index.yaml", file(row(b"index", packed), vec![piece(b"ind"), piece(b"ex")]));
        generation.add("repo data/a+b", file(row(b"other", None), Vec::new()));
        let listed = |path: &str, member| Listed { path: path.to_owned(), member };
        let both = vec![listed("x86_64/a-1.apk", 0), listed("-/m/two/charts/a-1.0.0+b c.tgz", 1)];
        generation.list(both).unwrap();
        generation.name(vec![("a/la test".to_owned(), listed("a/1.0.0+b", 1))]).unwrap();
        generation
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let document = document(&generation());
        let again = Generation::read(&mut document.as_bytes()).unwrap();
        assert_eq!(super::tests::document(&again), document);
        let pieces =
            |path| again.file(path).unwrap().pieces.iter().map(|piece| piece.plain).collect::<Vec<_>>();
        assert_eq!(pieces("index.yaml"), [Digest::of(b"ind"), Digest::of(b"ex")]);
        assert_eq!(pieces("repo data/a+b"), []);
        assert_eq!(again.listed("x86_64/a-1.apk"), Some(("one", "x86_64/a-1.apk".to_owned())));
        let chart = "-/m/two/charts/a-1.0.0+b c.tgz";
        assert_eq!(again.listed(chart), Some(("two", "charts/a-1.0.0+b c.tgz".to_owned())));
        let proof = again.listed(&format!("{chart}.prov"));
        assert_eq!(proof, Some(("two", "charts/a-1.0.0+b c.tgz.prov".to_owned())));
        assert_eq!(again.listed("-/m/one/charts/a-1.0.0+b c.tgz"), None);
        assert_eq!(again.listed("x86_64/b-1.apk"), None);
        assert_eq!(again.named("a/la test"), Some(("two", "a/1.0.0+b".to_owned())));
        assert_eq!((again.named("a/1.0.0+b"), again.listed("a/la test")), (None, None));
        assert!(again.has(&Digest::of(b"packed")) && again.has(&Digest::of(b"other")));
    }

    #[test]
    fn damaged_documents_are_errors() {
        let whole = document(&generation());
        for damage in [
            "",
            "artifactapi generation 2\n",
            &whole.replace("listed 1", "listed x"),
            &whole.replace("listed 0 x86_64", "listed 0 -/m/one"),
            &whole.replace("file ", "fill "),
            &whole.replace("alias 1 a", "alias 1"),
            &whole.replace("alias 1", "alias x"),
            &whole.replace(" 4294967295", ""),
            "artifactapi generation 1\npiece 0",
        ] {
            assert!(Generation::read(&mut damage.as_bytes()).is_err(), "{damage}");
        }
    }
}
