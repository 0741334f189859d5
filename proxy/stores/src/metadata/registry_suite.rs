//! What every database must do for Locals of type docker. An adapter's test calls [`suite`] with a function that makes
//! an empty store and returns all its faces.
//!
//! Time is the database's, so the cases use times that are over at once or not before the test ends.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

mod links;
mod manifests;
mod places;
mod races;
mod retention;
mod uploads;

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Digest, RepoId,
    oci::{Algorithm, ImageName, OciDigest, Tag},
    ports::{
        Housekeeping, MetadataStore,
        registry::{
            Begun, Claim, ClosedUpload, ImageKey, LinkedBlob, Linking, Manifest, NewManifest, NewTag, Put,
            RegistryStore, UploadLimits,
        },
        uploads::{Place, UploadId},
    },
};

/// Over at once.
const NONE: Duration = Duration::ZERO;
/// Not over before the test ends.
const LONG: Duration = Duration::from_secs(3600);
const ALL: usize = 10_000;
const UNLIMITED: UploadLimits = UploadLimits { sessions: 1_000, quota: None };

/// All faces of one store.
#[derive(Clone)]
#[expect(missing_docs, reason = "named after the ports")]
pub struct Faces {
    pub registry: Arc<dyn RegistryStore>,
    pub metadata: Arc<dyn MetadataStore>,
    pub keeper: Arc<dyn Housekeeping>,
}

impl Faces {
    /// Those of `store`.
    pub fn of(store: Arc<impl RegistryStore + MetadataStore + Housekeeping>) -> Self {
        Faces { registry: store.clone(), metadata: store.clone(), keeper: store }
    }
}

/// Runs everything; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Faces) {
    uploads::suite(&make).await;
    links::suite(&make).await;
    places::suite(&make).await;
    manifests::suite(&make).await;
    retention::suite(&make).await;
    races::suite(&make).await;
}

fn image(repo: i64, name: &str) -> ImageKey {
    ImageKey { repo: RepoId(repo), name: name.parse().unwrap() }
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn id(number: u128) -> UploadId {
    UploadId::of(number.to_be_bytes())
}

fn place(number: u128) -> Place {
    Place(format!("uploads/{}", id(number)))
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn sha256(text: &str) -> OciDigest {
    OciDigest::of(Algorithm::Sha256, text.as_bytes())
}

fn sha512(text: &str) -> OciDigest {
    OciDigest::of(Algorithm::Sha512, text.as_bytes())
}

fn blob(text: &str) -> LinkedBlob {
    LinkedBlob { blob: key(text), size: text.len() as u64 }
}

fn body(digest: OciDigest, text: &str, place: Option<Place>) -> ClosedUpload {
    ClosedUpload { digest, blob: key(text), size: text.len() as u64, place }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn tags(texts: &[&str]) -> Vec<Tag> {
    texts.iter().map(|text| tag(text)).collect()
}

/// An id that nobody has used in this process.
fn fresh_id() -> UploadId {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static USED: AtomicU64 = AtomicU64::new(1 << 32);
    id(USED.fetch_add(1, Relaxed).into())
}

/// Pushes a blob as one session that is opened, claimed and closed.
async fn close(
    store: &Faces,
    image: &ImageKey,
    id: &UploadId,
    body: &ClosedUpload,
    quota: Option<u64>,
) -> Linking {
    let begun = store.registry.begin_upload(image, id, &UNLIMITED).await.unwrap();
    assert_eq!(begun, Begun::Started);
    let claim = store.registry.claim_upload(image, id, "pusher", LONG).await.unwrap();
    assert!(matches!(claim, Claim::Taken { .. }), "{claim:?}");
    store.registry.close_upload(image, id, "pusher", body, quota).await.unwrap()
}

async fn push(store: &Faces, image: &ImageKey, text: &str) {
    let body = body(sha256(text), text, None);
    assert_eq!(close(store, image, &fresh_id(), &body, None).await, Linking::Linked);
}

/// Looks at all links; how many were dropped.
async fn expire_links(store: &Faces, grace: Duration) -> u64 {
    store.registry.expire_links(grace, ALL).await.unwrap().dropped
}

async fn linked(store: &Faces, image: &ImageKey, text: &str) -> Option<LinkedBlob> {
    store.registry.linked(image, &sha256(text), false).await.unwrap()
}

/// Everything a collection takes with grace periods that are over.
async fn collect(store: &Faces) -> Vec<Digest> {
    store.keeper.condemn_blobs(NONE, ALL, false).await.unwrap();
    let claimed = store.keeper.claim_blobs(NONE, ALL).await.unwrap();
    for (digest, _) in &claimed {
        store.keeper.drop_blob(digest).await.unwrap();
    }
    claimed.into_iter().map(|(digest, _)| digest).collect()
}

/// A manifest of text `text` that names nothing.
fn manifest(text: &str) -> NewManifest {
    NewManifest {
        manifest: Manifest {
            digest: sha256(text),
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            body: bytes::Bytes::copy_from_slice(text.as_bytes()),
        },
        artifact_type: None,
        annotations: Default::default(),
        subject: None,
        blobs: Vec::new(),
        children: Vec::new(),
        tags: Vec::new(),
    }
}

fn movable(texts: &[&str]) -> Vec<NewTag> {
    tags(texts).into_iter().map(|tag| NewTag { tag, immutable: false }).collect()
}

/// The same with tags that may move.
fn tagged(text: &str, texts: &[&str]) -> NewManifest {
    NewManifest { tags: movable(texts), ..manifest(text) }
}

async fn put(store: &Faces, image: &ImageKey, new: &NewManifest) -> Put {
    store.registry.put_manifest(image, new).await.unwrap()
}

async fn stored(store: &Faces, image: &ImageKey, new: &NewManifest) {
    assert_eq!(put(store, image, new).await, Put::Stored);
}

async fn has_manifest(store: &Faces, image: &ImageKey, text: &str) -> bool {
    let reference = artifactapi_model::oci::Reference::Digest(sha256(text));
    store.registry.manifest(image, &reference, false).await.unwrap().is_some()
}
