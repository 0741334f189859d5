//! A collector that runs every second beside pushers, mounters and deleters (RS-113, RS-114): what a pusher was told
//! is there can be used, every manifest that is served has all it names, and garbage goes.

mod pushers;
mod stores;

use std::{
    env,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_tests::{
    Services,
    fixtures::noise,
    http::PATIENCE,
    metrics,
    registry::{Image, Registry, patiently},
    wait,
};
use bytes::Bytes;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{Ending, subject::Subject};
use pushers::Mode;
use stores::Stores;

/// How long what nothing names is kept, in each of two phases.
const GRACE: Duration = Duration::from_secs(6);
const IMAGES: usize = 4;
/// Layers that the pushers have in common, so that one finds what another has pushed.
const LAYERS: usize = 48;
/// So many of them are in fashion at a time; the others are forgotten, become garbage, and come back.
const FASHION: usize = 12;
/// How fast fashion moves on by a third: what is out of it is so for longer than the collector needs.
const SEASON: Duration = Duration::from_secs(3);
const PUSHERS: usize = 10;
const DELETERS: usize = 3;
const READERS: usize = 2;
/// Deleters leave this many manifests.
const FLOOR: usize = 20;

/// A manifest that was acknowledged and that nobody has begun to delete.
#[derive(Clone, PartialEq, Eq)]
struct Live {
    image: usize,
    tag: String,
    digest: String,
}

/// What all tasks share.
struct World {
    images: Vec<Image>,
    layers: Vec<Bytes>,
    live: Mutex<Vec<Live>>,
    /// Every manifest there ever was.
    ever: Mutex<Vec<(usize, String)>>,
    breaches: Mutex<Vec<String>>,
    began: Instant,
    until: Instant,
    counts: Counts,
}

/// What happened, for the report.
#[derive(Default)]
struct Counts {
    pushed: AtomicU64,
    skipped: AtomicU64,
    mounted: AtomicU64,
    uploaded: AtomicU64,
    deleted: AtomicU64,
    read: AtomicU64,
    late: AtomicU64,
}

impl World {
    fn new(registry: &Registry, length: Duration) -> Self {
        let size = |seed: u64| 20_000 + usize::try_from(seed % 7).expect("small") * 15_000;
        World {
            images: (0..IMAGES).map(|number| registry.image(&format!("soak/i{number}"))).collect(),
            layers: (0..LAYERS as u64).map(|seed| noise(seed + 1, size(seed))).collect(),
            live: Mutex::default(),
            ever: Mutex::default(),
            breaches: Mutex::default(),
            began: Instant::now(),
            until: Instant::now() + length,
            counts: Counts::default(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Vec<Live>> {
        self.live.lock().expect("no holder panics")
    }

    fn breach(&self, what: String) {
        self.breaches.lock().expect("no holder panics").push(what);
    }

    /// A layer that is in fashion, mostly.
    fn layer(&self, dice: &mut Dice) -> &Bytes {
        if dice.roll(8) == 0 {
            return &self.layers[dice.roll(LAYERS)];
        }
        let seasons = self.began.elapsed().as_millis() / SEASON.as_millis();
        let first = usize::try_from(seasons).expect("small") * FASHION / 3;
        &self.layers[(first + dice.roll(FASHION)) % LAYERS]
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Dice((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One of `0..sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 20) % sides as u64).expect("small")
    }
}

fn length() -> Duration {
    let told = env::var("ARTIFACTAPI_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(120))
}

/// Our replicas, which collect.
pub(crate) async fn ours(services: &mut Services) -> Ending {
    let grace = format!("{}s", GRACE.as_secs());
    let environment = [("ARTIFACTAPI_GC_INTERVAL", "1s"), ("ARTIFACTAPI_GC_GRACE", &grace)];
    let subject = Subject::replicas(services, &environment, &json!({ "untaggedTTL": "4s" })).await;
    let world = load(&subject, length()).await;
    let collected = collected(&subject).await;
    println!("\nfigure: the collector deleted {collected} blobs beside the pushers");
    assert!(collected > 0, "nothing was collected: this was no test");
    let stores = Stores::of(services, &subject);
    settle(&subject, &world, &stores).await;
    subject.assert_sound("after the soak").await;
    Ok(())
}

/// How many blobs the replicas have deleted.
async fn collected(subject: &Subject) -> u64 {
    let Subject::Replicas(cluster) = subject else { return 0 };
    let mut sum = 0.0;
    for replica in cluster.replicas() {
        let samples = metrics::samples_at(&replica.metrics_url()).await;
        sum += samples.get("artifactapi_gc_deleted_blobs_total").copied().unwrap_or_default();
    }
    // Counts are whole numbers.
    format!("{sum:.0}").parse().expect("a count")
}

/// Distribution, which does not: what is left of it is a test of the pushers.
pub(crate) async fn peer(subject: &mut Subject) -> Ending {
    let world = load(subject, length().min(Duration::from_secs(10))).await;
    assert!(world.counts.pushed.load(Relaxed) > 0);
    Ok(())
}

/// Everybody at once for `length`, then a look at every manifest that is still served.
async fn load(subject: &Subject, length: Duration) -> World {
    let world = Arc::new(World::new(&subject.registry(), length));
    let mut tasks = JoinSet::new();
    for number in 0..PUSHERS {
        let mode = if number % 3 == 2 { Mode::Mounting } else { Mode::Skipping };
        tasks.spawn(pushers::push(world.clone(), number, mode));
    }
    for number in 0..DELETERS {
        tasks.spawn(pushers::delete(world.clone(), 100 + number));
    }
    for number in 0..READERS {
        tasks.spawn(pushers::read(world.clone(), 200 + number));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    let served = pushers::served(&world).await;
    // Nobody pushes any more: what is gone stays gone, and thousands of questions about it would keep both processors
    // from collecting.
    world.ever.lock().expect("no holder panics").clone_from(&served);
    let counts = &world.counts;
    let of = |count: &AtomicU64| count.load(Relaxed);
    println!(
        "\nfigure: {} s of {PUSHERS} pushers, {DELETERS} deleters: {} manifests pushed, {} deleted, {} served at the \
         end; layers: {} uploaded, {} mounted, {} found by HEAD; {} reads; {} promises outlived; {} breaches",
        length.as_secs(),
        of(&counts.pushed),
        of(&counts.deleted),
        served.len(),
        of(&counts.uploaded),
        of(&counts.mounted),
        of(&counts.skipped),
        of(&counts.read),
        of(&counts.late),
        world.breaches.lock().expect("no holder panics").len(),
    );
    let breaches = world.breaches.lock().expect("no holder panics").clone();
    let few = &breaches[..breaches.len().min(3)];
    assert!(breaches.is_empty(), "{} breaches: {few:#?}\n{}", breaches.len(), tail(&subject.logs()));
    Arc::into_inner(world).expect("all tasks have ended")
}

/// What the registry complained about last.
fn tail(logs: &str) -> String {
    let complaints = logs.lines().filter(|line| !line.contains("\"level\":\"INFO\""));
    let lines: Vec<_> = complaints.collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Deletes every second manifest, and waits until what is stored is what the others name, and nothing else.
async fn settle(subject: &Subject, world: &World, stores: &Stores<'_>) {
    let served = pushers::served(world).await;
    for (number, (image, digest)) in served.iter().enumerate() {
        if number % 2 == 0 {
            let deleted = patiently(|| world.images[*image].delete_manifest(0, digest)).await;
            deleted.unwrap_or_else(|refused| panic!("{refused}"));
        }
    }
    let began = Instant::now();
    // Two phases, a run of the collector after each, and what a busy machine adds.
    let limit = GRACE * 2 + PATIENCE;
    // Looked up once; then only the stores are asked.
    let left = pushers::served(world).await;
    let named = pushers::named(world, &left).await;
    println!("\nfigure: {} manifests left, looked up in {:.1} s", left.len(), began.elapsed().as_secs_f64());
    let mut held_until = began;
    loop {
        // What lost its tag is deleted by and by, and becomes garbage only then.
        if stores.manifests() > left.len() {
            held_until = Instant::now();
        }
        let beside = stores.beside(&named);
        if beside.is_empty() {
            break;
        }
        assert!(began.elapsed() < limit, "garbage after {limit:?}: {beside}");
        wait::breathe().await;
    }
    println!(
        "\nfigure: all garbage was gone {:.1} s after the last deletion and {:.1} s after the last manifest without a \
         tag (two periods of grace are {} s)",
        began.elapsed().as_secs_f64(),
        held_until.elapsed().as_secs_f64(),
        GRACE.as_secs() * 2
    );
    let left = pushers::served(world).await;
    assert!(!left.is_empty(), "what was not deleted is served:\n{}", tail(&subject.logs()));
}
