//! What the operator watches: its own kinds whole, Secrets and ConfigMaps by their metadata only, in each namespace it
//! is to look after or in all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use artifactapi_crds::{manifests::ObjectRef, schema::Kind};
use futures_util::{Stream, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::DynamicObject,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Config, Event, watcher},
    },
};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::{
    api::describe,
    seen::{Seen, resource},
    world::{Change, Scope},
};

/// Pause before a watch that broke off is tried again; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause: kube's own grows to half a minute, in which an API server that is back must have been noticed and
/// everything looked at (RS-134).
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Objects in one page of a list: a page is in memory whole, with all that the API server keeps of each for itself.
const PAGE: u32 = 100;

/// The pauses.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Pauses(PAUSE)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(MAX_PAUSE);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        *self = Pauses::default();
    }
}

/// Which watches have seen everything there is, and what is wrong with those that have not.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    watches: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    goes_on: Arc<AtomicBool>,
}

impl Progress {
    fn begin(&self, watch: &str) {
        self.set(watch, Err("has not been listed yet".into()));
    }

    fn set(&self, watch: &str, state: Result<(), String>) {
        // Only whole values are put in, so one that panicked left nothing half done.
        let mut watches = self.watches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watches.insert(watch.to_owned(), state);
    }

    /// Notes that the operator goes on without what is missing; whether that is new.
    pub fn go_on(&self) -> bool {
        !self.goes_on.swap(true, Ordering::Relaxed)
    }

    /// Whether it does.
    pub fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed)
    }

    /// What is missing; empty when every watch has seen everything once.
    pub fn missing(&self) -> Vec<String> {
        let watches = self.watches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed = watches.iter().filter_map(|(watch, state)| Some((watch, state.as_ref().err()?)));
        failed.map(|(watch, why)| format!("{watch}: {why}")).collect()
    }
}

/// Starts all watches; they end with `stop` or when nobody listens any more.
pub fn start(client: &Client, scope: &Scope, changes: &Sender<Change>, stop: &CancellationToken) -> Progress {
    let progress = Progress::default();
    let namespaces: Vec<Option<String>> = match scope {
        None => vec![None],
        Some(namespaces) => namespaces.iter().cloned().map(Some).collect(),
    };
    for namespace in namespaces {
        for kind in Kind::ALL {
            let api = dynamic(client, kind, namespace.as_deref());
            let watch = Watch::new(kind.as_str(), namespace.clone(), &progress, changes);
            let objects = watcher(api, Config::default().page_size(PAGE));
            tokio::spawn(stop.clone().run_until_cancelled_owned(watch.objects(kind, objects)));
        }
        let (secrets, maps) = (core(client, namespace.as_deref()), core(client, namespace.as_deref()));
        let watch = Watch::new("Secret", namespace.clone(), &progress, changes);
        let objects = watcher::<PartialObjectMeta<Secret>>(secrets, Config::default());
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch.references("Secret", objects)));
        let watch = Watch::new("ConfigMap", namespace.clone(), &progress, changes);
        let objects = watcher::<PartialObjectMeta<ConfigMap>>(maps, Config::default());
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch.references("ConfigMap", objects)));
    }
    progress
}

/// The API of a kind of ours in one namespace or in all.
pub fn dynamic(client: &Client, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = resource(kind);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn core<K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// One watch.
struct Watch {
    name: String,
    namespace: Option<String>,
    progress: Progress,
    changes: Sender<Change>,
}

impl Watch {
    fn new(kind: &str, namespace: Option<String>, progress: &Progress, changes: &Sender<Change>) -> Self {
        let name = match &namespace {
            Some(namespace) => format!("{kind} in {namespace}"),
            None => format!("{kind} in all namespaces"),
        };
        progress.begin(&name);
        Watch { name, namespace, progress: progress.clone(), changes: changes.clone() }
    }

    /// The next event; errors are told and survived, with growing pauses.
    async fn next<K: Debug + Send>(
        &self,
        events: &mut (impl Stream<Item = Result<Event<K>, watcher::Error>> + Unpin),
        is_listed: bool,
    ) -> Option<Event<K>> {
        loop {
            match events.try_next().await {
                Ok(event) => return event,
                Err(error) => {
                    let error = describe(&error);
                    tracing::warn!(watch = self.name, error, "a watch was interrupted, and goes on");
                    if !is_listed {
                        self.progress.set(&self.name, Err(error));
                    }
                }
            }
        }
    }

    async fn send(&self, change: Change) -> Option<()> {
        self.changes.send(change).await.ok()
    }

    /// Follows objects of a kind of ours.
    async fn objects(
        self,
        kind: Kind,
        events: impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Send,
    ) -> Option<()> {
        let mut events = pin!(events.backoff(Pauses::default()));
        let mut present = BTreeSet::new();
        let mut is_listed = false;
        loop {
            match self.next(&mut events, is_listed).await? {
                Event::Init => present.clear(),
                Event::InitApply(object) => {
                    if let Some(seen) = Seen::read(kind, object) {
                        present.insert(seen.object.clone());
                        self.send(Change::Seen(Box::new(seen))).await?;
                    }
                }
                Event::InitDone => {
                    let (namespace, present) = (self.namespace.clone(), std::mem::take(&mut present));
                    self.send(Change::Listed { kind, namespace, present }).await?;
                    is_listed = true;
                    self.progress.set(&self.name, Ok(()));
                }
                Event::Apply(object) => {
                    if let Some(seen) = Seen::read(kind, object) {
                        self.send(Change::Seen(Box::new(seen))).await?;
                    }
                }
                Event::Delete(object) => {
                    if let Some(seen) = Seen::read(kind, object) {
                        self.send(Change::Gone(seen.object)).await?;
                    }
                }
            }
        }
    }

    /// Follows versions of Secrets or ConfigMaps.
    async fn references<K: Debug + Send>(
        self,
        kind: &'static str,
        events: impl Stream<Item = Result<Event<PartialObjectMeta<K>>, watcher::Error>> + Send,
    ) -> Option<()>
    where
        PartialObjectMeta<K>: Resource,
    {
        let object = |meta: &PartialObjectMeta<K>| ObjectRef {
            kind,
            namespace: meta.namespace().unwrap_or_default(),
            name: meta.name_any(),
        };
        let mut events = pin!(events.backoff(Pauses::default()));
        let (mut present, mut before) = (BTreeSet::new(), BTreeSet::new());
        let mut is_listed = false;
        loop {
            match self.next(&mut events, is_listed).await? {
                Event::Init => present = BTreeSet::new(),
                Event::InitApply(meta) => {
                    present.insert(object(&meta));
                    self.send(Change::Reference(object(&meta), meta.resource_version())).await?;
                }
                Event::InitDone => {
                    for gone in before.difference(&present) {
                        self.send(Change::Reference(gone.clone(), None)).await?;
                    }
                    before = std::mem::take(&mut present);
                    is_listed = true;
                    self.progress.set(&self.name, Ok(()));
                }
                Event::Apply(meta) => {
                    before.insert(object(&meta));
                    self.send(Change::Reference(object(&meta), meta.resource_version())).await?;
                }
                Event::Delete(meta) => {
                    before.remove(&object(&meta));
                    self.send(Change::Reference(object(&meta), None)).await?;
                }
            }
        }
    }
}
