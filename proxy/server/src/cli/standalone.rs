//! `standalone`: SQLite, a directory and in-process coordination behind the same proxy.

use std::{sync::Arc, time::Duration};

use artifactapi_engine::{Engine, Options, Ports};
use artifactapi_model::{
    Clock, SystemClock,
    ports::{MetadataStore, NoPeers},
};
use artifactapi_stores::{CountingBlobs, FsBlobs, LocalCoordinator, SqliteMetadata};
use artifactapi_upstream::HttpUpstream;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;

use super::{Failure, descriptors};
use crate::{
    App,
    config::{Manifests, Settings},
    http::{metrics_page, serve::Server, tls::Tls},
    layout,
    telemetry::{Metrics, logs::LogSink, metrics::UpstreamObserver},
    upkeep,
};

/// Longest wait for requests under way when told to stop (RS-119).
const DRAIN: Duration = Duration::from_secs(60);

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    // The first provider in a process wins; a second call says so and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
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
    std::fs::create_dir_all(&settings.data)
        .map_err(|error| format!("{} cannot be made: {error}", settings.data.display()))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let blobs = Arc::new(FsBlobs::open(&settings.data).await?);
    let metadata: Arc<dyn MetadataStore> =
        Arc::new(SqliteMetadata::open(layout::database(&settings.data), metrics.stores.sql.clone()).await?);
    let observer = Arc::new(UpstreamObserver(metrics.clone()));
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
    let app = App::new(&ports, engine, metrics.clone(), settings.outside.clone());
    let stop = CancellationToken::new();
    let mut manifests = Manifests::new(settings.manifests.clone());
    manifests.refresh(&app, &metadata).await?;

    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", settings.listen))?;
    start_metrics(&settings, &metrics).await;
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().follow(stop.clone()));
    }
    let log = tokio::spawn(app.access.clone().run(sink, json, metadata.clone(), stop.clone()));
    tokio::spawn(manifests.follow(app.clone(), metadata.clone(), stop.clone()));
    tokio::spawn(upkeep::run(app.clone(), metadata.clone(), blobs, stop.clone()));

    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = listener.local_addr()?;
    tracing::info!(listen.addr = %address, manifests = %settings.manifests.display(), "serving on {scheme}://{address}");
    let server = Server::new(app.clone(), tls, descriptors::connections());
    let accepting = server.clone();
    tokio::spawn(async move { accepting.accept(listener).await });

    wait_for_signal().await?;
    tracing::info!("stopping: no new connections, requests under way may end");
    app.health.set_leaving();
    let left = tokio::select! {
        left = server.leave(DRAIN) => left,
        signal = wait_for_signal() => { signal?; 0 }
    };
    if left > 0 {
        tracing::warn!(connections = left, "connections were cut off");
    }
    stop.cancel();
    let _ = log.await;
    app.engine.record_uses().await?;
    Ok(())
}

async fn start_metrics(settings: &Settings, metrics: &Arc<Metrics>) {
    match TcpListener::bind(settings.metrics).await {
        Ok(listener) => {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(metrics.addr = %address, "metrics are at http://{address}/metrics");
            }
            tokio::spawn(metrics_page::serve(metrics.clone(), listener));
        }
        Err(error) => tracing::warn!(
            metrics.addr = %settings.metrics, error = %error,
            "no metrics: the address cannot be listened on; set ARTIFACTAPI_METRICS_ADDR to another"
        ),
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
