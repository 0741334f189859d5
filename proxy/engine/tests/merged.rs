//! Merged indexes of a Virtual over two Remotes, on one replica and on twins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::{
    CacheOutcome, Content, Engine, FetchError, Options, Ports,
    gc::{self, Collector, Configured},
    merged::{Found, Union},
};
use artifactapi_formats::{Method, PublicBase, Request, merge::Rules};
use artifactapi_model::{
    Digest, Notice, PackageType, RepoName, RepoPath, Spelling, Timestamp, Ttl,
    clock::ManualClock,
    ports::{
        BlobStore, Coordinator as _, Heard, Housekeeping as _, MetadataStore as _, NoPeers,
        housekeeping::{Change, Selection},
    },
    repository::{OnUpstreamGone, Remote, RepoIdentity},
};
use artifactapi_stores::{BlobTally, CountingBlobs, LocalCoordinator, MemoryBlobs, MemoryMetadata};
use futures_util::{StreamExt as _, future::join_all};
use support::{FakeUpstream, Script, body, spec};

const INDEX: &str = "index.yaml";
const HOUR: Duration = Duration::from_secs(3600);

struct Open;

impl Rules for Open {
    fn names_first(&self) -> bool {
        false
    }

    fn may_have(&self, _: usize, _: &str) -> bool {
        true
    }
}

/// What replicas have in common.
struct Stores {
    blobs: Arc<dyn BlobStore>,
    metadata: Arc<MemoryMetadata>,
    coordinator: Arc<LocalCoordinator>,
    upstream: Arc<FakeUpstream>,
    clock: Arc<ManualClock>,
}

/// One replica, which sees members `one` and `two`.
struct Replica {
    engine: Arc<Engine>,
    union: Arc<Union>,
}

impl Stores {
    fn new() -> Self {
        Stores {
            blobs: Arc::new(MemoryBlobs::default()),
            metadata: Arc::default(),
            coordinator: Arc::default(),
            upstream: Arc::default(),
            clock: Arc::new(ManualClock::at(Timestamp(1_700_000_000_000))),
        }
    }

    async fn member(&self, name: &str, life: Duration) -> Remote {
        let mut spec = spec(PackageType::Helm);
        spec.name = RepoName::try_from(name).unwrap();
        spec.base_url = format!("http://up.test/{name}/").parse().unwrap();
        spec.mutable_ttl = Ttl::For(life);
        // A look behind an answer sees what upstream has now.
        spec.stale_while_revalidate = Duration::ZERO;
        spec.negative_ttl = Duration::from_secs(1);
        spec.on_upstream_gone = OnUpstreamGone::Evict;
        Remote { identity: self.identity(name).await, spec: Arc::new(spec) }
    }

    async fn identity(&self, name: &str) -> RepoIdentity {
        let name = RepoName::try_from(name).unwrap();
        self.metadata.ensure_repository("default", &name, PackageType::Helm, "").await.unwrap()
    }

    /// A replica called `name` for which the members' indexes are fresh for `life`.
    async fn replica(&self, name: &str, life: Duration) -> Replica {
        self.replica_with(name, life, Options::default()).await
    }

    async fn replica_with(&self, name: &str, life: Duration, options: Options) -> Replica {
        let ports = Ports {
            blobs: self.blobs.clone(),
            metadata: self.metadata.clone(),
            coordinator: self.coordinator.clone(),
            peers: Arc::new(NoPeers),
            upstream: self.upstream.clone(),
            clock: self.clock.clone(),
        };
        let engine = Engine::new(ports, options, [1; 32], name);
        let union = Union {
            package_type: PackageType::Helm,
            identity: Some(self.identity("v").await),
            members: vec![self.member("one", life).await, self.member("two", life).await],
            rules: Box::new(Open),
            fingerprint: Digest::of(b"rules"),
        };
        Replica { engine, union: Arc::new(union) }
    }

    /// `member` has an index of these charts, each in one version.
    fn put(&self, member: &str, charts: &[&str]) {
        let mut text = "apiVersion: v1\nentries:\n".to_owned();
        for chart in charts {
            text += &format!(
                "  {chart}:\n  - apiVersion: v2\n    name: {chart}\n    version: 1.0.0\n    urls:\n    - {chart}-1.0.0.tgz\n"
            );
        }
        self.upstream.put(&format!("{member}/{INDEX}"), body(text));
    }
}

