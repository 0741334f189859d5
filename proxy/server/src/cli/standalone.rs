//! `standalone`: SQLite, a directory and in-process coordination behind the same proxy.

use std::{path::Path, sync::Arc, time::Duration};

use artifactapi_engine::{Engine, Options, Ports, gc::Collector};
use artifactapi_model::{
    Clock, SystemClock,
    ports::{MetadataStore, NoPeers},
};
use artifactapi_registry::Registry;
use artifactapi_stores::{CountingBlobs, FsBlobs, LocalCoordinator, SqliteMetadata, exchange::Exchange};
use artifactapi_upstream::HttpUpstream;
use tokio_util::sync::CancellationToken;

use super::{
    Failure, descriptors,
    running::{self, Running},
};
use crate::{
    App,
    access::Gate,
    config::{Manifests, Settings},
    http::{tls::Tls, waiting::Waiting},
    layout,
    signing::SigningKeys,
    telemetry::{Metrics, logs::LogSink, metrics::UpstreamObserver, upstreams::Watcher},
    upkeep::{self, collection::Collection, observations::Observing, room::Room},
};

/// How often it is looked whether the operator has written everything.
const LOOK: Duration = Duration::from_millis(100);

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    super::runtime()?.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::new());
    let sink = LogSink::start(metrics.lines_dropped.clone())?;
    let json = settings.log_format.is_json();
    sink.install(json);
    let result = run_app(settings, metrics, sink.clone(), json).await;
    sink.flush();
    result
}

async fn run_app(
    settings: Settings,
    metrics: Arc<Metrics>,
    sink: LogSink,
    json: bool,
) -> Result<(), Failure> {
    // Before anything that may take long: who does not answer is restarted.
    let listener = running::listen(settings.listen)?;
    running::start_metrics(settings.metrics, &metrics);
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let waiting = Arc::new(Waiting::default());
    let (blobs, database) = tokio::select! {
        opened = open(&settings, &metrics, &waiting) => opened?,
        () = waiting.serve(&listener, tls.clone()) => return Err("the listener is gone".into()),
        signal = running::wait_for_signal() => return Ok(signal?),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metadata: Arc<dyn MetadataStore> = database.clone();
    let watcher = Watcher::new(metrics.upstreams.clone(), clock.clone());
    let observer = Arc::new((UpstreamObserver(metrics.clone()), watcher));
    let ports = Ports {
        blobs: Arc::new(CountingBlobs::new(blobs.clone(), metrics.stores.blobs.clone())),
        metadata: metadata.clone(),
        coordinator: Arc::new(LocalCoordinator::default()),
        peers: Arc::new(NoPeers),
        upstream: Arc::new(HttpUpstream::new(clock.clone(), observer)),
        clock,
    };
    let link_key = metadata.shared_secret("links").await?;
    let engine = Engine::new(ports.clone(), Options::default(), link_key, "standalone");
    let token_key = metadata.shared_secret("tokens").await?;
    let gate = Gate::new(database.clone(), &token_key, ports.clock.clone());
    let registry =
        Registry::new(database.clone(), metadata.clone(), Arc::new(blobs.uploads()), ports.blobs.clone());
    let sealer = settings.sealer.clone().map(Arc::new);
    let signing = SigningKeys::private(metadata.clone(), sealer);
    let outside = settings.outside.clone();
    let app = App::new(&ports, engine, registry, signing, gate, metrics.clone(), outside);
    let stop = CancellationToken::new();
    let grace = settings.collection.grace;
    let mut manifests = Manifests::new(settings.manifests.clone(), database.clone(), database.clone(), grace);
    manifests.refresh(&app, &metadata).await?;

    let log = tokio::spawn(app.access.clone().run(sink, json, metadata.clone(), stop.clone()));
    tokio::spawn(manifests.follow(app.clone(), metadata.clone(), stop.clone()));
    let collector = Collector {
        blobs: blobs.clone(),
        metadata: metadata.clone(),
        keeper: database.clone(),
        clock: ports.clock.clone(),
        progress: metrics.collection.0.clone(),
    };
    let room = Room {
        collector: collector.clone(),
        blobs: blobs.clone(),
        database: database.clone(),
        min_free: settings.min_free,
        grace: settings.collection.grace,
        coordinator: ports.coordinator.clone(),
    };
    let collection = Collection::new(collector, settings.collection, ports.coordinator.clone());
    let observing = Observing { store: database.clone(), upstream: ports.upstream.clone() };
    tokio::spawn(observing.run(app.clone(), stop.clone()));
    tokio::spawn(upkeep::notices::follow(app.clone(), database, stop.clone()));
    tokio::spawn(upkeep::run(app.clone(), metadata.clone(), blobs, collection, Some(room), stop.clone()));

    tracing::info!(manifests = %settings.manifests.display(), data = %settings.data.display(), "standalone");
    let (connections, drain) = (descriptors::connections(), settings.drain);
    let running = Running { app: app.clone(), tls, listener, connections, drain };
    running.until_told_to_stop(&stop).await?;
    let _ = log.await;
    app.engine.record_uses().await?;
    Ok(())
}

/// Opens what is in the data directory, and waits for the operator if there is one.
async fn open(
    settings: &Settings,
    metrics: &Metrics,
    waiting: &Waiting,
) -> Result<(Arc<FsBlobs>, Arc<SqliteMetadata>), Failure> {
    let data = &settings.data;
    waiting.expect("data", "is being opened; a new release may have much to change in it");
    std::fs::create_dir_all(data).map_err(|error| format!("{} cannot be made: {error}", data.display()))?;
    let blobs = FsBlobs::open(data).await?;
    let database = SqliteMetadata::open(layout::database(data), metrics.stores.sql.clone()).await?;
    waiting.done("data");
    if settings.await_operator {
        all_written(&settings.manifests, waiting).await;
    }
    Ok((Arc::new(blobs), Arc::new(database)))
}

/// Ends when the operator has written all of the manifests that it knew of.
async fn all_written(directory: &Path, waiting: &Waiting) {
    let exchange = Exchange::new(directory.to_owned());
    waiting.expect(
        "manifests",
        "are not all written by the operator yet; its /readyz and its log say what it waits for",
    );
    while !exchange.is_complete() {
        tokio::time::sleep(LOOK).await;
    }
    waiting.done("manifests");
}
