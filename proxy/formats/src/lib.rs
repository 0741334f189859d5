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
mod document;
mod error;
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
mod plan;
#[cfg(test)]
mod properties;
pub mod puppet;
pub mod pypi;
mod query;
mod reference;
pub mod rpm;
pub mod subject;
pub mod terraform;
#[cfg(test)]
mod testing;

use std::io::{self, BufRead, Write};

use artifactapi_model::{Digest, PackageType, repository::RemoteSpec};

pub use document::{Documents, Fact, PublicBase, Reach, RewriteContext, Source, Step};
pub use error::IndexError;
pub use link::{LinkSigner, NamedFile};
pub(crate) use plan::READS;
pub use plan::{
    Answer, IndexRef, IndexUse, Location, MAX_INDEX, Magic, Method, Plan, PlanError, Representation, Request,
    Resource, Revalidation,
};
pub use subject::{Package, Subject, subject};

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
    /// document that upstream does not have is absent from `documents` at the next call. What clients may not have,
    /// as `permits` says of canonical paths, is not named in it.
    ///
    /// # Errors
    /// [`IndexError`] when a document is not what it should be.
    fn compose(
        &self,
        resource: &Resource,
        documents: &Documents,
        permits: &dyn Fn(&str) -> bool,
    ) -> Result<Step, IndexError> {
        let (_, _, _) = (resource, documents, permits);
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
