//! `serve`: one of many replicas over PostgreSQL, S3 and Redis.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    time::Duration,
};

use artifactapi_engine::{Engine, Options, Ports, gc::Collector};
use artifactapi_model::{
    Clock, Sealer,
    ports::{Coordinator, MetadataError, MetadataStore},
};
use artifactapi_registry::Registry;
use artifactapi_stores::{
    CountingBlobs, LocalCoordinator, PostgresMetadata, RedisCoordinator, RedisOptions, S3Blobs, TieredBlobs,
    postgres::PostgresSettings,
};
use artifactapi_upstream::HttpUpstream;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Failure, descriptors,
    running::{self, Running},
};
use crate::{
    App,
    access::Gate,
    clock::DatabaseClock,
    config::{
        database::{self, Database},
        environment::ServeSettings,
    },
    http::{tls::Tls, waiting::Waiting},
    peer::{self, HEARTBEAT, HttpPeers, PeerKey, Roster},
    signing::SigningKeys,
    telemetry::{Metrics, logs::LogSink, metrics::UpstreamObserver, upstreams::Watcher},
    upkeep::{self, collection::Collection, observations::Observing},
};

/// Pause before a service that was not ready is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for Redis at the start; nothing depends on it.
const CONNECTING: Duration = Duration::from_secs(2);
/// Memory for rows and small bodies, in bytes: the warm set outlives the database (RS-85).
const HOT_BYTES: u64 = 128 << 20;

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(settings: ServeSettings) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let metrics = Arc::new(Metrics::new());
        let sink = LogSink::start(metrics.lines_dropped.clone())?;
        let json = settings.log_format.is_json();
        sink.install(json);
        let result = serve(settings, metrics, sink.clone(), json).await;
        sink.flush();
        result
    })
}

async fn serve(
    settings: ServeSettings,
    metrics: Arc<Metrics>,
    sink: LogSink,
    json: bool,
) -> Result<(), Failure> {
    let listener = running::listen(settings.listen)?;
    let peer_listener = running::listen(settings.peer_listen)?;
    running::start_metrics(settings.metrics, &metrics);
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let waiting = Arc::new(Waiting::default());
    let started = tokio::select! {
        started = start(&settings, &metrics, &waiting, &peer_listener) => started?,
        () = waiting.serve(&listener, tls.clone()) => return Err("the listener is gone".into()),
        signal = running::wait_for_signal() => return Ok(signal?),
    };
    let Started { app, store, upstream, blobs, coordinator, peers, peer_key, configuration, replica, clock } =
        started;
    let stop = CancellationToken::new();
    let log = tokio::spawn(app.access.clone().run(sink, json, store.clone(), stop.clone()));
    tokio::spawn(peer::serve(app.engine.clone(), peer_key, peer_listener, stop.clone()));
    tokio::spawn(configuration.follow(app.clone(), upstream.clone(), stop.clone()));
    tokio::spawn(heartbeats(peers, replica.clone(), store.clone(), clock, stop.clone()));
    let collector = Collector {
        blobs: blobs.clone(),
        metadata: store.clone(),
        keeper: store.clone(),
        clock: app.clock.clone(),
        progress: metrics.collection.0.clone(),
    };
    let collection = Collection::new(collector, settings.collection, coordinator.clone());
    let observing = Observing { store: store.clone(), upstream: upstream.clone() };
    tokio::spawn(observing.run(app.clone(), stop.clone()));
    tokio::spawn(listen_to_twins(app.clone(), upstream, coordinator, stop.clone()));
    // Every replica scrubs its copies; what is in S3 is hashed whenever it comes, and by `fsck`.
    tokio::spawn(upkeep::run(app.clone(), store.clone(), blobs.copies(), collection, None, stop.clone()));
    let (connections, drain) = (descriptors::connections(), settings.drain);
    let running = Running { app: app.clone(), tls, listener, connections, drain };
    running.until_told_to_stop(&stop).await?;
    let _ = log.await;
    if let Err(error) = app.engine.record_uses().await {
        tracing::warn!(error = %error, "last uses could not be written down");
    }
    // Twins need not wait for the roster to forget it.
    let _ = store.forget_replica(&replica).await;
    Ok(())
}

/// All that was put together at the start.
struct Started {
    app: Arc<App>,
    store: Arc<PostgresMetadata>,
    upstream: Arc<HttpUpstream>,
    blobs: Arc<TieredBlobs>,
    coordinator: Arc<dyn Coordinator>,
    peers: Arc<HttpPeers>,
    peer_key: PeerKey,
    configuration: Database,
    replica: String,
    clock: Arc<DatabaseClock>,
}

