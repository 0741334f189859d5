//! Clients that send next to nothing, and a store that fails at one thing: neither holds up anybody else.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use artifactapi_model::{
    Digest, Local, PackageType, RepoName, Timestamp,
    clock::ManualClock,
    oci::{Algorithm, ImageName, OciDigest},
    policy::Patterns,
    ports::{BlobError, BlobReader, MetadataStore as _, Place, Stored, UploadId, UploadStore, UploadWriter},
    repository::{Deletion, LocalSpec, ReadAccess},
};
use artifactapi_registry::{
    Pushed, Registry, RegistryError,
    push::{Body, Source, Write},
    sweep,
};
use artifactapi_stores::{MemoryBlobs, MemoryMetadata};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

/// What a store says that has trouble with something.
fn trouble() -> BlobError {
    BlobError::Io { doing: "dropping an upload", source: std::io::Error::other("it is stuck") }
}

/// An upload store that fails at the uploads it is told to.
struct Stuck {
    uploads: Arc<dyn UploadStore>,
    at: Mutex<BTreeSet<UploadId>>,
}

impl Stuck {
    fn check(&self, id: &UploadId) -> Result<(), BlobError> {
        if self.at.lock().unwrap().contains(id) { Err(trouble()) } else { Ok(()) }
    }
}

#[async_trait]
impl UploadStore for Stuck {
    async fn resume(
        &self,
        id: &UploadId,
        stored: &Stored,
        offset: u64,
        took_over: bool,
    ) -> Result<Box<dyn UploadWriter>, BlobError> {
        self.uploads.resume(id, stored, offset, took_over).await
    }

    async fn read(
        &self,
        id: &UploadId,
        stored: &Stored,
        length: u64,
    ) -> Result<Arc<dyn BlobReader>, BlobError> {
        self.uploads.read(id, stored, length).await
    }

    async fn discard(&self, id: &UploadId, stored: &Stored, placed: bool) -> Result<(), BlobError> {
        self.check(id)?;
        self.uploads.discard(id, stored, placed).await
    }

    async fn settle(&self, place: &Place, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        self.uploads.settle(place, digest, size).await
    }

    async fn remove_place(&self, place: &Place) -> Result<(), BlobError> {
        self.uploads.remove_place(place).await
    }

    async fn list(
        &self,
        after: Option<&UploadId>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError> {
        self.uploads.list(after, age, limit).await
    }
}

struct Bench {
    registry: Registry,
    rows: Arc<MemoryMetadata>,
    stuck: Arc<Stuck>,
    /// The database's.
    clock: Arc<ManualClock>,
    local: Local,
    image: ImageName,
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000_000)));
        let (blobs, rows) =
            (Arc::new(MemoryBlobs::default()), Arc::new(MemoryMetadata::with_clock(clock.clone())));
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
            immutable_tags: Patterns::default(),
            untagged_ttl: None,
            terraform_protocols: vec![],
            quota: None,
            deletion: Deletion::Retain,
        };
        let stuck = Arc::new(Stuck { uploads: Arc::new(blobs.uploads()), at: Mutex::default() });
        let registry = Registry::new(rows.clone(), rows.clone(), stuck.clone(), blobs);
        let local = Local { identity, spec: Arc::new(spec) };
        Bench { registry, rows, stuck, clock, local, image: "app".parse().unwrap() }
    }

    async fn begin(&self) -> UploadId {
        self.registry.begin(&self.local, &self.image, Algorithm::default()).await.unwrap()
    }

    async fn write(
        &self,
        id: &UploadId,
        body: Body,
        digest: Option<OciDigest>,
    ) -> Result<Pushed, RegistryError> {
        let write = Write { id: id.clone(), span: None, body, digest, whole: false };
        self.registry.write(&self.local, &self.image, write).await
    }

    async fn offset(&self, id: &UploadId) -> u64 {
        self.registry.upload_offset(&self.local, &self.image, id).await.unwrap()
    }

    async fn sweep(&self, step: usize) -> sweep::Swept {
        let options = sweep::Options { grace: GRACE, step, strays: true };
        self.registry.sweep(&*self.rows, std::slice::from_ref(&self.local), &options).await.unwrap()
    }

    async fn bytes_left(&self) -> Vec<UploadId> {
        self.registry.uploads.list(None, Duration::ZERO, 1_000).await.unwrap()
    }
}

const GRACE: Duration = Duration::from_secs(3600);

/// `size` bytes each `pause`, `times` in all.
fn pieces(pause: Duration, size: usize, times: usize) -> Body {
    let steps = stream::iter(0..times).then(move |_| async move {
        tokio::time::sleep(pause).await;
        Ok(Bytes::from(vec![b'x'; size]))
    });
    Box::pin(steps)
}

