//! Merging packuments, where a Virtual unites versions: each is the first member's that has it.
//!
//! A member's document comes with tarball URLs below the Virtual's own base, in the one shape that we serve them;
//! those are listed. A URL elsewhere stays, and is the client's to follow. Everything that is about the package as
//! a whole, tags included, is the first member's that has a version of it; a tag whose version is not there is left
//! out, since npm fails on it. `_rev` speaks of one registry's database and is dropped.
//!
//! The merge does not mind which form the documents have, full or abbreviated, as long as all have the same.
//!
//! Source: npm/registry:docs/responses/package-metadata.md; npm-pick-manifest.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, Write},
};

use artifactapi_model::RepoPath;
use serde::Deserialize;

use super::{
    FULL_TYPE,
    name::{self, Place},
};
use crate::{
    IndexError,
    json::{Reader, quoted},
    limits::MAX_PART,
    merge::{Claims, Entries, Listed, Member, Merge, Outlet, Output, Rules, Signer, of_member},
};

/// Largest document of a version, and largest field about the whole package, in bytes.
const MAX_VALUE: usize = MAX_PART as usize;
/// Largest sum of those fields, in bytes.
const MAX_FIELDS: usize = 16 << 20;

/// The merge of a packument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NpmMerge;

impl Merge for NpmMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        match name::place(path.as_str()).ok()? {
            Place::Packument => Some(path.clone()),
            Place::Tarball { name } => RepoPath::from_canonical(name).ok(),
            Place::Version | Place::Api(_) | Place::Unknown => None,
        }
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        Some(path.as_str())
    }

    fn needs(&self, path: &RepoPath, _member: &dyn Member) -> Result<Vec<String>, IndexError> {
        Ok(vec![path.as_str().to_owned()])
    }

    fn merge(
        &self,
        path: &RepoPath,
        members: &[&dyn Member],
        rules: &dyn Rules,
        _signer: &dyn Signer,
        output: &mut dyn Output,
    ) -> Result<(), IndexError> {
        let mut merging = Merging::new(path.as_str(), rules);
        let mut parts = Vec::new();
        for (place, member) in members.iter().copied().enumerate() {
            let Some(mut document) = member.open(path.as_str()).map_err(of_member(member))? else { continue };
            let (chosen, listed) =
                merging.choose(place, member, &mut *document).map_err(of_member(member))?;
            for path in listed {
                output.list(Listed { path, member: place })?;
            }
            parts.push((member, chosen));
        }
        if merging.versions.is_empty() {
            return Ok(());
        }
        output.file(&mut |out| merging.write(&parts, out))?;
        output.publish(path.as_str().to_owned(), FULL_TYPE);
        Ok(())
    }
}

/// What is about the package as a whole.
#[derive(Default)]
struct Whole {
    /// Fields, as they are written.
    fields: Vec<(String, Vec<u8>)>,
    size: usize,
    tags: BTreeMap<String, String>,
    times: BTreeMap<String, String>,
    modified: Option<String>,
}

struct Merging<'a> {
    name: &'a str,
    rules: &'a dyn Rules,
    claims: Claims,
    entries: Entries,
    versions: HashSet<Box<str>>,
    whole: Option<Whole>,
    times: BTreeMap<String, String>,
    modified: Option<String>,
}

impl<'a> Merging<'a> {
    fn new(name: &'a str, rules: &'a dyn Rules) -> Self {
        Merging {
            name,
            rules,
            claims: Claims::default(),
            entries: Entries::default(),
            versions: HashSet::new(),
            whole: None,
            times: BTreeMap::new(),
            modified: None,
        }
    }

    /// Which versions of the member at `place` are taken, and the Virtual's paths of their tarballs.
    fn choose(
        &mut self,
        place: usize,
        member: &dyn Member,
        document: &mut dyn BufRead,
    ) -> Result<(Vec<bool>, Vec<String>), IndexError> {
        let (mut chosen, mut listed, mut own) = (Vec::new(), Vec::new(), HashSet::new());
        let whole = read(document, &mut |version, json| {
            self.entries.count()?;
            let tarball = tarball(json)?;
            let path = RepoPath::from_canonical(&name::tarball_path(self.name, version)).ok();
            let is_ours = |path: &RepoPath| {
                tarball.as_deref().is_some_and(|url| url.ends_with(&format!("/{}", path.encode())))
            };
            let ours = path.filter(|_| !version.contains('/')).filter(is_ours);
            let is_chosen = tarball.is_some()
                && ours.as_ref().is_none_or(|path| member.permits(path.as_str()))
                && self.claims.admit(self.rules, place, self.name)
                && self.versions.insert(version.into());
            chosen.push(is_chosen);
            if is_chosen {
                own.insert(version.to_owned());
                listed.extend(ours.map(|path| path.as_str().to_owned()));
            }
            Ok(())
        })?;
        if !own.is_empty() {
            self.add(whole, &own);
        }
        Ok((chosen, listed))
    }

    /// Takes what a member says besides its versions, of which `own` were taken.
    fn add(&mut self, mut whole: Whole, own: &HashSet<String>) {
        for (key, time) in std::mem::take(&mut whole.times) {
            match key.as_str() {
                "created" => earlier(self.times.entry(key).or_insert_with(|| time.clone()), &time),
                "modified" => later(self.times.entry(key).or_insert_with(|| time.clone()), &time),
                version if own.contains(version) => drop(self.times.insert(key, time)),
                _ => {}
            }
        }
        if let Some(time) = whole.modified.take() {
            later(self.modified.get_or_insert_with(|| time.clone()), &time);
        }
        self.whole.get_or_insert(whole);
    }

