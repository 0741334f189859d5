//! Against a real Redis: in order, hung, gone, emptied, full, and with strangers' values.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use artifactapi_services::{Redis, provided};
use futures_util::StreamExt as _;

use super::*;
use crate::coordination::suite;

/// A call's bound, with room for a busy machine's scheduler.
const BOUND: Duration = Duration::from_millis(250);

fn connect(redis: &Redis) -> Arc<RedisCoordinator> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}:", NUMBER.fetch_add(1, Ordering::Relaxed));
    Arc::new(RedisCoordinator::with_prefix(&redis.url(), Arc::default(), &prefix).unwrap())
}

/// Waits until it works.
async fn ready(coordinator: &RedisCoordinator) {
    let end = Instant::now() + Duration::from_secs(20);
    while coordinator.get("none").await.is_err() {
        assert!(Instant::now() < end, "redis should answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(redis) = provided(Redis::start(), "redis conforms") else { return };
    let make = async || {
        let coordinator = connect(&redis);
        ready(&coordinator).await;
        coordinator as Arc<dyn Coordinator>
    };
    suite::suite(make, async |time| tokio::time::sleep(time).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_84_a_hung_redis_costs_one_short_wait_and_is_found_again() {
    let Some(redis) = provided(Redis::start(), "rs_84 hung") else { return };
    let coordinator = connect(&redis);
    ready(&coordinator).await;
    redis.0.pause();
    for _ in 0..100 {
        let began = Instant::now();
        assert!(coordinator.acquire("key", "", Duration::from_secs(1)).await.is_err());
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    }
    let calls: u64 = coordinator.tally.by_call().filter(|(name, _)| *name == "acquire").map(|(_, n)| n).sum();
    assert!(calls <= 2, "{calls} calls went to a redis that does not answer");
    assert!(coordinator.tally.counts().is_local);
    redis.0.resume();
    ready(&coordinator).await;
    assert!(coordinator.acquire("key", "", Duration::from_secs(1)).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_84_a_redis_that_goes_and_comes_back() {
    let Some(mut redis) = provided(Redis::start(), "rs_84 gone") else { return };
    let coordinator = connect(&redis);
    ready(&coordinator).await;
    let mut messages = coordinator.subscribe();
    coordinator.put("key", Bytes::from_static(b"v"), Duration::from_secs(60)).await.unwrap();
    redis.0.kill();
    let began = Instant::now();
    assert!(coordinator.get("key").await.is_err());
    assert!(began.elapsed() < BOUND);
    redis.0.start_again();
    ready(&coordinator).await;
    assert_eq!(coordinator.get("key").await.unwrap(), None, "nothing in it is needed");
    // What was said meanwhile is lost, and the listener knows.
    let heard = tokio::time::timeout(Duration::from_secs(20), async {
        while messages.next().await != Some(Heard::Gap) {}
    });
    heard.await.expect("a gap");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "messages come again");
        let _ = coordinator.publish(Bytes::from_static(b"hello")).await;
        let next = tokio::time::timeout(Duration::from_millis(200), messages.next()).await;
        if next == Ok(Some(Heard::Message(Bytes::from_static(b"hello")))) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_84_a_redis_that_is_not_there_at_the_start_is_no_failure() {
    let Some(mut redis) = provided(Redis::start(), "rs_84 start") else { return };
    redis.0.kill();
    let coordinator = connect(&redis);
    assert!(coordinator.get("key").await.is_err());
    redis.0.start_again();
    ready(&coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_full_and_foreign() {
    let Some(redis) = provided(Redis::start(), "redis emptied, full, foreign") else { return };
    let coordinator = connect(&redis);
    ready(&coordinator).await;
    let ttl = Duration::from_secs(60);
    let lease = coordinator.acquire("key", "", ttl).await.unwrap().unwrap();
    redis.command("FLUSHALL");
    assert!(!coordinator.renew(&lease, ttl).await.unwrap(), "a lost lease");
    let prefix = &coordinator.prefix;
    redis.command(&format!("LPUSH {prefix}value:list x"));
    redis.command(&format!("LPUSH {prefix}lease:list x"));
    redis.command(&format!("SET {prefix}lease:text garbage"));
    assert_eq!(coordinator.get("list").await.unwrap(), None, "not ours");
    assert_eq!(coordinator.tally.counts().foreign, 1);
    for key in ["list", "text"] {
        let lease = coordinator.acquire(key, "", ttl).await.unwrap().unwrap();
        assert!(coordinator.renew(&lease, ttl).await.unwrap(), "{key}");
    }
    redis.command("CONFIG SET maxmemory 1");
    assert!(coordinator.put("more", Bytes::from_static(b"v"), ttl).await.is_err());
    assert!(!coordinator.tally.counts().is_local, "it answers");
    redis.command("CONFIG SET maxmemory 0");
    coordinator.put("more", Bytes::from_static(b"v"), ttl).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_no_answer_and_a_bad_url_keeps_its_secret() {
    let Some(redis) = provided(Redis::start(), "redis password") else { return };
    redis.command("CONFIG SET requirepass right");
    let url = |password: &str| redis.url().replace("redis://", &format!("redis://:{password}@"));
    let right = RedisCoordinator::connect(&url("right"), Arc::default()).unwrap();
    ready(&right).await;
    let wrong = RedisCoordinator::connect(&url("canary"), Arc::default()).unwrap();
    for _ in 0..5 {
        let error = wrong.get("key").await.unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for bad in ["", "localhost", "http://:canary@h", "redis://:canary@h:port"] {
        let error = RedisCoordinator::connect(bad, Arc::default()).err();
        let error = error.map(|error| error.to_string()).unwrap_or_else(|| panic!("{bad} is accepted"));
        assert!(error.starts_with("REDIS_URL") && !error.contains("canary"), "{error}");
    }
}
