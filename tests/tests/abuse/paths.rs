//! Request targets that no honest client sends, over sockets of our own: what leads elsewhere leads nowhere
//! (RS-34), every illegal path is refused before anyone is asked (RS-20), and queries make no keys (RS-22).

use artifactapi_model::PackageType;
use artifactapi_tests::{Proxy, RemoteManifest, Upstream, http, manifest, raw, wait};
use tokio::net::{TcpListener, TcpStream};

/// A third host: whoever connects to it has found an open proxy.
struct Canary {
    listener: TcpListener,
    host: String,
}

impl Canary {
    async fn start() -> Canary {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let host = listener.local_addr().expect("a bound address").to_string();
        Canary { listener, host }
    }

    /// Whether somebody has connected: connections that were made wait in the system's queue.
    fn was_asked(&self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        self.listener.poll_accept(&mut context).is_ready()
    }
}

struct Bench {
    upstream: Upstream,
    proxy: Proxy,
}

impl Bench {
    async fn start() -> Bench {
        let upstream = Upstream::start().await;
        upstream.put("file.bin", "bytes");
        let manifests = manifest::join(&[
            RemoteManifest::new("g", PackageType::Generic, &upstream).document(),
            RemoteManifest::new("d", PackageType::Docker, &upstream).document(),
            RemoteManifest::new("n", PackageType::Npm, &upstream).document(),
        ]);
        Bench { proxy: Proxy::start(manifests).await, upstream }
    }
}

/// Ways to write another host into a target.
fn elsewhere(host: &str) -> Vec<String> {
    let encoded = host.replace(':', "%3A");
    let mut forms = vec![
        format!("http://{host}/"),
        format!("HTTP://{host}/x"),
        format!("https://{host}/"),
        format!("ftp://{host}/"),
        format!("http:/{host}/"),
        format!("http:{host}/"),
        format!("http://user:word@{host}/"),
        format!("http%3A%2F%2F{encoded}%2Ffile.bin"),
        format!("http%3a//{encoded}/file.bin"),
        format!("//{host}/"),
        format!("///{host}/"),
        format!("/%2f{host}/"),
        format!("%2f%2f{host}/"),
        format!("/\\{host}/"),
        format!("\\\\{host}\\"),
        format!("%5c%5c{host}/"),
        format!("@{host}/"),
        format!("@{host}"),
        format!(":@{host}/"),
        format!("%40{host}/"),
        format!(".{host}/"),
        format!("?url=http://{host}/"),
        format!("?ns={encoded}"),
        format!("file.bin?ns={host}&url=//{host}/"),
        format!("..//{host}/"),
        format!("%2e%2e//{host}/"),
        format!("x;http://{host}/"),
        format!("http://{host}%00/"),
        format!("http://127.0.0.1@{host}/"),
        format!("http://{host}/%2e%2e/%2e%2e/"),
    ];
    forms.push(host.to_owned());
    forms
}

/// Every route a form can be put behind, and none.
const PREFIXES: [&str; 9] = [
    "",
    "/",
    "/api/v1/remote/g/",
    "/api/v1/remote/n/",
    "/api/v1/remote/",
    "/v2/",
    "/v2/d/",
    "/v2/d/a/manifests/",
    "/livez/",
];

#[tokio::test(flavor = "multi_thread")]
async fn rs_34_no_target_makes_it_an_open_proxy() {
    let bench = Bench::start().await;
    let canary = Canary::start().await;
    let (own, other) = (bench.proxy.host(), &canary.host);
    let mut requests = Vec::new();
    for prefix in PREFIXES {
        for form in elsewhere(other) {
            let target = format!("{prefix}{form}");
            for method in ["GET", "HEAD", "POST"] {
                requests.push(format!("{method} {target} HTTP/1.1\r\nHost: {own}\r\n"));
            }
        }
    }
    for host in [other.clone(), format!("a@{other}"), format!("{other}/x"), format!("{own}, {other}")] {
        for target in ["/", "/api/v1/remote/g/file.bin", "/api/v1/remote/g/missing", "/v2/d/a/manifests/b"] {
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n"));
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: {own}\r\nHost: {host}\r\n"));
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: {own}\r\nX-Forwarded-Host: {host}\r\n"));
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: {own}\r\nForwarded: host={host}\r\n"));
            requests
                .push(format!("GET {target} HTTP/1.1\r\nHost: {own}\r\nX-Original-URL: http://{host}/\r\n"));
            requests.push(format!("GET http://{host}{target} HTTP/1.1\r\nHost: {own}\r\n"));
        }
    }
    for target in [other.as_str(), "127.0.0.1:22", "/", "*"] {
        requests.push(format!("CONNECT {target} HTTP/1.1\r\nHost: {other}\r\n"));
    }
    assert!(requests.len() >= 900, "{} variants", requests.len());
    let mut refused = 0;
    for request in &requests {
        let answer = raw::exchange(&own, format!("{request}Connection: close\r\n\r\n").as_bytes()).await;
        // A type that knows no POST says so; upstreams that are asked say 404, or have the file.
        let fine = matches!(answer.status, Some(200 | 204 | 400 | 401 | 404 | 405 | 501 | 502));
        assert!(fine, "{request}: {}", answer.text);
        assert!(!canary.was_asked(), "{request}: it asked a third host");
        refused += usize::from(answer.status != Some(200));
    }
    assert!(refused > requests.len() / 2, "{refused} of {} refused", requests.len());
    // The own upstream is asked for paths below it, and the paths are no URLs.
    for request in bench.upstream.requests() {
        assert_eq!(request.header("host"), Some(bench.upstream.host().as_str()), "{request:?}");
    }
    assert!(http::get(&format!("{}file.bin", bench.proxy.remote("g"))).await.is_ok(), "it still serves");
    let _visit = TcpStream::connect(other).await.expect("the canary listens");
    wait::until("the canary to see a visitor", http::PATIENCE, async || canary.was_asked()).await;
}

