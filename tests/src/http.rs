//! A client for assertions: tells a complete body from one that broke off, follows nothing, decodes nothing.

use std::{
    sync::{Once, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use reqwest::{Client, Method, redirect::Policy};

/// Longest wait for one answer: a test that meets it has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time until somebody takes a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes ring the process's TLS provider.
pub fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        use_ring();
        // Each test has a runtime of its own, and pooled connections die with theirs.
        let client = Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0);
        client
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .build()
            .expect("a client needs nothing of the machine")
    })
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// What arrived of the body.
    pub body: Bytes,
    /// Whether the body ended as its framing announced.
    pub complete: bool,
}

impl Fetched {
    /// A header as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("JSON expected ({e}): {}", self.text()))
    }

    /// Whether this is a complete 200.
    pub fn is_ok(&self) -> bool {
        self.status == 200 && self.complete
    }
}

/// One request with headers.
///
/// # Panics
/// When no answer comes at all.
pub async fn request(method: Method, url: &str, headers: &[(&str, &str)]) -> Fetched {
    let answer = try_request(method, url, headers).await;
    answer.unwrap_or_else(|e| panic!("no answer from {url}: {e:?}"))
}

/// One request with headers, whose connection may break off before there is an answer.
///
/// # Errors
/// What happened, when no answer comes at all.
pub async fn try_request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Fetched, reqwest::Error> {
    let mut request = client().request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(Begun(request.send().await?).finish().await)
}

/// An answer of which only the head has come.
pub struct Begun(reqwest::Response);

impl Begun {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// Takes the rest.
    pub async fn finish(self) -> Fetched {
        let mut answer = self.0;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        let complete = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Fetched { status, headers, body: body.into(), complete }
    }
}

/// A GET of which only the head is waited for.
///
/// # Panics
/// When no answer comes at all.
pub async fn begin(url: &str) -> Begun {
    let answer = client().get(url).send().await;
    Begun(answer.unwrap_or_else(|e| panic!("no answer from {url}: {e:?}")))
}

/// GET without further headers.
pub async fn get(url: &str) -> Fetched {
    request(Method::GET, url, &[]).await
}

/// HEAD without further headers.
pub async fn head(url: &str) -> Fetched {
    request(Method::HEAD, url, &[]).await
}

/// Asks again until `good` holds, also when no answer comes.
///
/// # Panics
/// When it does not hold within [`PATIENCE`]; says what came last.
pub async fn get_until(url: &str, good: impl Fn(&Fetched) -> bool) -> Fetched {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let fetched = match try_request(Method::GET, url, &[]).await {
            Ok(fetched) if good(&fetched) => return fetched,
            fetched => fetched,
        };
        assert!(tokio::time::Instant::now() < end, "{url} never came to what was awaited: {fetched:?}");
        crate::wait::breathe().await;
    }
}
