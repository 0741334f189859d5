//! The link itself: that each fault arrives as it was asked for, also on connections that were open before.

use std::{io::ErrorKind, time::Duration};

use reqwest::{Client, Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    Fault, Link,
    http::{HttpLink, is_refused},
};
use crate::{Upstream, http, wait};

/// How long nothing has to happen to be taken for nothing.
const SILENCE: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(20);

struct Echo {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that says `greeting` and then sends back what it gets.
async fn echo(greeting: &'static [u8]) -> Echo {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut running = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            running.spawn(async move {
                let _ = stream.write_all(greeting).await;
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Echo { address, task }
}

async fn linked(greeting: &'static [u8]) -> (Echo, Link) {
    let echo = echo(greeting).await;
    let link = Link::to(&echo.address).await;
    (echo, link)
}

async fn connect(link: &Link) -> TcpStream {
    TcpStream::connect(link.address()).await.unwrap()
}

async fn says(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
}

async fn hears(stream: &mut TcpStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    timeout(SOON, stream.read_exact(&mut heard)).await.expect("an answer").unwrap();
    assert_eq!(heard, text);
}

async fn hears_nothing(stream: &mut TcpStream) {
    let mut heard = [0; 1];
    let read = timeout(SILENCE, stream.read(&mut heard)).await;
    assert!(read.is_err(), "nothing was to arrive: {read:?} {heard:?}");
}

#[tokio::test]
async fn what_passes_arrives_and_is_counted() {
    let (_echo, link) = linked(b"hi").await;
    let mut stream = connect(&link).await;
    hears(&mut stream, b"hi").await;
    says(&mut stream, b"four").await;
    hears(&mut stream, b"four").await;
    let counts = link.counts();
    assert_eq!((counts.connections, counts.open, counts.sent, counts.received), (1, 1, 4, 6));
    stream.shutdown().await.unwrap();
    assert_eq!(
        timeout(SOON, stream.read(&mut [0; 1])).await.expect("an end").unwrap(),
        0,
        "a half is closed"
    );
    wait::until("the end of the connection", SOON, async || link.counts().open == 0).await;
}

#[tokio::test]
async fn latency_is_added_in_both_directions_and_does_not_add_up() {
    const DELAY: Duration = Duration::from_millis(100);
    let (_echo, link) = linked(b"").await;
    let mut stream = connect(&link).await;
    link.set(Fault::Latency(DELAY)).await;
    let start = Instant::now();
    // Far more pieces than one: each of them late, none later for the others.
    let many = vec![7; 4 << 20];
    let (mut from, mut to) = stream.split();
    let mut heard = vec![0; many.len()];
    let (sent, read) = tokio::join!(to.write_all(&many), from.read_exact(&mut heard));
    sent.unwrap();
    read.unwrap();
    assert!(heard == many);
    let took = start.elapsed();
    assert!(took >= 2 * DELAY, "{took:?}");
    assert!(took < DELAY * 64, "one delay for each of 256 pieces would be more: {took:?}");
}

#[tokio::test]
async fn refusal_takes_no_connection_keeps_the_open_ones_and_ends() {
    let (_echo, link) = linked(b"").await;
    let mut open = connect(&link).await;
    says(&mut open, b"a").await;
    hears(&mut open, b"a").await;
    for _ in 0..3 {
        link.set(Fault::Refuse).await;
        link.set(Fault::Refuse).await;
        let refused = TcpStream::connect(link.address()).await;
        assert_eq!(refused.map(drop).map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused));
        says(&mut open, b"b").await;
        hears(&mut open, b"b").await;
        link.set(Fault::Pass).await;
        let mut stream = connect(&link).await;
        says(&mut stream, b"c").await;
        hears(&mut stream, b"c").await;
    }
}

#[tokio::test]
async fn a_black_hole_takes_connections_and_swallows_bytes_until_it_ends() {
    let (_echo, link) = linked(b"hi").await;
    let mut open = connect(&link).await;
    hears(&mut open, b"hi").await;
    link.set(Fault::BlackHole).await;
    let mut new = connect(&link).await;
    says(&mut open, b"a").await;
    hears_nothing(&mut open).await;
    hears_nothing(&mut new).await;
    assert_eq!(link.counts().connections, 2);
    link.set(Fault::Pass).await;
    hears(&mut open, b"a").await;
    hears(&mut new, b"hi").await;
}

