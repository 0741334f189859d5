//! Making room: what may go, in which order, and what stays whatever happens.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::gc::{COLLECTOR, Collector, room::Round};
use artifactapi_model::{
    ArtifactKey, Clock, Digest, Mutability, Notice, PackageType, Remote, RepoName, Timestamp,
    clock::ManualClock,
    ports::{BlobStore, MetadataStore, metadata::ArtifactRow},
    repository::RemoteSpec,
};
use artifactapi_stores::{MemoryBlobs, MemoryMetadata};
use support::spec;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Bench {
    clock: Arc<ManualClock>,
    metadata: Arc<MemoryMetadata>,
    blobs: Arc<MemoryBlobs>,
    collector: Collector,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        let metadata = Arc::new(MemoryMetadata::with_clock(clock.clone()));
        let blobs = Arc::new(MemoryBlobs::default());
        let collector = Collector {
            blobs: blobs.clone(),
            metadata: metadata.clone(),
            keeper: metadata.clone(),
            clock: clock.clone(),
            progress: Arc::default(),
        };
        Bench { clock, metadata, blobs, collector }
    }

    async fn remote(&self, name: &str, suspend: bool) -> Remote {
        let name = RepoName::try_from(name).unwrap();
        let spec = RemoteSpec { name, suspend, ..spec(PackageType::Generic) };
        let url = spec.base_url.to_string();
        let identity =
            self.metadata.ensure_repository("default", &spec.name, spec.package_type, &url).await.unwrap();
        Remote { identity, spec: Arc::new(spec) }
    }

    async fn put(&self, text: &str) -> Digest {
        let digest = Digest::of(text.as_bytes());
        self.metadata.announce_blob(&digest, text.len() as u64).await.unwrap();
        let mut staged = self.blobs.stage(None).await.unwrap();
        staged.write(text.to_owned().into()).await.unwrap();
        staged.commit(&digest).await.unwrap();
        digest
    }

    /// What a fill does; a second passes.
    async fn store(&self, remote: &Remote, text: &str) -> ArtifactKey {
        let digest = self.put(text).await;
        let now = self.clock.now();
        let row = ArtifactRow {
            digest,
            size: text.len() as u64,
            mutability: Mutability::Immutable,
            headers: [].into(),
            source_url: String::new(),
            verified: false,
            stored_at: now,
            checked_at: now,
            fetch_seq: self.metadata.next_fetch_seq().await.unwrap(),
        };
        let key = key(remote, text);
        self.metadata.commit_artifact(&key, &row).await.unwrap();
        self.clock.advance(SECOND);
        key
    }

    async fn has(&self, text: &str) -> bool {
        self.blobs.size(&Digest::of(text.as_bytes())).await.unwrap().is_some()
    }

    async fn left(&self, texts: &[&str]) -> String {
        let mut left = String::new();
        for text in texts {
            left.push_str(if self.has(text).await { &text[..1] } else { "" });
        }
        left
    }

    async fn round(&self) -> Round<'_> {
        self.collector.begin_round().await.unwrap().expect("nobody else collects")
    }
}

fn key(remote: &Remote, text: &str) -> ArtifactKey {
    let (repo, epoch) = (remote.identity.id, remote.identity.epoch);
    ArtifactKey { repo, epoch, path: text[..1].into() }
}

#[tokio::test]
async fn the_least_recently_used_of_all_remotes_go_at_once() {
    let bench = Bench::new();
    let remotes = [bench.remote("one", false).await, bench.remote("two", false).await];
    let all = ["a 4 ", "b 4 ", "c 4 ", "d 4 "];
    for (turn, text) in all.into_iter().enumerate() {
        bench.store(&remotes[turn % 2], text).await;
    }
    bench.metadata.touch(&[(key(&remotes[0], "a"), bench.clock.now())]).await.unwrap();
    let round = bench.round().await;
    assert_eq!(round.evictable(&remotes).await.unwrap(), 16);
    let batch = round.evict(&remotes, 5).await.unwrap();
    let want =
        [(1, "b"), (0, "c")].map(|(remote, path)| Notice::changed(&key(&remotes[remote], path), COLLECTOR));
    assert_eq!(batch.notices, want);
    assert_eq!(bench.left(&all).await, "abcd", "nobody has been told yet");
    assert_eq!(round.delete(&batch).await.unwrap(), 8);
    assert_eq!(bench.left(&all).await, "ad");
    assert!(bench.metadata.artifact(&key(&remotes[1], "b")).await.unwrap().is_none());
    let pinned = bench.metadata.pinned(&key(&remotes[1], "b")).await.unwrap();
    assert_eq!(pinned, Some(Digest::of(b"b 4 ")), "the ledger stays");
    let batch = round.evict(&remotes, u64::MAX).await.unwrap();
    assert_eq!((batch.len(), round.delete(&batch).await.unwrap()), (2, 8));
    assert!(round.evict(&remotes, 1).await.unwrap().is_empty(), "nothing is left");
    let numbers = bench.collector.progress.numbers();
    assert_eq!((numbers.room_artifacts, numbers.room_bytes), (4, 16));
    assert!(bench.collector.begin_round().await.unwrap().is_none(), "one at a time");
}

#[tokio::test]
async fn what_cannot_be_fetched_again_or_is_about_to_be_named_stays() {
    let bench = Bench::new();
    let remotes = [bench.remote("asleep", true).await, bench.remote("awake", false).await];
    bench.store(&remotes[0], "suspended").await;
    bench.store(&remotes[1], "plain").await;
    bench.store(&remotes[1], "held").await;
    // Both have it.
    bench.store(&remotes[0], "twice").await;
    bench.store(&remotes[1], "twice").await;
    let round = bench.round().await;
    assert_eq!(round.evictable(&remotes).await.unwrap(), 5 + 4 + 5);
    let hold = bench.metadata.hold(&Digest::of(b"held"));
    let batch = round.evict(&remotes, u64::MAX).await.unwrap();
    assert_eq!((batch.len(), round.delete(&batch).await.unwrap()), (3, 5));
    assert_eq!(bench.left(&["suspended", "plain", "held", "twice"]).await, "sht");
    assert_eq!(round.delete(&batch).await.unwrap(), 0);
    drop(hold);
    assert_eq!(round.delete(&batch).await.unwrap(), 4);
    assert!(!bench.has("held").await);
}

#[tokio::test]
async fn garbage_goes_after_an_hour_or_the_grace_period_if_that_is_shorter() {
    for (grace, age) in [(DAY, Duration::from_secs(3600)), (Duration::from_secs(60), Duration::from_secs(60))]
    {
        let bench = Bench::new();
        let remote = bench.remote("one", false).await;
        bench.store(&remote, "named").await;
        bench.put("garbage").await;
        bench.put("held").await;
        let hold = bench.metadata.hold(&Digest::of(b"held"));
        bench.clock.advance(age - SECOND);
        let round = bench.round().await;
        assert_eq!(round.drop_garbage(grace).await.unwrap(), 0, "a push may come back for it");
        bench.clock.advance(SECOND);
        assert_eq!(round.drop_garbage(grace).await.unwrap(), 7);
        assert_eq!(bench.left(&["named", "garbage", "held"]).await, "nh");
        drop(hold);
    }
}
