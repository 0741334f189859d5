//! Members, rules and an output in memory.

use std::collections::BTreeMap;

use super::*;

/// A member that has `documents`.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) name: String,
    pub(crate) documents: BTreeMap<String, Vec<u8>>,
    pub(crate) hidden: Vec<String>,
}

impl Fake {
    pub(crate) fn new(name: &str, documents: &[(&str, &[u8])]) -> Self {
        let documents = documents.iter().map(|(path, body)| ((*path).to_owned(), body.to_vec())).collect();
        Fake { name: name.to_owned(), documents, hidden: Vec::new() }
    }
}

impl Member for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    fn permits(&self, path: &str) -> bool {
        !self.hidden.iter().any(|hidden| hidden == path)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        Ok(self.documents.get(path).map(|body| Box::new(&body[..]) as Box<dyn BufRead>))
    }
}

/// Rules as a table.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) names_first: bool,
    pub(crate) owners: BTreeMap<String, usize>,
}

impl Rules for Table {
    fn names_first(&self) -> bool {
        self.names_first
    }

    fn may_have(&self, place: usize, name: &str) -> bool {
        self.owners.get(name).is_none_or(|owner| *owner == place)
    }
}

/// Signs by repeating what it signs.
pub(crate) struct Echo;

impl Signer for Echo {
    fn rsa_name(&self) -> String {
        "echo.rsa.pub".to_owned()
    }

    fn rsa_sha256(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        Ok(digest.0.to_vec())
    }

    fn openpgp(&self, document: &[u8]) -> Result<Option<String>, String> {
        Ok(Some(format!("signed {}", document.len())))
    }
}

/// A generation in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) listed: BTreeMap<String, usize>,
    /// Other names, with their members and what they name there.
    pub(crate) aliases: BTreeMap<String, (usize, String)>,
    last: Vec<u8>,
}

impl Output for Generation {
    fn file(
        &mut self,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<Written, IndexError> {
        self.last.clear();
        content(&mut self.last)?;
        Ok(Written { digest: Digest::of(&self.last), size: self.last.len() as u64 })
    }

    fn publish(&mut self, path: String, _content_type: &'static str) {
        let taken = self.files.insert(path.clone(), std::mem::take(&mut self.last));
        assert!(taken.is_none(), "{path} is written twice");
    }

    fn list(&mut self, listed: Listed) -> Result<(), IndexError> {
        let taken = self.listed.insert(listed.path.clone(), listed.member);
        assert!(taken.is_none_or(|member| member == listed.member), "{} is of two members", listed.path);
        Ok(())
    }

    fn alias(&mut self, path: String, named: Listed) -> Result<(), IndexError> {
        let taken = self.aliases.insert(path.clone(), (named.member, named.path));
        assert!(taken.is_none(), "{path} is two names");
        Ok(())
    }
}

/// Merges `members` into the index at `path`, after asking for what is needed as the engine does.
pub(crate) fn merged(
    merge: &dyn Merge,
    path: &str,
    members: &[Fake],
    rules: &Table,
) -> Result<Generation, IndexError> {
    let path = RepoPath::from_canonical(path).expect("a canonical path");
    let mut given = Vec::new();
    for member in members {
        let mut at_hand = Fake { documents: BTreeMap::new(), ..Fake::new(&member.name, &[]) };
        at_hand.hidden.clone_from(&member.hidden);
        loop {
            let wanted = merge.needs(&path, &at_hand).map_err(|error| {
                assert!(
                    !matches!(error, IndexError::Member { .. }),
                    "whoever asks names the member: {error}"
                );
                of_member(&at_hand)(error)
            })?;
            let known = at_hand.documents.len();
            for path in wanted {
                if let Some(body) = member.documents.get(&path) {
                    at_hand.documents.insert(path, body.clone());
                }
            }
            if at_hand.documents.len() == known {
                break;
            }
        }
        given.push(at_hand);
    }
    let given: Vec<&dyn Member> = given.iter().map(|member| member as &dyn Member).collect();
    let mut output = Generation::default();
    merge.merge(Inputs { index: &path, members: &given, rules, signer: &Echo }, &mut output)?;
    Ok(output)
}
