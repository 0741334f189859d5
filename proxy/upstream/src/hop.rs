//! One HTTP request, without redirects or authentication: the URL is checked, the host's breaker and pause
//! are asked, the head is awaited for its time, and what happened is reported.
//!
//! Breakers and pauses are everybody's, Remotes are not: what one Remote's own settings bring about must not keep the
//! others from a host ([`way_of`], [`is_host_failure`]).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use artifactapi_model::{
    ports::upstream::{Layer, UpstreamError, UpstreamMethod},
    repository::Remote,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::{Client, Response};
use url::Url;

use crate::{
    address::AddressPolicy,
    body::discard,
    error::{broken, closed_before_answer, host_of, is_host_failure, timeout, translate, way_of},
    hosts::{Hosts, Ticket},
    observe::Observer,
    pool::Pool,
    target::check_hop,
};

/// One request.
pub(crate) struct HopRequest {
    /// Method.
    pub(crate) method: UpstreamMethod,
    /// URL without userinfo.
    pub(crate) url: Url,
    /// Every header to send, but those the client adds (Host, User-Agent).
    pub(crate) headers: HeaderMap,
    /// Body of a POST.
    pub(crate) body: Option<Bytes>,
    /// Whether the client certificate may be shown.
    pub(crate) identify: bool,
}

/// The head of an answer, its body still to come.
pub(crate) struct Answer {
    /// Head and body.
    pub(crate) response: Response,
    /// To report how the body ended.
    pub(crate) ticket: Ticket,
    /// The pause that a 429 or 503 asked for.
    pub(crate) retry_after: Option<Duration>,
}

impl Answer {
    /// Ends an answer whose body nobody wants: a redirect or a challenge.
    pub(crate) async fn discard(mut self) {
        self.ticket.succeeded(self.response.status());
        discard(self.response).await;
    }
}

/// What clients hear of `error`: the host of `url`, and not by which proxy it is reached.
fn named_by_host(error: UpstreamError, url: &Url) -> UpstreamError {
    let host = host_of(url);
    match error {
        UpstreamError::Paused { retry_after, .. } => UpstreamError::Paused { host, retry_after },
        UpstreamError::BreakerOpen { retry_after, .. } => UpstreamError::BreakerOpen { host, retry_after },
        other => other,
    }
}

/// Sends requests.
pub(crate) struct Sender {
    pool: Pool,
    hosts: Arc<Hosts>,
    observer: Arc<dyn Observer>,
}

impl Sender {
    /// Sends through `pool`, under the rules of `hosts`.
    pub(crate) fn new(pool: Pool, hosts: Arc<Hosts>, observer: Arc<dyn Observer>) -> Self {
        Sender { pool, hosts, observer }
    }

    /// Sends `request` and awaits the head for `timeouts.firstByte`, connecting included.
    ///
    /// # Errors
    /// Everything an [`UpstreamError`] can say but `Redirect` and `Saturated`.
    pub(crate) async fn send(&self, remote: &Remote, request: HopRequest) -> Result<Answer, UpstreamError> {
        let spec = &remote.spec;
        check_hop(spec, &request.url, &AddressPolicy::new(&spec.egress.allow_cidrs))?;
        let way = way_of(spec, &request.url);
        let client = self
            .pool
            .client(spec, request.identify)
            .await
            .map_err(|message| broken(&request.url, Layer::Tls, message))?;
        let entered = self.hosts.enter(&way).await;
        let mut ticket = entered.map_err(|error| named_by_host(error, &request.url))?;
        let started = Instant::now();
        let result = head(&client, remote, &request).await;
        let outcome = result.as_ref().map(Response::status);
        self.observer.on_request(&spec.name, &host_of(&request.url), outcome, started.elapsed());
        match result {
            Ok(response) => {
                let retry_after = ticket.head(response.status(), response.headers());
                if let Some(pause) = retry_after {
                    // Said before the answer goes on: the next request may come to a twin.
                    self.hosts.tell_pause(&way, pause).await;
                }
                Ok(Answer { response, ticket, retry_after })
            }
            Err(error) => {
                if is_host_failure(spec, &error) {
                    ticket.failed();
                }
                Err(error)
            }
        }
    }
}

async fn head(client: &Client, remote: &Remote, request: &HopRequest) -> Result<Response, UpstreamError> {
    let spec = &remote.spec;
    let limit = spec.timeouts.first_byte;
    let proxied = spec.egress.proxy_url.is_some();
    let sending = async {
        match client.execute(prepare(request)).await {
            Err(error) if request.method != UpstreamMethod::Post && closed_before_answer(&error) => {
                client.execute(prepare(request)).await
            }
            result => result,
        }
    };
    let response = tokio::time::timeout(limit, sending)
        .await
        .map_err(|_| timeout(&request.url, Layer::Http, limit))?
        .map_err(|error| translate(&error, &request.url, spec.timeouts.connect, proxied))?;
    if proxied && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(broken(&request.url, Layer::Proxy, "egress.proxyURL wants other credentials (407)"));
    }
    Ok(response)
}

fn prepare(request: &HopRequest) -> reqwest::Request {
    let method = match request.method {
        UpstreamMethod::Get => Method::GET,
        UpstreamMethod::Head => Method::HEAD,
        UpstreamMethod::Post => Method::POST,
    };
    let mut prepared = reqwest::Request::new(method, request.url.clone());
    *prepared.headers_mut() = request.headers.clone();
    *prepared.body_mut() = request.body.clone().map(reqwest::Body::from);
    prepared
}
