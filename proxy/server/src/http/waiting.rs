//! Before the stores answer: the port is open, `/livez` says that the process lives and `/readyz` what it waits for;
//! everything else is asked to come back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

/// What is waited for, by the name of the check, and why; `None` once it has come.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<BTreeMap<&'static str, Option<String>>>);

impl Waiting {
    /// Waits for `check`, because of `reason`; logged when the reason is another than before.
    pub fn on(&self, check: &'static str, reason: String) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = checks.insert(check, Some(reason.clone())).flatten();
        if before.as_ref() != Some(&reason) {
            tracing::error!(check, reason, "waiting");
        }
    }

    /// The same of what every start waits for: it is no trouble, and not logged.
    pub fn expect(&self, check: &'static str, reason: &str) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(check, Some(reason.to_owned()));
    }

    /// `check` has come.
    pub fn done(&self, check: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(check, None);
    }

    fn page(&self) -> String {
        let mut page = String::new();
        for (check, reason) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Writing to a String cannot fail.
            let _ = match reason {
                None => writeln!(page, "[+]{check} ok"),
                Some(reason) => writeln!(page, "[-]{check} {reason}"),
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
