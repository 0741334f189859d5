//! The process: everything is put together here, and ends in order.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use artifactapi_model::ports::Accounts;
use artifactapi_stores::{PostgresMetadata, postgres::PostgresSettings};
use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Namespaces, Settings, SinkSettings},
    health::{self, Awaited, Health},
    lease::Candidate,
    metrics::Metrics,
    operator::{Operator, Parts},
    sink::{Sink, directory::DirectorySink, postgres::PostgresSink},
    upstreams::source::{Files, Source, Tables},
    watches,
    world::{Scope, World},
};

/// Changes that wait to be taken up.
const QUEUE: usize = 128;
/// Pause before a service that was not ready is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the process cannot go on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Works until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from working at all, in a sentence.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let Settings {
        sink,
        public_url,
        namespaces,
        own_namespace,
        lease,
        resync,
        name_grace,
        ceilings,
        metrics: address,
    } = settings;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone())?);
    let listener = health::listen(address)?;
    let client = Client::try_default()
        .await
        .map_err(|error| format!("the Kubernetes API cannot be used: {}", crate::api::describe(&error)))?;
    let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let scope: Scope = match namespaces {
        Namespaces::Own => Some(BTreeSet::from([own_namespace.clone()])),
        Namespaces::These(scope) => scope,
    };
    // Before anything is waited for: who does not answer is restarted.
    let (metrics, begun, awaited) = (Arc::new(Metrics::new()), Arc::new(OnceLock::new()), Awaited::default());
    let health = Health { progress: begun.clone(), awaited: awaited.clone(), metrics: metrics.clone() };
    tokio::spawn(health::serve(listener, health, stop.clone()));
    let opened = stop.run_until_cancelled(open(sink, &awaited)).await.transpose()?;
    let Some(Doors { sink, source, accounts }) = opened else { return Ok(()) };
    let Some(floor) = stop.run_until_cancelled(height(&*sink, &awaited)).await else { return Ok(()) };
    let (changes, received) = mpsc::channel(QUEUE);
    let progress = watches::start(&client, &scope, &changes, &stop);
    drop(changes);
    begun.set(progress.clone()).unwrap_or_else(|_| unreachable!("it is set once"));
    let floor = watch::Sender::new(floor);
    let candidate = Candidate::new(&client, (&own_namespace, &lease), identity(), floor.subscribe());
    let leader = candidate.outcome();
    let idle = Arc::new(Notify::new());
    let election = tokio::spawn(candidate.run(stop.clone(), idle.clone()));
    let parts = Parts {
        client,
        sink,
        source,
        accounts,
        ceilings,
        public_url,
        changes: received,
        leader,
        floor,
        metrics,
        progress,
        name_grace,
    };
    let operator = Operator::new(parts, World::new(scope));
    let operator = match resync {
        Some(period) => operator.comparing_every(period),
        None => operator,
    };
    operator.run(stop.clone()).await;
    stop.cancel();
    idle.notify_one();
    election.await?;
    Ok(())
}

/// Who this process is among operators: the pod's name, and something no other process has.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let host = host.unwrap_or_else(|| "artifactapi-operator".into());
    let moment = k8s_openapi::jiff::Timestamp::now().as_nanosecond();
    format!("{host}_{}-{moment:x}", std::process::id())
}

fn cancel_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>, Failure> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        stop.cancel();
    })
}

/// By which ways the proxies are reached.
struct Doors {
    sink: Arc<dyn Sink>,
    source: Option<Arc<dyn Source>>,
    accounts: Option<Arc<dyn Accounts>>,
}

async fn open(settings: SinkSettings, awaited: &Awaited) -> Result<Doors, Failure> {
    match settings {
        SinkSettings::Postgres { database, sealer } => {
            let store = Arc::new(open_database(&database, awaited).await?);
            let source: Arc<dyn Source> = Arc::new(Tables(store.clone()));
            let sink = Arc::new(PostgresSink::new(store.clone(), *sealer));
            Ok(Doors { sink, source: Some(source), accounts: Some(store) })
        }
        SinkSettings::Directory(directory) => {
            let place = directory.display();
            let sink = DirectorySink::open(directory.clone())
                .map_err(|error| format!("ARTIFACTAPI_SINK_DIR: {place} cannot be made: {error}"))?;
            let source: Arc<dyn Source> = Arc::new(Files::new(directory));
            Ok(Doors { sink: Arc::new(sink), source: Some(source), accounts: None })
        }
    }
}

/// Waits for the database, for the schema that `artifactapi migrate` makes, and for whoever gives the right password: all
/// of that is mended elsewhere, and a process that ends and is started again says less.
async fn open_database(settings: &PostgresSettings, awaited: &Awaited) -> Result<PostgresMetadata, Failure> {
    loop {
        match PostgresMetadata::open(settings.clone(), Arc::default()).await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_lasting() => return Err(error.into()),
            Err(error) => {
                let text = error.to_string();
                if awaited.note(&format!("database: {text}")) {
                    tracing::warn!(error = text, "waiting for the database");
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Height of the fence, as soon as the sink tells it.
async fn height(sink: &dyn Sink, awaited: &Awaited) -> i64 {
    loop {
        match sink.epoch().await {
            Ok(epoch) => return epoch,
            Err(error) => {
                if awaited.note(&format!("sink: {error}")) {
                    tracing::warn!(error = %error, "waiting for the sink");
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
