//! HTTP clients, one for each distinct way to connect. A client keeps its connections; a Remote whose
//! settings change gets another one, and the old one goes when it is no longer used.

use std::{sync::Arc, time::Duration};

use artifactapi_model::repository::RemoteSpec;
use quick_cache::sync::Cache;
use reqwest::{Client, Proxy, redirect};
use rustls::RootCertStore;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::{
    address::AddressPolicy,
    resolve::{Lookup, Peers, Vetted},
    tls,
};

/// Most clients that are kept; each costs about a hundred KiB and its idle connections.
const MAX_CLIENTS: usize = 1024;
/// Idle connections kept for each host.
const IDLE_PER_HOST: usize = 32;
/// How long they are kept; below the keep-alive time of most servers and load balancers (60 s and more).
const IDLE_FOR: Duration = Duration::from_secs(30);
/// HTTP/2 flow control: what may be under way per stream and per connection, in bytes. The protocol's
/// 64 KiB would hold a long-distance download to a few MB/s.
const H2_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// A connection with streams under way that does not answer a ping is given up, so that a path that died
/// silently costs one time-out and not one per request.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_LIMIT: Duration = Duration::from_secs(10);

/// The clients.
pub(crate) struct Pool {
    lookup: Arc<dyn Lookup>,
    roots: OnceCell<Arc<RootCertStore>>,
    clients: Cache<ClientKey, Client>,
}

/// Everything that makes two clients different. Certificates, keys and the proxy's URL, which may carry a
/// password, stand in it by their hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    secrets: [u8; 32],
    identify: bool,
    connect: Duration,
    peers: Peers,
}

impl ClientKey {
    fn of(spec: &RemoteSpec, identify: bool) -> Self {
        let identify = identify && spec.tls.client.is_some();
        let client = spec.tls.client.as_ref().filter(|_| identify);
        let parts = [
            spec.tls.ca_pem.as_deref(),
            client.map(|client| client.chain_pem.as_str()),
            client.map(|client| client.key_pem.expose_secret()),
            spec.egress.proxy_url.as_ref().map(url::Url::as_str),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            let part = part.unwrap_or_default();
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let peers = match spec.egress.proxy_url {
            Some(_) => Peers::Proxy,
            None => Peers::Upstreams(AddressPolicy::new(&spec.egress.allow_cidrs)),
        };
        ClientKey { secrets: hash.finalize().into(), identify, connect: spec.timeouts.connect, peers }
    }
}

impl Pool {
    /// No clients yet; names will be resolved by `lookup`.
    pub(crate) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Pool { lookup, roots: OnceCell::new(), clients: Cache::new(MAX_CLIENTS) }
    }

    /// The client for `spec`, built on a blocking thread at first use. `identify`: with the client
    /// certificate, if there is one.
    ///
    /// # Errors
    /// What in `spec.tls` or `spec.egress` cannot be used.
    pub(crate) async fn client(&self, spec: &RemoteSpec, identify: bool) -> Result<Client, String> {
        let key = ClientKey::of(spec, identify);
        if let Some(client) = self.clients.get(&key) {
            return Ok(client);
        }
        let build = async {
            let roots = self.roots().await?;
            let (spec, key, lookup) = (spec.clone(), key.clone(), self.lookup.clone());
            run_blocking(move || build(&roots, &spec, &key, lookup)).await?
        };
        self.clients.get_or_insert_async(&key, build).await
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let load = || async { run_blocking(tls::system_roots).await.map(Arc::new) };
        self.roots.get_or_try_init(load).await.cloned()
    }
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the HTTP client could not be set up".to_owned())
}

fn build(
    roots: &RootCertStore,
    spec: &RemoteSpec,
    key: &ClientKey,
    lookup: Arc<dyn Lookup>,
) -> Result<Client, String> {
    // A little less than the connector's own limit, so that it is the look-up that is named.
    let lookup_limit = key.connect.mul_f64(0.9);
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls::client_config(roots, &spec.tls, key.identify)?)
        .dns_resolver(Vetted::new(lookup, key.peers.clone(), lookup_limit))
        .connect_timeout(key.connect)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // No proxy from the environment; and no decoding, even if another crate switches the features on.
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .user_agent(concat!("artifactapi/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(60))
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
        .http2_keep_alive_interval(H2_PING_EVERY)
        .http2_keep_alive_timeout(H2_PING_LIMIT);
    if let Some(url) = &spec.egress.proxy_url {
        check_proxy(url)?;
        builder = builder.proxy(Proxy::all(url.clone()).map_err(|_| "egress.proxyURL cannot be used")?);
    }
    builder.build().map_err(|_| "the HTTP client could not be set up".to_owned())
}

/// The resolver sees names only, so the address of a proxy given by number is checked here.
fn check_proxy(url: &url::Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("egress.proxyURL must begin with http:// or https://".into());
    }
    match crate::address::literal(url).map(crate::address::proxy) {
        Some(Err(closed)) => Err(format!("the address of egress.proxyURL is {}", closed.0)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::repository::ClientCertificate;
    use url::Url;

    use super::*;
    use crate::testing::spec;

    #[test]
    fn distinct_settings_have_distinct_clients() {
        let base = spec("https://a.example/");
        let mut other_name = spec("https://b.example/");
        other_name.max_concurrent = 3;
        assert_eq!(ClientKey::of(&base, true), ClientKey::of(&other_name, false));

        let changes: [fn(&mut RemoteSpec); 5] = [
            |spec| spec.tls.ca_pem = Some("ca".into()),
            |spec| spec.egress.proxy_url = Url::parse("http://p.example").ok(),
            |spec| spec.egress.allow_cidrs = vec!["10.0.0.0/8".parse().unwrap()],
            |spec| spec.timeouts.connect = Duration::from_millis(7),
            |spec| {
                spec.tls.client = Some(ClientCertificate { chain_pem: "c".into(), key_pem: "k".into() });
            },
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(ClientKey::of(&base, true), ClientKey::of(&changed, true));
        }
    }

    #[test]
    fn rs_35_a_client_without_certificate_is_another_client() {
        let mut spec = spec("https://a.example/");
        spec.tls.client = Some(ClientCertificate { chain_pem: "c".into(), key_pem: "k".into() });
        assert_ne!(ClientKey::of(&spec, true), ClientKey::of(&spec, false));
    }

    #[test]
    fn rs_33_proxies_that_are_refused() {
        for (url, allowed) in [
            ("http://10.0.0.1:3128", true),
            ("http://proxy.corp:3128", true),
            ("socks5://10.0.0.1", false),
            ("http://169.254.169.254", false),
        ] {
            assert_eq!(check_proxy(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }
}
