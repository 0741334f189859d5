//! What a Virtual asks its members: whether they have a package, and whether its index lists a file.

use std::sync::Arc;

use artifactapi_formats::{Location, Plan, PlanError, Request, Resource, format_of, merge::merge_of};
use artifactapi_model::{Mutability, Refusal, Remote, RepoPath};

use crate::{Engine, error::FetchError, facts::planned, fetch::Need};

/// Ends of names of packages and indexes, whatever their type's plan says of them.
const NEVER_ALONE: [&str; 6] = [".adb", ".apk", ".rpm", ".drpm", ".tgz", ".tar.gz"];

impl Engine {
    /// Whether `remote` has the package that `request` is about: its document at `proof` (canonical path, then
    /// `?query`) exists, as its own rules of freshness say. A member whose `patterns` let neither the document nor
    /// what is asked for through is not asked: it has nothing of that name. What its blocklist names is still its
    /// own, and refused when it is asked for.
    ///
    /// # Errors
    /// [`FetchError`] when it cannot say: that is no "no".
    pub async fn has(
        self: &Arc<Self>,
        remote: &Remote,
        proof: &str,
        request: &Request<'_>,
    ) -> Result<bool, FetchError> {
        let document = match self.plan_document(remote, proof) {
            Ok(document) => document,
            Err(FetchError::Plan(PlanError::NotFound(_)) | FetchError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let format = format_of(remote.spec.package_type);
        let asked = match format.plan(request, &remote.spec, &self.links) {
            Ok(Plan::Serve(asked)) => Some(asked),
            Ok(Plan::Answer(_) | Plan::Pass(_)) | Err(_) => None,
        };
        if is_outside(remote, &document) && asked.is_none_or(|asked| is_outside(remote, &asked)) {
            return Ok(false);
        }
        if document.location == Location::Composed {
            return Ok(true);
        }
        match Box::pin(self.obtain(remote, &document, Need::Whole { depth: 0 })).await {
            Ok(obtained) => obtained.into_entry().map(|_| true),
            Err(FetchError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether clients may have what `remote` has at canonical `path`, together with what belongs to it.
    ///
    /// # Errors
    /// [`FetchError::Refused`], and [`FetchError::Plan`] for what it cannot have.
    pub fn lets_have(&self, remote: &Remote, path: &RepoPath) -> Result<(), FetchError> {
        let together = merge_of(remote.spec.package_type).map(|merge| merge.together(path));
        for file in together.unwrap_or_default() {
            Self::permit(remote, &planned(remote, &file, "", &self.links)?)?;
        }
        Ok(())
    }

    /// What `request` asks of `remote`, however it is spelled: the canonical path, and the part of the query that
    /// counts there (RS-22). `None` for what is no document and no file.
    pub fn spelling(&self, remote: &Remote, request: &Request<'_>) -> Option<String> {
        let plan = format_of(remote.spec.package_type).plan(request, &remote.spec, &self.links);
        let Ok(Plan::Serve(asked)) = plan else { return None };
        Some(format!("{}?{}", asked.path, asked.query))
    }

    /// Whether `request` asks for a package or for an index that is not merged, by its path alone: of united
    /// repositories only what their merged indexes list is served.
    pub fn asks_for_package(&self, remote: &Remote, request: &Request<'_>) -> bool {
        let plan = format_of(remote.spec.package_type).plan(request, &remote.spec, &self.links);
        let Ok(Plan::Serve(asked)) = plan else { return false };
        asked.mutability == Mutability::Immutable
            || NEVER_ALONE.iter().any(|end| asked.path.as_str().ends_with(end))
    }

    /// Whether the document of `remote` at `index` lists what `request` asks for.
    ///
    /// # Errors
    /// [`FetchError`] when it cannot say.
    pub async fn lists(
        self: &Arc<Self>,
        remote: &Remote,
        index: &str,
        request: &Request<'_>,
    ) -> Result<bool, FetchError> {
        let plan = format_of(remote.spec.package_type).plan(request, &remote.spec, &self.links)?;
        let Plan::Serve(asked) = plan else { return Ok(false) };
        let entry = self.require(remote, index, 1).await?;
        let facts = self.fact_map(remote, index, &entry).await?;
        Ok(facts.get(&asked.path, &asked.query).is_some())
    }
}

/// Whether `patterns` are set, and `resource` is not among what they let through.
fn is_outside(remote: &Remote, resource: &Resource) -> bool {
    matches!(Engine::permit(remote, resource), Err(FetchError::Refused(Refusal::NotAllowed)))
}
