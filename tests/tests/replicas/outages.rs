//! RS-84, RS-85, RS-87, RS-90, I11, I12: services are lost one after the other under a steady load on what is
//! cached. No cached read fails, and what is not cached can be had again soon after each of them is back.

use std::time::Duration;

use artifactapi_tests::{
    Cluster, Fault, Services,
    http::PATIENCE,
    oracle::{History, Outcome, Percentiles},
    replicas::{
        Options, Replica,
        load::Load,
        sampler::{Sampler, open_files},
    },
    wait,
};
use tokio::time::{Instant, sleep};

use crate::stock::Stock;

/// Requests a second.
const RATE: u32 = 40;
/// The times.
const REDIS: Duration = Duration::from_secs(15);
const POSTGRES: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(10);
const AFTERMATH: Duration = Duration::from_secs(2);
/// Longest time from the end of a fault to cold fetches through every replica.
const RECOVERY: Duration = Duration::from_secs(10);
/// Longest time in which a process says that it lives.
const LIVES: Duration = Duration::from_secs(1);
/// Descriptors that connections to services may hold beyond those of the beginning: pools grow to their bounds.
const POOLS: usize = 40;

struct Bench {
    stock: Stock,
    cluster: Cluster,
    load: Load,
    /// What was asked when the case before this one ended.
    asked: Asked,
}

/// What the object store and the upstream were asked.
#[derive(Clone, Copy, Default)]
struct Asked {
    s3: u64,
    slowed: u64,
    upstream: u64,
}

impl Bench {
    fn asked(&self) -> Asked {
        let s3 = self.cluster.s3();
        let upstream = self.stock.upstream.requests().len() as u64;
        Asked { s3: s3.requests().values().sum(), slowed: s3.slowed(), upstream }
    }

    /// Runs a fault to its end, then looks how long the cluster takes to be as before, and judges both.
    async fn judge(&mut self, case: &str, start: Instant, end: Instant) {
        let mut slowest = Duration::ZERO;
        for number in 0..self.cluster.replicas().len() {
            self.cold_fetch(case, number, end).await;
            slowest = slowest.max(end.elapsed());
        }
        let asked = self.asked();
        // What comes late belongs to the fault as well.
        sleep(AFTERMATH).await;
        let history = self.load.since(start).only(|record| record.client != COLD);
        println!(
            "\nfigure: {case} for {:.0} s: cached reads: {history}; {}; recovery: {:.1} s; calls of the object store: {}, \
             told to slow down: {}; requests to the upstream: {}",
            (end - start).as_secs_f64(),
            history.latencies(),
            slowest.as_secs_f64(),
            asked.s3 - self.asked.s3,
            asked.slowed - self.asked.slowed,
            asked.upstream - self.asked.upstream,
        );
        assert!(asked.s3 > self.asked.s3, "{case}: the load never reaches the object store");
        self.asked = asked;
        self.assert_served(case, &history);
        assert!(slowest <= RECOVERY, "{case}: cold fetches only after {slowest:?}\n{}", self.cluster.logs());
    }

    fn assert_served(&self, case: &str, history: &History) {
        assert!(history.records().len() >= RATE as usize, "{case}: hardly any load: {history}");
        history.assert_no_wrong_bytes();
        let bad = history.unsuccessful();
        assert!(
            bad.is_empty(),
            "{case}: {} failed cached reads, {:#?}\n{}",
            bad.len(),
            bad[0],
            self.cluster.logs()
        );
    }

    /// Fetches new things through replica `number` until one comes.
    async fn cold_fetch(&mut self, case: &str, number: usize, end: Instant) {
        for attempt in 0.. {
            let key = format!("cold/{}/{number}/{attempt}.bin", case.replace(' ', "-"));
            let bytes = artifactapi_tests::fixtures::noise(attempt + 1, 100 << 10);
            self.stock.upstream.put(&key, bytes.clone());
            self.stock.oracle.knows(&key, bytes);
            let url = self.cluster.replicas()[number].remote("files") + &key;
            // Its own number keeps it out of the load's history.
            let record = self.stock.oracle.get(COLD, &key, &url).await;
            assert!(record.is_true, "{case}: {record:?}");
            if record.outcome == Outcome::Complete {
                return;
            }
            assert!(end.elapsed() < PATIENCE, "{case}: no recovery of replica {number}: {record:?}");
            wait::breathe().await;
        }
    }
}

/// Client number of what is no load.
const COLD: usize = usize::MAX;

