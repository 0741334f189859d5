//! The oracle itself: that no lie gets past it, and that the truth does.

use std::{sync::Arc, time::Duration};

use super::{Oracle, Outcome, Percentiles, Record, Wanted};
use crate::{
    Answer, Behaviour, Framing, Gate, Upstream, fingerprint::of_bytes, fixtures::noise, upstream::spoiled,
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn stocked() -> (Upstream, Arc<Oracle>, bytes::Bytes) {
    let upstream = Upstream::start().await;
    let oracle = Oracle::new(PATIENCE);
    let body = noise(1, 700_000);
    upstream.put("f", body.clone());
    oracle.knows("f", body.clone());
    (upstream, oracle, body)
}

async fn ask(upstream: &Upstream, oracle: &Oracle, wanted: Wanted) -> Record {
    oracle.ask(oracle.client(), "f", &format!("{}f", upstream.url()), wanted).await
}

#[tokio::test]
async fn the_truth_is_complete_whole_in_part_and_as_a_head() {
    let (upstream, oracle, body) = stocked().await;
    let whole = ask(&upstream, &oracle, Wanted::Whole).await;
    assert_eq!((whole.outcome, whole.is_true, whole.bytes), (Outcome::Complete, true, 700_000));
    assert_eq!(whole.sha256, Some(of_bytes(&body)));
    assert!(whole.first_byte.is_some_and(|first| whole.start <= first && first <= whole.end));
    for range in [0..1, 5..4_000, 699_000..700_000, 0..700_000] {
        let part = ask(&upstream, &oracle, Wanted::Part(range.clone())).await;
        assert_eq!((part.outcome, part.status, part.is_true), (Outcome::Complete, Some(206), true));
        let (start, end) = (range.start as usize, range.end as usize);
        assert_eq!(part.sha256, Some(of_bytes(&body[start..end])), "{range:?}");
    }
    let head = ask(&upstream, &oracle, Wanted::Head).await;
    assert_eq!((head.outcome, head.is_true, head.bytes), (Outcome::Complete, true, 0));
    let history = oracle.history();
    history.assert_no_wrong_bytes();
    history.assert_all_complete("everything");
    assert_eq!(history.to_string(), "6 requests, 6 complete, 0 broken, 0 failed, 0 wrong");
}

/// Every lie, how it ends, and whether it is a breach of I1.
#[tokio::test]
async fn no_lie_gets_past_it() {
    let (upstream, oracle, body) = stocked().await;
    let chunked = |bytes: &[u8]| {
        let mut answer = Answer::new(200, bytes.to_vec());
        answer.framing = Framing::Chunked;
        Behaviour::handler(move |_| answer.clone())
    };
    let longer = [&body[..], b"!"].concat();
    let cases = [
        ("other last byte", Behaviour::WrongBytes, Wanted::Whole, Outcome::Complete, true),
        ("clean and short", chunked(&body[..699_999]), Wanted::Whole, Outcome::Complete, true),
        ("clean and empty", chunked(b""), Wanted::Whole, Outcome::Complete, true),
        ("clean and long", chunked(&longer), Wanted::Whole, Outcome::Complete, true),
        ("broken", Behaviour::CutAt(1_000), Wanted::Whole, Outcome::Broken, false),
        ("reset", Behaviour::ResetAt(1_000), Wanted::Whole, Outcome::Broken, false),
        ("refused", Behaviour::Status(502, "no"), Wanted::Whole, Outcome::Failed, false),
        (
            "a range of other bytes",
            Behaviour::Other(spoiled(&body)),
            Wanted::Part(699_000..700_000),
            Outcome::Complete,
            true,
        ),
        ("whole for a range", Behaviour::Bare, Wanted::Part(0..700_000), Outcome::Complete, false),
        ("wrong length of a head", Behaviour::Other(body.slice(1..)), Wanted::Head, Outcome::Complete, true),
    ];
    for (name, behaviour, wanted, outcome, is_wrong) in cases {
        upstream.script("f", behaviour);
        let record = ask(&upstream, &oracle, wanted).await;
        assert_eq!(record.outcome, outcome, "{name}: {record:?}");
        let history = oracle.take_history();
        assert_eq!(!history.wrong().is_empty(), is_wrong, "{name}: {record:?}");
        assert_eq!(history.unsuccessful().is_empty(), outcome == Outcome::Complete, "{name}");
    }
    // What came of a broken body can be a lie too.
    upstream.put("f", spoiled(&body[..1_000])).script("f", Behaviour::Headers(vec![]));
    upstream.script(
        "f",
        Behaviour::handler(move |_| {
            let mut answer = Answer::new(200, spoiled(&body[..1_000]));
            answer.framing = Framing::Length(700_000);
            answer.acts.push(crate::Act::Cut);
            answer
        }),
    );
    let record = ask(&upstream, &oracle, Wanted::Whole).await;
    assert_eq!((record.outcome, record.is_true), (Outcome::Broken, false));
    assert_eq!((oracle.history().wrong().len(), oracle.history().spoiled().len()), (0, 1));
}

#[tokio::test]
async fn the_digest_of_a_lie_is_the_digest_of_what_came() {
    let (upstream, oracle, body) = stocked().await;
    upstream.script("f", Behaviour::WrongBytes);
    let record = ask(&upstream, &oracle, Wanted::Whole).await;
    assert_eq!(record.sha256, Some(of_bytes(&spoiled(&body))));
    upstream.put("f", body.slice(..10)).behave();
    let record = ask(&upstream, &oracle, Wanted::Whole).await;
    assert_eq!((record.sha256, record.is_true), (Some(of_bytes(&body[..10])), false));
}

#[tokio::test]
async fn who_has_bytes_before_the_end_is_told_from_who_has_not() {
    let (upstream, oracle, _) = stocked().await;
    let (early, late) = (Gate::new(), Gate::new());
    upstream.put("late", noise(1, 700_000));
    upstream.script("f", Behaviour::StallAt(100_000, early.clone()));
    upstream.script("late", Behaviour::HoldHead(late.clone(), Box::new(Behaviour::Serve)));
    let ask = |path: &str| {
        let (oracle, url) = (oracle.clone(), format!("{}{path}", upstream.url()));
        tokio::spawn(async move { oracle.get(oracle.client(), "f", &url).await })
    };
    let (one, two) = (ask("f"), ask("late"));
    early.reached_by(1).await;
    late.reached_by(1).await;
    // Time for bytes that are on their way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let now = tokio::time::Instant::now();
    early.open();
    late.open();
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert!(one.first_byte.unwrap() < now && two.first_byte.unwrap() > now);
    let history = oracle.history();
    assert_eq!(history.empty_at(now), 1);
    assert_eq!(history.between(now, now + PATIENCE).records().len(), 0);
    assert_eq!(history.lags().max, two.first_byte.unwrap() - two.start);
}

#[test]
fn percentiles_are_of_those_that_are_there() {
    let ms = Duration::from_millis;
    assert_eq!(Percentiles::of([]), Percentiles::default());
    let one = Percentiles::of([ms(7)]);
    assert_eq!((one.p50, one.p99, one.max), (ms(7), ms(7), ms(7)));
    let hundred = Percentiles::of((1..=100).rev().map(ms));
    assert_eq!((hundred.p50, hundred.p99, hundred.max), (ms(50), ms(99), ms(100)));
}
