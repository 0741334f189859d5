//! What operators look at: probes, metrics, access lines, headers, and who may read.

use std::{collections::BTreeSet, fs::File};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream,
    http::{self, PATIENCE},
    manifest, metrics,
    proxy::Options,
    wait,
};
use reqwest::Method;
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Value, json};

use crate::{secrets::search, support::logged};

const BODY: &str = "0123456789";

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.put("dir/f.bin", BODY);
    upstream
}

fn generic(name: &str, upstream: &Upstream) -> RemoteManifest {
    RemoteManifest::new(name, PackageType::Generic, upstream)
}

#[tokio::test]
async fn probes_answer_whatever_the_upstream_does() {
    let upstream = upstream().await;
    let proxy = Proxy::start(generic("g", &upstream).document()).await;
    upstream.off().await;
    let ask = async |path: &str| http::get(&format!("{}{path}", proxy.url())).await;
    let live = ask("/livez").await;
    assert_eq!((live.status, live.text().as_str()), (200, "ok\n"));
    let ready = ask("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    let checks = ask("/readyz?verbose").await;
    assert_eq!(checks.status, 200);
    for check in ["[+]manifests ok", "[+]metadata ok", "[+]blobs ok", "[+]shutdown ok"] {
        assert!(checks.text().contains(check), "{check} in {}", checks.text());
    }
    assert_eq!(ask("/healthz").await.status, 200);
    // Metrics have a listener of their own, which has nothing else.
    assert_ne!(ask("/metrics").await.status, 200);
    let elsewhere = proxy.metrics_url().replace("/metrics", "/api/v1/remote/g/dir/f.bin");
    assert_eq!(http::get(&elsewhere).await.status, 404);
}

#[tokio::test]
async fn metrics_count_what_was_asked() {
    let upstream = upstream().await;
    let proxy = Proxy::start(generic("g", &upstream).document()).await;
    let url = format!("{}dir/f.bin", proxy.remote("g"));
    for _ in 0..3 {
        assert!(http::get(&url).await.is_ok());
    }
    assert_eq!(http::get(&format!("{}absent", proxy.remote("g"))).await.status, 404);
    let page = http::get(&proxy.metrics_url()).await;
    assert!(page.header("content-type").starts_with("application/openmetrics-text"), "{page:?}");
    assert!(page.text().ends_with("# EOF\n"));
    let samples = metrics::samples(&proxy).await;
    for (sample, value) in [
        ("artifactapi_requests_total{remote=\"g\",type=\"generic\",outcome=\"miss\"}", 1.0),
        ("artifactapi_requests_total{remote=\"g\",type=\"generic\",outcome=\"hit\"}", 2.0),
        ("artifactapi_requests_total{remote=\"g\",type=\"generic\",outcome=\"not_found\"}", 1.0),
        ("artifactapi_request_duration_seconds_count{remote=\"g\",type=\"generic\"}", 4.0),
        ("artifactapi_upstream_requests_total{remote=\"g\",code=\"200\"}", 1.0),
        ("artifactapi_upstream_requests_total{remote=\"g\",code=\"404\"}", 1.0),
        ("artifactapi_upstream_duration_seconds_count{remote=\"g\"}", 2.0),
        ("artifactapi_repositories", 1.0),
        ("artifactapi_manifest_problems", 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in {samples:#?}");
    }
    assert!(samples.keys().any(|name| name.starts_with("artifactapi_build_info{version=")), "{samples:#?}");
    let sent: f64 = samples
        .iter()
        .filter(|(name, _)| name.starts_with("artifactapi_bytes_total{remote=\"g\""))
        .map(|(_, n)| n)
        .sum();
    assert!(sent >= 30.0, "{samples:#?}");
    // Labels never hold a path.
    assert!(samples.keys().all(|name| !name.contains("f.bin") && !name.contains("absent")), "{samples:#?}");
}

#[tokio::test]
async fn every_request_has_one_line_and_one_row() {
    let upstream = upstream().await;
    let mut proxy = Proxy::start(generic("g", &upstream).document()).await;
    let base = proxy.remote("g");
    let id = ("x-request-id", "id-of-the-client");
    let first = http::request(Method::GET, &format!("{base}dir/f.bin?q=1"), &[id]).await;
    assert_eq!(first.header("x-request-id"), id.1);
    let made = http::head(&format!("{base}dir/f.bin")).await.header("x-request-id").to_owned();
    assert!(!made.is_empty());
    http::get(&format!("{base}absent")).await;
    proxy.stop().await;
    logged(&proxy, "absent").await;
    let logs = proxy.logs();
    let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> =
        lines.filter(|line| line["target"] == "access" && line["remote.name"] == "g").collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, (id, method, path, outcome, status, bytes)) in lines.iter().zip([
        (Some(id.1), "GET", "dir/f.bin", "miss", 200, 10),
        (Some(made.as_str()), "HEAD", "dir/f.bin", "hit", 200, 0),
        // Refused before it had a place in the repository: the target as it was sent.
        (None, "GET", "/api/v1/remote/g/absent", "not_found", 404, -1),
    ]) {
        assert!(id.is_none_or(|id| line["request.id"] == id), "{line}");
        let told = json!([line["http.method"], line["path"], line["outcome"], line["http.status"]]);
        assert_eq!(told, json!([method, path, outcome, status]), "{line}");
        assert!(bytes < 0 || line["size_bytes"] == bytes, "{line}");
        assert_eq!(line["remote.type"], "generic");
        assert_eq!(line["client.address"], "127.0.0.1");
        assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
        assert_eq!(line["complete"], true);
        let names: BTreeSet<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(names.contains("timestamp") && names.contains("level"), "{line}");
    }
    // SQLite keeps the texts of a row side by side: repository, method, path.
    let stored = search::files(&proxy.data());
    for row in ["gGETdir/f.bin", "gHEADdir/f.bin", "gGET/api/v1/remote/g/absent"] {
        assert!(stored.iter().any(|file| file.name.contains("metadata.db") && file.holds(row)), "{row}");
    }
}

#[tokio::test]
async fn answers_say_where_they_come_from_and_how_old_they_are() {
    let upstream = upstream().await;
    let proxy = Proxy::start(generic("g", &upstream).document()).await;
    let url = format!("{}dir/f.bin", proxy.remote("g"));
    let miss = http::get(&url).await;
    assert_eq!(miss.header("x-cache"), "MISS");
    assert_eq!(miss.header("cache-status"), "artifactapi; fwd=uri-miss; stored");
    let hit = http::get(&url).await;
    assert_eq!(hit.header("x-cache"), "HIT");
    assert!(hit.header("cache-status").starts_with("artifactapi; hit"), "{hit:?}");
    assert!(hit.header("age").parse::<u64>().is_ok(), "{hit:?}");
    assert_eq!(hit.header("accept-ranges"), "bytes");
    let etag = hit.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag == miss.header("etag"), "{etag}");
    let unchanged = http::request(Method::GET, &url, &[("if-none-match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let part = http::request(Method::GET, &url, &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(upstream.hits("dir/f.bin"), 1);
}

/// Nobody can show a token yet, so a repository for holders of one answers nobody, by no road.
#[tokio::test]
async fn rs_47_a_closed_repository_answers_nobody_what_it_has_stored() {
    let upstream = upstream().await;
    let closed = || generic("closed", &upstream).set("access", json!({ "read": "authenticated" }));
    let secret = manifest::secret("s", &json!({ "username": "u", "password": "p" }));
    // Credentials of its own close a repository, unless the manifest opens it.
    let by_default = generic("own", &upstream).set("auth", json!({ "secretRef": { "name": "s" } }));
    let open = manifest::join(&[
        closed().set("access", json!({ "read": "anonymous" })).document(),
        by_default.clone().set("access", json!({ "read": "anonymous" })).document(),
        secret.clone(),
    ]);
    let proxy = Options::new(open).start().await;
    let urls = ["closed", "own"].map(|name| format!("{}dir/f.bin", proxy.remote(name)));
    let mut etag = String::new();
    for url in &urls {
        let answer = http::get(url).await;
        assert!(answer.is_ok(), "{answer:?}");
        etag = answer.header("etag").to_owned();
    }
    proxy.apply(&manifest::join(&[closed().document(), by_default.document(), secret]));
    for url in &urls {
        http::get_until(url, |answer| answer.status == 401).await;
    }
    let asked = upstream.requests().len();
    let headers: [&[(&str, &str)]; 6] = [
        &[],
        &[("range", "bytes=0-3")],
        &[("if-none-match", &etag)],
        &[("authorization", "Basic dTpw")],
        &[("authorization", "Bearer x")],
        &[("x-forwarded-for", "127.0.0.1")],
    ];
    for url in urls
        .iter()
        .flat_map(|url| [url.clone(), url.replace("f.bin", "new.bin"), url.replace("/f.", "/%66.")])
    {
        for method in [Method::GET, Method::HEAD] {
            for headers in headers {
                let answer = http::request(method.clone(), &url, headers).await;
                assert_eq!(answer.status, 401, "{method} {url} {headers:?}: {answer:?}");
                assert!(!answer.header("www-authenticate").is_empty(), "{method} {url}: {answer:?}");
                assert!(answer.header("etag").is_empty() && !answer.text().contains("0123"), "{answer:?}");
            }
        }
        for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let answer = http::request(method.clone(), &url, &[]).await;
            assert!(matches!(answer.status, 401 | 405), "{method} {url}: {answer:?}");
            assert!(!answer.text().contains("0123"), "{answer:?}");
        }
    }
    assert_eq!(upstream.requests().len(), asked, "upstream is not asked for strangers");
}

/// A new release may have to change a large database before it can serve: who does not answer meanwhile is killed, and
/// would begin anew for ever.
#[tokio::test(flavor = "multi_thread")]
async fn it_answers_while_its_data_is_opened() {
    let upstream = upstream().await;
    let mut proxy = Proxy::start(generic("g", &upstream).document()).await;
    proxy.stop().await;
    let file = File::options().read(true).write(true).open(proxy.data().join("metadata.db"));
    let file = file.expect("its database");
    fcntl_lock(&file, FlockOperation::LockExclusive).expect("nobody else has it");
    let url = proxy.url();
    let looks = async {
        let livez = format!("{url}/livez");
        let lives = async || {
            http::try_request(Method::GET, &livez, &[]).await.is_ok_and(|live| live.text() == "ok\n")
        };
        wait::until("a sign of life", PATIENCE, lives).await;
        let ready = http::get(&format!("{url}/readyz")).await;
        assert_eq!(ready.status, 503, "{}", ready.text());
        assert!(ready.text().contains("[-]data is being opened"), "{}", ready.text());
        let package = http::get(&format!("{url}/api/v1/remote/g/dir/f.bin")).await;
        assert_eq!((package.status, package.header("retry-after")), (503, "5"));
        drop(file);
    };
    let (is_ready, ()) = tokio::join!(proxy.try_start(), looks);
    assert!(is_ready, "{}", proxy.logs());
}
