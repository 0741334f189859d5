//! Bearer tokens of registries: asking a token service, reading its answer, keeping the token for most of
//! its life (Distribution token specification; protocols of Docker Hub, Harbor, ghcr).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use artifactapi_model::{Timestamp, repository::Credentials};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::challenge::BearerChallenge;

/// Tokens that are kept.
const MAX_TOKENS: usize = 16 * 1024;
/// Life of a token whose service names none (Distribution token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Largest answer of a token service, in bytes.
pub(crate) const MAX_ANSWER: usize = 256 * 1024;
/// Longest token, in bytes; servers refuse larger headers.
const MAX_TOKEN: usize = 32 * 1024;

/// Whose token it is and what it opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    /// Service and scopes.
    pub(crate) challenge: BearerChallenge,
    /// [`fingerprint`] of the credentials shown; `None` asked anonymously.
    pub(crate) credential: Option<[u8; 32]>,
}

/// A token ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// `Bearer …`, marked sensitive.
    pub(crate) header: HeaderValue,
    /// Tells this token from its successor.
    pub(crate) serial: u64,
    usable_until: Timestamp,
}

/// The tokens of this process.
pub(crate) struct Tokens {
    kept: Cache<TokenKey, Token>,
    serial: AtomicU64,
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens { kept: Cache::new(MAX_TOKENS), serial: AtomicU64::new(1) }
    }
}

impl Tokens {
    /// The token of `key` if one is kept and still good at `now`.
    pub(crate) fn get(&self, key: &TokenKey, now: Timestamp) -> Option<Token> {
        self.kept.get(key).filter(|token| now < token.usable_until)
    }

    /// The token of `key`, fetched by `ask` if none is good. However many callers want it, one asks.
    ///
    /// # Errors
    /// What `ask` failed with; the next caller asks again.
    pub(crate) async fn get_or_ask<E>(
        &self,
        key: &TokenKey,
        now: Timestamp,
        ask: impl Future<Output = Result<Grant, E>>,
    ) -> Result<Token, E> {
        self.kept.remove_if(key, |token| now >= token.usable_until);
        let fetch = async {
            let grant = ask.await?;
            Ok(Token {
                header: grant.header,
                serial: self.serial.fetch_add(1, Ordering::Relaxed),
                // A fifth is left for clocks, queues and slow heads.
                usable_until: now + grant.life.mul_f64(0.8),
            })
        };
        self.kept.get_or_insert_async(key, fetch).await
    }

    /// Forgets a token that was refused; its successor stays.
    pub(crate) fn refused(&self, key: &TokenKey, serial: u64) {
        self.kept.remove_if(key, |token| token.serial == serial);
    }
}

/// What a token service gave.
#[derive(Debug)]
pub(crate) struct Grant {
    header: HeaderValue,
    life: Duration,
}

impl Grant {
    /// What a twin has lent, with `life` left; `None` when that is nothing.
    pub(crate) fn lent(header: HeaderValue, life: Duration) -> Option<Self> {
        (!life.is_zero()).then(|| Grant { header, life: life.min(MAX_LIFE) })
    }

