//! Several engines over common stores: one fill for all of them, whoever is lost meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use artifactapi_engine::{Engine, FetchError, Options, Ports};
use artifactapi_formats::Method;
use artifactapi_model::{
    ArtifactKey, Digest, Notice, PackageType, Timestamp,
    clock::ManualClock,
    ports::{
        CoordinationError, Coordinator, Heard, Lease, Messages, MetadataStore as _, Part, Parts, PeerError,
        Peers, UpstreamMethod,
    },
    repository::{Remote, RemoteSpec},
};
use artifactapi_stores::{LocalCoordinator, MemoryBlobs, MemoryMetadata};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use support::{Bench, FakeUpstream, Script, body, pattern, spec};

const MIB: usize = 1 << 20;

/// A replica's own line to the coordinator, which can be cut.
struct Line {
    inner: Arc<LocalCoordinator>,
    cut: AtomicBool,
}

impl Line {
    fn up(&self) -> Result<&LocalCoordinator, CoordinationError> {
        if self.cut.load(SeqCst) { Err(CoordinationError("the line is cut".into())) } else { Ok(&self.inner) }
    }
}

#[async_trait]
impl Coordinator for Line {
    async fn acquire(
        &self,
        key: &str,
        note: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, String>, CoordinationError> {
        self.up()?.acquire(key, note, ttl).await
    }
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CoordinationError> {
        self.up()?.renew(lease, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<(), CoordinationError> {
        self.up()?.release(lease).await
    }
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        self.up()?.put(key, value, ttl).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        self.up()?.get(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), CoordinationError> {
        self.up()?.delete(key).await
    }
    async fn publish(&self, message: Bytes) -> Result<(), CoordinationError> {
        self.up()?.publish(message).await
    }
    fn subscribe(&self) -> Messages {
        self.inner.subscribe()
    }
}

/// Peers without a network: addresses are numbers of engines.
#[derive(Default)]
struct Directory {
    engines: Mutex<Vec<Weak<Engine>>>,
    dead: Mutex<Vec<usize>>,
    /// What becomes of the next ones that are followed.
    faults: Mutex<VecDeque<Fault>>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// It is lost after its first bytes.
    LostAfterBegin,
    /// It is asked when it is about to find the body in the store.
    OnlyLanded,
}

struct Peer {
    own: usize,
    directory: Arc<Directory>,
}

#[async_trait]
impl Peers for Peer {
    fn address(&self) -> String {
        self.own.to_string()
    }

    async fn follow(&self, address: &str, key: &ArtifactKey) -> Result<Parts, PeerError> {
        let error = || PeerError { address: address.to_owned(), reason: "it is dead".into() };
        let number: usize = address.parse().unwrap();
        let engine = self.directory.engines.lock().unwrap()[number].upgrade();
        let is_dead = {
            let directory = self.directory.clone();
            move || directory.dead.lock().unwrap().contains(&number)
        };
        let parts = engine.filter(|_| !is_dead()).and_then(|engine| engine.lend(key)).ok_or_else(error)?;
        let parts = parts.take_while(move |_| std::future::ready(!is_dead()));
        let fault = self.directory.faults.lock().unwrap().pop_front();
        Ok(match fault {
            None => Box::pin(parts),
            Some(Fault::LostAfterBegin) => {
                let mut begun = false;
                Box::pin(parts.take_while(move |part| {
                    let goes_on = !begun;
                    begun |= matches!(part, Ok(Part::Data(bytes)) if !bytes.is_empty());
                    std::future::ready(goes_on)
                }))
            }
            Some(Fault::OnlyLanded) => Box::pin(parts.filter_map(|part| {
                std::future::ready(match part {
                    Ok(Part::End(ending)) => {
                        let ending = String::from_utf8_lossy(&ending).replace("stored\":{", "landed\":{");
                        Some(Ok(Part::End(ending.into())))
                    }
                    Ok(_) => Some(Ok(Part::Data(Bytes::new()))),
                    Err(error) => Some(Err(error)),
                })
            })),
        })
    }
}

struct Cluster {
    replicas: Vec<Bench>,
    lines: Vec<Arc<Line>>,
    directory: Arc<Directory>,
    upstream: Arc<FakeUpstream>,
}

impl Cluster {
    async fn of(replicas: usize) -> Self {
        Self::new(replicas, true).await
    }

    /// Replicas that hear each other's messages, or none.
    async fn new(replicas: usize, hearing: bool) -> Self {
        Self::with(spec(PackageType::Generic), replicas, hearing).await
    }

    async fn with(spec: RemoteSpec, replicas: usize, hearing: bool) -> Self {
        let (upstream, metadata) = (Arc::new(FakeUpstream::default()), Arc::new(MemoryMetadata::default()));
        let (blobs, clock) =
            (Arc::new(MemoryBlobs::default()), Arc::new(ManualClock::at(Timestamp(1_700_000_000_000))));
        let (directory, common) = (Arc::new(Directory::default()), Arc::new(LocalCoordinator::default()));
        let spec = Arc::new(spec);
        let base_url = spec.base_url.to_string();
        let identity =
            metadata.ensure_repository("default", &spec.name, spec.package_type, &base_url).await.unwrap();
        let mut cluster = Cluster { replicas: Vec::new(), lines: Vec::new(), directory, upstream };
        for own in 0..replicas {
            let line = Arc::new(Line { inner: common.clone(), cut: AtomicBool::new(false) });
            let ports = Ports {
                blobs: blobs.clone(),
                metadata: metadata.clone(),
                coordinator: line.clone(),
                peers: Arc::new(Peer { own, directory: cluster.directory.clone() }),
                upstream: cluster.upstream.clone(),
                clock: clock.clone(),
            };
            let engine = Engine::new(ports, Options::default(), [1; 32], &own.to_string());
            cluster.directory.engines.lock().unwrap().push(Arc::downgrade(&engine));
            cluster.lines.push(line.clone());
            let (listener, mut messages) = (engine.clone(), line.subscribe());
            tokio::spawn(async move {
                while let Some(heard) = messages.next().await {
                    match heard {
                        Heard::Message(message) if hearing => {
                            listener.hear(&Notice::parse(&message).unwrap())
                        }
                        Heard::Message(_) => {}
                        Heard::Gap => listener.heard_gap(),
                    }
                }
            });
            let remote = Remote { identity, spec: spec.clone() };
            cluster.replicas.push(Bench {
                engine,
                upstream: cluster.upstream.clone(),
                clock: clock.clone(),
                metadata: metadata.clone(),
                remote,
            });
        }
        cluster
    }

    /// The replica is gone for its twins: nobody reaches it, and it renews nothing.
    fn kill(&self, number: usize) {
        self.directory.dead.lock().unwrap().push(number);
        self.lines[number].cut.store(true, SeqCst);
    }

    fn conditional(&self) -> usize {
        self.upstream.all().iter().filter(|request| request.if_none_match.is_some()).count()
    }
}

/// Lets everything that can happen without time passing happen.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// How many bytes a client of `bench` can read of `path` at this moment.
async fn readable(bench: &Bench, path: &str) -> usize {
    let content = bench.get(path).await.unwrap();
    let artifactapi_engine::Body::Growing(mut growing) = content.body else { panic!("{path} is in flight") };
    let mut offset = 0;
    loop {
        let read = tokio::time::timeout(Duration::from_millis(1), growing.read(offset, MIB)).await;
        match read {
            Ok(Ok(bytes)) if !bytes.is_empty() => offset += bytes.len() as u64,
            _ => return usize::try_from(offset).unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rs_80_one_fetch_for_all_replicas_and_everyone_streams_meanwhile() {
    let cluster = Cluster::of(3).await;
    let whole = pattern(4 * MIB);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    let clients = (0..60).map(|n| cluster.replicas[n % 3].fetch("file"));
    let feed = async {
        gate.send(Ok(whole.slice(..MIB))).await.unwrap();
        settle().await;
        for replica in &cluster.replicas {
            let there = readable(replica, "file").await;
            assert!(there >= MIB - 2 * 65_536, "{there} bytes before the fill ends");
        }
        for chunk in whole[MIB..].chunks(300_000) {
            gate.send(Ok(whole.slice_ref(chunk))).await.unwrap();
        }
        drop(gate);
    };
    let (bodies, ()) = tokio::join!(join_all(clients), feed);
    assert!(bodies.iter().all(|body| body.as_deref() == Ok(&whole[..])));
    assert_eq!(cluster.upstream.gets(), 1);
    settle().await;
    for replica in &cluster.replicas {
        assert_eq!(replica.fetch("file").await.unwrap(), whole);
    }
    assert_eq!(cluster.upstream.gets(), 1, "everyone has it");
}

#[tokio::test(start_paused = true)]
async fn rs_80_a_replica_that_comes_late_asks_nobody() {
    let cluster = Cluster::of(2).await;
    cluster.upstream.put("file", body("bytes"));
    for replica in &cluster.replicas {
        assert_eq!(replica.fetch("file").await.unwrap(), b"bytes");
    }
    assert_eq!(cluster.upstream.gets(), 1);
}

async fn takeover(etag: bool) -> (Cluster, Result<Vec<u8>, String>) {
    let cluster = Cluster::of(2).await;
    let whole = pattern(2 * MIB);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    let (leader, follower) = (&cluster.replicas[0], &cluster.replicas[1]);
    let scenario = async {
        gate.send(Ok(whole.slice(..MIB))).await.unwrap();
        settle().await;
        assert!(readable(follower, "file").await > MIB / 2);
        cluster.kill(0);
        let headers = vec![("etag", if etag { "\"gated\"" } else { "\"other\"" }.to_owned())];
        cluster.upstream.put("file", Script::Body { bytes: whole.clone(), headers, framing: None });
    };
    let led = tokio::spawn({
        let (engine, remote) = (leader.engine.clone(), leader.remote.clone());
        let bench = Bench {
            engine,
            remote,
            upstream: cluster.upstream.clone(),
            clock: leader.clock.clone(),
            metadata: leader.metadata.clone(),
        };
        async move { bench.fetch("file").await }
    });
    settle().await;
    let (body, ()) = tokio::join!(follower.fetch("file"), scenario);
    led.abort();
    drop(gate);
    (cluster, body)
}

#[tokio::test(start_paused = true)]
async fn rs_81_a_follower_goes_on_where_its_lost_leader_stopped() {
    let (cluster, body) = takeover(true).await;
    assert_eq!(body.unwrap(), pattern(2 * MIB));
    assert_eq!(cluster.upstream.gets(), 2);
    let resume = cluster.upstream.last().resume.unwrap();
    assert!(resume.offset > MIB as u64 / 2, "{resume:?}");
}

#[tokio::test(start_paused = true)]
async fn rs_81_without_a_validator_the_beginning_is_compared() {
    let (cluster, body) = takeover(false).await;
    assert_eq!(body.unwrap(), pattern(2 * MIB));
    assert_eq!(cluster.upstream.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn rs_81_a_body_that_has_changed_meanwhile_is_no_clean_end() {
    let cluster = Cluster::of(2).await;
    let whole = pattern(2 * MIB);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    let (leader, follower) = (&cluster.replicas[0], &cluster.replicas[1]);
    let other = Bytes::from(vec![7; whole.len()]);
    let scenario = async {
        gate.send(Ok(whole.slice(..MIB))).await.unwrap();
        settle().await;
        assert!(readable(follower, "file").await > 0);
        cluster.kill(0);
        cluster.upstream.put("file", body(other.clone()));
    };
    let lead = async {
        let content = leader.get("file").await.unwrap();
        settle().await;
        content
    };
    let (_leading, broken, ()) = tokio::join!(
        lead,
        async {
            settle().await;
            follower.fetch("file").await
        },
        scenario
    );
    assert!(broken.unwrap_err().contains("changed while"), "its clients have begun with other bytes");
    assert_eq!(follower.fetch("file").await.unwrap(), other, "and the next ones get what upstream has now");
}

#[tokio::test(start_paused = true)]
async fn rs_81_a_leader_that_is_lost_after_it_has_stored_the_body_costs_no_fetch() {
    let cluster = Cluster::of(2).await;
    let whole = pattern(2 * MIB);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    let (leader, follower) = (&cluster.replicas[0], &cluster.replicas[1]);
    let scenario = async {
        gate.send(Ok(whole.slice(..MIB))).await.unwrap();
        settle().await;
        assert!(readable(follower, "file").await > 0);
        // Its line to its twin breaks; everything else of it goes on.
        cluster.directory.dead.lock().unwrap().push(0);
        gate.send(Ok(whole.slice(MIB..))).await.unwrap();
        drop(gate);
    };
    let late = async {
        settle().await;
        follower.fetch("file").await
    };
    let (led, followed, ()) = tokio::join!(leader.fetch("file"), late, scenario);
    assert_eq!(led.unwrap(), whole);
    assert_eq!(followed.unwrap(), whole);
    assert_eq!(cluster.upstream.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn rs_81_a_leader_that_wakes_up_late_changes_nothing() {
    let cluster = Cluster::of(2).await;
    let old = pattern(200_000);
    let gate = cluster.upstream.gate("dir/", Some(old.len() as u64));
    let (leader, other) = (&cluster.replicas[0], &cluster.replicas[1]);
    let late = async {
        let content = leader.get("dir/").await.unwrap();
        leader.read(&content).await
    };
    let meanwhile = async {
        gate.send(Ok(old.slice(..150_000))).await.unwrap();
        settle().await;
        cluster.kill(0);
        cluster.upstream.put("dir/", body("newer"));
        assert_eq!(other.fetch("dir/").await.unwrap(), b"newer");
        gate.send(Ok(old.slice(150_000..))).await.unwrap();
        drop(gate);
    };
    let (late, ()) = tokio::join!(late, meanwhile);
    assert_eq!(late.unwrap(), old, "whole and unbroken, only old");
    assert_eq!(other.fetch("dir/").await.unwrap(), b"newer");
    assert_eq!(leader.fetch("dir/").await.unwrap(), b"newer", "the fence has kept the newer row");
}

/// As the nodes of a rollout ask before they pull.
#[tokio::test(start_paused = true)]
async fn rs_92_a_tag_that_all_ask_for_by_head_costs_one_question_and_one_fetch() {
    let cluster = Cluster::with(spec(PackageType::Docker), 3, true).await;
    let digest = Digest::of(b"{}");
    let headers = vec![
        ("content-type", "application/vnd.oci.image.manifest.v1+json".to_owned()),
        ("docker-content-digest", digest.to_string()),
    ];
    for reference in ["1".to_owned(), digest.to_string()] {
        let manifest = Script::Body { bytes: "{}".into(), headers: headers.clone(), framing: None };
        cluster.upstream.put(&format!("v2/app/manifests/{reference}"), manifest);
    }
    let leave = cluster.upstream.hold("v2/app/manifests/1");
    let heads = join_all((0..60).map(|n| cluster.replicas[n % 3].request(Method::Head, "app/manifests/1")));
    let give = async {
        settle().await;
        leave.add_permits(100);
    };
    let (heads, ()) = tokio::join!(heads, give);
    assert!(heads.into_iter().all(|head| head.unwrap().digest == Some(digest)));
    assert_eq!((cluster.upstream.requests(UpstreamMethod::Head), cluster.upstream.gets()), (1, 1));
}

/// A twin took over and found the body in the store at once: whoever follows it has only what the lost one gave.
#[tokio::test(start_paused = true)]
async fn rs_03_a_body_that_a_twin_finds_stored_is_not_cut_where_the_lost_one_stopped() {
    let cluster = Cluster::of(2).await;
    let whole = pattern(2 * MIB);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    cluster.directory.faults.lock().unwrap().extend([Fault::LostAfterBegin, Fault::OnlyLanded]);
    let feed = async {
        gate.send(Ok(whole.slice(..MIB))).await.unwrap();
        // Until the follower follows for the second time.
        while !cluster.directory.faults.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        gate.send(Ok(whole.slice(MIB..))).await.unwrap();
        drop(gate);
    };
    let (leader, follower) = (&cluster.replicas[0], &cluster.replicas[1]);
    let late = async {
        settle().await;
        follower.fetch("file").await
    };
    let (led, followed, ()) = tokio::join!(leader.fetch("file"), late, feed);
    assert_eq!(led.unwrap(), whole);
    assert_eq!(followed.unwrap(), whole);
    assert_eq!(cluster.upstream.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_asked_for_once() {
    let cluster = Cluster::of(3).await;
    let answers = join_all(cluster.replicas.iter().map(|replica| replica.get("none"))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(FetchError::NotFound { gone: false }))));
    settle().await;
    for replica in &cluster.replicas {
        assert!(matches!(replica.get("none").await, Err(FetchError::NotFound { .. })));
    }
    assert_eq!(cluster.upstream.gets(), 1);
}

/// A twin's word is over when upstream's is, however often it is passed on meanwhile.
#[tokio::test(start_paused = true)]
async fn rs_93_an_absence_does_not_outlive_its_time_for_being_asked_for() {
    let cluster = Cluster::of(2).await;
    let (first, second) = (&cluster.replicas[0], &cluster.replicas[1]);
    let pass = async |seconds| first.pass(Duration::from_secs(seconds)).await;
    assert!(first.fetch("file").await.is_err());
    settle().await;
    pass(5).await;
    assert!(second.fetch("file").await.is_err());
    assert_eq!(cluster.upstream.gets(), 1);
    cluster.upstream.put("file", body("there by now"));
    pass(54).await;
    assert!(first.fetch("file").await.is_err() && second.fetch("file").await.is_err());
    pass(2).await;
    assert_eq!(second.fetch("file").await.unwrap(), b"there by now");
    assert_eq!(first.fetch("file").await.unwrap(), b"there by now");
    assert_eq!(cluster.upstream.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn rs_84_without_a_coordinator_each_replica_fetches_once() {
    let cluster = Cluster::of(3).await;
    (0..3).for_each(|number| cluster.lines[number].cut.store(true, SeqCst));
    cluster.upstream.put("file", body("bytes"));
    let clients = (0..30).map(|n| cluster.replicas[n % 3].fetch("file"));
    let bodies = join_all(clients).await;
    assert!(bodies.iter().all(|body| body.as_deref() == Ok(b"bytes")));
    assert!(cluster.upstream.gets() <= 3, "{}", cluster.upstream.gets());
}

#[tokio::test(start_paused = true)]
async fn rs_83_one_conditional_request_for_all_replicas() {
    revalidated_once(Cluster::of(3).await).await;
}

#[tokio::test(start_paused = true)]
async fn rs_83_also_when_every_message_is_lost() {
    revalidated_once(Cluster::new(3, false).await).await;
}

async fn revalidated_once(cluster: Cluster) {
    let headers = vec![("etag", "\"1\"".to_owned())];
    cluster.upstream.put("dir/", Script::Body { bytes: "listing".into(), headers, framing: None });
    for replica in &cluster.replicas {
        replica.fetch("dir/").await.unwrap();
    }
    assert_eq!(cluster.upstream.requests(UpstreamMethod::Get), 1);
    cluster.replicas[0].pass(Duration::from_secs(90)).await;
    for round in 0..5 {
        let clients = (0..30).map(|n| cluster.replicas[n % 3].fetch("dir/"));
        let bodies = join_all(clients).await;
        assert!(bodies.iter().all(|body| body.as_deref() == Ok(b"listing")), "round {round}");
        settle().await;
    }
    assert_eq!(cluster.conditional(), 1);
}

#[tokio::test(start_paused = true)]
async fn rs_85_a_row_leaves_memory_on_the_databases_word_only() {
    let cluster = Cluster::of(2).await;
    let [one, two] = &cluster.replicas[..] else { panic!("two replicas") };
    cluster.upstream.put("file", body("bytes"));
    one.fetch("file").await.unwrap();
    let key = two.get("file").await.unwrap().key;
    let calls = two.metadata.calls();
    assert_eq!(two.fetch("file").await.unwrap(), b"bytes");
    assert_eq!(two.metadata.calls(), calls, "a hit asks nothing");

    two.engine.hear(&Notice::changed(&key, "someone"));
    two.metadata.set_down(true);
    assert_eq!(two.fetch("file").await.unwrap(), b"bytes", "the database does not say otherwise");
    two.metadata.set_down(false);
    two.pass(Duration::from_secs(2)).await;
    two.metadata.forget_artifact(&key, &artifactapi_model::Digest::of(b"bytes")).await.unwrap();
    two.fetch("file").await.unwrap();
    assert_eq!(cluster.upstream.gets(), 2, "now it does");

    one.engine.hear(&Notice::ChangedBelow { repo: key.repo.0, epoch: key.epoch.0, prefix: "fi".into() });
    let calls = one.metadata.calls();
    one.fetch("file").await.unwrap();
    assert!(one.metadata.calls() > calls, "it was asked");
}

#[tokio::test(start_paused = true)]
async fn rs_86_a_row_that_the_database_could_not_take_follows_when_it_is_back() {
    let cluster = Cluster::of(2).await;
    let [one, two] = &cluster.replicas[..] else { panic!("two replicas") };
    let whole = pattern(200_000);
    let gate = cluster.upstream.gate("file", Some(whole.len() as u64));
    let feed = async {
        gate.send(Ok(whole.slice(..150_000))).await.unwrap();
        settle().await;
        one.metadata.set_down(true);
        gate.send(Ok(whole.slice(150_000..))).await.unwrap();
        drop(gate);
    };
    let (body, ()) = tokio::join!(one.fetch("file"), feed);
    assert_eq!(body.unwrap(), whole);
    assert_eq!(one.fetch("file").await.unwrap(), whole, "from what is stored");
    one.metadata.set_down(false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(two.fetch("file").await.unwrap(), whole, "by now it is on record");
    assert_eq!(cluster.upstream.gets(), 1);
}
