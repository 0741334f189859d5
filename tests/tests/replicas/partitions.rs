//! One replica is cut off from one service while the others are not: silent connections are the hard case, since
//! nobody says that they are of no use. No cached read fails through it, and nothing wrong is served.

use std::time::Duration;

use artifactapi_tests::{
    Fault, Link, Services,
    oracle::Outcome,
    replicas::{Options, Replica, load::Load},
    wait,
};
use tokio::time::{Instant, sleep};

use crate::stock::Stock;

const RATE: u32 = 30;
/// How long a replica is cut off.
const LENGTH: Duration = Duration::from_secs(5);
const RECOVERY: Duration = Duration::from_secs(10);

/// A replica's way to one service.
type Way = fn(&Replica) -> &Link;

pub(crate) async fn of_one_replica(services: &mut Services) {
    let mut stock = Stock::new().await;
    for number in 0..9 {
        stock.file(&format!("cold-{number}.bin"), 150 << 10);
    }
    let cold = stock.take_cold();
    // Too little for the large things: they come from the object store.
    let options = Options::new(stock.manifests()).env("ARTIFACTAPI_CACHE_BYTES", "3145728");
    let cluster = options.start(services).await;
    stock.warm(&cluster).await;
    let cut_off = &cluster.replicas()[0];
    // Everything goes through the replica that is cut off.
    let load = Load::start(&stock.oracle, stock.targets(&cut_off.url()), RATE);
    let ways: [(&str, Way); 3] =
        [("Redis", Replica::redis), ("PostgreSQL", Replica::postgres), ("S3", Replica::s3)];
    let faults =
        [("silent", Fault::BlackHole), ("refusing", Fault::Refuse), ("slow", Fault::Latency(LENGTH / 2))];
    let mut cold = cold.into_iter();
    for (service, way) in ways {
        for (name, fault) in faults {
            let start = Instant::now();
            let link = way(cut_off);
            link.set(fault).await;
            if fault == Fault::Refuse {
                link.reset_all();
            }
            sleep(LENGTH).await;
            link.set(Fault::Pass).await;
            let end = Instant::now();
            let history = load.since(start);
            println!(
                "\nfigure: one replica with {service} {name}: cached reads: {history}; {}",
                history.latencies()
            );
            history.assert_no_wrong_bytes();
            history.assert_all_complete(&format!("{service} {name}"));
            let (key, path) = cold.next().expect("one for each case");
            let url = format!("{}{path}", cut_off.url());
            wait::until(&format!("a cold fetch after {service} was {name}"), RECOVERY, async || {
                stock.oracle.get(usize::MAX, &key, &url).await.outcome == Outcome::Complete
            })
            .await;
            println!("figure: a cold fetch {:.1} s after that", end.elapsed().as_secs_f64());
        }
    }
    let history = load.stop().await;
    history.assert_no_wrong_bytes();
    history.only(|record| record.client != usize::MAX).assert_all_complete("all of it");
}
