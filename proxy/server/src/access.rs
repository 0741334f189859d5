//! Who asks, and whether they may.
//!
//! A robot's token is good as the password of HTTP Basic (any user name: docker login, pip, netrc, helm, go) and as
//! a bearer token (npm's `_authToken`). Registry clients may also trade it at `/token` for a short-lived one
//! ([`signed`]), which every replica can read and which is never more than what its robot may at that moment.
//!
//! What anyone may do costs nothing: [`crate::http::admit`] looks at no header before the repository says that it is not
//! open. So wrong or foreign credentials never close what is open. What does need rights is decided by
//! [`artifactapi_model::account::may`], from a memory of tokens ([`cache`]) that is never older than a minute while the
//! database answers (RS-54) and never older than five minutes when it does not (RS-85).
//!
//! Which request needs which right is in one place: [`table`].

mod cache;
mod credentials;
pub mod endpoint;
mod scope;
mod signed;
pub mod table;
mod throttle;

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use artifactapi_model::{
    Clock, Notice,
    account::{Account, Action, Caller, Protected, RobotToken, TokenId, Verdict, may},
    ports::{Accounts, MetadataError},
};
use http::{HeaderMap, StatusCode, request::Parts};

use self::{
    cache::{Cache, Remembered},
    credentials::{Shown, shown},
    signed::Signer,
    throttle::Throttle,
};
use crate::http::errors::{Challenge, Refused};

/// Wait suggested while the database cannot say whose a token is.
const SOON: Duration = Duration::from_secs(5);
/// Tokens whose use is still to be written down; of more than these it is lost.
const MAX_USES: usize = 10_000;

/// Why it is not known who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthProblem {
    /// What is shown is no token, or none that counts: mistyped, revoked, expired.
    Wrong,
    /// A short-lived token is over, or was never ours: another is to be had.
    Outlived,
    /// Too many wrong ones came from this address.
    Throttled(Duration),
    /// The database cannot be asked.
    Unavailable,
}

impl From<AuthProblem> for Refused {
    fn from(problem: AuthProblem) -> Self {
        match problem {
            AuthProblem::Wrong => Refused::unauthorized(
                "this token is not valid: it may be mistyped, expired or revoked",
                Challenge::default(),
            ),
            AuthProblem::Outlived => Refused::unauthorized(
                "this short-lived token is over: ask for another",
                Challenge { scope: None, error: Some("invalid_token") },
            ),
            AuthProblem::Throttled(wait) => {
                let message = "too many failed logins from this address";
                let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
                Refused { retry_after: Some(wait), ..refused }
            }
            AuthProblem::Unavailable => {
                Refused::unavailable("nobody can say at this moment whose this token is", SOON)
            }
        }
    }
}

/// Decides who may do what.
pub struct Gate {
    accounts: Arc<dyn Accounts>,
    cache: Cache,
    signer: Signer,
    failures: Throttle,
    guesses: Throttle,
    clock: Arc<dyn Clock>,
    uses: Mutex<HashSet<TokenId>>,
}

impl Gate {
    /// A gate over `accounts` that signs short-lived tokens with `key`, the same on all replicas.
    pub fn new(accounts: Arc<dyn Accounts>, key: &[u8; 32], clock: Arc<dyn Clock>) -> Self {
        Gate {
            cache: Cache::new(accounts.clone()),
            accounts,
            signer: Signer::new(key),
            failures: Throttle::of_failures(),
            guesses: Throttle::of_guesses(),
            clock,
            uses: Mutex::default(),
        }
    }

    /// Who asks for `action` below `scope`, which is what a registry client calls it (`local/app`), or the
    /// repository's name. Nobody in particular when there are no credentials.
    ///
    /// # Errors
    /// 401 for credentials that do not count, 429, 503.
    pub async fn caller(
        &self,
        parts: &Parts,
        client: IpAddr,
        scope: &str,
        action: Action,
    ) -> Result<Caller, Refused> {
        self.identify(&parts.headers, client).await.map_err(|problem| {
            let mut refused = Refused::from(problem);
            if let Some(challenge) = &mut refused.challenge {
                challenge.scope = Some(scope::wanted(scope, action));
            }
            refused
        })
    }

    async fn identify(&self, headers: &HeaderMap, client: IpAddr) -> Result<Caller, AuthProblem> {
        match shown(headers) {
            Shown::Nothing => Ok(Caller::ANONYMOUS),
            Shown::Token(token) => self.of_token(&token, client).await,
            Shown::Signed(text) => self.of_signed(text).await,
            // It asks nobody, so there is no harm in it: most of these are passwords of other registries.
            Shown::Unusable => Err(AuthProblem::Wrong),
        }
    }