#[tokio::test]
async fn a_reset_ends_every_open_connection_and_no_later_one() {
    let (_echo, link) = linked(b"hi").await;
    let mut streams = [connect(&link).await, connect(&link).await];
    for stream in &mut streams {
        hears(stream, b"hi").await;
    }
    link.reset_all();
    for stream in &mut streams {
        let read = timeout(SOON, stream.read(&mut [0; 1])).await.expect("an end");
        assert_eq!(read.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
    }
    hears(&mut connect(&link).await, b"hi").await;
}

#[tokio::test]
async fn a_cut_comes_after_so_many_bytes() {
    let (_echo, link) = linked(b"0123456789").await;
    let mut open = connect(&link).await;
    hears(&mut open, b"0123456789").await;
    link.set(Fault::CutAfter(4)).await;
    says(&mut open, b"abcdefgh").await;
    let mut heard = Vec::new();
    let _ = timeout(SOON, open.read_to_end(&mut heard)).await.expect("an end");
    assert_eq!(heard, b"abcd", "counted since the fault was set");
    let mut heard = Vec::new();
    let _ = timeout(SOON, connect(&link).await.read_to_end(&mut heard)).await.expect("an end");
    assert_eq!(heard, b"0123");
}

#[tokio::test]
async fn a_throttled_link_takes_its_time() {
    let (_echo, link) = linked(b"").await;
    link.set(Fault::Throttle(4000)).await;
    let mut stream = connect(&link).await;
    let start = Instant::now();
    says(&mut stream, &[1; 1000]).await;
    hears(&mut stream, &[1; 1000]).await;
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[tokio::test]
async fn another_target_gets_later_connections_and_none_is_an_end() {
    let (_echo, link) = linked(b"one").await;
    let other = echo(b"two").await;
    hears(&mut connect(&link).await, b"one").await;
    link.point_to(&other.address);
    hears(&mut connect(&link).await, b"two").await;
    link.point_to("127.0.0.1:1");
    // The reset may come before the connection is reported.
    let read = async { TcpStream::connect(link.address()).await?.read(&mut [0; 1]).await };
    let read = timeout(SOON, read).await.expect("an end");
    assert_eq!(read.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn the_share_of_refused_requests_depends_on_the_seed_only() {
    let refused = |percent, seed| (0..10_000).filter(move |n| is_refused(percent, seed, *n));
    assert_eq!(refused(0, 1).count(), 0);
    assert_eq!(refused(100, 1).count(), 10_000);
    let twenty = refused(20, 1).count();
    assert!((1_850..2_150).contains(&twenty), "{twenty}");
    assert!(refused(20, 1).eq(refused(20, 1)));
    assert!(!refused(20, 1).eq(refused(20, 2)), "another seed, others");
}

#[tokio::test]
async fn an_http_link_slows_the_chosen_requests_down_and_forwards_the_others() {
    let upstream = Upstream::start().await;
    let body = crate::fixtures::noise(1, 3 << 20);
    upstream.put("f", body.clone());
    let link = HttpLink::to(upstream.host()).await;
    let url = format!("http://{}/f", link.address());
    link.slow_down(20, 7);
    for number in 0..40 {
        let answer = http::get(&url).await;
        let want = if is_refused(20, 7, number) { 503 } else { 200 };
        assert_eq!((answer.status, answer.complete), (want, true), "{number}");
        assert!(want == 503 || answer.body == body);
        assert_eq!(want == 503, answer.text().contains("<Code>SlowDown</Code>"));
    }
    let refused = (0..40).filter(|n| is_refused(20, 7, *n)).count();
    assert_eq!((link.slowed(), upstream.hits("f")), (refused as u64, 40 - refused));
    assert_eq!(link.requests().into_iter().collect::<Vec<_>>(), [("GET".to_owned(), 40)]);
}

#[tokio::test]
async fn an_http_link_passes_bodies_heads_and_bytes_of_both_sides() {
    let upstream = Upstream::start().await;
    let link = HttpLink::to(upstream.host()).await;
    let url = format!("http://{}/up?a=b%20c", link.address());
    let body = crate::fixtures::noise(2, 900 << 10);
    http::use_ring();
    let sent = Client::new().put(&url).header("x-amz-date", "now").body(body.clone()).send().await.unwrap();
    assert_eq!(sent.status(), 404, "the scripted upstream has no such file, but it records");
    let request = upstream.requests().pop().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "up?a=b%20c"));
    assert!(request.body == body);
    assert_eq!(request.header("host"), Some(link.address().as_str()), "signatures cover the host");
    assert_eq!(request.header("x-amz-date"), Some("now"));
    link.slow_down(100, 1);
    let sent = Client::new().put(&url).body(body).send().await.unwrap();
    assert_eq!(sent.status(), 503, "the body was read, so that the answer arrives");
    upstream.off().await;
    link.slow_down(0, 1);
    let answer = http::request(Method::HEAD, &url, &[]).await;
    assert_eq!(answer.status, 502);
}
