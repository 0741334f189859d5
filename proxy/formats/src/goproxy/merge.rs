//! Merging `@v/list`, where a Virtual unites versions: each is the first member's that lists it.
//!
//! A version stands for its three files, which come from one member together. Pseudo-versions and queries are in no
//! list; no merge knows them.
//!
//! Source: golang.org/ref/mod, "GOPROXY protocol"; cmd/go/internal/modfetch/proxy.go (`versions`).

#[cfg(test)]
mod tests;

use std::io::{BufRead, Read as _};

use artifactapi_model::RepoPath;

use super::escape;
use crate::{
    IndexError,
    merge::{Claims, Entries, Listed, Member, Merge, Output, Rules, Seen, Signer, of_member},
};

/// What ends the path of a list.
const LIST: &str = "/@v/list";
/// Files of a version.
const FILES: [&str; 3] = ["info", "mod", "zip"];
/// Longest line of a list, in bytes.
const MAX_LINE: u64 = 4096;

/// The merge of `@v/list`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoproxyMerge;

impl Merge for GoproxyMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
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

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        path.as_str().strip_suffix(LIST)
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
        let no_list = || IndexError::Malformed(format!("{path} is no list of versions"));
        let module = path.as_str().strip_suffix(LIST).ok_or_else(no_list)?;
        let (mut claims, mut entries, mut seen) = (Claims::default(), Entries::default(), Seen::default());
        let (mut list, mut is_there) = (String::new(), false);
        for (place, member) in members.iter().copied().enumerate() {
            let Some(mut document) = member.open(path.as_str()).map_err(of_member(member))? else { continue };
            let mut listed = Vec::new();
            // An empty list says that there is a module, with untagged versions only.
            is_there |= rules.owner(module).is_none_or(|owner| owner == place);
            versions(&mut *document, &mut |version| {
                entries.count()?;
                let of = |kind: &&str| format!("{module}/@v/{}.{kind}", escape::escape(version));
                let files: Vec<_> = FILES.iter().map(of).collect();
                let is_chosen = files.iter().all(|file| member.permits(file))
                    && claims.admit(rules, place, module)
                    && seen.first(&[version]);
                if is_chosen {
                    list.push_str(version);
                    list.push('\n');
                    listed.extend(files);
                }
                Ok(())
            })
            .map_err(of_member(member))?;
            for path in listed {
                output.list(Listed { path, member: place })?;
            }
        }
        if is_there {
            output.file(&mut |out| Ok(out.write_all(list.as_bytes())?))?;
            output.publish(path.as_str().to_owned(), "text/plain; charset=utf-8");
        }
        Ok(())
    }
}

/// Hands the versions of a list to `visit`: the first word of each line; what follows it, and pseudo-versions, the
/// go command passes over.
fn versions(
    input: &mut dyn BufRead,
    visit: &mut dyn FnMut(&str) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut *input).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_LINE {
            return Err(IndexError::TooLarge("line of a list of versions"));
        }
        let text = str::from_utf8(&line).map_err(|_| IndexError::Malformed("it is not UTF-8".to_owned()))?;
        let Some(version) = text.split_ascii_whitespace().next() else { continue };
        if !escape::is_canonical(version) {
            return Err(IndexError::Malformed("it has a line that is no version".to_owned()));
        }
        if !is_pseudo(version) {
            visit(version)?;
        }
    }
}

/// Whether a canonical version names a commit: it ends with a time and a hash (golang.org/x/mod/module,
/// `IsPseudoVersion`).
fn is_pseudo(version: &str) -> bool {
    let version = version.strip_suffix("+incompatible").unwrap_or(version);
    let Some((rest, hash)) = version.rsplit_once('-') else { return false };
    let time = rest.rsplit(['-', '.']).next().unwrap_or_default();
    hash.len() == 12
        && hash.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && time.len() == 14
        && time.bytes().all(|byte| byte.is_ascii_digit())
}
