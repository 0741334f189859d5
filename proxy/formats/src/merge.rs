//! Merging: the indexes of a Virtual's members become one.
//!
//! A merge is a pure function of the members' documents, of [`Rules`] and of a signing key: replicas that hold the
//! same documents write the same bytes. Documents come in as streams, in the form in which the member itself
//! serves them, and leave as streams; memory holds what identifies each entry, never the entries themselves.
//!
//! What a merge writes is one *generation*: the index that was asked for, the files it names, and a [`Listed`] for
//! every file of a member that it advertises. The engine serves exactly what is listed, from the member that
//! listed it: advertised means downloadable, and the reverse (RS-48).
//!
//! A file of a member is advertised under the path that [`qualified`] gives, which names the member, wherever
//! clients follow the index's own locations; types whose clients derive locations themselves (alpine, npm, goproxy,
//! puppet, terraform) keep the member's path, and the first member that has the entry wins.

mod entries;
mod order;
mod outlet;
mod qualified;
mod reference;
#[cfg(test)]
pub(crate) mod testing;

use std::io::{self, BufRead, Write};

use artifactapi_model::{Digest, PackageType, RepoPath};

pub use self::qualified::{qualified, unqualified};
pub(crate) use self::{
    entries::{Entries, Seen},
    order::Order,
    outlet::{Outlet, gzip},
    qualified::{directory_of, qualified_from_top},
    reference::below,
};
use crate::{IndexError, PlanError, Request, alpine, goproxy, helm, npm, puppet, pypi, rpm, terraform};

/// One member, as a merge sees it.
pub trait Member {
    /// Its name, as in the URL.
    fn name(&self) -> &str;

    /// Whether its patterns let clients have the file at canonical `path`.
    fn permits(&self, path: &str) -> bool;

    /// Opens its document at canonical `path`, as it serves it; `None` when it has none. Only what
    /// [`Merge::needs`] asked for can be opened.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError>;
}

/// What a merge must obey.
pub trait Rules {
    /// Whether a name belongs whole to the first member that has it (`resolution: firstMatch`).
    fn names_first(&self) -> bool;

    /// The only member, by its place among the members, that may have the package `name`; `None` when any may.
    fn owner(&self, name: &str) -> Option<usize>;
}

/// Signs what clients verify with a key of the Virtual.
pub trait Signer {
    /// The file name under which clients have the public key (`{name}.rsa.pub`), without directory.
    fn rsa_name(&self) -> String;

    /// What tells the keys apart from others that sign the same.
    fn identity(&self) -> String {
        self.rsa_name()
    }

    /// PKCS #1 v1.5 signature by the RSA key over the SHA-256 `digest`.
    ///
    /// # Errors
    /// A text without secrets.
    fn rsa_sha256(&self, digest: &Digest) -> Result<Vec<u8>, String>;

    /// Detached, armored OpenPGP signature of `document`; `None` when repositories are not signed.
    ///
    /// # Errors
    /// A text without secrets.
    fn openpgp(&self, document: &[u8]) -> Result<Option<String>, String>;
}

/// A file of a member that the generation advertises.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Canonical path in the Virtual.
    pub path: String,
    /// The member's place among the members.
    pub member: usize,
}

/// A file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Takes a generation.
pub trait Output {
    /// Writes one file; `content` streams its bytes. It becomes part of the generation when it gets a path.
    ///
    /// # Errors
    /// Those of `content`, and [`IndexError`] when the bytes cannot be kept or are too many.
    fn file(
        &mut self,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<Written, IndexError>;

    /// Gives the file that was written last its canonical path in the Virtual and its Content-Type.
    fn publish(&mut self, path: String, content_type: &'static str);

    /// Tells of an advertised file; each path once.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    fn list(&mut self, listed: Listed) -> Result<(), IndexError>;
}

/// What of a generation a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The merged index that decides.
    pub index: RepoPath,
    /// The file as the generation has or lists it.
    pub path: RepoPath,
    /// The listed path whose member also has this one, where the file itself is not listed: what lies beside a file
    /// that is.
    pub beside: Option<String>,
    /// Whether it is the index in one of its forms, which only the current generation may answer.
    pub is_index: bool,
    /// Whether the form depends on the `Accept` header.
    pub is_negotiated: bool,
}

impl Asked {
    /// The file at `path`, as the index at `index` decides.
    pub fn of(index: RepoPath, path: RepoPath) -> Self {
        Asked { is_index: index == path, index, path, beside: None, is_negotiated: false }
    }
}

/// A type whose members' indexes can be merged.
pub trait Merge: Send + Sync {
    /// Raised whenever what it writes changes.
    fn version(&self) -> u32 {
        1
    }

