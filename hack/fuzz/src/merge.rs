//! Members merged under the promises that every merge keeps:
//!
//! - it does not matter into which pieces the members' documents are torn;
//! - a member behind itself adds nothing;
//! - what is listed is a canonical path of the generation, and what the type reads in the index is listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Write},
};

use artifactapi_formats::{
    IndexError, Reach, Source, format_of,
    merge::{Inputs, Listed, Member, Output, Rules, Signer, Written, merge_of},
};
use artifactapi_model::{Digest, PackageType, RepoPath};

use crate::{remote, torn::Torn};

/// Canonical path → body.
pub type Documents = BTreeMap<String, Vec<u8>>;

struct Has<'d> {
    documents: &'d Documents,
    name: &'static str,
    longest: usize,
}

impl Member for Has<'_> {
    fn name(&self) -> &str {
        self.name
    }
    fn permits(&self, path: &str) -> bool {
        !path.contains("hidden")
    }
    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        let body = self.documents.get(path);
        Ok(body.map(|body| Box::new(Torn::new(body, self.longest)) as Box<dyn BufRead>))
    }
}

struct Free;

impl Rules for Free {
    fn names_first(&self) -> bool {
        false
    }
    fn may_have(&self, _place: usize, _name: &str) -> bool {
        true
    }
}

struct Key;

impl Signer for Key {
    fn rsa_name(&self) -> String {
        "fuzz.rsa.pub".into()
    }
    fn rsa_sha256(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        Ok(digest.0.to_vec())
    }
    fn openpgp(&self, _document: &[u8]) -> Result<Option<String>, String> {
        Ok(None)
    }
}

/// A generation in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub files: BTreeMap<String, Vec<u8>>,
    pub listed: BTreeMap<String, usize>,
    pub aliases: BTreeMap<String, (usize, String)>,
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
        assert_eq!(self.files.insert(path, std::mem::take(&mut self.last)), None, "a file is written twice");
    }
    fn list(&mut self, listed: Listed) -> Result<(), IndexError> {
        assert_eq!(self.listed.insert(listed.path, listed.member), None, "a file is listed twice");
        Ok(())
    }
    fn alias(&mut self, path: String, named: Listed) -> Result<(), IndexError> {
        assert_eq!(self.aliases.insert(path, (named.member, named.path)), None, "a name is given twice");
        Ok(())
    }
}

fn merged(kind: PackageType, index: &RepoPath, members: &[Has<'_>]) -> Option<Generation> {
    let members: Vec<&dyn Member> = members.iter().map(|member| member as &dyn Member).collect();
    let mut generation = Generation::default();
    let merge = merge_of(kind).expect("a type that is merged");
    merge
        .merge(Inputs { index, members: &members, rules: &Free, signer: &Key }, &mut generation)
        .ok()
        .map(|()| generation)
}

/// What a merge asks of a member first.
pub fn needs(kind: PackageType, index: &str) -> Vec<String> {
    let path = RepoPath::from_canonical(index).expect("a canonical path");
    let nothing = Has { documents: &Documents::new(), name: "one", longest: 1 };
    merge_of(kind).expect("a type that is merged").needs(&path, &nothing).expect("it can be asked")
}

/// Merges a member that has `documents` into the index at `index`; `None` where it is refused.
pub fn check(kind: PackageType, index: &str, documents: &Documents) -> Option<Generation> {
    let path = RepoPath::from_canonical(index).expect("a canonical path");
    let merge = merge_of(kind).expect("a type that is merged");
    let size = documents.values().map(Vec::len).sum::<usize>();
    let whole = |name| Has { documents, name, longest: usize::MAX >> 1 };
    let got = merged(kind, &path, &[whole("one")]);
    let torn = Has { longest: [1, 7, 512][size % 3], ..whole("one") };
    assert_eq!(merged(kind, &path, &[torn]), got, "torn otherwise it is another index");
    assert_eq!(merged(kind, &path, &[whole("one"), whole("one")]), got, "a member adds to itself");
    let got = got?;
    for listed in got.listed.keys() {
        let listed = RepoPath::from_canonical(listed).expect("a canonical path is listed");
        assert_eq!(merge.index_of(&listed).as_ref(), Some(&path), "{listed:?} belongs elsewhere");
        assert!(!listed.as_str().contains("hidden"), "{listed:?} is refused");
    }
    let known = facts(kind, &got);
    assert!(known.iter().all(|path| got.listed.contains_key(path)), "{known:?} but {:?}", got.listed);
    Some(got)
}

/// The files of members that the type's own reading of the generation finds.
pub fn facts(kind: PackageType, generation: &Generation) -> BTreeSet<String> {
    let remote = remote(kind);
    let mut known = BTreeSet::new();
    for (path, body) in &generation.files {
        let path = RepoPath::from_canonical(path).expect("a canonical path");
        let url = remote.base_url.join(&path.encode()).expect("a valid URL");
        let source = Source { path: &path, query: "", content_type: "", url: &url };
        let read = format_of(kind).read_facts(&source, &remote, &mut &body[..], &mut |fact| {
            if fact.url.is_none() && fact.reach == Reach::File && !generation.files.contains_key(&fact.path) {
                known.insert(fact.path);
            }
        });
        read.expect("what a merge writes can be read");
    }
    known
}
