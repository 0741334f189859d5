//! `/livez`, `/readyz` and `/metrics`, on a port of their own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use artifactapi_model::Reminder;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{self, Metrics},
    watches::Progress,
};

/// What is looked at.
#[derive(Clone)]
pub struct Health {
    /// Which watches have seen everything; unset before they have begun.
    pub progress: Arc<OnceLock<Progress>>,
    /// Why they have not begun.
    pub awaited: Awaited,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
}

/// What is waited for before there is anything to watch for, in a sentence.
#[derive(Clone, Default)]
pub struct Awaited(Arc<Mutex<(Option<String>, Reminder)>>);

impl Awaited {
    /// Waits because of `reason`; whether it is to be logged: it is another than before, or was not said for a while.
    pub fn note(&self, reason: &str) -> bool {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.0 = Some(reason.to_owned());
        awaited.1.is_due(reason, Instant::now())
    }

    fn page(&self) -> String {
        let awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        format!("waiting for the {}\n", awaited.0.as_deref().unwrap_or("database"))
    }
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, health: Health, stop: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(health));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(error = %error, "health and metrics are served no more");
    }
}

/// Ready once it has seen everything, or goes on without the rest; whether it leads makes no difference. With `?verbose`
/// it says what is missing.
async fn ready(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let Some(progress) = health.progress.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, health.awaited.page());
    };
    let missing = progress.missing();
    let is_verbose = query.is_some_and(|query| query.split('&').any(|one| one.starts_with("verbose")));
    if missing.is_empty() || progress.goes_on() && !is_verbose {
        (StatusCode::OK, "ok\n".into())
    } else if progress.goes_on() {
        (StatusCode::OK, format!("ok, without what cannot be listed:\n{}\n", missing.join("\n")))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], health.metrics.encode())
}

/// Binds the address.
///
/// # Errors
/// A sentence with the address and the cause.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    artifactapi_stores::listen::listen(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}