/// Illegal below any repository.
fn illegal() -> Vec<String> {
    let mut paths: Vec<String> = [
        "..",
        "../file.bin",
        "a/../file.bin",
        "a/..",
        "./file.bin",
        "a/./file.bin",
        "%2e%2e/file.bin",
        "%2E%2e/file.bin",
        ".%2e/file.bin",
        "a/%2e%2e/%2e%2e/etc/passwd",
        "a/%2e/b",
        "a//file.bin",
        "/file.bin",
        "a%2ffile.bin",
        "a%2Ffile.bin",
        "..%2ffile.bin",
        "a%5cfile.bin",
        "..%5c..%5cfile.bin",
        "a\\file.bin",
        "a%00.bin",
        "%00",
        "file.bin%00.txt",
        "a%0ab",
        "a%0d%0aHost:x",
        "a%7fb",
        "a%252fb",
        "%252e%252e/b",
        "a%25b",
        "a%2",
        "a%",
        "a%zzb",
        "%c0%ae%c0%ae/b",
        "a%c0%afb",
        "%e0%80%ae/b",
        "%f0%80%80%af",
        "a%ffb",
        "%ed%a0%80",
    ]
    .map(str::to_owned)
    .into();
    paths.push("x".repeat(1025));
    paths.push(format!("a/{}", "%61".repeat(1025)));
    paths.push(vec!["y".repeat(1000); 9].join("/"));
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_20_illegal_paths_are_refused_before_anyone_is_asked() {
    let bench = Bench::start().await;
    let host = bench.proxy.host();
    for prefix in ["/api/v1/remote/g/", "/api/v1/remote/n/", "/v2/d/", "/v2/d/a/blobs/"] {
        for path in illegal() {
            let case = format!("{prefix}{}", path.get(..60).unwrap_or(&path));
            let answer = raw::get(&host, &format!("{prefix}{path}")).await;
            assert_eq!(answer.status, Some(400), "{case}: {}", answer.text);
            assert_eq!(bench.upstream.requests().len(), 0, "{case}: upstream was asked");
        }
    }
    // The longest that are legal are asked for: the refusals above are not for the length alone.
    for path in ["x".repeat(1024), vec!["y".repeat(1000); 8].join("/")] {
        let answer = raw::get(&host, &format!("/api/v1/remote/g/{path}")).await;
        assert_eq!(answer.status, Some(404), "{}", answer.text);
    }
    assert_eq!(bench.upstream.requests().len(), 2);
}

/// What guards see is what handlers use: a name that is written differently is another name, never a way round.
#[tokio::test(flavor = "multi_thread")]
async fn rs_25_a_repository_is_known_by_one_spelling_only() {
    let bench = Bench::start().await;
    let host = bench.proxy.host();
    for target in [
        "/api/v1/remote/%67/file.bin",
        "/api/v1/remote/G/file.bin",
        "/api/v1/remote/g%2ffile.bin",
        "/api/v1/remote//g/file.bin",
        "/api/v1/remote/./g/file.bin",
        "/api/v1/remote/x/../g/file.bin",
        "/api/v1/%72emote/g/file.bin",
        "/api//v1/remote/g/file.bin",
        "//api/v1/remote/g/file.bin",
        "/API/v1/remote/g/file.bin",
        "/api/v1/remote/g;a=b/file.bin",
        "/api/v1/virtual/g/file.bin",
        "/api/v1/local/g/file.bin",
        "/v2/g/file.bin",
        "/v2/%64/a/manifests/b",
    ] {
        let answer = raw::get(&host, target).await;
        assert!(matches!(answer.status, Some(400 | 404)), "{target}: {}", answer.text);
        assert_eq!(bench.upstream.requests().len(), 0, "{target}: upstream was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_22_queries_make_no_keys() {
    let mut bench = Bench::start().await;
    let base = format!("{}file.bin", bench.proxy.remote("g"));
    assert!(http::get(&base).await.is_ok());
    let asked = bench.upstream.requests().len();
    for number in 0..500u64 {
        let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let url = match number % 5 {
            0 => format!("{base}?x={noise:x}"),
            1 => format!("{base}?{noise:x}"),
            2 => format!("{base}?a={noise:x}&a={number}&b"),
            3 => format!("{base}?ns=h{noise:x}.example&token=%{:02x}", 32 + number % 90),
            _ => format!("{base}?b={number}&a={noise:x}&&=?"),
        };
        let answer = http::get(&url).await;
        assert!(answer.is_ok() && answer.body == "bytes"[..], "{url}: {answer:?}");
        assert_eq!(answer.header("x-cache"), "HIT", "{url}");
    }
    assert_eq!(bench.upstream.requests().len(), asked, "one key, one fetch");
    bench.proxy.stop().await;
    let told = bench.proxy.fsck(false).await;
    assert!(told.text.contains(" 1 artifacts"), "{}", told.text);
}
