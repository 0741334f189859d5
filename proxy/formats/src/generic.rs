//! The `generic` package type: files below a URL, whatever they are.
//!
//! - Everything is immutable; operators override what is re-issued (`latest` paths, branch archives,
//!   checksum files) with `mutablePatterns`. A path that ends in `/`, and the root, is a listing: mutable.
//! - No query parameter counts unless `generic.queryParameters` names it; those that do are sorted and written
//!   in one way, so that a thing has one key (RS-22).
//! - Release assets that redirect to short-lived URLs are kept under the path that was asked for; the upstream
//!   client follows redirects and nothing here sees them.
//!
//! Left out: a sibling `.sha256` or `SHA256SUMS` is a file like any other and is not held against its neighbour;
//! the ledger of first digests is what guards generic files. A listing at a path without a trailing slash
//! cannot be told from a file and counts as one.

#[cfg(test)]
mod tests;

use artifactapi_model::{Mutability, PackageType, repository::RemoteSpec};
use url::form_urlencoded;

use crate::{LinkSigner, PackageFormat, Plan, PlanError, Request, Resource};

/// Longest canonical query, in bytes.
const MAX_QUERY: usize = 4 << 10;

/// The `generic` package type.
#[derive(Clone, Copy, Debug)]
pub struct Generic;

impl PackageFormat for Generic {
    fn package_type(&self) -> PackageType {
        PackageType::Generic
    }

    fn plan(
        &self,
        request: &Request<'_>,
        remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let query = canonical_query(request.query, &remote.query_parameters)?;
        let mutability =
            if path.file_name().is_empty() { Mutability::Mutable } else { Mutability::Immutable };
        Ok(Resource::file(path, mutability).with_query(query).into())
    }
}

/// The parameters of `query` that are in `allowed`, sorted by name, decoded and encoded once. Values of a
/// repeated parameter keep their order, which may mean something; the same one again means nothing.
fn canonical_query(query: &str, allowed: &[String]) -> Result<String, PlanError> {
    let unusable = || PlanError::Query("that generic.queryParameters names");
    if query.is_empty() || allowed.is_empty() {
        return Ok(String::new());
    }
    let mut kept: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| allowed.iter().any(|parameter| parameter == name))
        .collect();
    // Bytes that are not UTF-8 have become U+FFFD: two values must not become one.
    if kept.iter().any(|(_, value)| value.chars().any(|c| c.is_control() || c == '\u{fffd}')) {
        return Err(unusable());
    }
    kept.sort_by(|(one, _), (other, _)| one.cmp(other));
    kept.dedup();
    let canonical = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
    if canonical.len() > MAX_QUERY {
        return Err(unusable());
    }
    Ok(canonical)
}
