//! The upstream's body breaks off, or is not what was published.

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Behaviour, Upstream,
    fingerprint::of_bytes,
    http,
    upstream::{Authority, spoiled},
};
use serde_json::json;

use crate::{
    Cell,
    bench::{Bench, HASTY, never_whole},
    kinds::{Kind, Place},
};

/// Truncated: the client never sees a clean end, nothing is kept, the next request is whole (RS-03).
pub(crate) async fn truncated(kind: Kind) {
    let bench = Bench::new(kind).await;
    let cold = bench.cold_index().await;
    let file = bench.way_to_file().await;
    let half = bench.stock.bytes.len() / 2;
    bench.breaks(&file, Behaviour::CutAt(half), half).await;
    bench.file_comes_whole(&file).await;

    // A document that breaks off while it is renewed is served as it was.
    (bench.stock.change)(&bench.upstream);
    bench.upstream.script(bench.stock.index.1, Behaviour::CutAt(1));
    bench.check_stale(&bench.index().await, &cold);
    bench.index_recovers(true).await;
}

impl Bench {
    /// The file breaks as `behaviour` says after at most `sent` bytes: no client sees a clean end, and none a
    /// byte that was not sent.
    async fn breaks(&self, url: &str, behaviour: Behaviour, sent: usize) {
        self.upstream.script(&self.stock.file_upstream, behaviour);
        let before = self.asked_for_file();
        if let Some(answer) = never_whole(url).await {
            match answer.status {
                200 => {
                    assert!(answer.body.len() <= sent);
                    assert!(self.stock.bytes.starts_with(&answer.body), "the beginning must be right");
                }
                _ => self.kind.check_refused(&answer, 502),
            }
        }
        assert_eq!(self.asked_for_file(), before + 1);
        let kept = stored(&self.proxy.data(), &self.stock.bytes[..sent.min(self.stock.bytes.len() - 1)]);
        assert!(kept.is_empty(), "a part of the file was kept: {kept:?}");
    }
}

/// Files of the data directory that hold exactly `bytes`.
fn stored(data: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    files(data, &of_bytes(bytes))
}

/// Files below `data` whose path ends in the hex digest `name`, with or without its first two digits as directory.
fn files(data: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(data) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let last = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, name));
        } else if last.len() >= 60 && name.ends_with(&last) {
            found.push(path);
        }
    }
    found
}

/// Wrong digest: where one is published, the client never sees a clean end of the wrong bytes and nothing is
/// kept (RS-09); where none is, the first bytes seen are the file's for ever (RS-08).
pub(crate) async fn wrong_bytes(kind: Kind) {
    let bench = Bench::new(kind).await;
    let file = bench.way_to_file().await;
    if !bench.stock.published {
        return bench.ledger(&file).await;
    }
    bench.upstream.script(&bench.stock.file_upstream, Behaviour::WrongBytes);
    for _ in 0..2 {
        if let Some(answer) = never_whole(&file).await {
            assert!(answer.status == 200 || answer.status == 502, "{answer:?}");
            assert!(bench.stock.bytes.starts_with(&answer.body) || answer.status == 502);
        }
    }
    assert_eq!(bench.asked_for_file(), 2, "one request each, no hidden retry (RS-02)");
    assert!(stored(&bench.proxy.data(), &spoiled(&bench.stock.bytes)).is_empty(), "wrong bytes were kept");
    bench.file_comes_whole(&file).await;
}

impl Bench {
    /// Loses the stored bytes of the file, as a disk may.
    async fn lose_file(&mut self) {
        let lost = stored(&self.proxy.data(), &self.stock.bytes);
        assert_eq!(lost.len(), 1, "{lost:?}");
        fs::remove_file(&lost[0]).expect("it is ours");
        self.proxy.restart().await;
    }

