//! Merging: the indexes of a Virtual's members become one.
//!
//! A merge is a pure function of the members' documents, of [`Rules`] and of a signing key: replicas that hold the
//! same documents write the same bytes. Documents come in as streams, in the form in which the member itself
//! serves them, and leave as streams. Where a format lets entries be copied as they come (rpm, alpine, npm, pypi,
//! goproxy) memory holds what identifies each entry; where they have to be put in an order (helm, puppet, terraform)
//! it holds the entries, up to [`crate::limits`].
//!
//! What a merge writes is one *generation*: the index that was asked for, the files it names, and a [`Listed`] for
//! every file of a member that it advertises. The engine serves what is listed, from the member that listed it:
//! advertised means downloadable (RS-48). Beside it only what belongs to a listed file and is never advertised, as a
//! chart's `.prov`, comes from the same member ([`Asked::beside`]); nothing else does.
//!
//! A file of a member is advertised under the path that [`qualified`] gives, which names the member, wherever
//! clients follow the index's own locations; types whose clients derive locations themselves (alpine, npm, goproxy,
//! puppet, terraform) keep the member's path, and the first member that has the entry wins.

mod claims;
mod marks;
mod order;
mod outlet;
mod qualified;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    any::Any,
    io::{BufRead, Write},
    sync::Arc,
};

use artifactapi_model::{Digest, PackageType, RepoPath};

pub use self::qualified::{qualified, unqualified};
pub(crate) use self::{
    claims::{Claims, Seen},
    marks::{Marks, changed},
    order::Order,
    outlet::{Measured, Outlet, copy_from, gzip},
    qualified::{directory_of, own, qualified_from_top},
};
use crate::{
    IndexError, PlanError, Request, alpine, goproxy, helm, limits::Allowance, npm, puppet, pypi, rpm,
    terraform,
};

/// One member, as a merge sees it.
pub trait Member {
    /// Its name, as in the URL.
    fn name(&self) -> &str;

    /// Whether its patterns let clients have the file at canonical `path`.
    fn permits(&self, path: &str) -> bool;

    /// Opens its document at `path`, as it serves it; `None` when it has none. Only what [`Merge::needs`] asked for can
    /// be opened, by the same text.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError>;

    /// What a merge of the same type has kept of the document at `path`, as long as it is the same document.
    fn kept(&self, path: &str) -> Option<Kept> {
        let _ = path;
        None
    }

    /// Keeps `kept`, which takes `bytes` of memory, for [`Member::kept`]; may forget it at any time. It must depend on
    /// the document, its path and the member's name only: rules and policies may be others the next time.
    fn keep(&self, path: &str, kept: Kept, bytes: usize) {
        let _ = (path, kept, bytes);
    }
}

/// What a merge keeps of a document; only the merge that made it knows the type.
pub type Kept = Arc<dyn Any + Send + Sync>;

/// What a merge must obey.
pub trait Rules {
    /// Whether a name belongs whole to the first member that has it (`resolution: firstMatch`).
    fn names_first(&self) -> bool;

    /// Whether the member at `place` among the members may have the package `name`: a name that is reserved belongs to
    /// one member, or to nobody when that one is not among them.
    fn may_have(&self, place: usize, name: &str) -> bool;
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

    /// Tells of an advertised file; a path that comes again is of the same member.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    fn list(&mut self, listed: Listed) -> Result<(), IndexError>;

    /// Tells that `path` in the Virtual, which is neither a file nor listed, is another name of `named` in its member, as
    /// a tag is one of a version. Only the current generation knows such names.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`].
    fn alias(&mut self, path: String, named: Listed) -> Result<(), IndexError>;
}

impl dyn Output + '_ {
    /// Writes the file at canonical `path` in the Virtual.
    ///
    /// # Errors
    /// As [`Output::file`].
    pub(crate) fn put(
        &mut self,
        path: impl Into<String>,
        content_type: &'static str,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        self.file(content)?;
        self.publish(path.into(), content_type);
        Ok(())
    }

    /// Tells of the advertised files at `paths`, all of the member at the place `member`.
    ///
    /// # Errors
    /// As [`Output::list`].
    pub(crate) fn list_all(
        &mut self,
        member: usize,
        paths: impl IntoIterator<Item = String>,
    ) -> Result<(), IndexError> {
        paths.into_iter().try_for_each(|path| self.list(Listed { path, member }))
    }
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

/// What a merge makes a generation of.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Canonical path of the index, in the Virtual and at its members.
    pub index: &'a RepoPath,
    /// The members, in their order.
    pub members: &'a [&'a dyn Member],
    /// What must be obeyed.
    pub rules: &'a dyn Rules,
    /// Signs what clients verify.
    pub signer: &'a dyn Signer,
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

    /// Files of a member that are had together or not at all, where the one at `path` is among them: a version of a
    /// module stands for three. Policy may speak of each alone.
    fn together(&self, path: &RepoPath) -> Vec<String> {
        let _ = path;
        Vec::new()
    }

    /// The documents of `member` that go into the index at `path`: canonical paths, with `?` and the query where a type
    /// has documents by query (pypi, puppet). Asked again, with those at hand, until it asks for nothing new; a document
    /// that the member does not have stays missing.
    ///
    /// # Errors
    /// [`IndexError`] when a document is not what it should be. Whoever asks knows which member it is.
    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError>;

    /// Merges what the members have, first member first. When no member has a document for the index, nothing is
    /// written: there is no such index.
    ///
    /// # Errors
    /// [`IndexError`] when a document is malformed or too large; the generation is then discarded whole. The
    /// text names the member.
    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError>;
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

/// As many entries as the indexes of all members may have together.
pub(crate) fn entries_of_all() -> Allowance {
    Allowance::of_entries("number of entries of all members together")
}
