//! Alpine repositories as apk reads them: `{arch}/APKINDEX.tar.gz` beside the packages it lists
//! (apk-tools `database.c`, apk-v2(5), apk-repositories(5)).
//!
//! Everything is served as stored: the signature in the index covers its raw bytes. The index publishes each
//! package's size and the SHA-1 of its control member, from which [`crate::inspect::apk`] follows the chain
//! to the data. Version 3 repositories (`Packages.adb`) pass through, unread: their packages are checked by
//! the client alone.
//!
//! Rolling branches drop packages that an index still cached names, so a stored package outlives its index.
//! Below `latest-stable/`, a name moves to another branch with each release: there even packages are mutable,
//! and the engine must let a fact of the held index decide whether a stored one is fresh.

mod index;
pub(crate) mod merge;
#[cfg(test)]
mod tests;

use std::io::BufRead;

use artifactapi_model::{Mutability, PackageType, repository::RemoteSpec};

use crate::{
    Fact, IndexError, IndexRef, LinkSigner, Magic, PackageFormat, Plan, PlanError, Request, Resource, Source,
};

const INDEX: &str = "APKINDEX.tar.gz";

/// The `alpine` package type.
#[derive(Clone, Copy, Debug)]
pub struct Alpine;

impl PackageFormat for Alpine {
    fn package_type(&self) -> PackageType {
        PackageType::Alpine
    }

    /// Queries mean nothing here and are dropped.
    fn plan(
        &self,
        request: &Request<'_>,
        _remote: &RemoteSpec,
        _links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        let name = path.file_name();
        let resource = if name == INDEX || name.ends_with(".adb") {
            Resource::index(path)
        } else if name.ends_with(".apk") {
            let moves = path.as_str().split('/').any(|segment| segment == "latest-stable");
            let mutability = if moves { Mutability::Mutable } else { Mutability::Immutable };
            let index = IndexRef::held(format!("{}{INDEX}", path.parent()));
            Resource { magic: Some(Magic::Apk), indexes: vec![index], ..Resource::file(path, mutability) }
        } else {
            // Keys, release lists, installation images: nothing tells whether they change.
            Resource::file(path, Mutability::Mutable)
        };
        Ok(resource.into())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        _remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        if source.path.file_name() != INDEX {
            return Ok(());
        }
        index::read_facts(source.path.parent(), input, sink)
    }
}
