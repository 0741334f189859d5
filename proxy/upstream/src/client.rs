//! [`HttpUpstream`]: the port, put together from its parts. Takes a place in `maxConcurrent`, walks the
//! redirects, answers challenges, and hands on the last answer with its body still to come.

use std::sync::Arc;

use artifactapi_model::{
    Clock, Notice, Sealer, Timestamp,
    ports::Coordinator,
    ports::upstream::{
        Framing, Layer, PostBody, Upstream, UpstreamError, UpstreamMethod, UpstreamRequest, UpstreamResponse,
        UrlSource,
    },
    repository::Remote,
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    auth::{Authenticator, Authorization, authenticated},
    body::{self, Reading},
    coding::{coding, take_off, take_off_head},
    error::{broken, timeout},
    hop::{Answer, HopRequest, Sender},
    hosts::Hosts,
    limits::{Limits, Permit},
    observe::{Observer, Outcome},
    pool::Pool,
    rate::left,
    redirect::{Hop, Trail},
    resolve::{Lookup, SystemLookup},
    target::check_source,
    token_share::SharedTokens,
};

/// Time for the whole way to the last head, redirects and token requests included, as a multiple of
/// `timeouts.firstByte`, which bounds each request on that way.
const CHAIN_FACTOR: u32 = 3;

/// The way out over HTTP.
pub struct HttpUpstream {
    sender: Sender,
    hosts: Arc<Hosts>,
    limits: Limits,
    authenticator: Authenticator,
    observer: Arc<dyn Observer>,
}

impl HttpUpstream {
    /// Resolves names as the machine does. `observer` is told about every request; give
    /// [`NoObserver`](crate::NoObserver) where nobody counts.
    pub fn new(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Self {
        Self::with_resolver(clock, observer, Arc::new(SystemLookup))
    }

    /// The same with names resolved by `lookup`. Its answers are vetted like any other.
    pub fn with_resolver(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        lookup: Arc<dyn Lookup>,
    ) -> Self {
        let hosts = Hosts::new(clock.clone(), observer.clone());
        HttpUpstream {
            sender: Sender::new(Pool::new(lookup), hosts.clone(), observer.clone()),
            hosts,
            limits: Limits::default(),
            authenticator: Authenticator::new(clock),
            observer,
        }
    }

    /// Shares pauses and open breakers with the twins that use the same coordinator, as the replica `replica`;
    /// [`HttpUpstream::hear`] must be given what they say. Bearer tokens are shared where there is a `sealer`,
    /// since others may read the coordinator too.
    #[must_use]
    pub fn sharing(
        mut self,
        coordinator: Arc<dyn Coordinator>,
        replica: &str,
        sealer: Option<Arc<Sealer>>,
    ) -> Self {
        if let Some(sealer) = sealer {
            self.authenticator.share(SharedTokens::new(coordinator.clone(), sealer));
        }
        self.hosts.share(coordinator, replica);
        self
    }

    /// Takes what a twin says about upstream hosts; other notices are none of its business.
    pub fn hear(&self, notice: &Notice) {
        self.hosts.hear(notice);
    }

    /// Keeps requests away from `host` (`host:port`) until `until`: a twin was asked to (RS-91).
    pub fn pause(&self, host: &str, until: Timestamp) {
        self.hosts.pause(host, until);
    }

    /// Follows redirects to the last answer.
    async fn exchange(&self, remote: &Remote, request: &UpstreamRequest) -> Result<Last, UpstreamError> {
        let mut trail = Trail::new(request.method, request.url.clone());
        let mut credentials = None;
        loop {
            let (answer, sent) = self.hop(remote, request, trail.hop()).await?;
            let (status, headers) = (answer.response.status(), answer.response.headers());
            if sent.is_of_credentials() {
                credentials = Some(authenticated(&sent, status, headers));
            }
            match trail.follow(status, headers) {
                Ok(true) => answer.discard().await,
                Ok(false) => {
                    let authenticated = authenticated(&sent, status, headers);
                    return Ok(Last { answer, hop: trail.hop().clone(), authenticated, credentials });
                }
                Err(reason) => return Err(UpstreamError::Redirect(reason)),
            }
        }
    }

    /// One hop, with credentials where they may go: the Remote's own origin, never left before.
    async fn hop(
        &self,
        remote: &Remote,
        request: &UpstreamRequest,
        hop: &Hop,
    ) -> Result<(Answer, Authorization), UpstreamError> {
        let own = hop.same_origin && remote.spec.is_own_origin(&hop.url);
        let scope = request.scope.as_deref();
        let send = async |authorization: &Authorization| {
            let hop_request = HopRequest {
                method: hop.method,
                url: hop.url.clone(),
                headers: headers(request, hop.method, authorization)
                    .map_err(|message| broken(&hop.url, Layer::Http, message))?,
                body: body_of(request, hop.method).map(|body| body.bytes.clone()),
                identify: own,
            };
            self.sender.send(remote, hop_request).await
        };
        if !own {
            return Ok((send(&Authorization::None).await?, Authorization::None));
        }
        let sent = self.authenticator.before(&self.sender, remote, scope).await?;
        let answer = send(&sent).await?;
        if answer.response.status() != StatusCode::UNAUTHORIZED {
            return Ok((answer, sent));
        }
        let headers = answer.response.headers();
        match self.authenticator.answer(&self.sender, remote, scope, &sent, headers).await? {
            None => Ok((answer, sent)),
            Some(better) => {
                answer.discard().await;
                Ok((send(&better).await?, better))
            }
        }
    }
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn send(
        &self,
        remote: &Remote,
        request: UpstreamRequest,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let spec = &remote.spec;
        check_source(spec, &request.url, request.url_source)?;
        let permit = self.limits.enter(remote, spec.timeouts.first_byte).await?;
        let limit = spec.timeouts.first_byte * CHAIN_FACTOR;
        let last = tokio::time::timeout(limit, Box::pin(self.exchange(remote, &request)))
            .await
            .unwrap_or_else(|_| Err(timeout(&request.url, Layer::Http, limit)));
        self.observer.on_outcome(remote, outcome(&last, request.url_source));
        respond(remote, last?, permit).await
    }
}

fn outcome(last: &Result<Last, UpstreamError>, url_source: UrlSource) -> Outcome<'_> {
    match last {
        Ok(Last { answer, hop: _, authenticated, credentials }) => Outcome {
            result: Ok(answer.response.status()),
            recognised: *authenticated,
            credentials: *credentials,
            left: left(answer.response.headers()),
            url_source,
        },
        Err(error) => Outcome {
            result: Err(error),
            recognised: false,
            credentials: matches!(error, UpstreamError::Refused { .. }).then_some(false),
            left: None,
            url_source,
        },
    }
}

