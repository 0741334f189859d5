//! Merging packuments, where a Virtual unites versions: each is the first member's that has it.
//!
//! A member's document comes with tarball URLs below the Virtual's own base, in the one shape that we serve them;
//! those are listed. A URL elsewhere stays, and is the client's to follow. Everything that is about the package as
//! a whole, tags included, is the first member's that has a version of it; a tag whose version is not there is left
//! out, since npm fails on it. `_rev` speaks of one registry's database and is dropped.
//!
//! With the packument go the documents that speak of its versions one by one: the tags, which are the same as in it; a
//! version's own document, and what attests it, from the member that has the version; and under a tag's name the
//! document of the version that it names here. So none of them names what the packument hides.
//!
//! The merge does not mind which form the documents have, full or abbreviated, as long as all have the same.
//!
//! Source: npm/registry:docs/responses/package-metadata.md; npm-pick-manifest.

mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, BufRead, Write},
};

use artifactapi_model::RepoPath;

use self::read::{Whole, read, tarball};
use super::{
    FULL_TYPE,
    name::{self, PackageDocument, Place},
};
use crate::{
    IndexError, PlanError, Request,
    json::{Commas, Object, quoted},
    limits::Allowance,
    merge::{Asked, Claims, Inputs, Listed, Marks, Member, Merge, Output, Rules, copy_from, entries_of_all},
};

/// Most tags with documents of their own.
const MAX_TAGS: usize = 10_000;

/// The merge of a packument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NpmMerge;

impl Merge for NpmMerge {
    fn version(&self) -> u32 {
        2
    }

    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        let package = match name::place(path.as_str()).ok()? {
            Place::Packument => path.as_str(),
            Place::Tarball { name } => name,
            Place::Version => name::package_of(path.as_str()),
            Place::Api(_) => name::named(path.as_str())?.package(),
            Place::Unknown => return None,
        };
        RepoPath::from_canonical(package).ok()
    }

    fn asked(&self, path: &RepoPath, _request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        let text = path.as_str();
        let Some(index) = self.index_of(path) else {
            // It may be another spelling of a document that is hidden.
            let is_unknown = match name::place(text).ok()? {
                Place::Api(_) => name::is_of_package(text),
                place => place == Place::Unknown,
            };
            return is_unknown.then_some(Err(PlanError::NotFound("no member's packument lists it")));
        };
        let of_version = match name::place(text).ok()? {
            Place::Version => text.strip_prefix(index.as_str()).and_then(|rest| rest.strip_prefix('/')),
            _ => None,
        };
        let (version, is_tags) = match name::named(text) {
            Some(PackageDocument::Tags(_)) => (None, true),
            Some(PackageDocument::Attestations { version, .. }) => (Some(version), false),
            None => (of_version, false),
        };
        let beside = version.map(|version| name::tarball_path(index.as_str(), version));
        let asked = Asked::of(index, path.clone());
        // Earlier tags may name other versions.
        Some(Ok(Asked { beside, is_index: asked.is_index || is_tags, ..asked }))
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        Some(path.as_str())
    }

    fn needs(&self, path: &RepoPath, _member: &dyn Member) -> Result<Vec<String>, IndexError> {
        Ok(vec![path.as_str().to_owned()])
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        let mut merging = Merging::new(path.as_str(), inputs.rules);
        let mut parts = Vec::new();
        inputs.choose_from(path.as_str(), output, |place, member, document| {
            let (chosen, listed) = merging.choose(place, member, document)?;
            parts.push((member, chosen));
            Ok(listed)
        })?;
        let Some(tags) = merging.tags() else { return Ok(()) };
        output.put(path.as_str(), FULL_TYPE, &mut |out| merging.write(&parts, &tags, out))?;
        merging.speak_of(&tags, inputs.members, output)
    }
}

/// Tags with the versions that they name, of the member at a place.
struct Tags<'a> {
    member: usize,
    versions: Vec<(&'a String, &'a String)>,
}

struct Merging<'a> {
    name: &'a str,
    claims: Claims<'a>,
    entries: Allowance,
    /// With the places of the members whose they are.
    versions: HashMap<Box<str>, usize>,
    /// What the member at this place says.
    whole: Option<(usize, Whole)>,
    times: BTreeMap<String, String>,
    modified: Option<String>,
}

impl<'a> Merging<'a> {
    fn new(name: &'a str, rules: &'a dyn Rules) -> Self {
        Merging {
            name,
            claims: Claims::new(rules),
            entries: entries_of_all(),
            versions: HashMap::new(),
            whole: None,
            times: BTreeMap::new(),
            modified: None,
        }
    }

