//! Where Redis is and how it is asked: the URL, TLS, the prefix of keys, the budget of a call.

use std::{fmt, sync::Arc, time::Duration};

use fred::types::config::{Config, TlsConfig, TlsConnector, TlsHostMapping};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Prefix of keys and channels unless another is wished.
const PREFIX: &str = "artifactapi:";
/// Longest wait for one answer; half of what the port allows.
const BUDGET: Duration = Duration::from_millis(50);

/// Why a URL cannot be used. It never quotes the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Another scheme, or no URL.
    #[error(
        "it must be a URL such as redis://:password@host:6379/0, rediss:// for TLS, redis-sentinel:// or redis-cluster://"
    )]
    Scheme,
    /// Host, port, database or query are wrong.
    #[error("the Redis URL cannot be used: {0}")]
    Parts(String),
    /// The CA is none.
    #[error("the CA for Redis holds no certificate in PEM that can be a trust anchor")]
    Ca,
    /// TLS cannot be set up.
    #[error("TLS for Redis cannot be set up: {0}")]
    Tls(String),
}

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) config: Config,
    pub(super) prefix: String,
    pub(super) budget: Duration,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("servers", &self.config.server.hosts()).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// Reads `url`; with TLS the system's certificates are trusted, and those of `ca_pem`. Reads files.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(url: &str, ca_pem: Option<&str>) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(RedisUrlError::Scheme)?;
        // fred would choose roots and provider itself: it is told a scheme without TLS.
        let (plain, tls) = match scheme {
            "redis" | "valkey" => ("redis", false),
            "redis-sentinel" | "valkey-sentinel" => ("redis-sentinel", false),
            "redis-cluster" | "valkey-cluster" => ("redis-cluster", false),
            "rediss" | "valkeys" => ("redis", true),
            "rediss-sentinel" | "valkeys-sentinel" => ("redis-sentinel", true),
            "rediss-cluster" | "valkeys-cluster" => ("redis-cluster", true),
            _ => return Err(RedisUrlError::Scheme),
        };
        let mut config = Config::from_url(&format!("{plain}://{rest}"))
            .map_err(|error| RedisUrlError::Parts(error.details().to_owned()))?;
        config.fail_fast = true;
        if tls {
            let connector = TlsConnector::from(client_config(ca_pem)?);
            config.tls = Some(TlsConfig { connector, hostnames: TlsHostMapping::DefaultHost });
        }
        Ok(RedisOptions { config, prefix: PREFIX.to_owned(), budget: BUDGET })
    }

    /// With another prefix of keys and channels, so that two installations can share one Redis.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// With another budget for one call.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    pub(super) fn channel(&self) -> String {
        format!("{}notices", self.prefix)
    }
}

fn client_config(ca_pem: Option<&str>) -> Result<ClientConfig, RedisUrlError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = ca_pem {
        let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let (added, _) = roots.add_parsable_certificates(own.map_err(|_| RedisUrlError::Ca)?);
        if added == 0 {
            return Err(RedisUrlError::Ca);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| RedisUrlError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