    /// The token itself.
    pub(crate) fn token(&self) -> Option<&str> {
        self.header.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Its life.
    pub(crate) fn life(&self) -> Duration {
        self.life
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// Reads the answer of a token service.
///
/// # Errors
/// What is wrong with it, without quoting any of it.
pub(crate) fn read_answer(body: &[u8]) -> Result<Grant, String> {
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| "its answer is no token document".to_owned())?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN);
    let token = token.ok_or("its answer holds no token")?;
    let life = answer.expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    Ok(Grant {
        header: bearer(&token).ok_or("its token cannot stand in a header")?,
        life: life.map_or(DEFAULT_LIFE, |s| Duration::from_secs_f64(s.min(MAX_LIFE.as_secs_f64()))),
    })
}

/// The URL to ask: the realm, its own query kept, with the service and every scope.
pub(crate) fn token_url(realm: &Url, challenge: &BearerChallenge) -> Url {
    let mut url = realm.clone();
    if challenge.service.is_some() || !challenge.scopes.is_empty() {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(challenge.service.iter().map(|service| ("service", service)));
        query.extend_pairs(challenge.scopes.iter().map(|scope| ("scope", scope)));
    }
    url
}

/// `Authorization: Bearer token`; `None` where the token is not a header value.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// `Authorization: Basic …`.
pub(crate) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A hash that tells credentials apart without keeping them.
pub(crate) fn fingerprint(credentials: &Credentials) -> [u8; 32] {
    let mut hash = Sha256::new();
    match credentials {
        Credentials::Basic { username, password } => {
            hash.update((username.len() as u64).to_be_bytes());
            hash.update(username);
            hash.update(password.expose_secret());
        }
        Credentials::Bearer(token) => {
            hash.update(u64::MAX.to_be_bytes());
            hash.update(token.expose_secret());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn key() -> TokenKey {
        let challenge = BearerChallenge { realm: "r".into(), service: None, scopes: Vec::new() };
        TokenKey { challenge, credential: None }
    }

    #[test]
    fn answers() {
        for (body, want) in [
            (r#"{"token":"t","expires_in":300}"#, Some(("Bearer t", 300))),
            (r#"{"access_token":"a"}"#, Some(("Bearer a", 60))),
            (r#"{"token":"","access_token":"a","expires_in":0}"#, Some(("Bearer a", 60))),
            (r#"{"token":"t","expires_in":1e18}"#, Some(("Bearer t", 86400))),
            (r#"{"token":"t","expires_in":-5}"#, Some(("Bearer t", 60))),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"expires_in":5}"#, None),
            (r#"{"token":5}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            let got = read_answer(body.as_bytes()).ok();
            let got = got.as_ref().map(|g| (g.header.to_str().unwrap(), g.life.as_secs()));
            assert_eq!(got, want, "{body}");
        }
    }

    #[test]
    fn asks_with_service_and_every_scope() {
        let challenge = BearerChallenge {
            realm: String::new(),
            service: Some("reg istry".into()),
            scopes: vec!["repository:a/b:pull,push".into(), "x".into()],
        };
        let realm = Url::parse("https://auth.example/token?account=me").unwrap();
        assert_eq!(
            token_url(&realm, &challenge).as_str(),
            "https://auth.example/token?account=me&service=reg+istry&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=x"
        );
    }

    #[tokio::test]
    async fn a_token_serves_for_four_fifths_of_its_life() {
        let tokens = Tokens::default();
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            read_answer(br#"{"token":"t","expires_in":100}"#)
        };
        for (now, want) in [(0, 1), (79_999, 1), (80_000, 2), (81_000, 2)] {
            tokens.get_or_ask(&key(), Timestamp(now), ask()).await.unwrap();
            assert_eq!(asked.get(), want, "at {now}");
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once() {
        let tokens = Tokens::default();
        let ask = || async { read_answer(br#"{"token":"t"}"#) };
        let first = tokens.get_or_ask(&key(), Timestamp(0), ask()).await.unwrap();
        tokens.refused(&key(), first.serial);
        let second = tokens.get_or_ask(&key(), Timestamp(0), ask()).await.unwrap();
        assert_ne!(first.serial, second.serial);
        tokens.refused(&key(), first.serial);
        assert_eq!(tokens.get(&key(), Timestamp(0)).unwrap().serial, second.serial);
    }

    #[test]
    fn rs_37_headers_and_fingerprints_hide_the_secret() {
        let header = basic("u", "c4n4ry").unwrap();
        assert!(!format!("{header:?}").contains(STANDARD.encode("u:c4n4ry").as_str()));
        let of = |username: &str, password: &str| {
            fingerprint(&Credentials::Basic { username: username.into(), password: password.into() })
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
