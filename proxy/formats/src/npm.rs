//! The `npm` package type.

use artifactapi_model::{Mutability, PackageType, RepoPath, Spelling, repository::RemoteSpec};

use crate::{LinkSigner, PackageFormat, Plan, PlanError, Request, Resource};

/// The `npm` package type.
#[derive(Clone, Copy, Debug)]
pub struct Npm;

impl PackageFormat for Npm {
    fn package_type(&self) -> PackageType {
        PackageType::Npm
    }

    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = RepoPath::parse(request.raw_path, Spelling::Plain)?;
        Ok(Plan::Serve(Box::new(Resource::file(path, Mutability::Immutable))))
    }
}
