//! A steady load on things that are cached: so many requests a second, by turns for everything and in every form.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    Oracle,
    oracle::{History, Wanted},
};

/// Something that can be asked for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name for the oracle.
    pub key: String,
    /// Its URL.
    pub url: String,
    /// Whether parts of it are asked for too.
    pub in_parts: bool,
}

/// A running load.
pub struct Load {
    oracle: Arc<Oracle>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    began: Instant,
}

impl Load {
    /// Asks for `targets` by turns, `rate` times a second, whether earlier answers have come or not; only when those of a
    /// whole second are missing it waits for one. A machine that is too slow would have ever more to do, until the
    /// oracle gives up.
    ///
    /// # Panics
    /// When there are no targets.
    pub fn start(oracle: &Arc<Oracle>, targets: Vec<Target>, rate: u32) -> Self {
        assert!(!targets.is_empty(), "a load on nothing");
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(run(oracle.clone(), targets, rate, stop.subscribe()));
        Load { oracle: oracle.clone(), stop, task, began: Instant::now() }
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What came of the requests that were sent since `start`.
    pub fn since(&self, start: Instant) -> History {
        self.oracle.history().between(start, Instant::now())
    }

    /// Sends nothing more, and waits for what is under way.
    ///
    /// # Panics
    /// When a request panicked.
    pub async fn stop(self) -> History {
        self.stop.send_replace(true);
        self.task.await.expect("no request panics");
        self.oracle.history().between(self.began, Instant::now())
    }
}

async fn run(oracle: Arc<Oracle>, targets: Vec<Target>, rate: u32, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    // A machine that stood still is not asked for everything at once afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests = JoinSet::new();
    let mut turn = 0_usize;
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        while requests.try_join_next().is_some() {}
        if requests.len() >= rate as usize {
            continue;
        }
        let target = targets[turn % targets.len()].clone();
        let wanted = form(&oracle, &target, turn / targets.len());
        let oracle = oracle.clone();
        requests.spawn(async move {
            oracle.ask(oracle.client(), &target.key, &target.url, wanted).await;
        });
        turn += 1;
    }
    while let Some(ended) = requests.join_next().await {
        ended.expect("no request panics");
    }
}

/// In which form a target is asked for in this round.
fn form(oracle: &Oracle, target: &Target, round: usize) -> Wanted {
    let length = oracle.length(&target.key);
    match round % 4 {
        1 => Wanted::Head,
        // Another place in each round, never more than 64 KiB.
        3 if target.in_parts && length > 1 => {
            let start = (round as u64).wrapping_mul(40_503) % (length - 1);
            Wanted::Part(start..length.min(start + (64 << 10)))
        }
        _ => Wanted::Whole,
    }
}
