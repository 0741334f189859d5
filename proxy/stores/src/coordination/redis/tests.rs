//! The coordinator against a real Redis: in order, refused, hung, emptied, foreign, full, of a cluster.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use artifactapi_services::{Redis, provided};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::coordination::suite;

/// Longest wait for what has to happen: a bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);

fn options(url: &str) -> RedisOptions {
    RedisOptions::new(url, None).unwrap()
}

/// Connected, with a budget that a busy machine keeps.
async fn coordinator(url: &str) -> RedisCoordinator {
    let coordinator = RedisCoordinator::start(options(url).budget(PATIENCE));
    assert!(coordinator.connected(PATIENCE).await);
    coordinator
}

async fn conforms_at(url: &str) {
    let made = AtomicU32::new(0);
    let make = async || {
        let prefix = format!("suite-{}:", made.fetch_add(1, Relaxed));
        let coordinator = RedisCoordinator::start(options(url).prefix(&prefix).budget(PATIENCE));
        assert!(coordinator.connected(PATIENCE).await);
        Arc::new(coordinator) as Arc<dyn Coordinator>
    };
    suite::suite(make, sleep).await;
}

#[tokio::test]
async fn conforms() {
    let Some(redis) = provided(Redis::start(), "the coordination suite on Redis") else { return };
    conforms_at(&redis.url()).await;
}

#[tokio::test]
async fn conforms_on_a_cluster() {
    let Some(redis) = provided(Redis::start_cluster(), "the coordination suite on a cluster") else {
        return;
    };
    conforms_at(&redis.url().replace("redis://", "redis-cluster://")).await;
}

#[tokio::test]
async fn rs_84_a_hung_redis_costs_one_budget_and_the_way_back_is_automatic() {
    let Some(redis) = provided(Redis::start(), "RS-84 hung") else { return };
    // Longer than the usual one, for the call that must succeed at the end.
    let coordinator = RedisCoordinator::start(options(&redis.url()).budget(Duration::from_secs(2)));
    assert!(coordinator.connected(PATIENCE).await);
    redis.0.pause();
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(timeout(PATIENCE, coordinator.get("key")).await.unwrap().is_err());
        times.push(begun.elapsed());
    }
    println!("RS-84 hung: first call {:?}, slowest of the rest {:?}", times[0], times[1..].iter().max());
    let counts = coordinator.tally().counts();
    assert_eq!(
        (counts.gets, counts.failures, counts.refused),
        (1, 1, 19),
        "one call found out, none after it"
    );
    assert!(counts.local);
    times.sort();
    assert!(times[10] <= Duration::from_millis(100), "{times:?}");

    let hung = Instant::now();
    redis.0.resume();
    assert!(coordinator.connected(PATIENCE).await);
    println!("RS-84 hung: coordinating again {:?} after it woke", hung.elapsed());
    assert!(coordinator.acquire("key", "", TTL).await.unwrap().is_ok());
    assert!(!coordinator.tally().counts().local);
    assert_eq!(coordinator.tally().counts().sessions, 2);
}

#[tokio::test]
async fn rs_84_refused_at_the_start_and_again_later() {
    let Some(mut redis) = provided(Redis::start(), "RS-84 refused") else { return };
    redis.0.kill();
    let coordinator = RedisCoordinator::start(options(&redis.url()).budget(PATIENCE));
    let mut heard = coordinator.subscribe();
    assert!(coordinator.get("key").await.is_err());
    assert!(coordinator.acquire("key", "", TTL).await.is_err(), "unknown is not taken");
    redis.0.start_again();
    assert!(coordinator.connected(PATIENCE).await);
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Heard::Gap));
    coordinator.publish("before".into()).await.unwrap();
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Heard::Message("before".into())));

    redis.0.kill();
    let mut live = coordinator.shared.live.subscribe();
    timeout(PATIENCE, live.wait_for(|live| !live)).await.unwrap().unwrap();
    redis.0.start_again();
    assert!(coordinator.connected(PATIENCE).await);
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Heard::Gap), "something may be missed");
    coordinator.publish("after".into()).await.unwrap();
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Heard::Message("after".into())));
}

#[tokio::test]
async fn rs_84_flushall_loses_leases_and_nothing_else() {
    let Some(redis) = provided(Redis::start(), "RS-84 FLUSHALL") else { return };
    let coordinator = coordinator(&redis.url()).await;
    let lease = coordinator.acquire("key", "", TTL).await.unwrap().unwrap();
    coordinator.put("key", "value".into(), TTL).await.unwrap();
    assert_eq!(redis.command("FLUSHALL"), "+OK");
    assert!(!coordinator.renew(&lease, TTL).await.unwrap());
    assert_eq!(coordinator.get("key").await.unwrap(), None);
    coordinator.release(&lease).await.unwrap();
    assert!(coordinator.acquire("key", "", TTL).await.unwrap().is_ok());
}