impl Stores {
    fn set(&self, member: &str, script: Script) {
        self.upstream.put(&format!("{member}/{INDEX}"), script);
    }
}

impl Replica {
    async fn find(&self, path: &str) -> Result<Found, FetchError> {
        let request = Request { method: Method::Get, raw_path: path, query: "", accept: "" };
        let base = PublicBase { origin: "http://proxy.test".into(), prefix: "/api/v1/virtual/v/".into() };
        let path = RepoPath::parse(path, Spelling::Plain).unwrap();
        self.engine.merged(&self.union, &base, &path, &request).await.unwrap()
    }

    async fn content(&self) -> Result<Content, FetchError> {
        match self.find(INDEX).await? {
            Found::Content(content) => Ok(*content),
            Found::Member(..) => panic!("the index is a generation's own"),
        }
    }

    /// The answer once the look behind the first one is done.
    async fn looked(&self) -> Result<Content, FetchError> {
        for _ in 0..10_000 {
            match self.content().await {
                Ok(content) if content.outcome == CacheOutcome::Stale => moment().await,
                answer => return answer,
            }
        }
        panic!("it stays stale")
    }

    /// The charts that the index names.
    async fn charts(&self) -> Vec<String> {
        let content = self.content().await.unwrap();
        self.read(&content).await
    }

    async fn read(&self, content: &Content) -> Vec<String> {
        let bytes = support::read(&self.engine, content).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let begins = text.match_indices("-/m/").map(|(at, _)| &text[at..]);
        begins.map(|rest| rest[..rest.find(".tgz").unwrap() + 4].to_owned()).collect()
    }

