//! One cell's world: an upstream with one type's files, and the proxy in front of it.

use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream,
    http::{self, Fetched, PATIENCE},
    manifest, wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kinds::{Kind, Stock};

/// The repository whose mutable documents are stale as soon as they are stored, so that every request for one
/// asks the upstream, and which forgets absences at once.
pub(crate) const HASTY: &str = "hasty";
/// The same upstream with the usual lifetimes.
pub(crate) const USUAL: &str = "usual";

/// An upstream, what is on it, and the proxy.
pub(crate) struct Bench {
    pub(crate) kind: Kind,
    pub(crate) upstream: Upstream,
    pub(crate) stock: Stock,
    pub(crate) proxy: Proxy,
}

impl Bench {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, Upstream::start().await, &json!({})).await
    }

    /// With an upstream of the cell's own, and more fields in both specs.
    pub(crate) async fn with(kind: Kind, upstream: Upstream, more: &Value) -> Self {
        let stock = (kind.stock)(&upstream);
        let proxy = Proxy::start(Self::manifests(kind, &upstream, more)).await;
        Bench { kind, upstream, stock, proxy }
    }

    fn manifests(kind: Kind, upstream: &Upstream, more: &Value) -> String {
        let remote = |name| {
            let remote = RemoteManifest::new(name, kind.package_type, upstream);
            remote.set_all(&(kind.spec)()).set_all(more)
        };
        let hasty = remote(HASTY).set("mutableTTL", "0s").set("negativeTTL", "0s");
        let mut documents = vec![hasty.document(), remote(USUAL).document()];
        if let Some(pem) = upstream.ca_pem() {
            documents.push(manifest::secret("authority", &json!({ "ca.crt": pem })));
        }
        manifest::join(&documents)
    }

    /// Replaces the manifests.
    pub(crate) fn reconfigure(&self, more: &Value) {
        self.proxy.apply(&Self::manifests(self.kind, &self.upstream, more));
    }

    /// The same where nothing else shows that they are in service.
    pub(crate) async fn reconfigured(&self, more: &Value) {
        let loads = || self.proxy.logs().matches("manifests are loaded").count();
        let before = loads();
        self.reconfigure(more);
        wait::until("the manifests to be loaded", PATIENCE, async || loads() > before).await;
    }

    /// URL of `path` in repository `name`.
    pub(crate) fn url(&self, name: &str, path: &str) -> String {
        format!("{}{path}", self.kind.base(&self.proxy, name))
    }

    /// URL of the document.
    pub(crate) fn index_url(&self) -> String {
        self.url(HASTY, self.stock.index.0)
    }

    /// The document.
    pub(crate) async fn index(&self) -> Fetched {
        http::get(&self.index_url()).await
    }

    /// The document for the first time.
    pub(crate) async fn cold_index(&self) -> Fetched {
        let cold = self.index().await;
        assert!(cold.is_ok(), "{cold:?}");
        self.stock.versions.check(&cold, false);
        check_cache(&cold, "MISS", "fwd=uri-miss; stored");
        cold
    }

    /// Reads what a client reads on its way to the file; the file's URL.
    pub(crate) async fn way_to_file(&self) -> String {
        let index = self.index().await;
        assert!(index.is_ok(), "{index:?}");
        for path in &self.stock.way {
            let document = http::get(&self.url(HASTY, path)).await;
            assert!(document.is_ok(), "{path}: {document:?}");
        }
        self.stock.file.url(&self.kind.base(&self.proxy, HASTY), &self.index_url(), &index)
    }

    /// How often the upstream was asked for the document.
    pub(crate) fn asked_for_index(&self) -> usize {
        self.upstream.hits(self.stock.index.1)
    }

    /// How often the upstream was asked for the file.
    pub(crate) fn asked_for_file(&self) -> usize {
        self.upstream.hits(&self.stock.file_upstream)
    }

    /// The upstream behaves again, and the file comes whole: nothing of what went wrong was kept.
    pub(crate) async fn file_comes_whole(&self, url: &str) {
        self.upstream.behave();
        let before = self.asked_for_file();
        let whole = http::get(url).await;
        self.check_file(&whole, "MISS");
        assert_eq!(self.asked_for_file(), before + 1, "the file must be fetched anew");
        self.check_file(&http::get(url).await, "HIT");
        assert_eq!(self.asked_for_file(), before + 1);
    }

    /// Checks that `answer` is the whole file.
    pub(crate) fn check_file(&self, answer: &Fetched, x_cache: &str) {
        assert!(answer.is_ok(), "{} {:?} {}", answer.status, answer.headers, answer.text().len());
        assert!(answer.body == self.stock.bytes, "{} bytes, not the file's", answer.body.len());
        assert_eq!(answer.header("x-cache"), x_cache);
    }

    /// Checks that `answer` is the first version of the document, marked as stale.
    pub(crate) fn check_stale(&self, answer: &Fetched, cold: &Fetched) {
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(answer.body, cold.body);
        check_cache(answer, "STALE", "hit; detail=stale");
        assert!(answer.header("warning").starts_with("110 "), "{answer:?}");
        assert!(answer.header("age").parse::<u64>().is_ok(), "{answer:?}");
        assert!(answer.header("cache-control").ends_with("max-age=0"), "{answer:?}");
    }

    /// Asks until the document is no longer stale; checks which version it is.
    pub(crate) async fn index_recovers(&self, second: bool) {
        self.upstream.behave();
        let healthy = http::get_until(&self.index_url(), |answer| answer.header("x-cache") != "STALE").await;
        assert!(healthy.is_ok(), "{healthy:?}");
        self.stock.versions.check(&healthy, second);
    }
}

/// Checks what `answer` says about the cache.
pub(crate) fn check_cache(answer: &Fetched, x_cache: &str, cache_status: &str) {
    assert_eq!(answer.header("x-cache"), x_cache, "{answer:?}");
    let status = answer.header("cache-status");
    assert!(status.starts_with(&format!("artifactapi; {cache_status}")), "{status}");
}

/// One GET that must never end as if it were whole; what arrived, if anything did.
pub(crate) async fn never_whole(url: &str) -> Option<Fetched> {
    let answer = http::try_request(Method::GET, url, &[]).await.ok()?;
    assert!(!answer.is_ok(), "a broken body ended cleanly: {} bytes", answer.body.len());
    Some(answer)
}
