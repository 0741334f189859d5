//! Floods and slow clients: what they may cost, and who is served meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Gate, Proxy, RemoteManifest, Upstream, http,
    http::Fetched,
    metrics,
    raw::{self, Raw},
    wait,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use artifactapi_tests::fixtures::noise;

/// Longest time from a connection's begin to the end of its first head, and what a busy machine adds.
const HEAD_LIMIT: Duration = Duration::from_secs(10 + 10);

async fn one_remote(max_concurrent: u32) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    upstream.put("held.bin", "held");
    let manifest = RemoteManifest::new("g", PackageType::Generic, &upstream);
    let proxy = Proxy::start(manifest.set("maxConcurrent", max_concurrent).document()).await;
    assert!(http::get(&format!("{}held.bin", proxy.remote("g"))).await.is_ok());
    (upstream, proxy)
}

async fn serves(proxy: &Proxy) {
    let answer = http::get(&format!("{}held.bin", proxy.remote("g"))).await;
    assert!(answer.is_ok() && answer.header("x-cache") == "HIT", "{answer:?}");
}

/// Neither asks for its connection to be closed: that is the proxy's own doing.
#[tokio::test(flavor = "multi_thread")]
async fn rs_60_a_head_that_is_too_large_ends_its_connection() {
    let (_upstream, proxy) = one_remote(64).await;
    let head = |lines: &str| format!("GET /livez HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let large = format!("x: {}\r\n", "y".repeat(33 << 10));
    let spread = (0..20).map(|n| format!("x-{n}: {}\r\n", "y".repeat(2000))).collect::<String>();
    for (case, lines) in
        [("101 headers", many(100)), ("5000 headers", many(5000)), ("one", large), ("together", spread)]
    {
        let answer = raw::exchange_within(&proxy.host(), head(&lines).as_bytes(), HEAD_LIMIT).await;
        let Raw { status, text } = answer.unwrap_or_else(|| panic!("{case}: it stays open"));
        assert_eq!(status, Some(431), "{case}: {text}");
    }
    let most = head(&format!("{}connection: close\r\n", many(98)));
    let answer = raw::exchange(&proxy.host(), most.as_bytes()).await;
    assert_eq!(answer.status, Some(200), "100 headers: {}", answer.text);
    let most = head(&format!("x: {}\r\nconnection: close\r\n", "y".repeat(30 << 10)));
    assert_eq!(raw::exchange(&proxy.host(), most.as_bytes()).await.status, Some(200), "30 KiB");
    serves(&proxy).await;
}

/// Sends a byte of a head each second until the other side has had enough.
async fn drip(host: String) {
    let mut stream = TcpStream::connect(host).await.expect("a listener");
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nx: ").await.expect("it is open");
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer = [0; 512];
    loop {
        tokio::select! {
            got = stream.read(&mut answer) => match got {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            _ = seconds.tick() => if stream.write_all(b"y").await.is_err() { return },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_64_slow_heads_end_in_time_and_hold_up_nobody() {
    let (_upstream, proxy) = one_remote(64).await;
    let open = Arc::new(AtomicUsize::new(0));
    let drips: Vec<_> = (0..200)
        .map(|_| {
            let (host, open) = (proxy.host(), open.clone());
            tokio::spawn(async move {
                open.fetch_add(1, SeqCst);
                timeout(HEAD_LIMIT, drip(host)).await.expect("it is closed in time");
                open.fetch_sub(1, SeqCst);
            })
        })
        .collect();
    wait::until("200 slow clients", HEAD_LIMIT, async || open.load(SeqCst) == 200).await;
    for _ in 0..20 {
        serves(&proxy).await;
    }
    assert_eq!(open.load(SeqCst), 200, "they were there all the time");
    for drip in drips {
        drip.await.expect("closed in time");
    }
    let closed = async || metrics::samples(&proxy).await.get("artifactapi_connections") == Some(&0.0);
    wait::until("their places to be free", HEAD_LIMIT, closed).await;
    serves(&proxy).await;
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The error code of the first GOAWAY among the frames in `bytes`.
fn goaway_code(mut bytes: &[u8]) -> Option<u32> {
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let payload = bytes.get(9..9 + length)?;
        if bytes[3] == 7 {
            return payload.get(4..8).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
        bytes = &bytes[9 + length..];
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_65_a_client_that_opens_and_resets_streams_is_sent_away() {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let (upstream, proxy) = one_remote(64).await;
    let before = upstream.requests().len();
    // :method GET, :scheme http, :path and :authority as literals.
    let path = b"/api/v1/remote/g/held.bin";
    let length = u8::try_from(path.len()).expect("a short path");
    let head = [&[0x82, 0x86, 0x04, length][..], path, &[0x01, 1, b'x']].concat();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    for number in 0..20_000u32 {
        flood.extend(frame(1, 0x5, number * 2 + 1, &head));
        flood.extend(frame(3, 0, number * 2 + 1, &8u32.to_be_bytes()));
    }
    let (mut reader, mut writer) = TcpStream::connect(proxy.host()).await.expect("a listener").into_split();
    let writing = tokio::spawn(async move { writer.write_all(&flood).await });
    let mut answer = Vec::new();
    let ended = timeout(HEAD_LIMIT, reader.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection should have been ended");
    let code = goaway_code(&answer);
    // A reset may overtake the farewell.
    assert!(code == Some(ENHANCE_YOUR_CALM) || ended.is_ok_and(|end| end.is_err()), "{code:?}");
    let _ = writing.await;
    serves(&proxy).await;
    assert_eq!(upstream.requests().len(), before);
}

/// Names of all samples with their labels.
async fn labels(proxy: &Proxy) -> BTreeSet<String> {
    metrics::samples(proxy).await.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_69_thousands_of_missing_paths_cost_upstream_and_metrics_no_more_than_a_few() {
    let (upstream, proxy) = one_remote(64).await;
    let base = proxy.remote("g");
    let miss = |n: usize| {
        let url = format!("{base}missing/{n}.bin");
        async move { http::get(&url).await.status }
    };
    for n in 0..50 {
        assert_eq!(miss(n).await, 404);
    }
    let before = labels(&proxy).await;
    let statuses: Vec<u16> = stream::iter(50..3000).map(miss).buffer_unordered(24).collect().await;
    assert!(statuses.iter().all(|status| *status == 404), "{statuses:?}");
    let new: Vec<_> = labels(&proxy).await.difference(&before).cloned().collect();
    assert_eq!(new, Vec::<String>::new(), "no labels grow with what is asked");
    let asked = upstream.requests().len();
    assert_eq!(miss(2999).await, 404);
    assert_eq!(upstream.requests().len(), asked, "an absence is remembered");
}

/// `maxConcurrent` run, four times as many wait, all others are told to come back.
#[tokio::test(flavor = "multi_thread")]
async fn rs_69_rs_71_a_stalled_upstream_sees_maxconcurrent_requests_and_hits_are_served() {
    for most in [1usize, 4] {
        let (upstream, proxy) = one_remote(u32::try_from(most).expect("few")).await;
        let before = upstream.requests().len();
        let gate = Gate::new();
        let absent = Behaviour::Status(404, "no");
        upstream.script_all(Behaviour::HoldHead(gate.clone(), Box::new(absent)));
        let base = proxy.remote("g");
        let refused = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..most * 10)
            .map(|n| {
                let (url, refused) = (format!("{base}missing/{n}.bin"), refused.clone());
                tokio::spawn(async move {
                    let answer = http::get(&url).await;
                    refused.fetch_add(usize::from(answer.status == 503), SeqCst);
                    answer
                })
            })
            .collect();
        // Once these are refused, all the others have their places.
        let over = async || refused.load(SeqCst) == most * 5;
        wait::until("those over the queue to be refused", http::PATIENCE, over).await;
        gate.reached_by(most).await;
        assert_eq!(upstream.requests().len() - before, most, "upstream sees maxConcurrent requests");
        for _ in 0..10 {
            serves(&proxy).await;
        }
        assert_eq!(upstream.requests().len() - before, most, "and no more while it stalls");
        gate.open();
        let answers: Vec<Fetched> =
            join_all(clients).await.into_iter().map(|client| client.expect("a client")).collect();
        let of = |status: u16| answers.iter().filter(move |answer| answer.status == status);
        assert_eq!((of(503).count(), of(404).count()), (most * 5, most * 5), "{answers:?}");
        for answer in of(503) {
            let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!(seconds >= 1, "{answer:?}");
        }
        assert_eq!(upstream.requests().len() - before, most * 5);
        upstream.behave().put("after.bin", "after");
        assert!(http::get(&format!("{base}after.bin")).await.is_ok(), "it recovers");
    }
}

/// Memory of the process that no file stands behind, in bytes.
fn anonymous(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// 60 clients follow one fetch, at their own pace.
#[tokio::test(flavor = "multi_thread")]
async fn rs_66_parallel_pulls_of_a_large_body_fit_into_memory() {
    const LIMIT: u64 = 256 << 20;
    const SIZE: usize = 64 << 20;
    let (upstream, proxy) = one_remote(64).await;
    let bytes = Bytes::from(noise(5, 1 << 20).repeat(SIZE >> 20));
    let gate = Gate::new();
    upstream.put("large.bin", bytes.clone()).script("large.bin", Behaviour::StallAt(SIZE / 2, gate.clone()));
    let url = format!("{}large.bin", proxy.remote("g"));
    let pull = || {
        let (url, bytes) = (url.clone(), bytes.clone());
        tokio::spawn(async move {
            let mut answer = reqwest::get(&url).await.expect("an answer");
            let mut at = 0;
            while let Some(piece) = answer.chunk().await.expect("it is not cut") {
                assert!(bytes[at..].starts_with(&piece), "other bytes at {at}");
                at += piece.len();
            }
            assert_eq!(at, SIZE);
        })
    };
    let pulls: Vec<_> = (0..60).map(|_| pull()).collect();
    gate.reached_by(1).await;
    gate.open();
    let mut peak = 0;
    let all = async || {
        peak = peak.max(anonymous(&proxy));
        assert!(peak <= LIMIT, "{peak} bytes");
        pulls.iter().all(tokio::task::JoinHandle::is_finished)
    };
    wait::until("all pulls", http::PATIENCE * 3, all).await;
    for pull in pulls {
        pull.await.expect("a whole body");
    }
    assert!(peak > 1 << 20, "{peak} bytes: that was not the proxy");
    assert_eq!(upstream.hits("large.bin"), 1);
}
