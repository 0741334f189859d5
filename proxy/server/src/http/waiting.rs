//! Before the stores answer: the port is open, `/livez` says that the process lives and `/readyz` what it waits for;
//! everything else is asked to come back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use artifactapi_model::Reminder;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

use super::{body::ReplyBody, health::Health, passed::text, tls::Tls};

/// Longest time for a request's head and for a handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at the same time.
const MAX_CONNECTIONS: usize = 256;
const PLAIN: &str = "text/plain; charset=utf-8";

/// What is waited for, by the name of the check.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<BTreeMap<&'static str, Check>>);

/// Why one thing is waited for; nothing once it has come.
#[derive(Debug, Default)]
struct Check {
    reason: Option<String>,
    reminder: Reminder,
}

impl Waiting {
    /// Waits for `check`, because of `reason`; logged when the reason is another than before, and then at growing
    /// intervals.
    pub fn on(&self, check: &'static str, reason: String) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = checks.entry(check).or_default();
        if waited.reminder.is_due(&reason, Instant::now()) {
            tracing::error!(check, reason, "waiting");
        }
        waited.reason = Some(reason);
    }

    /// The same of what every start waits for: it is no trouble, and not logged.
    pub fn expect(&self, check: &'static str, reason: &str) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checks.entry(check).or_default().reason = Some(reason.to_owned());
    }

    /// `check` has come.
    pub fn done(&self, check: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(check, Check::default());
    }

    fn page(&self) -> String {
        let mut page = String::new();
        for (name, check) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Writing to a String cannot fail.
            let _ = match &check.reason {
                None => writeln!(page, "[+]{name} ok"),
                Some(reason) => writeln!(page, "[-]{name} {reason}"),
            };
        }
        page.push_str("not ready\n");
        page
    }

    /// Answers on `listener` until it is dropped.
    pub async fn serve(self: &Arc<Self>, listener: &TcpListener, tls: Option<Arc<Tls>>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (waiting, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => waiting.converse(stream).await,
                    Some(tls) => {
                        let handshake = tokio::time::timeout(PATIENCE, tls.acceptor().accept(stream));
                        if let Ok(Ok(stream)) = handshake.await {
                            waiting.converse(stream).await;
                        }
                    }
                }
                drop(place);
            });
        }
    }

    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let response = self.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        // The next request belongs to the server that comes after.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<ReplyBody> {
        let mut response = match request.uri().path() {
            "/livez" => return Health::livez(),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, self.page()),
            _ => {
                text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "starting: not everything needed is there yet\n")
            }
        };
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_waits_for() {
        let waiting = Waiting::default();
        waiting.on("postgresql", "DBHOST: nobody answers".into());
        waiting.expect("s3", "MINIO_BUCKET: none");
        assert_eq!(waiting.page().lines().nth(1), Some("[-]s3 MINIO_BUCKET: none"));
        waiting.done("s3");
        assert_eq!(waiting.page(), "[-]postgresql DBHOST: nobody answers\n[+]s3 ok\nnot ready\n");
    }
}