#[tokio::test]
async fn foreign_values_are_absent_and_counted() {
    let Some(redis) = provided(Redis::start(), "foreign values") else { return };
    let coordinator = coordinator(&redis.url()).await;
    let mut foreign = 0;
    for (family, command) in [
        ("value", "SET artifactapi:value:key garbage"),
        ("value", "RPUSH artifactapi:value:key a b"),
        ("lease", "SET artifactapi:lease:key garbage"),
        ("lease", "RPUSH artifactapi:lease:key a b"),
        ("lease", "SET artifactapi:lease:key v1:0123456789abcdef0123456789abcdef:endless"),
    ] {
        redis.command("FLUSHALL");
        redis.command(command);
        if family == "value" {
            assert_eq!(coordinator.get("key").await.unwrap(), None, "{command}");
            coordinator.put("key", "ours".into(), TTL).await.unwrap();
            assert_eq!(coordinator.get("key").await.unwrap(), Some("ours".into()), "{command}");
        } else {
            let forged = Lease { key: "key".into(), token: "garbage".into() };
            assert!(!coordinator.renew(&forged, TTL).await.unwrap(), "{command}");
            let lease = coordinator.acquire("key", "me", TTL).await.unwrap().unwrap();
            assert!(coordinator.renew(&lease, TTL).await.unwrap(), "{command}");
        }
        foreign += 1;
        assert_eq!(coordinator.tally().counts().foreign, foreign, "{command}");
    }
    redis.command("SET other:key theirs");
    coordinator.delete("key").await.unwrap();
    assert_eq!(redis.command("EXISTS other:key"), ":1");
    assert!(!coordinator.tally().counts().local, "Redis itself is well");
}

#[tokio::test]
async fn rs_84_a_full_redis_answers_with_errors_and_stays_in_use() {
    let Some(redis) = provided(Redis::start(), "RS-84 full") else { return };
    let coordinator = coordinator(&redis.url()).await;
    let lease = coordinator.acquire("held", "", TTL).await.unwrap().unwrap();
    coordinator.put("known", "value".into(), TTL).await.unwrap();
    assert_eq!(redis.command("CONFIG SET maxmemory-policy noeviction"), "+OK");
    assert_eq!(redis.command("CONFIG SET maxmemory 1mb"), "+OK");
    let value = Bytes::from(vec![b'x'; 256 << 10]);
    let mut full = false;
    for n in 0..16 {
        full |= coordinator.put(&format!("fill {n}"), value.clone(), TTL).await.is_err();
    }
    assert!(full);
    assert!(coordinator.acquire("new", "", TTL).await.is_err());
    assert_eq!(coordinator.get("known").await.unwrap(), Some("value".into()));
    coordinator.release(&lease).await.unwrap();
    assert!(!coordinator.tally().counts().local);
}

#[tokio::test]
async fn a_wrong_password_is_local_mode_until_it_is_right() {
    let Some(redis) = provided(Redis::start(), "a wrong password") else { return };
    assert_eq!(redis.command("CONFIG SET requirepass right"), "+OK");
    let at = |password: &str| format!("redis://:{password}@127.0.0.1:{}/0", redis.0.port());
    let wrong = RedisCoordinator::start(options(&at("wrong")));
    assert!(!wrong.connected(Duration::from_millis(500)).await);
    assert!(wrong.get("key").await.is_err());
    assert_eq!(coordinator(&at("right")).await.get("key").await.unwrap(), None);
}

#[test]
fn a_bad_url_is_one_sentence_without_the_password() {
    for good in [
        "redis://host",
        "redis://user:c4n4ry@host:6380/3",
        "rediss://:c4n4ry@host",
        "redis-sentinel://a:26379?node=b:26379&sentinelServiceName=main",
        "rediss-cluster://a:6379?node=b:6379",
    ] {
        let options = RedisOptions::new(good, None).unwrap();
        assert!(!format!("{options:?}").contains("c4n4ry"));
        assert_eq!(options.config.tls.is_some(), good.starts_with("rediss"), "{good}");
    }
    for bad in [
        "",
        "host:6379",
        "http://:c4n4ry@host",
        "redis://:c4n4ry@",
        "redis://:c4n4ry@host:99999",
        "redis://:c4n4ry@host/notanumber",
        "redis-sentinel://:c4n4ry@host",
    ] {
        let error = RedisOptions::new(bad, None).unwrap_err().to_string();
        assert!(!error.contains("c4n4ry") && !error.contains('\n'), "{error}");
    }
    assert_eq!(RedisOptions::new("rediss://host", Some("no pem")).unwrap_err(), RedisUrlError::Ca);
}