    /// The merged index that decides about the request for `path` (canonical, in the Virtual): the path itself
    /// when it is one, for the other files of a generation and for what it advertises the index of that
    /// generation. `None` for paths that no generation can have. Only the path is looked at: whether the
    /// generation has the file, it alone knows.
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath>;

    /// What `request`, for `path` (canonical, in the Virtual), asks for; `None` for paths that no generation can have.
    ///
    /// # Errors
    /// [`PlanError`] for what no merged repository answers.
    fn asked(&self, path: &RepoPath, request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        let _ = request;
        Some(Ok(Asked::of(self.index_of(path)?, path.clone())))
    }

    /// The package that the index at `path` is about, where it is one's alone: a member that may not have it is then
    /// not even asked.
    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        let _ = path;
        None
    }

    /// Canonical paths of the documents of `member` that go into the index at `path`. Asked again, with those at
    /// hand, until it asks for nothing new; a document that the member does not have stays missing.
    ///
    /// # Errors
    /// [`IndexError`] when a document is not what it should be.
    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError>;

    /// Merges what `members` have, first member first, into the index at `path`. When no member has a document
    /// for it, nothing is written: there is no such index.
    ///
    /// # Errors
    /// [`IndexError`] when a document is malformed or too large; the generation is then discarded whole. The
    /// text names the member.
    fn merge(
        &self,
        path: &RepoPath,
        members: &[&dyn Member],
        rules: &dyn Rules,
        signer: &dyn Signer,
        output: &mut dyn Output,
    ) -> Result<(), IndexError>;
}

/// The merge of a package type; `None` for types whose indexes are not merged.
pub fn merge_of(package_type: PackageType) -> Option<&'static dyn Merge> {
    match package_type {
        PackageType::Helm => Some(&helm::merge::HelmMerge),
        PackageType::Alpine => Some(&alpine::merge::AlpineMerge),
        PackageType::Rpm => Some(&rpm::merge::RpmMerge),
        PackageType::Npm => Some(&npm::merge::NpmMerge),
        PackageType::Goproxy => Some(&goproxy::merge::GoproxyMerge),
        PackageType::Pypi => Some(&pypi::merge::PypiMerge),
        PackageType::Puppet => Some(&puppet::merge::PuppetMerge),
        PackageType::Terraform => Some(&terraform::merge::TerraformMerge),
        PackageType::Generic | PackageType::Docker => None,
    }
}

/// Says of an error that it lies in what `member` has.
pub(crate) fn of_member(member: &dyn Member) -> impl Fn(IndexError) -> IndexError {
    move |error| match error {
        named @ IndexError::Member { .. } => named,
        other => IndexError::Member { name: member.name().to_owned(), source: Box::new(other) },
    }
}

/// Names whose owner is decided: for types where a name belongs whole to the first member that has it.
#[derive(Debug, Default)]
pub struct Claims(std::collections::HashMap<Box<str>, usize>);

impl Claims {
    /// Whether `member` may add entries of `name`, by `rules` and by what earlier members have. Members must come
    /// in their order.
    pub fn admit(&mut self, rules: &dyn Rules, member: usize, name: &str) -> bool {
        if rules.owner(name).is_some_and(|owner| owner != member) {
            return false;
        }
        !rules.names_first() || *self.0.entry(name.into()).or_insert(member) == member
    }
}

/// Counts and hashes what passes, for formats that state the size and checksum of an opened form.
pub(crate) struct Measured<'w> {
    inner: &'w mut dyn Write,
    hasher: sha2::Sha256,
    size: u64,
}

impl<'w> Measured<'w> {
    /// Measures what goes to `inner`.
    pub(crate) fn new(inner: &'w mut dyn Write) -> Self {
        Measured { inner, hasher: sha2::Digest::new(), size: 0 }
    }

    /// What has passed.
    pub(crate) fn finish(self) -> Written {
        let digest: [u8; 32] = sha2::Digest::finalize(self.hasher).into();
        Written { digest: Digest(digest), size: self.size }
    }
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        sha2::Digest::update(&mut self.hasher, &bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_the_first_member_only_where_the_rules_say_so() {
        let owners = [("kept".to_owned(), 1)].into();
        let rules = testing::Table { names_first: true, owners };
        let mut claims = Claims::default();
        assert!(claims.admit(&rules, 0, "a") && claims.admit(&rules, 0, "a"));
        assert!(!claims.admit(&rules, 1, "a"));
        assert!(!claims.admit(&rules, 0, "kept") && claims.admit(&rules, 1, "kept"));
        let united = testing::Table { names_first: false, ..rules };
        assert!(Claims::default().admit(&united, 1, "a"));
        assert!(!Claims::default().admit(&united, 0, "kept"));
    }
}
