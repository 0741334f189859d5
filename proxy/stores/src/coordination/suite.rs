//! What every coordinator must do.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

use std::{sync::Arc, time::Duration};

use artifactapi_model::ports::{Coordinator, Heard, Lease};
use bytes::Bytes;
use futures_util::StreamExt as _;

/// Life of keys whose end is waited for: a service's time is real, and what is claimed of a key must be said of it before
/// its end, on a busy machine too.
const TTL: Duration = Duration::from_secs(3);
/// Life of keys whose end nobody waits for.
const LONG: Duration = Duration::from_secs(600);
/// After how long something is said again to whoever may not have been listening yet.
const AGAIN: Duration = Duration::from_millis(100);
/// A little longer than [`TTL`].
const ENDED: Duration = Duration::from_millis(3_300);

/// Runs everything; `make` returns an empty coordinator (or an unused prefix of a shared one), `elapse` lets
/// time pass for it.
pub async fn suite(make: impl AsyncFn() -> Arc<dyn Coordinator>, elapse: impl AsyncFn(Duration)) {
    one_holds_a_lease(&*make().await).await;
    a_lease_ends_and_is_renewed(&*make().await, &elapse).await;
    rs_81_a_lost_lease_can_harm_nobody(&*make().await, &elapse).await;
    one_of_many_wins(make().await).await;
    values_come_back_until_they_end(&*make().await, &elapse).await;
    messages_reach_every_subscriber(&*make().await).await;
}

async fn taken(coordinator: &dyn Coordinator, key: &str, ttl: Duration) -> Lease {
    coordinator.acquire(key, "me", ttl).await.unwrap().unwrap()
}

async fn one_holds_a_lease(coordinator: &dyn Coordinator) {
    let lease = coordinator.acquire("key", "10.0.0.1:8001", LONG).await.unwrap().unwrap();
    assert_eq!(lease.key, "key");
    let late = coordinator.acquire("key", "10.0.0.2:8001", LONG).await.unwrap();
    assert_eq!(late, Err("10.0.0.1:8001".to_owned()), "the holder's note is shown");
    let other = taken(coordinator, "other key", LONG).await;
    assert_ne!(lease.token, other.token);
    coordinator.release(&lease).await.unwrap();
    taken(coordinator, "key", LONG).await;
}

async fn a_lease_ends_and_is_renewed(coordinator: &dyn Coordinator, elapse: &impl AsyncFn(Duration)) {
    let lease = taken(coordinator, "key", TTL).await;
    for _ in 0..3 {
        elapse(TTL / 2).await;
        assert!(coordinator.renew(&lease, TTL).await.unwrap());
    }
    assert!(coordinator.acquire("key", "", TTL).await.unwrap().is_err(), "renewed, so still held");
    elapse(ENDED).await;
    assert!(!coordinator.renew(&lease, TTL).await.unwrap(), "an ended lease cannot be renewed");
    taken(coordinator, "key", LONG).await;
}

async fn rs_81_a_lost_lease_can_harm_nobody(coordinator: &dyn Coordinator, elapse: &impl AsyncFn(Duration)) {
    let old = taken(coordinator, "key", TTL).await;
    elapse(ENDED).await;
    let new = taken(coordinator, "key", LONG).await;
    assert!(!coordinator.renew(&old, LONG).await.unwrap());
    coordinator.release(&old).await.unwrap();
    assert!(coordinator.renew(&new, LONG).await.unwrap(), "the old holder could not give back the new lease");
    let forged = Lease { key: "key".into(), token: "guess".into() };
    assert!(!coordinator.renew(&forged, LONG).await.unwrap());
}

async fn one_of_many_wins(coordinator: Arc<dyn Coordinator>) {
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let coordinator = coordinator.clone();
            tokio::spawn(async move { coordinator.acquire("key", "", LONG).await.unwrap().is_ok() })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

async fn values_come_back_until_they_end(coordinator: &dyn Coordinator, elapse: &impl AsyncFn(Duration)) {
    assert_eq!(coordinator.get("key").await.unwrap(), None);
    let value = Bytes::from_static(b"\0binary\xff");
    coordinator.put("key", value.clone(), TTL).await.unwrap();
    assert_eq!(coordinator.get("key").await.unwrap(), Some(value));
    coordinator.put("key", Bytes::from_static(b"second"), LONG).await.unwrap();
    coordinator.put("short", Bytes::new(), TTL).await.unwrap();
    assert_eq!(coordinator.get("short").await.unwrap(), Some(Bytes::new()));
    elapse(ENDED).await;
    assert_eq!(coordinator.get("key").await.unwrap(), Some("second".into()), "the later life counts");
    assert_eq!(coordinator.get("short").await.unwrap(), None);
    coordinator.delete("key").await.unwrap();
    assert_eq!(coordinator.get("key").await.unwrap(), None);
    coordinator.delete("key").await.unwrap();
    let lease = taken(coordinator, "key", LONG).await;
    assert_eq!(coordinator.get("key").await.unwrap(), None, "leases and values are apart");
    coordinator.delete("key").await.unwrap();
    assert!(coordinator.renew(&lease, LONG).await.unwrap());
}

async fn messages_reach_every_subscriber(coordinator: &dyn Coordinator) {
    let said = |n: u32| Bytes::from(format!("message {n}"));
    coordinator.publish(said(0)).await.unwrap();
    let mut subscribers = [coordinator.subscribe(), coordinator.subscribe()];
    // A service may need a moment to know its subscribers: until one is reached, all is said again.
    let first = loop {
        coordinator.publish(said(1)).await.unwrap();
        let heard = tokio::time::timeout(AGAIN, subscribers[0].next()).await;
        match heard {
            Ok(Some(Heard::Message(message))) if message == said(1) => break message,
            _ => {}
        }
    };
    assert_eq!(first, said(1));
    for n in 2..50 {
        coordinator.publish(said(n)).await.unwrap();
    }
    for subscriber in &mut subscribers {
        let mut last = 1;
        while last < 49 {
            match subscriber.next().await.unwrap() {
                Heard::Message(message) if message == said(last + 1) => last += 1,
                Heard::Message(message) => {
                    assert!(message == said(last) || message == said(0), "{message:?}")
                }
                Heard::Gap => {}
            }
        }
    }
}
