//! The balancer itself: turns, what is passed over, what is not, and that nothing broken looks whole.

use std::time::Duration;

use reqwest::{Client, Method};

use super::{BACKEND, Balancer};
use crate::{
    Behaviour, Gate, Link, Upstream,
    fixtures::noise,
    http::{self, PATIENCE, use_ring},
    wait,
};

async fn backends() -> ([Upstream; 3], Balancer) {
    let backends = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    for (number, backend) in backends.iter().enumerate() {
        backend.put("f", format!("from {number}")).put("readyz", "ok");
    }
    let balancer = Balancer::start(backends.iter().map(Upstream::host)).await;
    (backends, balancer)
}

/// Who answers so many requests, one after the other.
async fn answers(balancer: &Balancer, count: usize) -> Vec<String> {
    let url = format!("{}/f", balancer.url());
    let mut seen = Vec::new();
    for _ in 0..count {
        let answer = http::get(&url).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(answer.text(), format!("from {}", answer.header(BACKEND)));
        seen.push(answer.header(BACKEND).to_owned());
    }
    seen
}

#[tokio::test]
async fn every_request_goes_to_the_next_backend_also_on_one_connection() {
    let (backends, balancer) = backends().await;
    assert_eq!(answers(&balancer, 6).await, ["0", "1", "2", "0", "1", "2"]);
    use_ring();
    let kept = Client::builder().no_proxy().build().unwrap();
    for number in ["0", "1", "2"] {
        let answer = kept.get(format!("{}/f", balancer.url())).send().await.unwrap();
        assert_eq!(answer.headers()[BACKEND], number);
        assert_eq!(answer.text().await.unwrap(), format!("from {number}"));
    }
    assert_eq!(balancer.answered(), [3, 3, 3]);
    assert!(backends.iter().all(|backend| backend.hits("f") == 3));
}

#[tokio::test]
async fn backends_are_taken_out_and_in_by_hand() {
    let (_backends, balancer) = backends().await;
    balancer.take_out(1);
    let seen = answers(&balancer, 6).await;
    assert!(!seen.contains(&"1".to_owned()), "{seen:?}");
    balancer.put_in(1);
    assert!(answers(&balancer, 3).await.contains(&"1".to_owned()));
    for number in 0..3 {
        balancer.take_out(number);
    }
    assert_eq!(http::get(&format!("{}/f", balancer.url())).await.status, 503);
}

#[tokio::test]
async fn a_backend_that_takes_no_connection_or_closes_it_is_passed_over() {
    let (backends, balancer) = backends().await;
    backends[1].off().await;
    assert_eq!(answers(&balancer, 4).await, ["0", "2", "2", "0"]);
    assert_eq!(balancer.passed_over(), [0, 1, 0]);
    backends[1].on().await;
    // A head that never comes: the connection ends first.
    let gate = Gate::new();
    backends[1].script("f", Behaviour::HoldHead(gate.clone(), Box::new(Behaviour::Serve)));
    let url = format!("{}/f", balancer.url());
    let asking = tokio::spawn(async move { http::get(&url).await });
    gate.reached_by(1).await;
    backends[1].off().await;
    let answer = asking.await.unwrap();
    assert_eq!((answer.is_ok(), answer.header(BACKEND)), (true, "2"));
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_repeated() {
    let (backends, balancer) = backends().await;
    let gate = Gate::new();
    let held = || Behaviour::HoldHead(gate.clone(), Box::new(Behaviour::Status(200, "done")));
    backends.iter().for_each(|backend| {
        backend.script("f", held());
    });
    let url = format!("{}/f", balancer.url());
    use_ring();
    let asking =
        tokio::spawn(async move { Client::new().post(url).body("work").send().await.unwrap().status() });
    gate.reached_by(1).await;
    for backend in &backends {
        backend.off().await;
    }
    assert_eq!(asking.await.unwrap(), 502);
    assert_eq!(backends.iter().map(|backend| backend.hits("f")).sum::<usize>(), 1);
}

#[tokio::test]
async fn what_breaks_behind_it_is_broken_in_front_of_it() {
    let (backends, balancer) = backends().await;
    let body = noise(3, 1 << 20);
    for (backend, behaviour) in
        backends.iter().zip([Behaviour::CutAt(500_000), Behaviour::ResetAt(500_000), Behaviour::ChunkedNoEnd])
    {
        backend.put("f", body.clone()).script("f", behaviour);
    }
    for number in ["0", "1", "2"] {
        let answer = http::get(&format!("{}/f", balancer.url())).await;
        assert_eq!((answer.status, answer.header(BACKEND)), (200, number));
        assert!(!answer.complete, "backend {number} broke off, and nobody could tell");
        assert!(body.starts_with(&answer.body));
    }
}

#[tokio::test]
async fn bytes_come_through_before_the_body_ends_and_a_client_that_leaves_is_seen_to_leave() {
    let (backends, balancer) = backends().await;
    let gate = Gate::new();
    let body = noise(4, 2 << 20);
    backends[0].put("f", body.clone()).script("f", Behaviour::StallAt(100_000, gate.clone()));
    use_ring();
    let client = Client::builder().no_proxy().build().unwrap();
    let mut answer = client.get(format!("{}/f", balancer.url())).send().await.unwrap();
    assert_eq!(answer.content_length(), Some(body.len() as u64));
    let first = answer.chunk().await.unwrap().expect("the half that is there");
    assert!(body.starts_with(&first));
    gate.open();
    let mut length = first.len();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        length += chunk.len();
    }
    assert_eq!(length, body.len());

    // A body that would take minutes: only the client's leaving ends it.
    backends[1].put("f", body).script("f", Behaviour::Drip(1_000, Duration::from_millis(50)));
    let link = Link::to(backends[1].host()).await;
    balancer.replace(1, link.address());
    let mut answer = client.get(format!("{}/f", balancer.url())).send().await.unwrap();
    answer.chunk().await.unwrap().expect("a beginning");
    assert_eq!(link.counts().open, 1);
    drop(answer);
    wait::until("the backend to be left", PATIENCE, async || link.counts().open == 0).await;
    let answer = http::request(Method::HEAD, &format!("{}/f", balancer.url()), &[]).await;
    assert_eq!((answer.status, answer.complete), (200, true));
}

#[tokio::test]
async fn readiness_is_followed() {
    let (backends, balancer) = backends().await;
    balancer.follow_readiness(Duration::from_millis(20));
    backends[2].script("readyz", Behaviour::Status(503, "stopping"));
    wait::until("backend 2 to be out", PATIENCE, async || !balancer.is_in(2)).await;
    let seen = answers(&balancer, 6).await;
    assert!(!seen.contains(&"2".to_owned()), "{seen:?}");
    backends[2].behave();
    wait::until("backend 2 to be in", PATIENCE, async || balancer.is_in(2)).await;
    backends[0].off().await;
    wait::until("backend 0 to be out", PATIENCE, async || !balancer.is_in(0)).await;
    wait::until("backend 1 to be in", PATIENCE, async || balancer.is_in(1)).await;
}
