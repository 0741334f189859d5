//! The collector against fills: nothing that a row names is ever lost, and what nothing names goes.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use artifactapi_engine::gc::{COLLECTOR, Collector, Configured, Options, Report};
use artifactapi_model::{
    ArtifactKey, Clock, Digest, Epoch, Mutability, Notice, PackageType, Remote, RepoId, Timestamp,
    clock::ManualClock,
    ports::{
        BlobError, BlobReader, BlobStore, Housekeeping, MetadataStore, StagedBlob,
        housekeeping::{BlobStates, Total},
        metadata::{Announced, ArtifactRow},
    },
    repository::{RemoteSpec, Retention},
};
use artifactapi_stores::{MemoryBlobs, MemoryMetadata};
use async_trait::async_trait;
use support::spec;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const START: i64 = 1_700_000_000_000;

/// A blob store that will not delete while it is told so.
#[derive(Default)]
struct Stubborn {
    blobs: MemoryBlobs,
    refuses: AtomicBool,
}

#[async_trait]
impl BlobStore for Stubborn {
    async fn stage(&self, length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        self.blobs.stage(length).await
    }
    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        self.blobs.open(digest).await
    }
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.blobs.size(digest).await
    }
    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        if self.refuses.load(Ordering::SeqCst) {
            let source = std::io::Error::other("read-only");
            return Err(BlobError::Io { doing: "deleting a blob", source });
        }
        self.blobs.remove(digest).await
    }
    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        self.blobs.quarantine(digest).await
    }
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        self.blobs.list(after, limit).await
    }
}

/// Stores in memory on a clock that tests move.
struct Bench {
    clock: Arc<ManualClock>,
    metadata: Arc<MemoryMetadata>,
    blobs: Arc<Stubborn>,
    collector: Collector,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(START)));
        let metadata = Arc::new(MemoryMetadata::with_clock(clock.clone()));
        let blobs = Arc::new(Stubborn::default());
        let collector = Collector {
            blobs: blobs.clone(),
            metadata: metadata.clone(),
            keeper: metadata.clone(),
            clock: clock.clone(),
            progress: Arc::default(),
        };
        Bench { clock, metadata, blobs, collector }
    }

    async fn put(&self, text: &str) {
        put(&*self.blobs, text).await;
    }

    /// What a fill does.
    async fn store(&self, path: &str, text: &str) {
        let (digest, size) = blob(text);
        assert_eq!(self.metadata.announce_blob(&digest, size).await.unwrap(), Announced::Kept);
        self.put(text).await;
        let row = row(text, self.clock.now(), self.metadata.next_fetch_seq().await.unwrap());
        self.metadata.commit_artifact(&key(path), &row).await.unwrap();
    }

    async fn evict(&self, path: &str) {
        let row = self.metadata.artifact(&key(path)).await.unwrap().unwrap();
        self.metadata.forget_artifact(&key(path), &row.digest).await.unwrap();
    }

    async fn has(&self, text: &str) -> bool {
        self.blobs.size(&blob(text).0).await.unwrap().is_some()
    }

    async fn run(&self) -> Report {
        self.collector.run_once(None, &quick()).await.unwrap()
    }

    async fn remote(&self, retention: Retention) -> Remote {
        let spec = RemoteSpec { retention, ..spec(PackageType::Generic) };
        let url = spec.base_url.to_string();
        let identity =
            self.metadata.ensure_repository("default", &spec.name, spec.package_type, &url).await.unwrap();
        Remote { identity, spec: Arc::new(spec) }
    }
}

async fn put(blobs: &dyn BlobStore, text: &str) {
    let mut staged = blobs.stage(None).await.unwrap();
    staged.write(text.to_owned().into()).await.unwrap();
    staged.commit(&blob(text).0).await.unwrap();
}

fn blob(text: &str) -> (Digest, u64) {
    (Digest::of(text.as_bytes()), text.len() as u64)
}

fn key(path: &str) -> ArtifactKey {
    ArtifactKey { repo: RepoId(1), epoch: Epoch(1), path: path.into() }
}

fn row(text: &str, at: Timestamp, fetch_seq: i64) -> ArtifactRow {
    let (digest, size) = blob(text);
    ArtifactRow {
        digest,
        size,
        mutability: Mutability::Mutable,
        headers: [].into(),
        source_url: String::new(),
        verified: false,
        stored_at: at,
        checked_at: at,
        fetch_seq,
    }
}

