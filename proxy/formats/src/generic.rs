//! The `generic` package type.

use artifactapi_model::{Mutability, PackageType, RepoPath, Spelling, repository::RemoteSpec};

use crate::{LinkSigner, PackageFormat, Plan, PlanError, Request, Resource};

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
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = RepoPath::parse(request.raw_path, Spelling::Plain)?;
        Ok(Plan::Serve(Box::new(Resource::file(path, Mutability::Immutable))))
    }
}
