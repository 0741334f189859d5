//! Merging `@v/list`, where a Virtual unites versions: each is the first member's that lists it.
//!
//! A version stands for its three files, which come from one member together, and of which policy hides all or none.
//! Pseudo-versions are in no list, and their files are no merge's business. What answers a question with a version
//! (`@latest`, `master.info`) does so only with one that can be had: see [`answers`].
//!
//! Source: golang.org/ref/mod, "GOPROXY protocol"; cmd/go/internal/modfetch/proxy.go (`versions`).

mod answers;
mod read;
#[cfg(test)]
mod tests;

use artifactapi_model::RepoPath;

use self::{
    answers::Question,
    read::{is_pseudo, versions},
};

use super::escape;
use crate::{
    IndexError, PlanError, Request,
    merge::{Asked, Claims, Inputs, Member, Merge, Output, Seen, entries_of_all},
};

/// What ends the path of a list.
const LIST: &str = "/@v/list";
/// Files of a version.
const FILES: [&str; 3] = ["info", "mod", "zip"];

/// The merge of `@v/list`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoproxyMerge;

impl Merge for GoproxyMerge {
    fn version(&self) -> u32 {
        2
    }

    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        if Question::of(path.as_str()).is_some() {
            return Some(path.clone());
        }
        let (module, file) = path.as_str().rsplit_once("/@v/")?;
        if !escape::is_module(module) {
            return None;
        }
        if file == "list" {
            return Some(path.clone());
        }
        let (version, kind) = file.rsplit_once('.')?;
        let is_listed = FILES.contains(&kind) && escape::is_canonical(version) && !is_pseudo(version);
        is_listed.then(|| RepoPath::from_canonical(&format!("{module}{LIST}")).ok())?
    }

    fn asked(&self, path: &RepoPath, _request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        if let Some(index) = self.index_of(path) {
            return Some(Ok(Asked::of(index, path.clone())));
        }
        // Of a branch the go command only asks which version it is: its files would be those of one that may be hidden.
        let (_, file) = path.as_str().rsplit_once("/@v/")?;
        let is_version = file.rsplit_once('.').is_some_and(|(it, _)| escape::is_canonical(it));
        (!is_version).then_some(Err(PlanError::NotFound("only a version has files")))
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        let text = path.as_str();
        text.strip_suffix(LIST).or_else(|| Question::of(text).map(|question| question.module))
    }

    fn together(&self, path: &RepoPath) -> Vec<String> {
        let Some((module, file)) = path.as_str().rsplit_once("/@v/") else { return Vec::new() };
        let Some((version, kind)) = file.rsplit_once('.') else { return Vec::new() };
        let is_version = escape::is_module(module) && FILES.contains(&kind) && escape::is_canonical(version);
        if is_version { files(module, version).into() } else { Vec::new() }
    }

    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        match Question::of(path.as_str()) {
            Some(question) => question.needs(member),
            None => Ok(vec![path.as_str().to_owned()]),
        }
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        if let Some(question) = Question::of(path.as_str()) {
            return question.merge(inputs, output);
        }
        let no_list = || IndexError::malformed(format!("{path} is no list of versions"));
        let module = path.as_str().strip_suffix(LIST).ok_or_else(no_list)?;
        let (mut claims, mut entries, mut seen) =
            (Claims::new(inputs.rules), entries_of_all(), Seen::default());
        let (mut list, mut is_there) = (String::new(), false);
        inputs.choose_from(path.as_str(), output, |place, member, document| {
            let mut listed = Vec::new();
            // An empty list says that there is a module, with untagged versions only.
            is_there |= claims.may_have(place, module);
            versions(document, &mut |version| {
                entries.take(1)?;
                let files = files(module, &escape::escape(version));
                let is_chosen = files.iter().all(|file| member.permits(file))
                    && claims.admit(place, module)
                    && seen.first(&[version]);
                if is_chosen {
                    list.push_str(version);
                    list.push('\n');
                    listed.extend(files);
                }
                Ok(())
            })?;
            Ok(listed)
        })?;
        if !is_there {
            return Ok(());
        }
        output.put(path.as_str(), "text/plain; charset=utf-8", &mut |out| Ok(out.write_all(list.as_bytes())?))
    }
}

/// Canonical paths of the files of a version, which is escaped.
fn files(module: &str, version: &str) -> [String; 3] {
    FILES.map(|kind| format!("{module}/@v/{version}.{kind}"))
}
