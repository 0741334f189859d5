//! RS-119: replicas are restarted one after the other under load, and no client notices.

use std::time::Duration;

use artifactapi_tests::{
    Services,
    http::PATIENCE,
    replicas::{Options, load::Load},
    wait,
};
use tokio::time::Instant;

use crate::stock::Stock;

const RATE: u32 = 40;

pub(crate) async fn rolling(services: &mut Services) {
    let stock = Stock::new().await;
    let mut cluster = Options::new(stock.manifests()).start(services).await;
    stock.warm(&cluster).await;
    let load = Load::start(&stock.oracle, stock.targets(&cluster.url()), RATE);
    let start = Instant::now();
    for number in 0..cluster.replicas().len() {
        cluster.replica(number).terminate();
        let code = cluster.replica(number).ended().await;
        assert_eq!(code, Some(0), "an orderly end:\n{}", cluster.replicas()[number].logs());
        // A new pod gets no request before it has said that it is ready, however fast it took the old one's place.
        cluster.balancer().take_out(number);
        cluster.replica(number).start_again().await;
        wait::until("the balancer to take it in", PATIENCE, async || cluster.balancer().is_in(number)).await;
        let answered = cluster.balancer().answered()[number];
        wait::until("its first answer", PATIENCE, async || cluster.balancer().answered()[number] > answered)
            .await;
    }
    let took = start.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let history = load.stop().await;
    println!(
        "\nfigure: rolling restart of {} replicas in {:.1} s: {history}; {}; passed over {:?}",
        cluster.replicas().len(),
        took.as_secs_f64(),
        history.latencies(),
        cluster.balancer().passed_over(),
    );
    history.assert_no_wrong_bytes();
    history.assert_all_complete("reads during a rolling restart");
}