pub(crate) async fn one_after_the_other(services: &mut Services) {
    let stock = Stock::new().await;
    // Too little for the large things, so that reads of them come from the object store all the time.
    let options = Options::new(stock.manifests()).env("ARTIFACTAPI_CACHE_BYTES", "3145728");
    let cluster = options.start(services).await;
    stock.warm(&cluster).await;
    let files: Vec<_> = cluster.replicas().iter().map(files_of).collect();
    let sampler = Sampler::start(&cluster);
    let load = Load::start(&stock.oracle, stock.targets(&cluster.url()), RATE);
    let mut bench = Bench { stock, cluster, load, asked: Asked::default() };
    bench.asked = bench.asked();

    let start = Instant::now();
    sleep(Duration::from_secs(3)).await;
    bench.judge("nothing", start, Instant::now()).await;

    let start = Instant::now();
    assert_eq!(services.redis.command("FLUSHALL"), "+OK");
    bench.judge("FLUSHALL", start, Instant::now()).await;

    let start = Instant::now();
    blocking(|| services.redis.0.stop());
    sleep(REDIS).await;
    blocking(|| services.redis.0.start_again());
    bench.judge("Redis stopped", start, Instant::now()).await;

    let start = Instant::now();
    services.redis.0.pause();
    sleep(REDIS).await;
    services.redis.0.resume();
    bench.judge("Redis standing still", start, Instant::now()).await;

    let start = Instant::now();
    blocking(|| services.postgres.process.stop());
    sleep(POSTGRES).await;
    blocking(|| services.postgres.process.start_again());
    bench.judge("PostgreSQL stopped", start, Instant::now()).await;

    let start = Instant::now();
    bench.cluster.s3().slow_down(20, 1);
    slow_store(&mut bench).await;
    bench.cluster.s3().slow_down(0, 1);
    assert!(bench.cluster.s3().slowed() > 0, "the fault did not happen");
    bench.judge("S3 refusing one in five", start, Instant::now()).await;

    let start = Instant::now();
    bench.stock.link.set(Fault::BlackHole).await;
    sleep(SHORT).await;
    bench.stock.link.set(Fault::Pass).await;
    bench.judge("upstream silent", start, Instant::now()).await;

    settle(services, bench, sampler, &files).await;
}

/// Under SlowDown, the object store is asked for all large things, which replicas would otherwise have at hand, and
/// for new ones.
async fn slow_store(bench: &mut Bench) {
    let end = Instant::now() + SHORT;
    let mut attempt = 0_u64;
    let mut complete = 0;
    while Instant::now() < end {
        attempt += 1;
        let key = format!("slow/{attempt}.bin");
        let bytes = artifactapi_tests::fixtures::noise(attempt, 300 << 10);
        bench.stock.upstream.put(&key, bytes.clone());
        bench.stock.oracle.knows(&key, bytes);
        for number in 0..bench.cluster.replicas().len() {
            let url = bench.cluster.replicas()[number].remote("files") + &key;
            let record = bench.stock.oracle.get(COLD, &key, &url).await;
            assert!(record.is_true && record.outcome == Outcome::Complete, "under SlowDown: {record:#?}");
            complete += 1;
        }
        sleep(Duration::from_millis(200)).await;
    }
    println!("\nfigure: under SlowDown {complete} fetches of {attempt} new objects, all complete");
}

/// I11, I12: after the faults everything is as before.
async fn settle(services: &Services, bench: Bench, sampler: Sampler, files: &[usize]) {
    let Bench { load, cluster, stock, asked: _ } = bench;
    let history = load.stop().await.only(|record| record.client != COLD);
    let samples = sampler.stop().await;
    println!("\nfigure: all of it: {history}; {}", history.latencies());
    history.assert_no_wrong_bytes();
    history.assert_all_complete("the whole load");
    let silent = samples.iter().filter(|sample| sample.livez.is_none_or(|took| took > LIVES)).count();
    let livez = Percentiles::of(samples.iter().filter_map(|sample| sample.livez));
    let resident = samples.iter().map(|sample| sample.resident).max().unwrap_or_default();
    println!(
        "\nfigure: {} looks at /livez, {silent} without an answer in {LIVES:?}; {livez}; most memory {} MiB",
        samples.len(),
        resident >> 10,
    );
    assert_eq!(silent, 0, "I11: a replica did not say that it lives");
    for (replica, before) in cluster.replicas().iter().zip(files) {
        let what = format!("the descriptors of replica {} to be as before ({before})", replica.number());
        wait::until(&what, PATIENCE, async || files_of(replica) <= before + POOLS).await;
        println!(
            "\nfigure: descriptors of replica {}: {before} before, {} after",
            replica.number(),
            files_of(replica)
        );
    }
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", cluster.database());
    println!(
        "\nfigure: PostgreSQL connections of all replicas: {}",
        services.postgres.sql("postgres", &count)
    );
    for target in stock.targets(&cluster.url()) {
        let record = stock.oracle.get(COLD, &target.key, &target.url).await;
        assert!(record.outcome == Outcome::Complete && record.is_true, "I12: {record:?}");
    }
}

fn files_of(replica: &Replica) -> usize {
    open_files(replica.pid()).expect("a replica that lives")
}

/// Services are started and stopped by waiting for them.
fn blocking(act: impl FnOnce()) {
    tokio::task::block_in_place(act);
}
