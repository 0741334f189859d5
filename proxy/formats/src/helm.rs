//! The `helm` package type: classic chart repositories (`index.yaml`, charts, provenance files).
//!
//! An index is served as JSON under its own name: JSON is YAML, and Helm reads it leniently and many times
//! faster than YAML, which it parses strictly. Chart URLs become relative to the index, so one derived index
//! serves every host name; they carry no query, since Helm appends `.prov` to them. Charts in OCI registries
//! (`oci://`) stay as they are.
//!
//! Sources: helm/helm:pkg/repo/v1/{index,chartrepo}.go, pkg/downloader/chart_downloader.go,
//! pkg/getter/httpgetter.go.

mod block;
mod charts;
mod layout;
pub(crate) mod merge;
mod read;
mod scalar;
mod shape;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

use std::io::{BufRead, Write};

use artifactapi_model::{Mutability, PackageType, RepoPath, repository::RemoteSpec};

use self::{read::Piece, write::Index};
use crate::{
    Fact, IndexError, IndexRef, LinkSigner, Magic, PackageFormat, Plan, PlanError, Representation, Request,
    Resource, RewriteContext, Source, placement::linked_file,
};

/// The `helm` package type.
#[derive(Clone, Copy, Debug)]
pub struct Helm;

/// The index in JSON, with our URLs.
const INDEX: Representation = Representation("index");
/// Most directories above a chart whose indexes are asked about it.
const MAX_ANCESTORS: usize = 8;

impl PackageFormat for Helm {
    fn package_type(&self) -> PackageType {
        PackageType::Helm
    }

    fn probe(&self) -> &'static str {
        "index.yaml"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        remote: &RemoteSpec,
        links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        if let Some(file) = links.open(remote, &path)? {
            return Ok(linked_file(file).into());
        }
        let name = path.file_name();
        if name == "index.yaml" {
            return Ok(Resource { representation: Some(INDEX), ..Resource::index(path) }.into());
        }
        let chart = name.strip_suffix(".prov").unwrap_or(name);
        if !chart.ends_with(".tgz") {
            return Ok(Resource::file(path, Mutability::Mutable).into());
        }
        let magic = if chart == name { Some(Magic::Gzip) } else { None };
        let indexes = indexes_above(&path).map(IndexRef::held).collect();
        Ok(Resource { magic, indexes, ..Resource::file(path, Mutability::Immutable) }.into())
    }

    fn version(&self) -> u32 {
        2
    }

    fn fingerprint(&self, cx: &RewriteContext<'_>) -> String {
        // Nothing in the index depends on our own address.
        format!("{} {:?}", cx.remote.base_url, cx.remote.file_hosts)
    }

    fn rewrite(
        &self,
        _resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        let mut index = Index::new(output);
        read::index(input, &mut |piece| match piece {
            Piece::Entry(mut entry) => {
                if charts::rewrite(&mut entry, source, cx) {
                    index.piece(Piece::Entry(entry))?;
                }
                Ok(())
            }
            piece => index.piece(piece),
        })?;
        index.end()?;
        Ok("application/json".to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        if source.path.file_name() != "index.yaml" {
            return Ok(());
        }
        read::index(input, &mut |piece| {
            if let Piece::Entry(entry) = piece {
                charts::facts(&entry, source, remote, sink);
            }
            Ok(())
        })
    }
}

/// The indexes that may list the chart at `path`: in its own directory and in those above, nearest first.
fn indexes_above(path: &RepoPath) -> impl Iterator<Item = String> {
    let ends = path.as_str().rmatch_indices('/').map(|(end, _)| end + 1).chain([0]);
    ends.take(MAX_ANCESTORS).map(|end| format!("{}index.yaml", &path.as_str()[..end]))
}
