//! The upstream answers with an error, or not at all.

use artifactapi_tests::{Behaviour, Gate, http};
use serde_json::json;

use crate::{
    bench::{Bench, HASTY, USUAL},
    kinds::{Kind, Place},
};

/// Longest pause that an upstream asks for here, in seconds.
const PAUSE: (&str, u64) = ("5", 5);

/// 404: the type's own error, remembered for `negativeTTL`; what is stored stays (RS-93).
pub(crate) async fn missing(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = bench.way_to_file().await;
    bench.upstream.remove(&bench.stock.file_upstream);
    kind.check_refused(&http::get(&file).await, 404);
    let head = http::head(&file).await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    bench.file_back(&file).await;

    // The usual repository remembers an absence and asks no second time.
    let absent = bench.url(USUAL, bench.stock.index.0);
    bench.upstream.script(bench.stock.index.1, Behaviour::Status(404, "<html>no such thing</html>"));
    let before = bench.asked_for_index();
    for _ in 0..3 {
        kind.check_refused(&http::get(&absent).await, 404);
    }
    assert_eq!(bench.asked_for_index(), before + 1, "an absence is remembered");

    // What is stored stays: the document is served stale, the file as ever.
    bench.check_stale(&bench.index().await, &cold);
    bench.upstream.script_all(Behaviour::Status(404, ""));
    let asked = bench.asked_for_file();
    bench.check_file(&http::get(&file).await, "HIT");
    assert_eq!(bench.asked_for_file(), asked);
    bench.index_recovers(false).await;
}

impl Bench {
    /// A removed file is there again.
    async fn file_back(&self, url: &str) {
        self.upstream.put(&self.stock.file_upstream, self.stock.bytes.clone());
        self.file_comes_whole(url).await;
    }
}

/// 429 with Retry-After: handed on, and honoured for the whole host (RS-91); what is stored is served stale.
pub(crate) async fn rate_limited(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = bench.way_to_file().await;
    bench.upstream.script(&bench.stock.file_upstream, Behaviour::RetryAfter(429, PAUSE.0));
    let refused = http::get(&file).await;
    kind.check_refused(&refused, 429);
    assert!(wait_of(&refused) >= PAUSE.1, "{refused:?}");

    // From here until the pause is over no request may reach the host, whatever it is for.
    bench.upstream.behave();
    let asked = bench.upstream.requests().len();
    bench.check_stale(&bench.index().await, &cold);
    let paused = http::get(&file).await;
    kind.check_refused(&paused, 503);
    assert!((1..=PAUSE.1 * 2).contains(&wait_of(&paused)), "{paused:?}");
    assert_eq!(bench.upstream.requests().len(), asked, "the pause must be kept");

    let whole = http::get_until(&file, |answer| answer.status != 503).await;
    bench.check_file(&whole, "MISS");
    assert_eq!(bench.asked_for_file(), 2, "one refused, one good");
    bench.index_recovers(false).await;
}

fn wait_of(answer: &http::Fetched) -> u64 {
    answer.header("retry-after").parse().unwrap_or_else(|_| panic!("Retry-After in seconds: {answer:?}"))
}

/// 500: the type's own 502 for what is not stored, a stale copy for what is; the next request is healthy (RS-90).
pub(crate) async fn failing(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = bench.way_to_file().await;
    bench.upstream.script(&bench.stock.file_upstream, Behaviour::Status(500, "<html>oops</html>"));
    kind.check_refused(&http::get(&file).await, 502);
    assert_eq!(bench.asked_for_file(), 1, "a failure is not asked for again behind the client's back");
    bench.file_comes_whole(&file).await;

    bench.upstream.script_all(Behaviour::Status(500, "<html>oops</html>"));
    bench.check_stale(&bench.index().await, &cold);
    // Stale copies say how old they are.
    let old = http::get_until(&bench.index_url(), |answer| answer.header("age") != "0").await;
    bench.check_stale(&old, &cold);
    let asked = bench.asked_for_file();
    bench.check_file(&http::get(&file).await, "HIT");
    assert_eq!(bench.asked_for_file(), asked);
}

/// No answer in time: the type's own 504, or a stale copy.
pub(crate) async fn silent(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = match &bench.stock.file {
        // Not read on the way: some types would ask for it again before the file.
        Place::Named(path) => bench.url(HASTY, path),
        Place::Linked(_) => bench.way_to_file().await,
    };
    // Only for what is held: on a busy machine others may take longer.
    bench.reconfigured(&json!({ "timeouts": { "firstByte": "1s" } })).await;
    let (gate, late) = (Gate::new(), Gate::new());
    let hold = |gate: &Gate| Behaviour::HoldHead(gate.clone(), Box::new(Behaviour::Serve));
    bench.upstream.script(bench.stock.index.1, hold(&gate));
    bench.check_stale(&bench.index().await, &cold);
    gate.reached_by(1).await;
    bench.upstream.behave();
    bench.upstream.script(&bench.stock.file_upstream, hold(&late));
    kind.check_refused(&http::get(&file).await, 504);
    late.reached_by(1).await;
    gate.open();
    late.open();
    bench.reconfigured(&json!({})).await;
    bench.file_comes_whole(&file).await;
    bench.index_recovers(false).await;
}