/// Waits for every service that is needed and puts the proxy together.
async fn start(
    settings: &ServeSettings,
    metrics: &Arc<Metrics>,
    waiting: &Arc<Waiting>,
    peer_listener: &TcpListener,
) -> Result<Started, Failure> {
    for check in ["postgresql", "s3", "configuration"] {
        waiting.on(check, "is not looked at yet".into());
    }
    let stores = &settings.stores;
    let (store, s3) =
        tokio::try_join!(open_database(&stores.database, metrics, waiting), open_s3(settings, waiting))?;
    s3.follow(store.clone());
    let blobs = Arc::new(TieredBlobs::open(s3, &stores.cache_dir, stores.cache_bytes).await?);
    metrics.stores.watch_blobs(&blobs);
    let now = patiently(waiting, "postgresql", || store.now()).await;
    let database_clock = Arc::new(DatabaseClock::new(now));
    let clock: Arc<dyn Clock> = database_clock.clone();
    let sealer = stores.sealer.clone().map(Arc::new);
    let coordinator = coordinator(settings, metrics).await?;
    let replica = hex::encode(random_id()?);
    let (peers, peer_key) = twins(settings, &store, waiting, peer_listener).await?;
    // Before any fill: a lease is of use to twins only if they know our address.
    if let Err(error) = peers.heartbeat(&replica).await {
        tracing::warn!(error = %error, "this replica is not on the roster yet");
    }
    let upstream = shared_upstream(&clock, metrics, &coordinator, &replica, sealer.clone());
    let ports = Ports {
        blobs: Arc::new(CountingBlobs::new(blobs.clone(), metrics.stores.blobs.clone())),
        metadata: store.clone(),
        coordinator: coordinator.clone(),
        peers: peers.clone(),
        upstream: upstream.clone(),
        clock,
    };
    let link_key = patiently(waiting, "postgresql", || store.shared_secret("links")).await;
    let options = Options { hot_bytes: HOT_BYTES, ..Options::default() };
    let engine = Engine::new(ports.clone(), options, link_key, &replica);
    let token_key = patiently(waiting, "postgresql", || store.shared_secret("tokens")).await;
    let gate = Gate::new(store.clone(), &token_key, ports.clock.clone());
    let registry =
        Registry::new(store.clone(), store.clone(), Arc::new(blobs.uploads()), ports.blobs.clone());
    let signing = SigningKeys::shared(store.clone(), sealer.clone());
    let outside = settings.outside.clone();
    let app = App::replica(&ports, engine, registry, signing, gate, metrics.clone(), outside);
    let mut configuration = Database::new(store.clone(), sealer, settings.collection.grace);
    while let Err(error) = configuration.refresh(&app).await {
        waiting.on("configuration", error.to_string());
        tokio::time::sleep(RETRY).await;
    }
    waiting.done("configuration");
    let clock = database_clock;
    Ok(Started { app, store, upstream, blobs, coordinator, peers, peer_key, configuration, replica, clock })
}

