//! A sampler of processes: whether each replica says that it lives, and what it holds (I11).

use std::{fs, time::Duration};

use reqwest::Client;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::Cluster;
use crate::http::{PATIENCE, use_ring};

/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// One look at one replica.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Number of the replica.
    pub replica: usize,
    /// When.
    pub at: Instant,
    /// How long `/livez` took to answer 200; `None` when it did not.
    pub livez: Option<Duration>,
    /// Open file descriptors.
    pub files: usize,
    /// Resident memory, in KiB.
    pub resident: u64,
}

/// Looks at every replica once a second. Replicas must live on: a pid that ends is no longer sampled.
pub struct Sampler {
    stop: watch::Sender<bool>,
    tasks: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Begins to look at the replicas that `cluster` has now.
    pub fn start(cluster: &Cluster) -> Self {
        use_ring();
        let stop = watch::Sender::new(false);
        let mut each = JoinSet::new();
        for replica in cluster.replicas() {
            let url = format!("{}/livez", replica.url());
            each.spawn(look(replica.number(), replica.pid(), url, stop.subscribe()));
        }
        let tasks = tokio::spawn(async move {
            let mut samples = Vec::new();
            while let Some(some) = each.join_next().await {
                samples.extend(some.expect("no sampler panics"));
            }
            samples
        });
        Sampler { stop, tasks }
    }

    /// Stops looking.
    ///
    /// # Panics
    /// When a sampler panicked.
    pub async fn stop(self) -> Vec<Sample> {
        self.stop.send_replace(true);
        self.tasks.await.expect("no sampler panics")
    }
}

async fn look(replica: usize, pid: u32, url: String, mut stop: watch::Receiver<bool>) -> Vec<Sample> {
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut samples = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => return samples,
        }
        let Some(files) = open_files(pid) else { return samples };
        let at = Instant::now();
        let answer = timeout(PATIENCE, client.get(&url).send()).await;
        let lives = answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == 200));
        let resident = resident(pid).unwrap_or_default();
        samples.push(Sample { replica, at, livez: lives.then(|| at.elapsed()), files, resident });
    }
}

/// How many files process `pid` has open; `None` when it is gone.
pub fn open_files(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Memory of process `pid` in KiB; `None` when it is gone.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