/// RS-64: a byte a second keeps a request, a claim and a connection for ever. What came is kept, and whoever is in
/// earnest goes on from there.
#[tokio::test(start_paused = true)]
async fn rs_64_a_client_that_sends_a_byte_a_second_is_cut_off() {
    let bench = Bench::new().await;
    for pause in [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3600)] {
        let id = bench.begin().await;
        let began = Instant::now();
        let answer = bench.write(&id, pieces(pause, 1, 1_000_000), None).await;
        assert!(matches!(answer, Err(RegistryError::BodyLost)), "{pause:?}: {answer:?}");
        let took = began.elapsed();
        let bounds = Duration::from_secs(30)..Duration::from_secs(35);
        assert!(bounds.contains(&took), "a byte every {pause:?} was taken for {took:?}");
        let came = bench.offset(&id).await;
        let most = took.as_millis() / pause.as_millis();
        assert!(u128::from(came) <= most && u128::from(came) + 1 >= most.min(1), "{came} of {most} bytes");
        let whole = vec![b'x'; usize::try_from(came).unwrap() + 5];
        let digest = OciDigest::of(Algorithm::Sha256, &whole);
        let rest = bench.write(&id, pieces(Duration::ZERO, 5, 1), Some(digest)).await;
        assert_eq!(rest.unwrap(), Pushed::Blob(digest), "what came counts");
    }
}

/// Slow lines are no crime: a KiB within half a minute is enough, for hours.
#[tokio::test(start_paused = true)]
async fn rs_64_a_slow_client_is_waited_for() {
    let bench = Bench::new().await;
    let id = bench.begin().await;
    let whole = vec![b'x'; 500 << 10];
    let digest = OciDigest::of(Algorithm::Sha256, &whole);
    let began = Instant::now();
    let answer = bench.write(&id, pieces(Duration::from_secs(25), 1 << 10, 500), Some(digest)).await;
    assert_eq!(answer.unwrap(), Pushed::Blob(digest));
    assert!(began.elapsed() > 3 * GRACE, "{:?}", began.elapsed());
}

/// What cannot be done with one upload keeps no other from its end, and is tried again.
#[tokio::test(start_paused = true)]
async fn a_sweep_goes_on_after_what_is_stuck() {
    // In pages, and in one.
    for step in [3, 500] {
        let bench = Bench::new().await;
        let mut ids = Vec::new();
        for _ in 0..20 {
            let id = bench.begin().await;
            bench.write(&id, pieces(Duration::ZERO, 10, 1), None).await.unwrap();
            ids.push(id);
        }
        let stuck: BTreeSet<UploadId> = ids.iter().step_by(10).cloned().collect();
        *bench.stuck.at.lock().unwrap() = stuck.clone();
        assert_eq!(bench.sweep(step).await.uploads, 0, "none is old enough");
        bench.clock.advance(GRACE);
        tokio::time::sleep(GRACE).await;
        // A sweep ends with the page in which something fails, so that it does not meet it again and again.
        let (mut ended, mut failed, mut sweeps) = (0, 0, 0);
        while bench.bytes_left().await.len() > stuck.len() {
            let swept = bench.sweep(step).await;
            assert!(swept.ran && swept.failed > 0, "{swept}");
            (ended, failed, sweeps) = (ended + swept.uploads, failed + swept.failed, sweeps + 1);
            assert!(sweeps <= 20, "pages of {step}: {ended} of {} ended in {sweeps} sweeps", ids.len());
        }
        println!(
            "figure: pages of {step}: {ended} uploads ended in {sweeps} sweeps beside {} stuck",
            stuck.len()
        );
        let left: BTreeSet<UploadId> = bench.bytes_left().await.into_iter().collect();
        assert_eq!(left, stuck, "only what is stuck is left");
        bench.stuck.at.lock().unwrap().clear();
        while !bench.bytes_left().await.is_empty() {
            assert!(bench.sweep(step).await.uploads > 0, "what was stuck is tried again");
        }
        assert_eq!(bench.registry.blobs.list(None, 10).await.unwrap(), [], "nothing was made of them");
    }
}

/// Nobody pushes what he is told is there, or gets from another image: then lost bytes could never come back.
#[tokio::test]
async fn a_blob_whose_bytes_are_lost_is_pushed_again() {
    let bench = Bench::new().await;
    let (body, other) = (vec![b'x'; 5], "other".parse().unwrap());
    let digest = OciDigest::of(Algorithm::Sha256, &body);
    let push = async || bench.write(&bench.begin().await, pieces(Duration::ZERO, 5, 1), Some(digest)).await;
    let is_there = async || bench.registry.blob(&bench.local, &bench.image, &digest, true).await.is_ok();
    let mount = async || {
        let from = Source::Image(&bench.local, bench.image.clone());
        bench.registry.mount(&bench.local, &other, &digest, from).await.unwrap()
    };
    push().await.unwrap();
    assert!(is_there().await);
    bench.registry.blobs.remove(&Digest::of(&body)).await.unwrap();
    assert_eq!((is_there().await, mount().await), (false, None));
    push().await.unwrap();
    assert_eq!((is_there().await, mount().await), (true, Some(digest)));
}
