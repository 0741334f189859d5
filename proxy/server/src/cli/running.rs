//! What both ways of serving have in common: listening, and the orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, signal::unix::SignalKind, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::{
    App,
    http::{metrics_page, serve::Server, tls::Tls},
    telemetry::Metrics,
};

/// A proxy ready to serve.
pub(super) struct Running {
    pub(super) app: Arc<App>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) listener: TcpListener,
    pub(super) connections: usize,
    /// Longest wait for requests under way when told to stop (RS-119).
    pub(super) drain: Duration,
}

impl Running {
    /// Serves until SIGTERM or SIGINT, lets requests under way end, and then cancels `stop`.
    pub(super) async fn until_told_to_stop(self, stop: &CancellationToken) -> Result<(), Failure> {
        let Running { app, tls, listener, connections, drain } = self;
        if let Some(tls) = &tls {
            tokio::spawn(tls.clone().follow(stop.clone()));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = listener.local_addr()?;
        tracing::info!(listen.addr = %address, "serving on {scheme}://{address}");
        let server = Server::new(app.clone(), tls, connections);
        let accepting = server.clone();
        tokio::spawn(async move { accepting.accept(listener).await });
        wait_for_signal().await?;
        let drain_seconds = drain.as_secs();
        tracing::info!(drain_seconds, "stopping: no new connections, requests under way may end");
        // Of all of it: whoever told us to stop waits no longer.
        let end = Instant::now() + drain;
        app.health.set_leaving();
        let left = tokio::select! {
            left = server.leave(drain) => left,
            signal = wait_for_signal() => { signal?; 0 }
        };
        if left > 0 {
            tracing::warn!(connections = left, "connections were cut off");
        }
        app.engine.settled(end.saturating_duration_since(Instant::now())).await;
        stop.cancel();
        Ok(())
    }
}

/// Listens on `address`.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = artifactapi_stores::listen::listen(address);
    Ok(listener.map_err(|error| format!("{address} cannot be listened on: {error}"))?)
}

/// Serves the metrics page, if its address is free.
pub(super) fn start_metrics(address: SocketAddr, metrics: &Arc<Metrics>) {
    match artifactapi_stores::listen::listen(address) {
        Ok(listener) => {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(metrics.addr = %address, "metrics are at http://{address}/metrics");
            }
            tokio::spawn(metrics_page::serve(metrics.clone(), listener));
        }
        Err(error) => tracing::warn!(
            metrics.addr = %address, error = %error,
            "no metrics: the address cannot be listened on; set ARTIFACTAPI_METRICS_ADDR to another"
        ),
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
