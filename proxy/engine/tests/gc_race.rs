//! Fills that race a collection, in real time, on every pair of stores a standalone proxy can have: bodies are
//! fetched, evicted and fetched again while what they leave behind is deleted.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifactapi_engine::{
    Engine, Options, Ports,
    gc::{self, Collector},
};
use artifactapi_formats::{Method, PublicBase, Request};
use artifactapi_model::{
    Digest, Notice, PackageType, Remote, SystemClock,
    ports::{
        BlobStore, Housekeeping, MetadataStore, NoPeers,
        housekeeping::{Change, Selection},
    },
};
use artifactapi_stores::{FsBlobs, LocalCoordinator, MemoryBlobs, MemoryMetadata, SqliteMetadata};
use bytes::Bytes;
use support::{FakeUpstream, body, read_whole, spec};

/// Fills take far less than two of them.
const GRACE: Duration = Duration::from_secs(1);
/// Blobs that have to be deleted under the fills' feet before the race ends.
const DELETED: u64 = 6;
const PATHS: usize = 6;

struct Race {
    engine: Arc<Engine>,
    remote: Remote,
    upstream: Arc<FakeUpstream>,
    keeper: Arc<dyn Housekeeping>,
    metadata: Arc<dyn MetadataStore>,
    blobs: Arc<dyn BlobStore>,
    collector: Collector,
}

impl Race {
    async fn between<M: MetadataStore + Housekeeping>(metadata: Arc<M>, blobs: Arc<dyn BlobStore>) -> Self {
        let (upstream, clock) = (Arc::new(FakeUpstream::default()), Arc::new(SystemClock));
        let ports = Ports {
            blobs: blobs.clone(),
            metadata: metadata.clone(),
            coordinator: Arc::new(LocalCoordinator::default()),
            peers: Arc::new(NoPeers),
            upstream: upstream.clone(),
            clock: clock.clone(),
        };
        let spec = spec(PackageType::Generic);
        let url = spec.base_url.to_string();
        let identity =
            metadata.ensure_repository("default", &spec.name, spec.package_type, &url).await.unwrap();
        let remote = Remote { identity, spec: Arc::new(spec) };
        // Bodies are read from the store, not from memory.
        let engine = Engine::new(ports, Options { small_body: 0, ..Options::default() }, [1; 32], "replica");
        let collector = Collector {
            blobs: blobs.clone(),
            metadata: metadata.clone(),
            keeper: metadata.clone(),
            clock,
            progress: Arc::default(),
        };
        Race { engine, remote, upstream, keeper: metadata.clone(), metadata, blobs, collector }
    }

    async fn fetch(&self, path: &str) -> Result<Vec<u8>, String> {
        let request = Request { method: Method::Get, raw_path: path, query: "", accept: "" };
        let base = PublicBase { origin: "http://proxy.test".into(), prefix: "/api/v1/remote/r/".into() };
        let reply = self.engine.get(&self.remote, &request, &base, None).await;
        read_whole(&self.engine, reply.map_err(|error| error.to_string())?).await
    }

    async fn evict(&self, path: &str) {
        let identity = self.remote.identity;
        let selection = Selection::Path(path.to_owned());
        self.keeper.change(identity.id, identity.epoch, &selection, Change::Evict).await.unwrap();
        let (repo, epoch) = (identity.id.0, identity.epoch.0);
        self.engine.hear(&Notice::Changed { repo, epoch, path: path.to_owned(), by: String::new() });
    }

    fn options(&self) -> gc::Options {
        gc::Options { grace: GRACE, rest: Duration::ZERO, step: 2, ..gc::Options::default() }
    }

    async fn run(self: Arc<Self>) {
        // Two paths share each body: what one fill puts again, another's eviction has condemned.
        let bodies: Vec<Bytes> = (0..PATHS / 2).map(|n| Bytes::from(vec![n as u8; 70_000 + n])).collect();
        for path in 0..PATHS {
            self.upstream.put(&format!("{path}"), body(bodies[path / 2].clone()));
        }
        let fillers: Vec<_> = (0..PATHS)
            .map(|path| {
                let (race, want) = (self.clone(), bodies[path / 2].clone());
                tokio::spawn(async move {
                    let mut round = 0_u32;
                    while race.collector.progress.numbers().deleted < DELETED {
                        let got = race.fetch(&format!("{path}")).await;
                        assert!(got.as_deref() == Ok(&want[..]), "{path}: {:?}", got.map(|it| it.len()));
                        race.evict(&format!("{path}")).await;
                        // Now and then all stay away long enough for their body to be condemned and deleted.
                        let away = if round % 4 == 3 { GRACE * 5 / 2 } else { GRACE / 50 };
                        round += 1;
                        tokio::time::sleep(away + GRACE * path as u32 / 100).await;
                    }
                })
            })
            .collect();
        let collecting = tokio::spawn({
            let race = self.clone();
            async move {
                loop {
                    race.collector.run_once(None, &race.options()).await.unwrap();
                    tokio::time::sleep(GRACE / 20).await;
                }
            }
        });
        for filler in fillers {
            filler.await.unwrap();
        }
        collecting.abort();
        let _ = collecting.await;
        for path in 0..PATHS / 2 {
            self.fetch(&format!("{path}")).await.unwrap();
        }
        for _ in 0..3 {
            self.collector.run_once(None, &self.options()).await.unwrap();
            tokio::time::sleep(GRACE).await;
        }
        let rows = self.metadata.artifacts_after(None, 100).await.unwrap();
        assert_eq!(rows.len(), PATHS / 2);
        let named: BTreeMap<Digest, u64> = rows.iter().map(|(_, row)| (row.digest, row.size)).collect();
        let left: BTreeMap<Digest, u64> = self.blobs.list(None, 100).await.unwrap().into_iter().collect();
        assert_eq!(left, named, "every row has its bytes, and nothing else is left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_113_fills_and_a_collection_at_once_in_memory() {
    let race = Race::between(Arc::new(MemoryMetadata::default()), Arc::new(MemoryBlobs::default())).await;
    Arc::new(race).run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_113_fills_and_a_collection_at_once_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = SqliteMetadata::open(dir.path().join("metadata.db"), Arc::default()).await.unwrap();
    let blobs = FsBlobs::open(dir.path()).await.unwrap();
    Arc::new(Race::between(Arc::new(metadata), Arc::new(blobs)).await).run().await;
}
