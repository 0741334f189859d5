//! Merging repositories, as createrepo_c's `mergerepo_c --all` does: one package per name, epoch, version, release
//! and architecture, the first member's, in the order of the members.
//!
//! Elements are copied event by event as the members wrote them, checked to be XML that any parser takes; only a
//! package's `location` changes, to the path that names its member. `filelists` and `other` are joined by the
//! packages' checksums. Advisories are united by id, comps by kind and id, module documents by what they describe;
//! what they say about packages that are not advertised stays, since it is about other repositories' content too.
//! SQLite, zchunk and delta metadata are dropped: nobody needs them to install.
//!
//! A member's primary is read twice, to choose and to write; memory holds 16 bytes for each package's identity,
//! path and checksum, and a mark.
//!
//! Everything that is written depends on the members' documents alone: times are the latest of the members', gzip
//! has one form. So file names, which begin with checksums, are the same on every replica.
//!
//! Sources: createrepo_c `src/mergerepo_c.c`, `xml_dump_*.c`; librepo `repomd.c`; libsolv `ext/repo_*.c`.

mod elements;
mod generation;
mod joined;
mod modules;
mod primary;
mod repomd;
#[cfg(test)]
mod tests;
mod united;

use std::io::BufRead;

use artifactapi_model::RepoPath;

use self::{
    generation::{Form, Writing},
    joined::Join,
    repomd::Repomd,
};
use super::paths;
use crate::{
    IndexError, PlanError, Request,
    merge::{Asked, Inputs, Member, Merge, Output, Seen, directory_of, of_member, qualified},
};

/// The merge of `repodata/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpmMerge;

impl Merge for RpmMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        if path.file_name().is_empty() {
            return None;
        }
        let root = directory_of(path.as_str()).or_else(|| paths::root_of(path))?;
        RepoPath::from_canonical(&format!("{root}repodata/repomd.xml")).ok()
    }

    fn asked(&self, path: &RepoPath, _request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        if matches!(paths::classify(path), paths::Kind::Metalink) {
            // Its checksums are those of one member's repomd.xml.
            return Some(Err(PlanError::NotFound(
                "a merged repository has no metalink: use its URL as baseurl",
            )));
        }
        Some(Ok(Asked::of(self.index_of(path)?, path.clone())))
    }

    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        let mut needs = vec![path.as_str().to_owned()];
        if let Some(repomd) = Repomd::of(path, member)? {
            needs.extend(repomd.into_paths());
        }
        Ok(needs)
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let Inputs { index: path, members, rules, signer } = inputs;
        let root = root(path)?;
        let mut parts = Vec::new();
        for (place, member) in members.iter().copied().enumerate() {
            if let Some(repomd) = Repomd::of(path, member).map_err(of_member(member))? {
                parts.push(Part {
                    place,
                    member,
                    repomd,
                    chosen: Vec::new(),
                    packages: 0,
                    checksums: Seen::default(),
                });
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut choice = primary::Choice::new(root, rules);
        for part in &mut parts {
            let listed = choice.choose(part).map_err(of_member(part.member))?;
            output.list_all(part.place, listed)?;
        }
        let mut writing = Writing::new(root, output);
        writing.data("primary", "primary.xml.gz", Form::Gzip, &mut |out| choice.write(&parts, out))?;
        for join in [Join::FILELISTS, Join::OTHER] {
            writing.data(join.kind, join.file, Form::Gzip, &mut |out| join.write(&parts, out))?;
        }
        let has = |kind| parts.iter().any(|part| part.repomd.path(kind).is_some());
        if has(repomd::UPDATEINFO) {
            writing.data("updateinfo", "updateinfo.xml.gz", Form::Gzip, &mut |out| {
                united::UPDATES.write(&parts, out)
            })?;
        }
        if has(repomd::GROUP) {
            // `group` is the plain form; a compressed one would need it beside itself.
            writing.data("group", "comps.xml", Form::Plain, &mut |out| united::COMPS.write(&parts, out))?;
        }
        if has(repomd::MODULES) {
            writing.data("modules", "modules.yaml.gz", Form::Gzip, &mut |out| modules::write(&parts, out))?;
        }
        writing.repomd(path, &parts, signer)
    }
}

/// The repository's root, of which the index at `path` speaks.
fn root(path: &RepoPath) -> Result<&str, IndexError> {
    paths::root_of(path).ok_or_else(|| IndexError::malformed(format!("{path} is no index of a repository")))
}

/// A member's part in the merged repository.
struct Part<'a> {
    place: usize,
    member: &'a dyn Member,
    repomd: Repomd,
    /// Which of its packages are advertised, in the order of its primary.
    chosen: Vec<bool>,
    /// How many those are.
    packages: usize,
    /// Their checksums, which name them in other metadata.
    checksums: Seen,
}

impl Part<'_> {
    /// Opens the member's metadata of `kind`; `None` when its index names none.
    fn open(&self, kind: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        let Some(path) = self.repomd.path(kind) else { return Ok(None) };
        let document = self.member.open(path)?;
        let missing = || IndexError::malformed(format!("repomd.xml names {path}, which is not there"));
        document.ok_or_else(missing).map(Some)
    }

    /// Where the merged index has a package; `reference` is as the member's has it.
    fn location(&self, reference: &str) -> Option<String> {
        qualified("", self.member.name(), reference)
    }
}