    async fn ledger(mut self, file: &str) {
        self.check_file(&http::get(file).await, "MISS");
        self.lose_file().await;
        self.upstream.script(&self.stock.file_upstream, Behaviour::WrongBytes);
        for _ in 0..2 {
            if let Some(answer) = never_whole(file).await {
                assert!(answer.status == 200 || answer.status == 502, "{answer:?}");
            }
        }
        assert!(self.proxy.logs().contains("upstream_mutated"), "the change is an event");
        assert!(stored(&self.proxy.data(), &spoiled(&self.stock.bytes)).is_empty(), "wrong bytes were kept");
        self.file_comes_whole(file).await;
    }
}

/// Every way in which a body can break, over every wire, for a type that knows the digest and one that does not.
pub(crate) fn further() -> Vec<(PackageType, &'static str, Cell)> {
    let cells: [(&'static str, Cell); 6] = [
        ("truncated_h1_at_every_length", |kind| Box::pin(at_lengths(kind, Wire::Plain))),
        ("truncated_tls_without_goodbye", |kind| Box::pin(at_lengths(kind, Wire::Tls))),
        ("truncated_h2_reset", |kind| Box::pin(at_lengths(kind, Wire::Http2))),
        ("truncated_h1_reset", |kind| Box::pin(reset(kind))),
        ("truncated_h1_chunked_without_end", |kind| Box::pin(chunked(kind))),
        ("truncated_h2_without_length", |kind| Box::pin(unannounced_http2(kind))),
    ];
    let types = [PackageType::Generic, PackageType::Docker];
    types.into_iter().flat_map(|of| cells.map(|(name, cell)| (of, name, cell))).collect()
}

#[derive(Clone, Copy)]
enum Wire {
    Plain,
    Tls,
    Http2,
}

async fn on(kind: Kind, wire: Wire) -> (Bench, String) {
    let authority = Authority::new();
    let (upstream, more) = match wire {
        Wire::Plain => (Upstream::start().await, json!({})),
        Wire::Tls => (
            Upstream::start_tls(&authority).await,
            json!({ "tls": { "caSecretRef": { "name": "authority" } } }),
        ),
        Wire::Http2 => (
            Upstream::start_http2(&authority).await,
            json!({ "tls": { "caSecretRef": { "name": "authority" } } }),
        ),
    };
    let bench = Bench::with(kind, upstream, &more).await;
    let Place::Named(path) = &bench.stock.file else { panic!("a type whose file has a path") };
    let url = bench.url(HASTY, path);
    (bench, url)
}

/// RS-03: after none, one, half, and all but one of the announced bytes.
async fn at_lengths(kind: Kind, wire: Wire) {
    let (bench, url) = on(kind, wire).await;
    let length = bench.stock.bytes.len();
    for sent in [0, 1, length / 2, length - 1] {
        bench.breaks(&url, Behaviour::CutAt(sent), sent).await;
    }
    bench.file_comes_whole(&url).await;
}

async fn reset(kind: Kind) {
    let (bench, url) = on(kind, Wire::Plain).await;
    let half = bench.stock.bytes.len() / 2;
    bench.breaks(&url, Behaviour::ResetAt(half), half).await;
    bench.file_comes_whole(&url).await;
}

/// RS-04: every byte came, and the final chunk did not.
async fn chunked(kind: Kind) {
    let (bench, url) = on(kind, Wire::Plain).await;
    bench.breaks(&url, Behaviour::ChunkedNoEnd, bench.stock.bytes.len()).await;
    let whole = stored(&bench.proxy.data(), &bench.stock.bytes);
    assert!(whole.is_empty(), "a body without its final chunk was kept: {whole:?}");
    bench.file_comes_whole(&url).await;
}

async fn unannounced_http2(kind: Kind) {
    let (bench, url) = on(kind, Wire::Http2).await;
    bench.breaks(&url, Behaviour::ChunkedNoEnd, bench.stock.bytes.len()).await;
    let whole = stored(&bench.proxy.data(), &bench.stock.bytes);
    assert!(whole.is_empty(), "a body whose stream was reset was kept: {whole:?}");
    bench.file_comes_whole(&url).await;
}
