//! Credentials for the Remote's own origin: what to send at once, how to answer a challenge, and whether
//! an answer was given to somebody upstream recognised.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Clock, PackageType,
    ports::upstream::{Layer, UpstreamError, UpstreamMethod},
    repository::{Credentials, Remote, RemoteSpec},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;
use url::Url;

use crate::{
    body::read_small,
    challenge::{BearerChallenge, Challenge, challenges},
    error::{broken, host_of},
    hop::{HopRequest, Sender},
    realm::{self, Trust},
    retry_after::MAX_PAUSE,
    token::{self, Grant, Token, TokenKey, Tokens},
    token_share::SharedTokens,
};

/// Answers to challenges that are remembered.
const MAX_REMEMBERED: usize = 16 * 1024;

/// What one request carried.
#[derive(Clone, Debug)]
pub(crate) enum Authorization {
    /// Nothing.
    None,
    /// The Remote's credentials as they are.
    Own(HeaderValue),
    /// A token of a token service.
    Token(TokenKey, Token),
}

impl Authorization {
    /// The header to send.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        match self {
            Authorization::None => None,
            Authorization::Own(header) => Some(header.clone()),
            Authorization::Token(_, token) => Some(token.header.clone()),
        }
    }

    /// Whether the Remote's credentials stand behind it.
    pub(crate) fn is_of_credentials(&self) -> bool {
        match self {
            Authorization::None => false,
            Authorization::Own(_) => true,
            Authorization::Token(key, _) => key.credential.is_some(),
        }
    }
}

/// Which requests met the same challenge before: origin, scope asked for, credentials.
type Memory = (String, Option<String>, Option<[u8; 32]>);

#[derive(Clone)]
enum Remembered {
    Own,
    Token(BearerChallenge),
}

/// Keeps tokens, and what each origin asked for last time.
pub(crate) struct Authenticator {
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    shared: Option<SharedTokens>,
    remembered: Cache<Memory, Remembered>,
}

impl Authenticator {
    /// Knows nothing yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let remembered = Cache::new(MAX_REMEMBERED);
        Authenticator { clock, tokens: Tokens::default(), shared: None, remembered }
    }

    /// Lends tokens to twins, and takes theirs.
    pub(crate) fn share(&mut self, tokens: SharedTokens) {
        self.shared = Some(tokens);
    }

    /// What to send to the own origin before it has asked. Registries are first asked without a word, since
    /// they answer Basic credentials meant for their token service in many ways; other upstreams get the
    /// credentials at once, and after a challenge that was met everyone gets what it asked for.
    ///
    /// # Errors
    /// [`UpstreamError::Broken`] when the credentials cannot stand in a header, or the token service fails.
    pub(crate) async fn before(
        &self,
        sender: &Sender,
        remote: &Remote,
        scope: Option<&str>,
    ) -> Result<Authorization, UpstreamError> {
        let spec = &remote.spec;
        match self.remembered.get(&memory(spec, scope)) {
            Some(Remembered::Token(challenge)) => self.token(sender, remote, challenge).await,
            Some(Remembered::Own) => own(spec),
            None if spec.package_type == PackageType::Docker && !has_bearer(spec) => Ok(Authorization::None),
            None => own(spec),
        }
    }

    /// Answers a 401. `None`: there is nothing better to send than what was sent.
    ///
    /// # Errors
    /// [`UpstreamError`] of the token request, or a realm that may not be asked.
    pub(crate) async fn answer(
        &self,
        sender: &Sender,
        remote: &Remote,
        scope: Option<&str>,
        sent: &Authorization,
        headers: &HeaderMap,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let spec = &remote.spec;
        let all = challenges(headers);
        let answer = if let Some(challenge) = bearer_challenge(&all, scope)
            && !has_bearer(spec)
        {
            if let Authorization::Token(key, token) = sent {
                self.tokens.refused(key, token.serial);
                if let Some(shared) = &self.shared {
                    shared.forget(key).await;
                }
            }
            let answer = self.token(sender, remote, challenge.clone()).await?;
            self.remembered.insert(memory(spec, scope), Remembered::Token(challenge));
            answer
        } else if all.iter().any(|challenge| challenge.scheme == "basic")
            && !matches!(sent, Authorization::Own(_))
        {
            let answer = own(spec)?;
            if matches!(answer, Authorization::Own(_)) {
                self.remembered.insert(memory(spec, scope), Remembered::Own);
            }
            answer
        } else {
            Authorization::None
        };
        Ok((!matches!(answer, Authorization::None)).then_some(answer))
    }

    async fn token(
        &self,
        sender: &Sender,
        remote: &Remote,
        challenge: BearerChallenge,
    ) -> Result<Authorization, UpstreamError> {
        let spec = &remote.spec;
        let (url, trust) = realm::judge(spec, &challenge.realm)
            .map_err(|reason| broken(&spec.base_url, Layer::Authentication, reason))?;
        let credentials = spec.credentials.as_ref().filter(|_| trust == Trust::Credentials);
        let key = TokenKey { credential: credentials.map(token::fingerprint), challenge };
        let now = self.clock.now();
        if let Some(token) = self.tokens.get(&key, now) {
            return Ok(Authorization::Token(key, token));
        }
        let ask = async {
            if let Some(shared) = &self.shared
                && let Some(lent) = shared.get(&key, now).await
            {
                return Ok(lent);
            }
            let grant = ask(sender, remote, token::token_url(&url, &key.challenge), credentials).await?;
            if let Some(shared) = &self.shared {
                shared.put(&key, &grant, now).await;
            }
            Ok(grant)
        };
        let token = Box::pin(self.tokens.get_or_ask(&key, now, ask)).await?;
        Ok(Authorization::Token(key, token))
    }
}