    /// Whose the file at `path` is, by the place among the members.
    async fn owner(&self, path: &str) -> Option<usize> {
        match self.find(path).await {
            Ok(Found::Member(place, _)) => Some(place),
            Ok(Found::Content(_)) => panic!("{path} is a member's"),
            Err(FetchError::NotFound { .. }) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Hears what twins say from now on.
    fn listen(&self, stores: &Stores) {
        let (engine, mut messages) = (self.engine.clone(), stores.coordinator.subscribe());
        tokio::spawn(async move {
            while let Some(Heard::Message(message)) = messages.next().await {
                engine.hear(&Notice::parse(&message).unwrap());
            }
        });
    }
}

/// A moment for other threads, of which tests wait as many as it takes.
async fn moment() {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
}

#[tokio::test]
async fn what_the_index_of_a_twin_names_is_served_at_once() {
    for hears in [false, true] {
        let stores = Stores::new();
        let second = Duration::from_secs(1);
        let (ahead, behind) = (stores.replica("a", second).await, stores.replica("b", HOUR).await);
        if hears {
            behind.listen(&stores);
        }
        stores.put("one", &["old"]);
        stores.put("two", &["two"]);
        assert_eq!(ahead.charts().await, behind.charts().await);
        stores.clock.advance(second * 2);
        assert_eq!(behind.owner("-/m/one/new-1.0.0.tgz").await, None);
        if !hears {
            stores.clock.advance(second * 2);
        }
        stores.put("one", &["new"]);
        ahead.looked().await.unwrap();
        assert_eq!(ahead.charts().await, ["-/m/one/new-1.0.0.tgz", "-/m/two/two-1.0.0.tgz"]);
        for (path, owner) in
            [("-/m/one/new-1.0.0.tgz", 0), ("-/m/one/old-1.0.0.tgz", 0), ("-/m/two/two-1.0.0.tgz", 1)]
        {
            assert_eq!(ahead.owner(path).await, Some(owner), "{path}");
            assert_eq!(behind.owner(path).await, Some(owner), "{path}, heard: {hears}");
        }
    }
}

#[tokio::test]
async fn what_nobody_has_costs_one_question_a_second() {
    let stores = Stores::new();
    let replica = stores.replica("a", HOUR).await;
    stores.put("one", &["a"]);
    stores.put("two", &["b"]);
    replica.charts().await;
    assert_eq!(replica.owner("-/m/one/none.tgz").await, None);
    for _ in 0..3 {
        let calls = stores.metadata.calls();
        stores.clock.advance(Duration::from_secs(1));
        let paths: Vec<_> = (0..100).map(|number| format!("-/m/one/none-{number}.tgz")).collect();
        let owners = join_all(paths.iter().map(|path| replica.owner(path))).await;
        assert!(owners.iter().all(Option::is_none));
        assert_eq!(stores.metadata.calls(), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_all_members_have_dropped_is_gone_and_what_one_cannot_say_stays() {
    let stores = Stores::new();
    let (minute, charts) = (Duration::from_secs(60), ["-/m/one/a-1.0.0.tgz", "-/m/two/b-1.0.0.tgz"]);
    let replica = stores.replica("a", minute).await;
    stores.put("one", &["a"]);
    stores.put("two", &["b"]);
    assert_eq!(replica.charts().await, charts);
    // One answers that it has none, the other one does not answer.
    stores.set("one", Script::Status(404));
    stores.set("two", Script::Down);
    stores.clock.advance(2 * HOUR);
    for _ in 0..3 {
        assert_eq!(replica.charts().await, charts);
        moment().await;
        stores.clock.advance(2 * HOUR);
    }
    stores.set("two", Script::Status(404));
    for _ in 0..1_000 {
        if replica.content().await.is_err() {
            break;
        }
        // A failure of before is remembered for a while.
        stores.clock.advance(Duration::from_secs(10));
        moment().await;
    }
    assert!(matches!(replica.content().await, Err(FetchError::NotFound { .. })));
    // Whoever holds the index gets what it names.
    assert_eq!(replica.owner(charts[1]).await, Some(1));
    stores.put("two", &["c"]);
    stores.clock.advance(minute);
    tokio::time::advance(minute).await;
    assert_eq!(replica.charts().await, ["-/m/two/c-1.0.0.tgz"]);
}

#[tokio::test]
async fn an_index_is_looked_at_again_when_a_members_is_evicted_or_refreshed() {
    for (change, is_named) in
        [(Change::Evict, true), (Change::Refresh, true), (Change::Evict, false), (Change::Refresh, false)]
    {
        let stores = Stores::new();
        let replica = stores.replica("a", HOUR).await;
        stores.put("one", &["a"]);
        stores.put("two", &["b"]);
        replica.charts().await;
        stores.clock.advance(Duration::from_secs(60));
        stores.put("two", &["c"]);
        assert_eq!(replica.content().await.unwrap().outcome, CacheOutcome::Hit);
        let RepoIdentity { id, epoch } = stores.identity("two").await;
        let path = stores.metadata.paths_with_prefix(id, epoch, "", 2).await.unwrap().remove(0);
        let (selection, notice) = match is_named {
            true => (
                Selection::Path(path.clone()),
                Notice::Changed { repo: id.0, epoch: epoch.0, path, by: String::new() },
            ),
            false => (
                Selection::Prefix(String::new()),
                Notice::ChangedBelow { repo: id.0, epoch: epoch.0, prefix: String::new() },
            ),
        };
        stores.metadata.change(id, epoch, &selection, change).await.unwrap();
        replica.engine.hear(&notice);
        let contents = join_all((0..10).map(|_| replica.content())).await;
        for content in contents {
            let content = content.unwrap();
            assert_ne!(content.outcome, CacheOutcome::Hit, "{change:?}");
            assert_eq!(replica.read(&content).await, ["-/m/one/a-1.0.0.tgz", "-/m/two/c-1.0.0.tgz"]);
        }
        assert_eq!(replica.content().await.unwrap().outcome, CacheOutcome::Hit);
        // Nothing has changed, and upstream is gone: what is there stays.
        stores.set("two", Script::Down);
        stores.metadata.change(id, epoch, &selection, change).await.unwrap();
        replica.engine.hear(&notice);
        let content = replica.content().await.unwrap();
        assert_eq!(content.outcome, CacheOutcome::Stale, "{change:?}");
        assert_eq!(replica.read(&content).await.len(), 2);
    }
}

/// The second that clients are told an index is of.
fn date(content: &Content) -> i64 {
    assert!(content.is_dated_exactly);
    assert_eq!(content.last_modified, None);
    content.stored_at.0 / 1000
}

#[tokio::test]
async fn the_date_of_an_index_is_the_same_everywhere_and_only_grows() {
    let stores = Stores::new();
    let second = Duration::from_secs(1);
    let (one, two) = (stores.replica("a", second).await, stores.replica("b", second).await);
    stores.put("two", &["z"]);
    let mut last = 0;
    // There and back again.
    for chart in ["a", "c", "a", "c"] {
        stores.put("one", &[chart]);
        let want = format!("-/m/one/{chart}-1.0.0.tgz");
        for replica in [&one, &two, &one, &two] {
            // The lease of a twin may outlive its fetch by a moment, and what it fetched before is then taken for new.
            for _ in 0..100 {
                stores.clock.advance(second * 5);
                replica.looked().await.unwrap();
                if replica.charts().await[0] == want {
                    break;
                }
            }
            assert_eq!(replica.charts().await[0], want);
        }
        // Who comes late says the same as who was there.
        let three = stores.replica("c", HOUR).await;
        let contents = [one.content().await, two.content().await, three.content().await];
        let dates = contents.map(|content| date(&content.unwrap()));
        assert!(dates.iter().all(|date| *date == dates[0]) && dates[0] > last, "{last} {dates:?}");
        last = dates[0];
    }
}

#[tokio::test]
async fn indexes_of_the_same_second_and_of_other_rules_do_not_share_a_date() {
    let stores = Stores::new();
    let replica = stores.replica("a", HOUR).await;
    stores.put("one", &["a"]);
    stores.put("two", &["b"]);
    let faces = ["rules", "others", "yet others"].map(|rules| Replica {
        engine: replica.engine.clone(),
        union: Arc::new(Union {
            package_type: PackageType::Helm,
            identity: replica.union.identity,
            members: replica.union.members.clone(),
            rules: Box::new(Open),
            fingerprint: Digest::of(rules.as_bytes()),
        }),
    });
    for (number, face) in faces.iter().enumerate() {
        // A date that is still to come is not told.
        let content = face.content().await.unwrap();
        assert_eq!(content.last_modified.as_deref(), (number > 0).then_some(""));
    }
    stores.clock.advance(Duration::from_secs(5));
    let contents = join_all(faces.iter().map(Replica::content)).await;
    let dates: Vec<_> = contents.into_iter().map(|content| date(&content.unwrap())).collect();
    assert_eq!(dates, [dates[0], dates[0] + 1, dates[0] + 2]);
}

#[tokio::test(start_paused = true)]
async fn a_first_look_that_fails_fails_once_for_all_who_wait() {
    for script in [Script::Down, Script::Status(500), body("a: {".repeat(100_000)), Script::Status(404)] {
        let stores = Stores::new();
        let replica = stores.replica("a", HOUR).await;
        let is_absence = matches!(script, Script::Status(404));
        stores.set("one", script.clone());
        stores.set("two", script);
        let answers = join_all((0..20).map(|_| replica.content())).await;
        for answer in answers {
            let Err(error) = answer else { panic!("no member says what it has") };
            assert_eq!(matches!(error, FetchError::NotFound { .. }), is_absence, "{error}");
        }
        // And for whoever comes soon after.
        assert!(replica.content().await.is_err());
        assert!(stores.upstream.gets() <= 2, "{} requests", stores.upstream.gets());
        stores.put("one", &["a"]);
        stores.put("two", &["b"]);
        stores.clock.advance(2 * HOUR);
        tokio::time::advance(2 * HOUR).await;
        assert_eq!(replica.charts().await.len(), 2);
    }
}

/// How often an index changes before the first one is asked for again.
const CHANGES: usize = 20;

#[tokio::test]
async fn what_an_index_of_long_ago_names_is_served_however_often_it_has_changed() {
    let stores = Stores::new();
    let replica = stores.replica("a", HOUR).await;
    stores.put("two", &["z"]);
    let path = |number: usize| format!("-/m/one/chart-{number}-1.0.0.tgz");
    for number in 0..CHANGES {
        stores.put("one", &[&format!("chart-{number}")]);
        stores.clock.advance(2 * HOUR);
        replica.looked().await.unwrap();
        assert_eq!(replica.charts().await[0], path(number));
        // What has just been replaced, too.
        let before = number.saturating_sub(1);
        assert_eq!(replica.owner(&path(before)).await, Some(0), "{before} after {number}");
    }
    // One that knows all of it, and one that has just been started.
    for replica in [&replica, &stores.replica("b", HOUR).await] {
        for number in 0..CHANGES {
            assert_eq!(replica.owner(&path(number)).await, Some(0), "{number}");
        }
        assert_eq!(replica.owner(&path(CHANGES)).await, None);
    }
}

#[tokio::test]
async fn generations_go_when_their_time_is_over_whatever_rules_they_were_made_by() {
    let stores = Stores::new();
    let mut replica = stores.replica("a", HOUR).await;
    stores.put("one", &["a"]);
    stores.put("two", &["b"]);
    let identity = replica.union.identity.unwrap();
    let rows = async || {
        let all = stores.metadata.paths_with_prefix(identity.id, identity.epoch, "-/generation/", 1_000);
        all.await.unwrap().len()
    };
    let collector = Collector {
        blobs: stores.blobs.clone(),
        metadata: stores.metadata.clone(),
        keeper: stores.metadata.clone(),
        clock: stores.clock.clone(),
        progress: Arc::default(),
    };
    let configured = Configured {
        virtuals: vec![identity],
        others: vec![identity.id],
        remotes: replica.union.members.clone(),
    };
    for rules in 0..70_u8 {
        replica.union = Arc::new(Union {
            package_type: PackageType::Helm,
            identity: replica.union.identity,
            members: replica.union.members.clone(),
            rules: Box::new(Open),
            fingerprint: Digest::of(&[rules]),
        });
        replica.charts().await;
    }
    assert_eq!(rows().await, 70);
    let options = gc::Options { step: 7, ..gc::Options::default() };
    // The last rules' index is in use all the time and never changes.
    for hour in 0..60 {
        let report = collector.run_once(Some(&configured), &options).await.unwrap();
        assert_eq!(report.generations, if hour == 51 { 69 } else { 0 }, "after {hour} hours");
        stores.clock.advance(HOUR);
        replica.looked().await.unwrap();
    }
    assert_eq!(rows().await, 1);
    stores.put("one", &["c"]);
    stores.clock.advance(2 * HOUR);
    replica.looked().await.unwrap();
    assert_eq!(replica.charts().await[1], "-/m/one/c-1.0.0.tgz");
    assert_eq!(replica.owner("-/m/one/a-1.0.0.tgz").await, Some(0), "it was current until now");
}

impl Replica {
    /// The same one, by other rules.
    fn by(&self, rules: &str) -> Replica {
        let union = Union {
            package_type: PackageType::Helm,
            identity: self.union.identity,
            members: self.union.members.clone(),
            rules: Box::new(Open),
            fingerprint: Digest::of(rules.as_bytes()),
        };
        Replica { engine: self.engine.clone(), union: Arc::new(union) }
    }
}

#[tokio::test]
async fn only_generations_for_which_there_is_room_stay_in_memory() {
    const INDEXES: usize = 40;
    let tally = Arc::new(BlobTally::default());
    let blobs = Arc::new(CountingBlobs::new(Arc::new(MemoryBlobs::default()), tally.clone()));
    let stores = Stores { blobs, ..Stores::new() };
    // Room for some, and for none: even then the last one stays.
    for bytes in [64 << 10, 1] {
        let options = Options { generation_bytes: bytes, ..Options::default() };
        let replica = stores.replica_with("a", HOUR, options).await;
        stores.put("one", &["a"]);
        // Large enough that fewer than all of them fit.
        stores.put("two", &[&"b".repeat(900)]);
        let faces: Vec<_> = (0..INDEXES).map(|number| replica.by(&format!("{bytes} {number}"))).collect();
        for face in &faces {
            assert_eq!(face.charts().await.len(), 2);
        }
        // What is in memory costs nothing, and what is not costs no question to the database.
        let calls = stores.metadata.calls();
        stores.metadata.set_down(true);
        let mut free = 0;
        for face in &faces {
            let before = tally.counts();
            let content = face.content().await.unwrap();
            assert_eq!(content.outcome, CacheOutcome::Hit);
            assert_eq!(face.read(&content).await.len(), 2);
            let after = tally.counts();
            free += usize::from(after == before);
            // And once it is there it stays for a while.
            let before = tally.counts();
            for _ in 0..10 {
                face.content().await.unwrap();
            }
            assert_eq!(tally.counts(), before);
        }
        stores.metadata.set_down(false);
        assert_eq!(stores.metadata.calls(), calls);
        assert!(free <= INDEXES / 2, "{free} of {INDEXES} indexes in {bytes} bytes");
    }
}
