//! Replicas that share what they know about an upstream host.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use artifactapi_model::{
    Notice,
    ports::{Coordinator, Heard, Messages},
};
use artifactapi_stores::LocalCoordinator;

use super::*;
use crate::testing::{
    loopback,
    server::{Server, reply},
};

/// `n` replicas of one coordinator, and what they say to each other.
fn replicas(n: usize, clock: &Arc<ManualClock>) -> (Vec<HttpUpstream>, Messages) {
    let coordinator = Arc::new(LocalCoordinator::default());
    let make = |n: usize| {
        let name = format!("replica {n}");
        upstream_with(clock.clone(), Names::new(&[])).sharing(coordinator.clone(), &name, None)
    };
    ((0..n).map(make).collect(), coordinator.subscribe())
}

async fn next(messages: &mut Messages) -> Notice {
    let heard = tokio::time::timeout(Duration::from_secs(30), messages.next()).await.unwrap();
    let Some(Heard::Message(bytes)) = heard else { panic!("{heard:?}") };
    Notice::parse(&bytes).unwrap()
}

#[tokio::test]
async fn rs_91_one_refusal_pauses_all_replicas() {
    let server = Server::start(|_| reply(429, &[("Retry-After", "120")], "slow down")).await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let (replicas, _) = replicas(3, &clock);
    assert_eq!(send(&replicas[0], &spec, head(&server.url("/a"))).await.unwrap().status, 429);
    for seconds in [0, 60, 59] {
        clock.advance(Duration::from_secs(seconds));
        for replica in &replicas {
            let error = refused(send(replica, &spec, get(&server.url("/a"))).await);
            assert!(matches!(error, UpstreamError::Paused { .. }), "{error:?}");
        }
    }
    assert_eq!(server.requests().len(), 1, "one request before the pause ends");
    clock.advance(Duration::from_secs(1));
    assert_eq!(send(&replicas[2], &spec, get(&server.url("/a"))).await.unwrap().status, 429);
}

#[tokio::test]
async fn rs_91_a_replica_that_has_just_asked_hears_of_the_pause() {
    let paused = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let paused = paused.clone();
        move |_| match paused.load(SeqCst) {
            true => reply(429, &[("Retry-After", "7200")], ""),
            false => reply(200, &[], "ok"),
        }
    })
    .await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let (replicas, mut messages) = replicas(2, &clock);
    send(&replicas[1], &spec, get(&server.url("/a"))).await.unwrap();
    paused.store(true, SeqCst);
    send(&replicas[0], &spec, get(&server.url("/a"))).await.unwrap();
    replicas[1].hear(&next(&mut messages).await);
    let error = refused(send(&replicas[1], &spec, get(&server.url("/a"))).await);
    assert!(
        matches!(error, UpstreamError::Paused { retry_after, .. } if retry_after.as_secs() == 3600),
        "capped: {error:?}"
    );
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn rs_94_an_open_breaker_is_heard_and_one_replica_probes() {
    let server = Server::start(|_| reply(502, &[], "")).await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let (replicas, mut messages) = replicas(3, &clock);
    let url = server.url("/a");
    // The second has looked before anything happened and must hear; the third looks.
    send(&replicas[1], &spec, get(&url)).await.unwrap();
    for _ in 0..5 {
        send(&replicas[0], &spec, get(&url)).await.unwrap();
    }
    let notice = next(&mut messages).await;
    assert!(matches!(&notice, Notice::Failing { by, .. } if by == "replica 0"), "{notice:?}");
    replicas.iter().for_each(|replica| replica.hear(&notice));
    for replica in &replicas {
        let error = refused(send(replica, &spec, get(&url)).await);
        assert!(matches!(error, UpstreamError::BreakerOpen { .. }), "{error:?}");
    }
    assert_eq!(server.requests().len(), 6, "the third never asked");

    clock.advance(Duration::from_secs(30));
    send(&replicas[2], &spec, get(&url)).await.unwrap();
    let notice = next(&mut messages).await;
    replicas.iter().for_each(|replica| replica.hear(&notice));
    for replica in &replicas {
        assert!(send(replica, &spec, get(&url)).await.is_err());
    }
    assert_eq!(server.requests().len(), 7, "one probe for all");
}

#[tokio::test]
async fn rs_94_while_a_twin_probes_nobody_else_does() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let coordinator = Arc::new(LocalCoordinator::default());
    let host = server.address.to_string();
    let upstream = upstream_with(clock.clone(), Names::new(&[])).sharing(coordinator.clone(), "me", None);
    upstream.hear(&Notice::Failing { host: host.clone(), by: "twin".into() });
    clock.advance(Duration::from_secs(30));
    let key = format!("probe/{host}");
    let probe = coordinator.acquire(&key, "twin", Duration::from_secs(30)).await.unwrap().unwrap();
    let error = refused(send(&upstream, &spec, get(&server.url("/a"))).await);
    assert!(matches!(error, UpstreamError::BreakerOpen { .. }), "{error:?}");
    assert!(server.requests().is_empty());
    coordinator.release(&probe).await.unwrap();
    assert_eq!(send(&upstream, &spec, get(&server.url("/a"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn rs_91_a_probe_that_is_told_to_wait_ends_no_pause() {
    let asks_for_a_pause = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let asks_for_a_pause = asks_for_a_pause.clone();
        move |_| match asks_for_a_pause.load(SeqCst) {
            true => reply(429, &[("Retry-After", "600")], ""),
            false => reply(500, &[], ""),
        }
    })
    .await;
    let (clock, spec) = (clock(), loopback(&server.url("/")));
    let coordinator = Arc::new(LocalCoordinator::default());
    let replica =
        |name: &str| upstream_with(clock.clone(), Names::new(&[])).sharing(coordinator.clone(), name, None);
    let one = replica("one");
    for _ in 0..5 {
        assert_eq!(send(&one, &spec, get(&server.url("/a"))).await.unwrap().status, 500);
    }
    asks_for_a_pause.store(true, SeqCst);
    clock.advance(Duration::from_secs(31));
    assert_eq!(send(&one, &spec, get(&server.url("/a"))).await.unwrap().status, 429, "the probe");
    // Everything that was to be said has been said.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let asked = server.requests().len();
    // A replica that comes later, and has heard no message, looks.
    let error = refused(send(&replica("two"), &spec, get(&server.url("/a"))).await);
    assert!(matches!(error, UpstreamError::Paused { .. }), "{error:?}");
    assert_eq!(server.requests().len(), asked);
}
