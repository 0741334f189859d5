//! What a member's `repomd.xml` names.

use std::collections::BTreeMap;

use artifactapi_model::RepoPath;
use quick_xml::events::Event;

use super::{
    super::xml::attribute,
    elements::{gather, walk},
    root,
};
use crate::{IndexError, merge::Member, reference::below};

pub(super) const PRIMARY: &str = "primary";
pub(super) const UPDATEINFO: &str = "updateinfo";
pub(super) const GROUP: &str = "group";
pub(super) const MODULES: &str = "modules";

/// Kinds of data, as the member and as the merge calls them; of one kind the first is taken.
const KINDS: [(&str, &str); 9] = [
    ("primary", PRIMARY),
    ("filelists", "filelists"),
    ("other", "other"),
    ("updateinfo", UPDATEINFO),
    ("group", GROUP),
    ("group_gz", GROUP),
    ("group_xz", GROUP),
    ("group_zst", GROUP),
    ("modules", MODULES),
];
/// Longest number, or kind of data.
const MAX_TEXT: usize = 256;

/// A member's index.
#[derive(Debug)]
pub(super) struct Repomd {
    /// The latest of its times and, where it is a number, its revision.
    pub(super) latest: u64,
    /// Its kind of data → canonical path.
    files: BTreeMap<&'static str, String>,
}

impl Repomd {
    /// Reads the index at `path` of `member`; `None` when it has none.
    ///
    /// # Errors
    /// [`IndexError`] for one that is broken or names no packages.
    pub(super) fn of(path: &RepoPath, member: &dyn Member) -> Result<Option<Self>, IndexError> {
        let Some(mut document) = member.open(path.as_str())? else { return Ok(None) };
        let root = root(path)?;
        let mut repomd = Repomd { latest: 0, files: BTreeMap::new() };
        let (mut kind, mut text) = (None, String::new());
        walk(&mut *document, "repomd", &mut |level, event| {
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    text.clear();
                    if level == 1 {
                        let name =
                            if tag.local_name().as_ref() == "data" { attribute(tag, "type")? } else { None };
                        kind = name.and_then(|name| KINDS.iter().find(|(known, _)| *known == name));
                    }
                    if let (2, "location", Some((kind, _))) = (level, tag.local_name().as_ref(), kind) {
                        // Wherever upstream has it: the member serves it under this name.
                        let href = attribute(tag, "href")?.unwrap_or_default();
                        let file = below(root, &href).ok_or_else(|| {
                            IndexError::malformed(format!(
                                "repomd.xml has its {kind} outside of the repository"
                            ))
                        })?;
                        if repomd.files.insert(kind, file.path.as_str().to_owned()).is_some() {
                            return Err(IndexError::malformed(format!("repomd.xml names its {kind} twice")));
                        }
                    }
                }
                Event::End(tag) => {
                    if matches!((level, tag.local_name().as_ref()), (1, "revision") | (2, "timestamp")) {
                        // Some have fractions, and some revisions are words.
                        let whole = text.trim().split('.').next().and_then(|number| number.parse().ok());
                        repomd.latest = repomd.latest.max(whole.unwrap_or(0));
                    }
                    text.clear();
                }
                event => gather(&mut text, event, MAX_TEXT)?,
            }
            Ok(())
        })?;
        if repomd.path(PRIMARY).is_none() {
            return Err(IndexError::malformed("repomd.xml names no primary metadata"));
        }
        Ok(Some(repomd))
    }

    /// Where the metadata of `kind` is, as the merge calls it.
    pub(super) fn path(&self, kind: &str) -> Option<&str> {
        let mut names = KINDS.iter().filter(|(_, ours)| *ours == kind);
        names.find_map(|(name, _)| self.files.get(name)).map(String::as_str)
    }

    /// All that a merge reads.
    pub(super) fn into_paths(self) -> Vec<String> {
        let kinds = [PRIMARY, "filelists", "other", UPDATEINFO, GROUP, MODULES];
        kinds.iter().filter_map(|kind| self.path(kind)).map(str::to_owned).collect()
    }
}