fn memory(spec: &RemoteSpec, scope: Option<&str>) -> Memory {
    let credential = spec.credentials.as_ref().map(token::fingerprint);
    (spec.base_url.origin().ascii_serialization(), scope.map(str::to_owned), credential)
}

fn has_bearer(spec: &RemoteSpec) -> bool {
    matches!(spec.credentials, Some(Credentials::Bearer(_)))
}

fn own(spec: &RemoteSpec) -> Result<Authorization, UpstreamError> {
    let header = match &spec.credentials {
        None => return Ok(Authorization::None),
        Some(Credentials::Basic { username, password }) => token::basic(username, password.expose_secret()),
        Some(Credentials::Bearer(bearer)) => token::bearer(bearer.expose_secret().trim()),
    };
    let unusable = || broken(&spec.base_url, Layer::Authentication, "auth.secretRef holds no usable token");
    header.map(Authorization::Own).ok_or_else(unusable)
}

/// The first Bearer challenge, with `scope` where it names none.
fn bearer_challenge(all: &[Challenge], scope: Option<&str>) -> Option<BearerChallenge> {
    let mut challenge = all.iter().find_map(BearerChallenge::of)?;
    if challenge.scopes.is_empty() {
        challenge.scopes.extend(scope.map(str::to_owned));
    }
    Some(challenge)
}

/// One token request. Redirects are not followed: the realm was judged, its redirect would not be.
async fn ask(
    sender: &Sender,
    remote: &Remote,
    url: Url,
    credentials: Option<&Credentials>,
) -> Result<Grant, UpstreamError> {
    let spec = &remote.spec;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(Credentials::Basic { username, password }) = credentials
        && let Some(basic) = token::basic(username, password.expose_secret())
    {
        headers.insert(header::AUTHORIZATION, basic);
    }
    let identify = spec.is_own_origin(&url);
    let request = HopRequest { method: UpstreamMethod::Get, url: url.clone(), headers, body: None, identify };
    let mut answer = sender.send(remote, request).await?;
    let refused = |message: String| broken(&url, Layer::Authentication, message);
    match answer.response.status().as_u16() {
        200 => {}
        429 => {
            let retry_after = answer.retry_after.unwrap_or(Duration::from_secs(1)).min(MAX_PAUSE);
            return Err(UpstreamError::Paused { host: host_of(&url), retry_after });
        }
        status @ (401 | 403) if credentials.is_some() => {
            let message = format!("the token service refused the credentials of auth.secretRef ({status})");
            return Err(UpstreamError::Refused { host: host_of(&url), message });
        }
        status => return Err(refused(format!("the token service answered {status}"))),
    }
    let status = answer.response.status();
    let body = read_small(answer.response, token::MAX_ANSWER, spec.timeouts.idle).await;
    match &body {
        // The realm is upstream's word: a host that has no tokens to give is as well as any other.
        Ok(_) => answer.ticket.succeeded(status),
        Err(unread) if unread.is_host_failure(spec.timeouts.idle) => answer.ticket.failed(),
        Err(_) => {}
    }
    let grant = body.map_err(|unread| unread.to_string()).and_then(|body| token::read_answer(&body));
    grant.map_err(|reason| refused(format!("the token service failed: {reason}")))
}

/// Whether `status` was given to somebody upstream recognised, for exactly what was asked. A 401 to a fresh
/// token is a registry's way of saying "no such name, or not for you"; a 401 to plain credentials, or to a
/// token it calls invalid or too narrow, is not.
pub(crate) fn authenticated(sent: &Authorization, status: StatusCode, headers: &HeaderMap) -> bool {
    match sent {
        Authorization::None => false,
        Authorization::Own(_) => status != StatusCode::UNAUTHORIZED,
        Authorization::Token(key, _) if status == StatusCode::UNAUTHORIZED => {
            challenges(headers).iter().all(|challenge| {
                let wanted = BearerChallenge::of(challenge).map(|bearer| bearer.scopes).unwrap_or_default();
                challenge.parameter("error") != Some("invalid_token")
                    && wanted.iter().all(|scope| key.challenge.scopes.contains(scope))
            })
        }
        Authorization::Token(..) => true,
    }
}