/// Tries `what` until it succeeds.
async fn patiently<T, F: Future<Output = Result<T, MetadataError>>>(
    waiting: &Waiting,
    check: &'static str,
    mut what: impl FnMut() -> F,
) -> T {
    loop {
        match what().await {
            Ok(value) => return value,
            Err(error) => waiting.on(check, error.to_string()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open_database(
    settings: &PostgresSettings,
    metrics: &Metrics,
    waiting: &Waiting,
) -> Result<Arc<PostgresMetadata>, Failure> {
    loop {
        match PostgresMetadata::open(settings.clone(), metrics.stores.sql.clone()).await {
            Ok(store) => {
                waiting.done("postgresql");
                return Ok(Arc::new(store));
            }
            Err(error) if error.is_lasting() => return Err(error.into()),
            Err(error) => {
                waiting.on("postgresql", format!("DBHOST, DBPORT, DBUSER, DBPASS, DBNAME: {error}"))
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open_s3(settings: &ServeSettings, waiting: &Waiting) -> Result<S3Blobs, Failure> {
    let s3 = S3Blobs::new(settings.stores.s3.clone())?;
    while let Err(error) = s3.check().await {
        waiting.on("s3", error.to_string());
        tokio::time::sleep(RETRY).await;
    }
    waiting.done("s3");
    Ok(s3)
}

async fn coordinator(settings: &ServeSettings, metrics: &Metrics) -> Result<Arc<dyn Coordinator>, Failure> {
    match &settings.stores.redis {
        Some(url) => {
            let options = RedisOptions::new(url.expose_secret(), settings.stores.redis_ca.as_deref());
            let coordinator =
                RedisCoordinator::start(options.map_err(|error| format!("REDIS_URL: {error}"))?);
            metrics.stores.watch_redis(coordinator.tally());
            // A replica that is ready before it has connected would fetch on its own.
            coordinator.connected(CONNECTING).await;
            Ok(Arc::new(coordinator))
        }
        None => {
            tracing::warn!("REDIS_URL is not set: this must be the only replica");
            Ok(Arc::new(LocalCoordinator::default()))
        }
    }
}

fn shared_upstream(
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    coordinator: &Arc<dyn Coordinator>,
    replica: &str,
    sealer: Option<Arc<Sealer>>,
) -> Arc<HttpUpstream> {
    let watcher = Watcher::new(metrics.upstreams.clone(), clock.clone());
    let observer = (UpstreamObserver(metrics.clone()), watcher);
    Arc::new(HttpUpstream::new(clock.clone(), Arc::new(observer)).sharing(
        coordinator.clone(),
        replica,
        sealer,
    ))
}

struct DatabaseRoster(Arc<PostgresMetadata>);

#[async_trait]
impl Roster for DatabaseRoster {
    async fn register(&self, id: &str, address: &str) -> Result<(), MetadataError> {
        self.0.register_replica(id, address).await
    }

    async fn live(&self, age: Duration) -> Result<Vec<String>, MetadataError> {
        self.0.live_replicas(age).await
    }
}

async fn twins(
    settings: &ServeSettings,
    store: &Arc<PostgresMetadata>,
    waiting: &Waiting,
    listener: &TcpListener,
) -> Result<(Arc<HttpPeers>, PeerKey), Failure> {
    let key = match &settings.peer_key {
        Some(secret) => PeerKey::new(secret.expose_secret().as_bytes()),
        None => PeerKey::new(&patiently(waiting, "postgresql", || store.shared_secret("peers")).await),
    };
    let address = match &settings.peer_advertise {
        Some(address) => address.clone(),
        None => own_address(listener.local_addr()?, &settings.stores.database),
    };
    tracing::info!(peer.addr = address, "other replicas reach this one here");
    let roster = Arc::new(DatabaseRoster(store.clone()));
    Ok((Arc::new(HttpPeers::new(address, key.clone(), roster)?), key))
}

/// Where twins reach `listening`: its own address, or where it listens on all of them, the one by which the database
/// is reached.
fn own_address(listening: SocketAddr, database: &PostgresSettings) -> String {
    if !listening.ip().is_unspecified() {
        return listening.to_string();
    }
    let addresses = (database.host.as_str(), database.port).to_socket_addrs();
    let ip = addresses.ok().and_then(|addresses| addresses.map(route_to).find_map(Result::ok));
    SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), listening.port()).to_string()
}

/// Our address on the way to `there`. Nothing is sent: connecting a datagram socket only chooses a route.
fn route_to(there: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr =
        if there.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(there)?;
    Ok(socket.local_addr()?.ip())
}

async fn listen_to_twins(
    app: Arc<App>,
    upstream: Arc<HttpUpstream>,
    coordinator: Arc<dyn Coordinator>,
    stop: CancellationToken,
) {
    let mut messages = coordinator.subscribe();
    while let Some(Some(heard)) = stop.run_until_cancelled(messages.next()).await {
        database::hear(&app, &upstream, &heard);
    }
}

async fn heartbeats(
    peers: Arc<HttpPeers>,
    replica: String,
    store: Arc<PostgresMetadata>,
    clock: Arc<DatabaseClock>,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {
        if let Ok(now) = store.now().await {
            clock.set(now);
        }
        if let Err(error) = peers.heartbeat(&replica).await {
            tracing::warn!(error = %error, "this replica could not renew its place on the roster");
        }
    }
}

fn random_id() -> Result<[u8; 8], Failure> {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut id = [0; 8];
    SystemRandom::new().fill(&mut id).map_err(|_| "the operating system gave no random bytes")?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_reached_by_either_family() {
        for (there, ours) in [("127.0.0.1:5432", "127.0.0.1"), ("[::1]:5432", "::1")] {
            match route_to(there.parse().unwrap()) {
                Ok(ip) => assert_eq!(ip.to_string(), ours),
                // A machine without IPv6.
                Err(error) => assert!(there.starts_with('['), "{there}: {error}"),
            }
        }
    }
}
