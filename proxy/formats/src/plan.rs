//! What a request means: the document or file that is asked for, where upstream has it, and how it is kept.

use artifactapi_model::{Checksums, Mutability, PathError, RepoPath, Spelling};
use url::Url;

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

impl Request<'_> {
    /// Its canonical path, for types that are only read.
    ///
    /// # Errors
    /// [`PlanError::Method`] for what is no read, [`PlanError::Path`] for a malformed path.
    pub(crate) fn read_path(&self) -> Result<RepoPath, PlanError> {
        if !self.method.is_read() {
            return Err(PlanError::Method(READS));
        }
        Ok(RepoPath::parse(self.raw_path, Spelling::Plain)?)
    }
}

/// Methods that read, as an `Allow` header lists them.
pub(crate) const READS: &str = "GET, HEAD";

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

impl From<Resource> for Plan {
    fn from(resource: Resource) -> Self {
        Plan::Serve(Box::new(resource))
    }
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
    /// The method does not exist here: 405, with the methods that do, as an `Allow` header lists them.
    #[error("this repository answers only {0} here")]
    Method(&'static str),
    /// A query parameter has no usable value: 400.
    #[error("the query parameter {0} has no usable value")]
    Query(&'static str),
    /// A signed link was not made by this repository: 404.
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
    /// Canonical path of the document this one belongs to, as a detached signature does: whatever the TTL, it is as
    /// fresh as the stored copy of that document. It is checked again when it was last checked before that one changed,
    /// and, in the first hour after a change, before that one was last checked.
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

    /// The one that upstream has at the same path under the canonical `query`, which may be empty.
    pub(crate) fn with_query(self, query: String) -> Self {
        if query.is_empty() {
            return self;
        }
        Resource { location: Location::Below(format!("{}?{query}", self.path.encode())), query, ..self }
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
    /// Nowhere: [`crate::PackageFormat::compose`] makes it.
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

impl IndexRef {
    /// The one at `path`, which is only looked into when it is stored already.
    pub(crate) fn held(path: String) -> Self {
        IndexRef { path, when: IndexUse::Held }
    }
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