    fn write(&self, parts: &[(&dyn Member, Vec<bool>)], out: &mut dyn Write) -> Result<(), IndexError> {
        let mut out = io::BufWriter::with_capacity(64 << 10, out);
        out.write_all(b"{")?;
        if let Some(whole) = &self.whole {
            for (key, value) in &whole.fields {
                write!(out, "{}:", quoted(key))?;
                out.write_all(value)?;
                out.write_all(b",")?;
            }
            let tags = whole.tags.iter().filter(|(_, version)| self.versions.contains(version.as_str()));
            texts(&mut out, "dist-tags", tags)?;
        }
        if let Some(time) = &self.modified {
            write!(out, "\"modified\":{},", quoted(time))?;
        }
        if !self.times.is_empty() {
            texts(&mut out, "time", self.times.iter())?;
        }
        out.write_all(b"\"versions\":{")?;
        let mut comma = "";
        for (member, chosen) in parts {
            let mut outlet = Outlet::new(&mut out);
            let copied = self.copy(*member, chosen, &mut comma, &mut outlet);
            outlet.copied(*member, copied)?;
        }
        out.write_all(b"}}")?;
        Ok(out.flush()?)
    }

    fn copy(
        &self,
        member: &dyn Member,
        chosen: &[bool],
        comma: &mut &'static str,
        out: &mut dyn Write,
    ) -> Result<(), IndexError> {
        let changed = || malformed("it changed while it was read");
        let mut document = member.open(self.name)?.ok_or_else(changed)?;
        let mut chosen = chosen.iter();
        read(&mut *document, &mut |version, json| {
            if *chosen.next().ok_or_else(changed)? {
                write!(out, "{comma}{}:", quoted(version))?;
                out.write_all(json)?;
                *comma = ",";
            }
            Ok(())
        })?;
        if chosen.next().is_some() { Err(changed()) } else { Ok(()) }
    }
}

fn earlier(known: &mut String, time: &str) {
    if time < known.as_str() {
        time.clone_into(known);
    }
}

fn later(known: &mut String, time: &str) {
    if time > known.as_str() {
        time.clone_into(known);
    }
}

/// Writes a mapping of texts, and a comma.
fn texts<'t>(
    out: &mut dyn Write,
    key: &str,
    texts: impl Iterator<Item = (&'t String, &'t String)>,
) -> Result<(), IndexError> {
    write!(out, "{}:{{", quoted(key))?;
    for (place, (name, text)) in texts.enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(out, "{comma}{}:{}", quoted(name), quoted(text))?;
    }
    Ok(out.write_all(b"},")?)
}

/// Receives a version and its document.
type Visit<'v> = dyn FnMut(&str, &[u8]) -> Result<(), IndexError> + 'v;

/// Reads a packument: hands its versions to `visit` and returns the rest.
fn read(document: &mut dyn BufRead, visit: &mut Visit<'_>) -> Result<Whole, IndexError> {
    let mut reader = Reader::new(document)?;
    let (mut whole, mut has_versions, mut keys) = (Whole::default(), false, HashSet::new());
    reader.object(&mut io::sink(), |reader, out, key| {
        if !keys.insert(key.to_owned()) {
            return Err(IndexError::Malformed(format!("it has {key:?} twice")));
        }
        match key {
            "versions" => {
                has_versions = true;
                reader.object(out, |reader, _, version| visit(version, &reader.raw(MAX_VALUE)?))
            }
            "dist-tags" => {
                let tags: BTreeMap<String, Option<String>> = reader.parse(MAX_VALUE)?;
                whole.tags = tags.into_iter().filter_map(|(tag, version)| Some((tag, version?))).collect();
                Ok(())
            }
            "time" => reader.object(out, |reader, out, key| {
                // `unpublished` is an object.
                if reader.peek(out)? != b'"' {
                    return reader.value(out);
                }
                let time = reader.parse(MAX_VALUE)?;
                whole.times.insert(key.to_owned(), time);
                Ok(())
            }),
            "modified" if reader.peek(out)? == b'"' => {
                whole.modified = Some(reader.parse(MAX_VALUE)?);
                Ok(())
            }
            "_rev" | "_attachments" | "modified" => reader.value(out),
            _ => {
                let value = reader.raw(MAX_VALUE)?;
                whole.size += key.len() + value.len();
                if whole.size > MAX_FIELDS {
                    return Err(IndexError::TooLarge("size of what is about a whole package"));
                }
                let is_json = str::from_utf8(&value).is_ok()
                    && serde_json::from_slice::<serde::de::IgnoredAny>(&value).is_ok();
                if !is_json {
                    return Err(IndexError::Malformed(format!("{key:?} is no JSON")));
                }
                whole.fields.push((key.to_owned(), value));
                Ok(())
            }
        }
    })?;
    reader.end(&mut io::sink())?;
    // A package that was taken back has none.
    let was_unpublished = !has_versions && keys.contains("time");
    if has_versions || was_unpublished { Ok(whole) } else { Err(malformed("it has no \"versions\"")) }
}

/// The tarball's URL in the document of a version, which must be one.
fn tarball(json: &[u8]) -> Result<Option<String>, IndexError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Version {
        dist: Option<Dist>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Dist {
        tarball: Option<String>,
    }
    let text = str::from_utf8(json).map_err(|_| malformed("a version is not UTF-8"))?;
    if !text.starts_with('{') {
        return Err(malformed("a version is no object"));
    }
    let version: Version =
        serde_json::from_str(text).map_err(|error| IndexError::Malformed(format!("a version: {error}")))?;
    Ok(version.dist.and_then(|dist| dist.tarball))
}

fn malformed(what: &str) -> IndexError {
    IndexError::Malformed(what.to_owned())
}