/// The answer that was not a redirect.
struct Last {
    answer: Answer,
    hop: Hop,
    authenticated: bool,
    credentials: Option<bool>,
}

async fn respond(remote: &Remote, last: Last, permit: Permit) -> Result<UpstreamResponse, UpstreamError> {
    let Last { answer: Answer { response, mut ticket, .. }, hop, authenticated, credentials: _ } = last;
    let (status, mut headers) = (response.status(), response.headers().clone());
    let unclear = |reason: String| broken(&hop.url, Layer::Http, reason);
    let framing = body::framing(hop.method, status, response.version(), &headers);
    let mut framing = framing.map_err(unclear)?;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    // What a HEAD announces does not follow it.
    let is_head = hop.method == UpstreamMethod::Head;
    let to_come = if is_head { Framing::Length(0) } else { framing };
    if to_come == Framing::Length(0) || !status.is_success() {
        // Nobody may want to read on; what this says about the host's health has been said.
        ticket.succeeded(status);
    }
    let (url, idle) = (hop.url.clone(), remote.spec.timeouts.idle);
    let mut body = body::stream(response, Reading { url, idle, framing: to_come, ticket, _permit: permit });
    if status.is_success() {
        let coding = coding(&headers, &hop.url).map_err(unclear)?;
        if is_head {
            take_off_head(coding, &mut headers, &mut framing);
        } else {
            body = take_off(coding, &mut headers, &mut framing, body, &hop.url).await?;
        }
    }
    Ok(UpstreamResponse { status, headers, url: hop.url, framing, authenticated, body })
}

/// Everything that is sent, and nothing else (RS-36): no header of a client ever gets here.
fn headers(
    request: &UpstreamRequest,
    method: UpstreamMethod,
    authorization: &Authorization,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: Option<&str>| -> Result<(), String> {
        if let Some(value) = value {
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("{name} cannot be sent as it is"))?;
            headers.insert(name, value);
        }
        Ok(())
    };
    set(header::ACCEPT, Some(request.accept.as_deref().unwrap_or("*/*")))?;
    // The bytes are kept; a coding on the way would have to be taken off again (RS-10).
    set(header::ACCEPT_ENCODING, Some("identity"))?;
    set(header::IF_NONE_MATCH, request.if_none_match.as_deref())?;
    set(header::IF_MODIFIED_SINCE, request.if_modified_since.as_deref())?;
    if let Some(resume) = &request.resume {
        set(header::RANGE, Some(&format!("bytes={}-", resume.offset)))?;
        set(header::IF_RANGE, Some(&resume.etag))?;
    }
    if let Some(body) = body_of(request, method) {
        set(header::CONTENT_TYPE, body.content_type.as_deref())?;
        set(header::CONTENT_ENCODING, body.content_encoding.as_deref())?;
    }
    if let Some(value) = authorization.header() {
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

fn body_of(request: &UpstreamRequest, method: UpstreamMethod) -> Option<&PostBody> {
    request.body.as_ref().filter(|_| method == UpstreamMethod::Post)
}
