//! The ten package formats: what a request means, what an index says, and how it is rewritten.
//!
//! One trait, one module per type, no I/O: bytes come in as [`BufRead`] and leave through [`Write`], so that
//! a large index is a stream and never a tree. The engine asks, in this order:
//!
//! 1. [`PackageFormat::plan`]: request → [`Plan`], with the canonical key, the type's mutability rule, where
//!    upstream has it, and which indexes may publish its checksum;
//! 2. [`PackageFormat::read_facts`]: an index → [`Fact`]s: checksums and URLs of the files it lists;
//! 3. [`PackageFormat::rewrite`]: a stored index → what clients get under our own base;
//! 4. [`PackageFormat::compose`]: a document made from several others.
//!
//! The wire contracts and their traps are cited in each module.

pub mod alpine;
pub mod docker;
pub mod generic;
pub mod goproxy;
pub mod helm;
mod inflate;
pub mod inspect;
mod json;
pub mod limits;
pub mod link;
pub mod merge;
mod negotiate;
pub mod npm;
mod placement;
#[cfg(test)]
mod properties;
pub mod puppet;
pub mod pypi;
mod query;
pub mod rpm;
pub mod subject;
pub mod terraform;
#[cfg(test)]
mod testing;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use artifactapi_model::{
    Checksums, Digest, Mutability, PackageType, PathError, RepoPath, repository::RemoteSpec,
};
use url::Url;

pub use link::{LinkSigner, NamedFile};
pub use subject::{Package, Subject, subject};

/// A client's request below one repository.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// HTTP method.
    pub method: Method,
    /// Raw percent-encoded path below the repository, without leading slash.
    pub raw_path: &'a str,
    /// Raw query without `?`; empty when there is none.
    pub query: &'a str,
    /// The `Accept` header; empty when there is none.
    pub accept: &'a str,
}

/// Methods a package client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the HTTP methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Other,
}

impl Method {
    /// GET or HEAD.
    pub fn is_read(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
}

/// What a request means.
#[derive(Clone, Debug)]
pub enum Plan {
    /// A document or file of this repository.
    Serve(Box<Resource>),
    /// Answered without asking anyone.
    Answer(Answer),
    /// Sent on to `baseURL` + this path and query, uncached, with the request's body.
    Pass(String),
}

/// An answer that needs neither store nor upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 301 to this path (percent-encoded, relative to the repository's root) and query.
    Moved(String),
    /// 200 with this JSON.
    Json(&'static str),
    /// 401: the client asks who it is, and is nobody.
    Nobody,
}

/// Why a request has no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The path is malformed: 400.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The type has no such path: 404.
    #[error("{0}")]
    NotFound(&'static str),
    /// The method does not exist here: 405, with the methods that do.
    #[error("this repository answers only {0} here")]
    Method(&'static str),
    /// A query parameter has no usable value: 400.
    #[error("the query parameter {0} has no usable value")]
    Query(&'static str),
    /// A signed link was not made by this system: 404.
    #[error("this link was not made by this repository")]
    ForgedLink,
}

/// One document or file of a repository.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Canonical path: half of the cache key, and what patterns match.
    pub path: RepoPath,
    /// Canonical query: allow-listed parameters in a fixed order, percent-encoded; empty for none.
    pub query: String,
    /// Other spellings of the same thing that patterns must see too (the path at a foreign host, the
    /// name with or without `library/`).
    pub aliases: Vec<String>,
    /// The type's own rule for this path.
    pub mutability: Mutability,
    /// Where upstream has it.
    pub location: Location,
    /// Which rewrite clients get; `None` serves the stored bytes.
    pub representation: Option<Representation>,
    /// `Accept` for upstream; always the same for a key, so that a key has one body.
    pub accept: Option<&'static str>,
    /// Token scope to ask for when the challenge names none.
    pub scope: Option<String>,
    /// How a stale copy is revalidated.
    pub revalidation: Revalidation,
    /// Canonical path of the document this one belongs to, as a detached signature does: whatever the TTL,
    /// it is fresh exactly while it was fetched after the stored copy of that document last changed.
    pub fresh_with: Option<String>,
    /// What the path itself says about the body (an OCI digest, a checksum-named repodata file).
    pub checksums: Checksums,
    /// Documents that may publish a checksum or a URL for it, most telling first.
    pub indexes: Vec<IndexRef>,
    /// What the body must begin with (RS-07).
    pub magic: Option<Magic>,
    /// Content-Type for clients where the type fixes one; otherwise upstream's is replayed.
    pub content_type: Option<&'static str>,
    /// Largest accepted body in bytes; `None` for artifacts.
    pub max_size: Option<u64>,
    /// After an accepted, correctly scoped token, 401 and 403 mean that it does not exist (Docker Hub).
    pub denied_means_missing: bool,
    /// For docker: the tag, where the path names one; `banTags` looks at it.
    pub tag: Option<String>,
}

/// Default cap of an index on the wire, in bytes (RS-62).
pub const MAX_INDEX: u64 = 64 << 20;

impl Resource {
    /// A file below `baseURL` at the same path, served as stored.
    pub fn file(path: RepoPath, mutability: Mutability) -> Self {
        let location = Location::Below(path.encode());
        Resource {
            path,
            query: String::new(),
            aliases: Vec::new(),
            mutability,
            location,
            representation: None,
            accept: None,
            scope: None,
            revalidation: Revalidation::Conditional,
            fresh_with: None,
            checksums: Vec::new(),
            indexes: Vec::new(),
            magic: None,
            content_type: None,
            max_size: None,
            denied_means_missing: false,
            tag: None,
        }
    }

    /// A mutable index below `baseURL` at the same path, capped at [`MAX_INDEX`].
    pub fn index(path: RepoPath) -> Self {
        Resource { max_size: Some(MAX_INDEX), ..Resource::file(path, Mutability::Mutable) }
    }
}

/// Where upstream has a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Below `baseURL`: a relative URL, path percent-encoded, query after `?`.
    Below(String),
    /// At a URL that an index of this repository named, proved by a signed link.
    Named(Url),
    /// Where the first of [`Resource::indexes`] that knows the path says; else below `baseURL` at the same
    /// path when `fallback`, else it does not exist.
    Indexed {
        /// Whether an unknown path may be asked below `baseURL`.
        fallback: bool,
    },
    /// Nowhere: [`PackageFormat::compose`] makes it.
    Composed,
}

/// Which of a document's forms a client gets. The text enters the derived document's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Representation(pub &'static str);

/// How a stale copy is revalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revalidation {
    /// GET with If-None-Match and If-Modified-Since.
    Conditional,
    /// HEAD, comparing `Docker-Content-Digest`; GET only on change (Docker Hub does not count HEADs).
    HeadDigest,
}