    /// Whether `caller` may do `action` in `repository`.
    ///
    /// # Errors
    /// 401 when it has to say who it is, or has to ask for a token that is good for this; 403 when it may not.
    pub fn require(
        &self,
        caller: &Caller,
        repository: &Protected<'_>,
        scope: &str,
        action: Action,
    ) -> Result<(), Refused> {
        let name = repository.name;
        let challenge = |error| Challenge { scope: Some(scope::wanted(scope, action)), error };
        match may(caller, repository, action) {
            Verdict::Allowed => Ok(()),
            Verdict::OutOfScope => {
                let message =
                    format!("this token was not made for {} in {name}: ask for another", action.as_str());
                Err(Refused::unauthorized(message, challenge(Some("insufficient_scope"))))
            }
            Verdict::Denied => {
                let who = caller.robot().map(|robot| format!("robot {}", robot.key)).unwrap_or_default();
                let message = format!("{who} has no grant to {} in {name}", action.as_str());
                Err(Refused::new(StatusCode::FORBIDDEN, "DENIED", message))
            }
            Verdict::Unknown => {
                let message = format!(
                    "{name} is not open to everyone: show a robot's token, as password with any user name or as \
                     bearer token"
                );
                Err(Refused::unauthorized(message, challenge(None)))
            }
        }
    }

    /// Someone who must show something that counts, whatever it is good for.
    ///
    /// # Errors
    /// 401, 429, 503.
    pub async fn somebody(&self, headers: &HeaderMap, client: IpAddr) -> Result<Caller, Refused> {
        if let Shown::Nothing = shown(headers) {
            let message = "this registry wants to know who asks, if only that it is nobody in particular";
            return Err(Refused::unauthorized(message, Challenge::default()));
        }
        Ok(self.identify(headers, client).await?)
    }

    /// Whose the request is, where everyone gets an answer of their own.
    ///
    /// # Errors
    /// 401 for credentials that do not count, 429, 503.
    pub async fn anyone(&self, headers: &HeaderMap, client: IpAddr) -> Result<Caller, Refused> {
        Ok(self.identify(headers, client).await?)
    }

    /// Takes a message of a twin or of the command line to heart, if it is about robots and tokens.
    pub fn hear(&self, notice: &Notice) {
        if *notice == Notice::Accounts {
            self.doubt_all();
        }
    }

    /// Rights may have changed: what is remembered of each token is asked again when it is next shown.
    pub fn doubt_all(&self) {
        self.cache.doubt_all();
    }

    /// Writes down which tokens were used since the last time.
    ///
    /// # Errors
    /// [`MetadataError`]; what was to be written is lost.
    pub async fn record_uses(&self) -> Result<(), MetadataError> {
        let ids: Vec<TokenId> = self.uses.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        if ids.is_empty() { Ok(()) } else { self.accounts.note_token_uses(&ids).await }
    }

    async fn of_token(&self, token: &RobotToken, client: IpAddr) -> Result<Caller, AuthProblem> {
        let hash = token.hash();
        let remembered = self.cache.remembered(&hash);
        // One that counted is asked for again whatever its neighbours do.
        if remembered != Remembered::Good
            && let Some(wait) = self.failures.blocks(client)
            && (remembered == Remembered::Bad || self.guesses.blocks(client).is_some())
        {
            return Err(AuthProblem::Throttled(wait));
        }
        let found = self.cache.holder(&hash).await.map_err(|_| AuthProblem::Unavailable)?;
        let Some(found) = found else { return Err(self.failed(client)) };
        if found.was_asked {
            self.note_use(TokenId::of(&hash));
        }
        Ok(Caller { account: Account::Robot(found.robot), scopes: None })
    }

    async fn of_signed(&self, text: &str) -> Result<Caller, AuthProblem> {
        let claims = self.signer.read(text, self.clock.now()).ok_or(AuthProblem::Outlived)?;
        let Some(hash) = claims.token else { return Ok(Caller::ANONYMOUS) };
        let found = self.cache.holder(&hash).await.map_err(|_| AuthProblem::Unavailable)?;
        let robot = found.ok_or(AuthProblem::Wrong)?.robot;
        Ok(Caller { account: Account::Robot(robot), scopes: Some(claims.scopes) })
    }

    /// Counts a token that was looked up and is nobody's.
    fn failed(&self, client: IpAddr) -> AuthProblem {
        match self.failures.count(client) {
            Some(wait) => {
                let _ = self.guesses.count(client);
                AuthProblem::Throttled(wait)
            }
            None => AuthProblem::Wrong,
        }
    }

    fn note_use(&self, id: TokenId) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MAX_USES {
            uses.insert(id);
        }
    }
}

#[cfg(test)]
mod tests;