/// A day's grace without rests.
fn quick() -> Options {
    Options { rest: Duration::ZERO, step: 2, ..Options::default() }
}

fn states(live: (u64, u64), condemned: (u64, u64), deleting: (u64, u64)) -> BlobStates {
    let total = |(count, bytes)| Total { count, bytes };
    BlobStates { live: total(live), condemned: total(condemned), deleting: total(deleting) }
}

#[tokio::test]
async fn garbage_goes_after_two_grace_periods_and_not_before() {
    let bench = Bench::new();
    for n in 0..5 {
        bench.store(&format!("old-{n}"), &format!("garbage {n}")).await;
    }
    bench.store("kept", "kept").await;
    bench.clock.advance(DAY * 10);
    assert_eq!(bench.run().await.condemned, 0, "rows name them");
    for n in 0..5 {
        bench.evict(&format!("old-{n}")).await;
    }
    let condemned = bench.run().await;
    assert_eq!((condemned.condemned, condemned.condemned_bytes, condemned.deleted), (5, 45, 0));
    bench.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(bench.run().await.deleted, 0);
    assert!(bench.has("garbage 3").await);
    bench.store("again", "garbage 3").await;
    bench.clock.advance(Duration::from_millis(1));
    let report = bench.run().await;
    assert_eq!((report.deleted, report.freed, report.failed), (4, 36, 0));
    assert_eq!(report.states, states((2, 13), (0, 0), (0, 0)));
    assert!(!bench.has("garbage 2").await);
    assert!(bench.has("garbage 3").await && bench.has("kept").await, "what rows name stays");
    let numbers = bench.collector.progress.numbers();
    assert_eq!((numbers.condemned, numbers.deleted, numbers.freed), (5, 4, 36));
    assert_eq!(numbers.states, Some(report.states));
}