/// A document that may know a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRef {
    /// Canonical path, then `?query` where it has one.
    pub path: String,
    /// When it is read.
    pub when: IndexUse,
}

/// When an index is consulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexUse {
    /// Only if it is stored already.
    Held,
    /// Every stored document whose key begins with `path`, newest first (a handful).
    HeldPrefix,
    /// It is fetched when it is not stored or stale; without it the resource does not exist.
    Required,
}

/// What a file of a kind begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the formats")]
pub enum Magic {
    Zip,
    Gzip,
    Rpm,
    Apk,
    Json,
}

impl Magic {
    /// The magic of a file name's extension, where it has one.
    pub fn of_name(name: &str) -> Option<Magic> {
        let name = name.to_ascii_lowercase();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
        if ends(&[".whl", ".zip", ".egg", ".jar", ".nupkg"]) {
            Some(Magic::Zip)
        } else if ends(&[".tgz", ".tar.gz", ".crate"]) {
            Some(Magic::Gzip)
        } else if ends(&[".apk"]) {
            Some(Magic::Apk)
        } else if ends(&[".rpm", ".drpm"]) {
            Some(Magic::Rpm)
        } else {
            None
        }
    }

    /// Whether `head`, the first bytes of a body (at least 8 unless the body is shorter), fits.
    pub fn fits(self, head: &[u8]) -> bool {
        match self {
            Magic::Zip => head.starts_with(b"PK"),
            Magic::Gzip => head.starts_with(&[0x1f, 0x8b]),
            Magic::Rpm => head.starts_with(&[0xed, 0xab, 0xee, 0xdb]) || head.starts_with(b"drpm"),
            // apk-tools 3 packages are ADB containers, plain (`.`), deflated (`d`) or otherwise packed (`c`).
            Magic::Apk => {
                head.starts_with(&[0x1f, 0x8b])
                    || [b"ADB.", b"ADBd", b"ADBc"].iter().any(|adb| head.starts_with(*adb))
            }
            Magic::Json => {
                head.iter().find(|b| !b.is_ascii_whitespace()).is_none_or(|b| matches!(b, b'{' | b'['))
            }
        }
    }
}

/// A stored document as a format reads it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its canonical path in the repository.
    pub path: &'a RepoPath,
    /// Its canonical query.
    pub query: &'a str,
    /// Upstream's Content-Type, empty when it sent none.
    pub content_type: &'a str,
    /// Where it finally came from: what relative links inside it refer to.
    pub url: &'a Url,
}

/// What an index says about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Canonical path in this repository, without query.
    pub path: String,
    /// How the path is meant.
    pub reach: Reach,
    /// Where it is, when that is not `baseURL` + path.
    pub url: Option<Url>,
    /// What is claimed about the body.
    pub checksums: Checksums,
}

/// How far a [`Fact`] reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This very file.
    File,
    /// This very file, which is itself an index of more facts (repomd.xml → primary.xml.gz).
    Index,
    /// Every path that begins with it; `url` replaces the prefix (terraform's discovery document).
    Prefix,
}

/// The externally visible URL of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicBase {
    /// `scheme://host[:port]`, without a trailing slash.
    pub origin: String,
    /// Path of the repository, with both slashes (`/api/v1/remote/npm/`; `/v2/hub/` for docker).
    pub prefix: String,
}

impl PublicBase {
    /// `origin` + `prefix`.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.prefix)
    }
}

