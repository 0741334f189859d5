//! Stored documents: how a format gets them to read, and what it says of them.

use std::collections::BTreeMap;

use artifactapi_model::{Checksums, RepoPath, repository::RemoteSpec};
use url::Url;

use crate::{IndexError, LinkSigner};

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
#[derive(Clone, Copy)]
pub struct RewriteContext<'a> {
    /// Our own base.
    pub base: &'a PublicBase,
    /// Makes links to files on other hosts.
    pub links: &'a LinkSigner,
    /// The repository's configuration.
    pub remote: &'a RemoteSpec,
    /// Whether clients may have what is at a canonical path, as it is decided when they ask for it. A type whose
    /// documents depend on it names in [`crate::PackageFormat::fingerprint`] what it follows from.
    pub permits: &'a dyn Fn(&str) -> bool,
}

/// Small documents at hand while one is composed: canonical path → body.
pub type Documents = BTreeMap<String, Vec<u8>>;

/// One step of making a document from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These documents (canonical paths) are needed too; each is at most [`crate::limits::MAX_PART`] long. Asking
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

/// The text that `bytes` of a document are.
///
/// # Errors
/// [`IndexError::Malformed`] when they are none.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, IndexError> {
    str::from_utf8(bytes).map_err(|_| IndexError::malformed("it is not UTF-8"))
}
