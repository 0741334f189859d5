//! What may be deleted beside immutable tags.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use artifactapi_model::{
    Local, PackageType, RepoName,
    oci::{ImageName, OciDigest, Reference, Tag},
    policy::Patterns,
    ports::MetadataStore as _,
    repository::{Deletion, LocalSpec, ReadAccess},
};
use artifactapi_registry::{Registry, RegistryError};
use artifactapi_stores::{FsBlobs, MemoryMetadata};
use serde_json::json;
use tempfile::TempDir;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

struct Bench {
    registry: Registry,
    local: Local,
    image: ImageName,
    _directory: TempDir,
}

impl Bench {
    /// A Local whose tags that begin with `v` are immutable.
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let blobs = Arc::new(FsBlobs::open(directory.path()).await.unwrap());
        let rows = Arc::new(MemoryMetadata::default());
        let name: RepoName = "pushed".parse().unwrap();
        let identity = rows.ensure_repository("default", &name, PackageType::Docker, "").await.unwrap();
        let spec = LocalSpec {
            name,
            namespace: "default".into(),
            package_type: PackageType::Docker,
            read: ReadAccess::Anonymous,
            anonymous_write: true,
            read_only: false,
            allow_deletes: true,
            immutable_tags: Patterns::compile(&["^v"]).unwrap(),
            untagged_ttl: None,
            terraform_protocols: vec![],
            quota: None,
            deletion: Deletion::Retain,
        };
        let registry = Registry::new(rows.clone(), rows, Arc::new(blobs.uploads()), blobs);
        let local = Local { identity, spec: Arc::new(spec) };
        Bench { registry, local, image: "app".parse().unwrap(), _directory: directory }
    }

    /// Pushes an index with these tags.
    async fn push(&self, salt: &str, children: &[OciDigest], tags: &[&str]) -> OciDigest {
        let entry = |digest: &OciDigest| json!({"mediaType": INDEX, "digest": digest.to_string(), "size": 1});
        let document = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": children.iter().map(entry).collect::<Vec<_>>(),
            "annotations": {"salt": salt},
        });
        let body = document.to_string();
        let digest = OciDigest::of(artifactapi_model::oci::Algorithm::Sha256, body.as_bytes());
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let reference = Reference::Digest(digest);
        let put =
            self.registry.put_manifest(&self.local, &self.image, &reference, &tags, Some(INDEX), body.into());
        put.await.unwrap().digest
    }

    async fn delete(&self, digest: OciDigest) -> Result<(), RegistryError> {
        self.registry.delete_manifest(&self.local, &self.image, &Reference::Digest(digest)).await
    }

    async fn is_there(&self, digest: OciDigest) -> bool {
        let reference = Reference::Digest(digest);
        self.registry.manifest(&self.local, &self.image, &reference, false).await.is_ok()
    }
}

fn is_immutable(answer: &Result<(), RegistryError>, tag: &str) -> bool {
    matches!(answer, Err(RegistryError::ImmutableTag(found)) if found.as_str() == tag)
}

#[tokio::test]
async fn what_an_immutable_tag_points_to_stays_whole() {
    let bench = Bench::new().await;
    let child = bench.push("child", &[], &["latest"]).await;
    let index = bench.push("index", &[child], &["main"]).await;
    let outer = bench.push("outer", &[index], &["v1"]).await;
    for digest in [child, index, outer] {
        let answer = bench.delete(digest).await;
        assert!(is_immutable(&answer, "v1"), "{answer:?}");
        assert!(bench.is_there(digest).await);
    }
}

#[tokio::test]
async fn an_immutable_tag_is_found_behind_many_others() {
    let bench = Bench::new().await;
    let child = bench.push("child", &[], &[]).await;
    for hundred in 0..11 {
        let tags: Vec<String> = (0..100).map(|number| format!("a{hundred:02}{number:02}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        bench.push("index", &[child], &tags).await;
    }
    let index = bench.push("index", &[child], &["v1"]).await;
    let answer = bench.delete(child).await;
    assert!(is_immutable(&answer, "v1"), "{answer:?}");
    assert!(bench.is_there(index).await);
}

#[tokio::test]
async fn a_manifest_may_be_deleted_before_the_indexes_that_list_it() {
    let bench = Bench::new().await;
    let child = bench.push("child", &[], &["latest"]).await;
    let index = bench.push("index", &[child], &["main"]).await;
    bench.push("beside", &[], &["v1"]).await;
    bench.delete(child).await.unwrap();
    assert!(!bench.is_there(child).await && bench.is_there(index).await);
}