/// What a rewrite may depend on besides the document.
#[derive(Clone, Copy, Debug)]
pub struct RewriteContext<'a> {
    /// Our own base.
    pub base: &'a PublicBase,
    /// Makes links to files on other hosts.
    pub links: &'a LinkSigner,
    /// The repository's configuration.
    pub remote: &'a RemoteSpec,
}

/// Why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is not what its type promises.
    #[error("the index is malformed: {0}")]
    Malformed(String),
    /// It exceeds a limit (size, inflated size, depth, number of entries).
    #[error("the index exceeds a limit: {0}")]
    TooLarge(&'static str),
    /// Its bytes could not be read or written.
    #[error("reading the index failed: {0}")]
    Io(#[source] io::Error),
    /// One of these is wrong with what a member of a Virtual has.
    #[error("member {name}: {source}")]
    Member {
        /// The member's name.
        name: String,
        /// What is wrong.
        source: Box<IndexError>,
    },
}

impl From<io::Error> for IndexError {
    /// Keeps the message of a [`limits`] breach apart from other failures.
    fn from(error: io::Error) -> Self {
        match limits::breach(&error) {
            Some(limit) => IndexError::TooLarge(limit),
            None => IndexError::Io(error),
        }
    }
}

/// Small documents at hand while one is composed: canonical path → body.
pub type Documents = BTreeMap<String, Vec<u8>>;

/// One step of making a document from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These documents (canonical paths) are needed too; each is at most [`limits::MAX_PART`] long. Asking
    /// twice for the same is an error of the format.
    Need(Vec<String>),
    /// It is done.
    Done {
        /// The document.
        body: Vec<u8>,
        /// Its Content-Type.
        content_type: &'static str,
    },
    /// It does not exist.
    Missing,
}

/// A package type.
pub trait PackageFormat: Send + Sync {
    /// Which one.
    fn package_type(&self) -> PackageType;

    /// What `request` means in `remote`. Pure, total and quick: it runs on every request.
    ///
    /// # Errors
    /// [`PlanError`], which servers map to 400, 404 or 405 in the shape the type's clients expect.
    fn plan(&self, request: &Request<'_>, remote: &RemoteSpec, links: &LinkSigner)
    -> Result<Plan, PlanError>;

    /// A path below `baseURL` that upstreams of this type answer at little cost; what they answer does not matter.
    fn probe(&self) -> &'static str {
        ""
    }

    /// Raised whenever [`PackageFormat::rewrite`] or [`PackageFormat::compose`] change their output.
    fn version(&self) -> u32 {
        1
    }

    /// Everything in `cx` that a rewrite depends on, as text for the derived document's key. Types with
    /// relative links leave the origin out, so that all host names share one document.
    fn fingerprint(&self, cx: &RewriteContext<'_>) -> String {
        format!("{} {} {:?}", cx.base.url(), cx.remote.base_url, cx.remote.file_hosts)
    }

    /// Rewrites a stored document to `resource.representation` as a stream; returns its Content-Type.
    ///
    /// # Errors
    /// [`IndexError`]; what was written is then discarded.
    fn rewrite(
        &self,
        resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        let (_, _) = (resource, cx);
        io::copy(input, output)?;
        Ok(source.content_type.to_owned())
    }

    /// Hands every fact of a stored index to `sink`, as a stream. Documents that publish none give none.
    ///
    /// # Errors
    /// [`IndexError`]; facts handed over before it are discarded.
    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        let (_, _, _, _) = (source, remote, input, sink);
        Ok(())
    }

    /// Makes a [`Location::Composed`] resource; called again with more documents until it is done. A
    /// document that upstream does not have is absent from `documents` at the next call.
    ///
    /// # Errors
    /// [`IndexError`] when a document is not what it should be.
    fn compose(&self, resource: &Resource, documents: &Documents) -> Result<Step, IndexError> {
        let (_, _) = (resource, documents);
        Ok(Step::Missing)
    }

    /// Headers for clients beyond the common ones. `digest` is the body's SHA-256, unknown while a body that
    /// was asked for under another name is being fetched; `stored` looks up a kept upstream header by
    /// lower-case name.
    fn headers(
        &self,
        resource: &Resource,
        digest: Option<&Digest>,
        stored: &dyn Fn(&str) -> Option<String>,
        base: &PublicBase,
    ) -> Vec<(&'static str, String)> {
        let (_, _, _, _) = (resource, digest, stored, base);
        Vec::new()
    }
}

/// The format of a package type.
pub fn format_of(package_type: PackageType) -> &'static dyn PackageFormat {
    match package_type {
        PackageType::Generic => &generic::Generic,
        PackageType::Docker => &docker::Docker,
        PackageType::Helm => &helm::Helm,
        PackageType::Pypi => &pypi::Pypi,
        PackageType::Npm => &npm::Npm,
        PackageType::Rpm => &rpm::Rpm,
        PackageType::Alpine => &alpine::Alpine,
        PackageType::Puppet => &puppet::Puppet,
        PackageType::Terraform => &terraform::Terraform,
        PackageType::Goproxy => &goproxy::Goproxy,
    }
}
