//! Documents that answer with a version: `@latest`, and `.info` of what is none itself (a branch, a commit, `v1`).
//!
//! A member's answer counts when the version can be had: policy shows its files, and the merged list has it. What is in
//! no list (a pseudo-version, or a version younger than the list) can be had from the owner of the module's name, the
//! first member that has a list; there a version without a commit's name only where names belong whole to one member.
//!
//! Of `@latest` the highest answer wins, a release before previews and those before commits, as the go command itself
//! chooses from a list. A member whose own answer does not count answers with the highest version of its list that can
//! be had.
//!
//! Source: golang.org/ref/mod, "GOPROXY protocol" and "Version queries".

use std::collections::HashSet;

use super::{
    LIST, files,
    read::{info, is_pseudo, versions},
};
use crate::{
    IndexError,
    goproxy::escape,
    limits::Allowance,
    merge::{Claims, Inputs, Member, Order, Output, entries_of_all, of_member},
};

const LATEST: &str = "/@latest";

/// A question that a version answers.
pub(super) struct Question<'p> {
    /// Its path.
    path: &'p str,
    /// The module, escaped.
    pub(super) module: &'p str,
    /// Whether it is for the newest one.
    is_latest: bool,
}

/// How well a version answers `@latest`.
type Rank = (bool, bool, Order);

/// What a member answers.
struct Answer {
    version: String,
    json: Vec<u8>,
}

impl<'p> Question<'p> {
    /// The one that canonical `path` asks.
    pub(super) fn of(path: &'p str) -> Option<Self> {
        if let Some(module) = path.strip_suffix(LATEST) {
            return escape::is_module(module).then_some(Question { path, module, is_latest: true });
        }
        let (module, file) = path.rsplit_once("/@v/")?;
        let query = file.strip_suffix(".info")?;
        let is_query = escape::is_version(query) && !escape::is_canonical(query);
        (is_query && escape::is_module(module)).then_some(Question { path, module, is_latest: false })
    }

    /// The documents of `member`: its list and its answer, and where the answer does not count what it says of another
    /// version. A member that may not be asked has no answer.
    pub(super) fn needs(&self, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        let mut needs = vec![self.list()];
        if !member.permits(self.path) {
            return Ok(needs);
        }
        needs.push(self.path.to_owned());
        let Some(listed) = self.listed(member, &mut entries_of_all())? else { return Ok(needs) };
        let answer = self.answer(member)?;
        let counts =
            |answer: &Answer| listed.contains(&answer.version) && self.is_shown(member, &answer.version);
        if self.is_latest && !answer.is_some_and(|answer| counts(&answer)) {
            needs.extend(self.highest(member, &listed).map(|version| self.info_of(version)));
        }
        Ok(needs)
    }

    /// Writes the answer of the members, when there is one.
    pub(super) fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let Inputs { members, rules, .. } = inputs;
        let (mut claims, mut entries, mut has_owner) = (Claims::new(rules), entries_of_all(), false);
        let mut best: Option<(Rank, Vec<u8>)> = None;
        for (place, member) in members.iter().copied().enumerate() {
            if !rules.may_have(place, self.module) {
                continue;
            }
            let Some(listed) = self.listed(member, &mut entries).map_err(of_member(member))? else {
                continue;
            };
            let is_owner = !std::mem::replace(&mut has_owner, true);
            if !member.permits(self.path) {
                continue;
            }
            let can_be_had = |version: &str| {
                listed.contains(version) || (is_owner && (rules.names_first() || is_pseudo(version)))
            };
            let answer = self.answer(member).map_err(of_member(member))?;
            let counts = |it: &Answer| can_be_had(&it.version) && self.is_shown(member, &it.version);
            let answer = match answer.filter(counts) {
                None if self.is_latest => self.fallback(member, &listed).map_err(of_member(member))?,
                answer => answer,
            };
            let Some(Answer { version, json }) = answer else { continue };
            if !claims.admit(place, self.module) {
                continue;
            }
            let rank = rank(&version);
            let is_better = best.as_ref().is_none_or(|(best, _)| self.is_latest && rank > *best);
            if is_better {
                best = Some((rank, json));
            }
        }
        let Some((_, json)) = best else { return Ok(()) };
        output.put(self.path, "application/json", &mut |out| Ok(out.write_all(&json)?))
    }

    fn list(&self) -> String {
        format!("{}{LIST}", self.module)
    }

    fn info_of(&self, version: &str) -> String {
        format!("{}/@v/{}.info", self.module, escape::escape(version))
    }

    /// Whether `member` lets clients have all files of `version`.
    fn is_shown(&self, member: &dyn Member, version: &str) -> bool {
        files(self.module, &escape::escape(version)).iter().all(|file| member.permits(file))
    }

    /// The versions in the list of `member`; `None` when it has none, and so not the module.
    fn listed(
        &self,
        member: &dyn Member,
        entries: &mut Allowance,
    ) -> Result<Option<HashSet<String>>, IndexError> {
        let Some(mut document) = member.open(&self.list())? else { return Ok(None) };
        let mut listed = HashSet::new();
        versions(&mut *document, &mut |version| {
            entries.take(1)?;
            listed.insert(version.to_owned());
            Ok(())
        })?;
        Ok(Some(listed))
    }

    /// What `member` itself answers.
    fn answer(&self, member: &dyn Member) -> Result<Option<Answer>, IndexError> {
        self.read(member, self.path)
    }

    /// What it answers where that does not count: a member that does not say what the version is has no answer, and
    /// clients choose from its list.
    fn fallback(&self, member: &dyn Member, listed: &HashSet<String>) -> Result<Option<Answer>, IndexError> {
        match self.highest(member, listed) {
            // What it says of another version was not asked for, and nobody has looked whether that one can be had.
            Some(version) => {
                let said = self.read(member, &self.info_of(version))?;
                Ok(said.filter(|answer| answer.version == *version))
            }
            None => Ok(None),
        }
    }

    fn read(&self, member: &dyn Member, path: &str) -> Result<Option<Answer>, IndexError> {
        let Some(mut document) = member.open(path)? else { return Ok(None) };
        let (version, json) = info(&mut *document)?;
        Ok(Some(Answer { version, json }))
    }

    fn highest<'l>(&self, member: &dyn Member, listed: &'l HashSet<String>) -> Option<&'l String> {
        let shown = listed.iter().filter(|version| self.is_shown(member, version));
        // Versions that differ in nothing but `+incompatible` are told apart by their text, so that all choose the same.
        shown.max_by_key(|version| (rank(version), *version))
    }
}

fn rank(version: &str) -> Rank {
    let order = Order::of(version);
    (!is_pseudo(version), order.is_release(), order)
}