#[tokio::test]
async fn rs_115_strays_are_taken_up_and_live_for_a_grace_period() {
    let bench = Bench::new();
    for text in ["stray", "another", "third"] {
        bench.put(text).await;
    }
    bench.store("kept", "kept").await;
    assert_eq!(bench.collector.run_once(None, &Options { sweep: false, ..quick() }).await.unwrap().strays, 0);
    assert_eq!(bench.run().await.strays, 3);
    bench.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(
        bench.run().await,
        Report { ran: true, states: states((1, 4), (3, 17), (0, 0)), ..Report::default() }
    );
    bench.store("named", "third").await;
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.run().await.deleted, 2);
    assert!(bench.has("third").await && bench.has("kept").await && !bench.has("stray").await);
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let bench = Bench::new();
    let remote = bench.remote(Retention { unused_for: None, max_bytes: Some(7) }).await;
    bench.store("old", "garbage").await;
    bench.evict("old").await;
    bench.store("a", "12345").await;
    bench.store("b", "6789").await;
    bench.put("stray").await;
    bench.clock.advance(DAY);
    let configured = Configured { remotes: vec![remote], ..Configured::default() };
    let dry = Options { dry: true, ..quick() };
    let report = bench.collector.run_once(Some(&configured), &dry).await.unwrap();
    assert_eq!((report.evicted, report.condemned, report.condemned_bytes), (1, 1, 7));
    assert_eq!((report.deleted, report.strays, report.notices.len()), (0, 0, 0));
    assert_eq!(report.states, states((3, 16), (0, 0), (0, 0)));
    assert!(
        report.to_string().starts_with("a run would evict 1 artifacts by size and condemn 1 blobs (7 bytes)")
    );
    assert!(bench.metadata.artifact(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn rs_116_one_collector_at_a_time() {
    let bench = Bench::new();
    let turn = bench.metadata.take_turn("gc").await.unwrap();
    assert!(turn.is_some());
    let report = bench.run().await;
    assert!(!report.ran);
    assert_eq!(report.to_string(), "another process is collecting; nothing was done");
    drop(turn);
    assert!(bench.run().await.ran);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_tried_again_and_stops_nobody() {
    let bench = Bench::new();
    for text in ["one", "two", "three"] {
        bench.store(text, text).await;
        bench.evict(text).await;
    }
    bench.clock.advance(DAY);
    bench.run().await;
    bench.clock.advance(DAY);
    bench.blobs.refuses.store(true, Ordering::SeqCst);
    let report = bench.run().await;
    assert_eq!((report.deleted, report.failed), (0, 2), "a step of them");
    assert_eq!(report.states.deleting.count, 2);
    bench.blobs.refuses.store(false, Ordering::SeqCst);
    let resumed = bench.collector.resume(&quick()).await.unwrap();
    assert_eq!((resumed.deleted, resumed.states), (2, states((0, 0), resumed_condemned(), (0, 0))));
    assert_eq!(bench.run().await.deleted, 1);
}

/// One of "one", "two" and "three", whichever comes last in digest order.
fn resumed_condemned() -> (u64, u64) {
    let mut all = ["one", "two", "three"].map(blob);
    all.sort_unstable();
    (1, all[2].1)
}

#[tokio::test]
async fn retention_drops_the_unused_then_the_least_recently_used_and_tells() {
    let bench = Bench::new();
    let remote = bench.remote(Retention { unused_for: Some(DAY * 7), max_bytes: Some(10) }).await;
    bench.store("ancient", "1").await;
    bench.clock.advance(DAY * 5);
    for (path, text) in [("a", "aaaa"), ("b", "bbbb"), ("c", "cccc")] {
        bench.store(path, text).await;
        bench.clock.advance(HOUR);
    }
    bench.metadata.touch(&[(key("a"), bench.clock.now())]).await.unwrap();
    bench.clock.advance(DAY * 2);
    let configured = Configured { remotes: vec![remote], ..Configured::default() };
    let report = bench.collector.run_once(Some(&configured), &quick()).await.unwrap();
    assert_eq!(report.evicted, 2);
    let want = [Notice::changed(&key("ancient"), COLLECTOR), Notice::changed(&key("b"), COLLECTOR)];
    assert_eq!(report.notices, want);
    for (path, stays) in [("ancient", false), ("a", true), ("b", false), ("c", true)] {
        assert_eq!(bench.metadata.artifact(&key(path)).await.unwrap().is_some(), stays, "{path}");
    }
    assert_eq!(bench.collector.run_once(Some(&configured), &quick()).await.unwrap().evicted, 0);
}

#[tokio::test]
async fn many_evictions_are_told_as_one() {
    let bench = Bench::new();
    let remote = bench.remote(Retention { unused_for: None, max_bytes: Some(0) }).await;
    for n in 0..250 {
        bench.store(&format!("{n}"), "x").await;
    }
    let configured = Configured { remotes: vec![remote], ..Configured::default() };
    let report = bench.collector.run_once(Some(&configured), &quick()).await.unwrap();
    assert_eq!(report.evicted, 250);
    assert_eq!(report.notices, [Notice::ChangedBelow { repo: 1, epoch: 1, prefix: String::new() }]);
}

#[tokio::test]
async fn retired_repositories_go_when_the_configuration_is_known() {
    let bench = Bench::new();
    let remote = bench.remote(Retention::default()).await;
    bench.store("a", "a").await;
    let configured = Configured { remotes: vec![remote.clone()], ..Configured::default() };
    let without = Configured::default();
    let other = Configured { others: vec![remote.identity.id], ..Configured::default() };
    for (configured, want) in
        [(Some(&configured), 0), (Some(&without), 0), (None, 0), (Some(&other), 0), (Some(&without), 0)]
    {
        let report = bench.collector.run_once(configured, &quick()).await.unwrap();
        assert_eq!(report.retired, want);
        bench.clock.advance(DAY - HOUR);
    }
    bench.clock.advance(HOUR);
    assert_eq!(bench.collector.run_once(Some(&without), &quick()).await.unwrap().retired, 1);
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Fill number `0` goes one step on: announce, put, commit.
    Fill(usize),
    /// It begins anew, with another body, under another path.
    Begin(usize, u8, u8),
    Evict(u8),
    /// The collector goes one step on: condemn, claim, then remove and drop each.
    Collect,
    /// It dies, and another begins.
    Die,
    Pass(u8),
}

mod interleavings {
    use proptest::prelude::*;

    use super::*;

    const FILLS: usize = 3;
    const GRACE: Duration = Duration::from_millis(100);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum At {
        Announce,
        Put,
        Commit,
        Done,
    }

    /// A fill that ends within the grace period, as all do.
    struct Fill {
        at: At,
        body: u8,
        path: u8,
        announced: Timestamp,
    }

    #[derive(Default)]
    struct Machine {
        claimed: Vec<(Digest, u64)>,
        removed: Option<Digest>,
        condemns: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..FILLS).prop_map(Step::Fill),
            3 => (0..FILLS, 0..3_u8, 0..3_u8).prop_map(|(fill, body, path)| Step::Begin(fill, body, path)),
            3 => (0..3_u8).prop_map(Step::Evict),
            10 => Just(Step::Collect),
            1 => Just(Step::Die),
            4 => (0..90_u8).prop_map(Step::Pass),
        ]
    }

    async fn fill(bench: &Bench, fill: &mut Fill) {
        let (body, path) = (format!("body {}", fill.body), format!("{}", fill.path));
        let (digest, size) = blob(&body);
        if matches!(fill.at, At::Put | At::Commit) && bench.clock.now().since(fill.announced) >= GRACE * 2 {
            // Slower than it may be: it begins anew.
            fill.at = At::Announce;
        }
        match fill.at {
            At::Announce => {
                if bench.metadata.announce_blob(&digest, size).await.unwrap() == Announced::Kept {
                    (fill.at, fill.announced) = (At::Put, bench.clock.now());
                }
            }
            At::Put => {
                bench.put(&body).await;
                fill.at = At::Commit;
            }
            At::Commit => {
                let row = row(&body, bench.clock.now(), bench.metadata.next_fetch_seq().await.unwrap());
                // It may come too late: then it is served and not kept.
                let _ = bench.metadata.commit_artifact(&key(&path), &row).await;
                fill.at = At::Done;
            }
            At::Done => {}
        }
    }

    async fn collect(bench: &Bench, machine: &mut Machine) {
        let keeper = &bench.metadata;
        if let Some(digest) = machine.removed.take() {
            keeper.drop_blob(&digest).await.unwrap();
        } else if let Some((digest, _)) = machine.claimed.pop() {
            bench.blobs.remove(&digest).await.unwrap();
            machine.removed = Some(digest);
        } else if machine.condemns {
            keeper.condemn_blobs(GRACE, 10, false).await.unwrap();
            machine.condemns = false;
        } else {
            machine.claimed = keeper.claim_blobs(GRACE, 10).await.unwrap();
            machine.condemns = true;
        }
    }

    async fn rows_have_their_bytes(bench: &Bench) -> Result<(), TestCaseError> {
        for (key, row) in bench.metadata.artifacts_after(None, 100).await.unwrap() {
            let there = bench.blobs.size(&row.digest).await.unwrap();
            prop_assert_eq!(there, Some(row.size), "{:?} lost its bytes", key);
        }
        Ok(())
    }

    async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let bench = Bench::new();
        let mut fills: Vec<Fill> = (0..FILLS)
            .map(|n| Fill { at: At::Announce, body: n as u8, path: n as u8, announced: Timestamp(0) })
            .collect();
        let mut machine = Machine::default();
        for step in steps {
            match step {
                Step::Fill(n) => fill(&bench, &mut fills[n]).await,
                Step::Begin(n, body, path) => {
                    fills[n] = Fill { at: At::Announce, body, path, announced: Timestamp(0) };
                }
                Step::Evict(path) => {
                    if bench.metadata.artifact(&key(&path.to_string())).await.unwrap().is_some() {
                        bench.evict(&path.to_string()).await;
                    }
                }
                Step::Collect => collect(&bench, &mut machine).await,
                Step::Die => machine = Machine::default(),
                Step::Pass(ms) => bench.clock.advance(Duration::from_millis(ms.into())),
            }
            rows_have_their_bytes(&bench).await?;
        }
        // The collector that is left finds everything that nothing names.
        let options = Options { grace: GRACE, ..quick() };
        for _ in 0..3 {
            bench.collector.run_once(None, &options).await.unwrap();
            bench.clock.advance(GRACE);
        }
        rows_have_their_bytes(&bench).await?;
        let rows = bench.metadata.artifacts_after(None, 100).await.unwrap();
        let named: BTreeMap<Digest, u64> = rows.iter().map(|(_, row)| (row.digest, row.size)).collect();
        let left: BTreeMap<Digest, u64> = bench.blobs.list(None, 100).await.unwrap().into_iter().collect();
        prop_assert_eq!(named, left, "all garbage is gone after two grace periods, and nothing else");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::default())]

        #[test]
        fn rs_113_no_interleaving_loses_a_body_or_keeps_garbage(
            steps in proptest::collection::vec(step(), 1..120)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(play(steps))?;
        }
    }
}
