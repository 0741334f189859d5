//! A warm set: small and large objects of several types, behind one link to their upstream.

use std::{sync::Arc, time::Duration};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Cluster, Link, Oracle, RemoteManifest, Upstream,
    fingerprint::of_bytes,
    fixtures::{noise, npm::Package, oci, zip::zip},
    http::{self, PATIENCE},
    manifest,
    replicas::load::Target,
    upstream::gzip,
    wait,
};
use serde_json::json;
use tokio::time::Instant;

/// Longest wait of the oracle for one answer.
const ANSWER: Duration = Duration::from_secs(60);
const WHEEL: &str = "my_widget-1.0-py3-none-any.whl";

/// An upstream, the link to it, and what is known of it.
pub(crate) struct Stock {
    pub(crate) upstream: Upstream,
    pub(crate) link: Link,
    pub(crate) oracle: Arc<Oracle>,
    /// Paths of clients below the root of a proxy, by name.
    paths: Vec<(String, String)>,
}

impl Stock {
    /// Everything in place, nothing cached.
    pub(crate) async fn new() -> Self {
        let upstream = Upstream::start().await;
        let link = Link::to(upstream.host()).await;
        let mut stock = Stock { upstream, link, oracle: Oracle::new(ANSWER), paths: Vec::new() };
        for number in 0..4 {
            stock.file(&format!("small-{number}.bin"), 2 << 10);
        }
        for number in 0..3 {
            stock.file(&format!("large-{number}.bin"), 2 << 20);
        }
        stock.npm();
        stock.pypi();
        stock.oci();
        stock.go();
        stock
    }

    /// The upstream's URL as the proxies see it, with a slash at its end.
    fn base(&self) -> String {
        format!("http://{}/", self.link.address())
    }

    /// Adds a file whose bytes depend on its name only; the URL's path at a proxy.
    pub(crate) fn file(&mut self, name: &str, length: usize) {
        let bytes =
            noise(name.bytes().map(u64::from).fold(7, |sum, byte| sum * 31 % 1_000_003 + byte), length);
        self.upstream.put(name, bytes.clone());
        self.oracle.knows(name, bytes);
        self.paths.push((name.to_owned(), format!("/api/v1/remote/files/{name}")));
    }

    /// Takes the files whose names say so out of what is warmed: key and path of each.
    pub(crate) fn take_cold(&mut self) -> Vec<(String, String)> {
        let (cold, warm) =
            std::mem::take(&mut self.paths).into_iter().partition(|(key, _)| key.starts_with("cold"));
        self.paths = warm;
        cold
    }

    fn npm(&mut self) {
        let tarball = gzip(&noise(5, 300 << 10));
        let manifest = json!({ "name": "@acme/widget", "version": "1.0.0" });
        let package = Package { name: "@acme/widget".into(), version: "1.0.0".into(), manifest, tarball };
        self.upstream.put("@acme%2fwidget", package.packument(&self.base()).to_string());
        self.upstream.put(&package.tarball_path(), package.tarball.clone());
        // One whose documents are fresh for long, one whose expire all the time.
        for name in ["npm", "npm-short"] {
            let base = format!("/api/v1/remote/{name}/");
            self.paths.push((format!("{name} packument"), format!("{base}@acme%2fwidget")));
            let tarball = format!("{name} tarball");
            self.oracle.knows(&tarball, package.tarball.clone());
            self.paths.push((tarball, format!("{base}{}", package.tarball_path())));
        }
    }

    fn pypi(&mut self) {
        let wheel = bytes::Bytes::from(zip(&[("my_widget/data.bin", &noise(6, 200 << 10))]));
        let url = format!("{}packages/{WHEEL}", self.base());
        let file = json!({ "filename": WHEEL, "url": url, "hashes": { "sha256": of_bytes(&wheel) } });
        let page = json!({ "meta": { "api-version": "1.0" }, "name": "my-widget", "files": [file] });
        let kind = [("content-type", "application/vnd.pypi.simple.v1+json")];
        self.upstream.put_with("simple/my-widget/", page.to_string(), &kind);
        self.upstream.put(&format!("packages/{WHEEL}"), wheel.clone());
        self.oracle.knows("pypi wheel", wheel);
        // As clients come to it: the page first.
        self.paths.push(("pypi page".into(), "/api/v1/remote/pypi/simple/my-widget/".into()));
        self.paths.push(("pypi wheel".into(), format!("/api/v1/remote/pypi/packages/{WHEEL}")));
    }

    fn oci(&mut self) {
        let image = oci::Image::of_layer(&noise(8, 1 << 20));
        image.stock(&self.upstream, oci::IMAGE, &[oci::TAG]);
        let base = format!("/v2/oci/{}", oci::IMAGE);
        let layer = oci::digest(&image.layer);
        self.oracle.knows("oci layer", image.layer.clone());
        self.oracle.knows("oci tag", image.index.clone());
        self.paths.push(("oci layer".into(), format!("{base}/blobs/{layer}")));
        self.paths.push(("oci tag".into(), format!("{base}/manifests/{}", oci::TAG)));
    }

    fn go(&mut self) {
        let list = "example.test/widget/@v/list";
        self.upstream.put(list, "v1.0.0\n");
        self.oracle.knows("go list", "v1.0.0\n");
        self.paths.push(("go list".into(), format!("/api/v1/remote/go/{list}")));
    }

    /// The Remotes in front of it.
    pub(crate) fn manifests(&self) -> String {
        let base = self.base();
        let remote = |name: &str, package_type| RemoteManifest::at(name, package_type, &base);
        manifest::join(&[
            // A connection that stands still must not hold a client for longer than a test waits for recovery.
            remote("files", PackageType::Generic).set("timeouts", json!({ "firstByte": "5s" })).document(),
            remote("npm", PackageType::Npm).document(),
            remote("npm-short", PackageType::Npm).set("mutableTTL", "2s").document(),
            remote("pypi", PackageType::Pypi).document(),
            remote("oci", PackageType::Docker).document(),
            remote("go", PackageType::Goproxy).document(),
        ])
    }

    /// Everything as targets below `root`.
    pub(crate) fn targets(&self, root: &str) -> Vec<Target> {
        let target = |(key, path): &(String, String)| Target {
            key: key.clone(),
            url: format!("{root}{path}"),
            in_parts: path.contains("files/"),
        };
        self.paths.iter().map(target).collect()
    }

    /// Lets every replica have everything at hand, and the oracle know what is rewritten on its way.
    pub(crate) async fn warm(&self, cluster: &Cluster) {
        for (key, path) in &self.paths {
            if key.ends_with("packument") || key.ends_with("page") {
                self.oracle.learns(key, &format!("{}{path}", cluster.url())).await;
            }
        }
        for replica in cluster.replicas() {
            for target in self.targets(&replica.url()) {
                let end = Instant::now() + PATIENCE;
                loop {
                    let answer = http::get(&target.url).await;
                    if answer.is_ok() && (answer.header("x-cache") == "HIT" || target.key.contains("short")) {
                        break;
                    }
                    let last = (answer.status, answer.headers);
                    assert!(Instant::now() < end, "no hit of {}: {last:?}", target.url);
                    wait::breathe().await;
                }
            }
        }
    }
}