    /// Which versions of the member at `place` are taken, and the Virtual's paths that are the member's own for them:
    /// those of their tarballs, and where clients fetch a tarball elsewhere that of the version's document.
    fn choose(
        &mut self,
        place: usize,
        member: &dyn Member,
        document: &mut dyn BufRead,
    ) -> Result<(Vec<bool>, Vec<String>), IndexError> {
        let (mut chosen, mut listed, mut own) = (Vec::new(), Vec::new(), HashSet::new());
        let whole = read(document, &mut |version, json| {
            self.entries.take(1)?;
            let tarball = tarball(json)?;
            let path = RepoPath::from_canonical(&name::tarball_path(self.name, version)).ok();
            let is_ours = |path: &RepoPath| {
                tarball.as_deref().is_some_and(|url| url.ends_with(&format!("/{}", path.encode())))
            };
            let is_path = !version.contains('/');
            let ours = path.filter(|_| is_path).filter(is_ours);
            let is_chosen = tarball.is_some()
                && ours.as_ref().is_none_or(|path| member.permits(path.as_str()))
                && self.claims.admit(place, self.name)
                && !self.versions.contains_key(version);
            chosen.push(is_chosen);
            if is_chosen {
                self.versions.insert(version.into(), place);
                own.insert(version.to_owned());
                let document = || version_path(self.name, version).filter(|_| is_path);
                listed.extend(ours.or_else(document).map(|path| path.as_str().to_owned()));
            }
            Ok(())
        })?;
        if !own.is_empty() {
            self.add(place, whole, &own);
        }
        Ok((chosen, listed))
    }

    /// Takes what the member at `place` says besides its versions, of which `own` were taken.
    fn add(&mut self, place: usize, mut whole: Whole, own: &HashSet<String>) {
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
        self.whole.get_or_insert((place, whole));
    }

    /// The tags whose versions are there; `None` when no version is.
    fn tags(&self) -> Option<Tags<'_>> {
        let (member, whole) = self.whole.as_ref()?;
        let is_there = |(_, version): &(&String, &String)| self.versions.contains_key(version.as_str());
        Some(Tags { member: *member, versions: whole.tags.iter().filter(is_there).collect() })
    }

    /// Writes the document of the tags, and names the documents of the versions after them. What the member that has
    /// them does not serve under its own name is not there; nor is the document of a tag that could be a version, which
    /// npm does not set.
    fn speak_of(
        &self,
        tags: &Tags<'_>,
        members: &[&dyn Member],
        output: &mut dyn Output,
    ) -> Result<(), IndexError> {
        let path = name::tags_path(self.name);
        if members[tags.member].permits(&path) {
            output.put(path, FULL_TYPE, &mut |out| Ok(texts(out, tags.versions.iter().copied())?))?;
        }
        let is_tag = |tag: &str| !tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
        for (tag, version) in tags.versions.iter().filter(|(tag, _)| is_tag(tag)).take(MAX_TAGS) {
            let Some(&member) = self.versions.get(version.as_str()) else { continue };
            let is_path = |text: &str| !text.contains('/');
            let (Some(path), Some(named)) = (version_path(self.name, tag), version_path(self.name, version))
            else {
                continue;
            };
            if is_path(tag) && is_path(version) && members[member].permits(path.as_str()) {
                let named = Listed { path: named.as_str().to_owned(), member };
                output.alias(path.as_str().to_owned(), named)?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        parts: &[(&dyn Member, Vec<bool>)],
        tags: &Tags<'_>,
        out: &mut dyn Write,
    ) -> Result<(), IndexError> {
        let mut out = io::BufWriter::with_capacity(64 << 10, out);
        let mut packument = Object::begin(&mut out)?;
        if let Some((_, whole)) = &self.whole {
            whole.fields.write(&mut packument)?;
            texts(packument.key("dist-tags")?, tags.versions.iter().copied())?;
        }
        if let Some(time) = &self.modified {
            packument.text("modified", time)?;
        }
        if !self.times.is_empty() {
            texts(packument.key("time")?, self.times.iter())?;
        }
        let versions = packument.key("versions")?;
        let mut commas = Commas::default();
        versions.write_all(b"{")?;
        for (member, chosen) in parts {
            copy_from(*member, versions, |out| self.copy(*member, chosen, &mut commas, out))?;
        }
        versions.write_all(b"}")?;
        packument.end()?;
        Ok(out.flush()?)
    }

    fn copy(
        &self,
        member: &dyn Member,
        chosen: &[bool],
        commas: &mut Commas,
        out: &mut dyn Write,
    ) -> Result<(), IndexError> {
        let mut document = member.open_again(self.name)?;
        let mut chosen = Marks::of(chosen);
        read(&mut *document, &mut |version, json| {
            if *chosen.next()? {
                write!(out, "{}{}:", commas.next(), quoted(version))?;
                out.write_all(json)?;
            }
            Ok(())
        })?;
        chosen.end()
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

/// The canonical path of the document of `version`, or of the one that the tag names.
fn version_path(name: &str, version: &str) -> Option<RepoPath> {
    RepoPath::from_canonical(&format!("{name}/{version}")).ok()
}

/// Writes a mapping of texts.
fn texts<'t>(
    out: &mut dyn Write,
    mut texts: impl Iterator<Item = (&'t String, &'t String)>,
) -> io::Result<()> {
    let mut mapping = Object::begin(out)?;
    texts.try_for_each(|(name, text)| mapping.text(name, text))?;
    mapping.end()
}
