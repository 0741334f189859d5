//! The configuration in PostgreSQL, followed: by notification, and by a slow look at its version in case one was
//! missed. A replica takes it up whole or not at all; the last one stays in service while the database is away.

use std::{sync::Arc, time::Duration};

use artifactapi_crds::set::Set;
use artifactapi_model::{
    Notice, Sealer,
    ports::{Heard, MetadataError, MetadataStore},
    seal::SealError,
};
use artifactapi_stores::{
    PostgresMetadata,
    postgres::{Config, ConfigMark, StoredObject},
};
use artifactapi_upstream::HttpUpstream;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{good::Good, identities::Identities, manifests::united};
use crate::App;

/// How often the version is looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// Why a configuration could not be taken up. The last one stays in service.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The database.
    #[error("the configuration cannot be read: {0}")]
    Database(#[from] MetadataError),
    /// A credential cannot be opened: nothing is served with half of them.
    #[error("ARTIFACTAPI_ENCRYPTION_KEY: {kind} {namespace}/{name} cannot be opened: {cause}")]
    Sealed {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Why.
        cause: SealError,
    },
    /// There are sealed credentials and no key.
    #[error("ARTIFACTAPI_ENCRYPTION_KEY is not set, and the configuration holds {0} sealed Secrets")]
    NoKey(usize),
}

/// Follows the configuration.
pub struct Database {
    store: Arc<PostgresMetadata>,
    sealer: Option<Arc<Sealer>>,
    good: Good,
    mark: Option<ConfigMark>,
}

impl Database {
    /// Follows the configuration in `store`; nothing is read yet. `grace` as in [`Good::new`].
    pub fn new(store: Arc<PostgresMetadata>, sealer: Option<Arc<Sealer>>, grace: Duration) -> Self {
        Database { store, sealer, good: Good::new(grace), mark: None }
    }

    /// Takes up the configuration unless it is the one in service. What the database holds counts, were it older: after
    /// a backup was put back, or another database took the place of this one, versions and rows mean something else.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub async fn refresh(&mut self, app: &Arc<App>) -> Result<(), ConfigError> {
        if self.mark.is_some() && self.mark == Some(self.store.config_mark().await?) {
            return Ok(());
        }
        let began = Instant::now();
        let Config { mark, objects, repositories } = self.store.load_config().await?;
        let is_replaced = |ours: &ConfigMark| {
            ours.database != mark.database || ours.version >= mark.version && *ours != mark
        };
        let is_replaced = self.mark.as_ref().is_some_and(is_replaced);
        let texts = texts(&objects, self.sealer.as_deref())?;
        let stored = self.good.stored().clone();
        // Thousands of manifests take a while to validate.
        let loaded = tokio::task::spawn_blocking(move || Set::load_over(texts, &stored)).await;
        let loaded = loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let next = self.good.next(loaded, &[]);
        let mut identities = Identities::of(repositories);
        let metadata: Arc<dyn MetadataStore> = self.store.clone();
        united(&next, &metadata, &mut identities).await?;
        self.good.take_up(app, next, &identities);
        if is_replaced {
            tracing::warn!(
                version = mark.version,
                "the database was replaced: everything is looked up again"
            );
            // What was found under its rows may be something else under those of the other.
            app.engine.heard_gap();
        }
        let duration_ms = began.elapsed().as_millis();
        tracing::info!(version = mark.version, duration_ms, "the configuration is in service");
        app.set_config_version(mark.version);
        self.mark = Some(mark);
        Ok(())
    }

    /// Follows configuration and messages of the command line until `stop`. A failure is logged when it begins,
    /// not as long as it lasts.
    pub async fn follow(mut self, app: Arc<App>, upstream: Arc<HttpUpstream>, stop: CancellationToken) {
        let mut told = None;
        let mut messages = self.store.listen();
        loop {
            let next = stop.run_until_cancelled(tokio::time::timeout(PERIOD, messages.next()));
            match next.await {
                None => return,
                Some(Ok(Some(heard))) => hear(&app, &upstream, &heard),
                Some(Ok(None)) => tokio::time::sleep(PERIOD).await,
                Some(Err(_)) => {}
            }
            let failure = self.refresh(&app).await.err().map(|error| error.to_string());
            if let Some(error) = failure.as_ref().filter(|_| failure != told) {
                tracing::error!(error, "the last configuration stays in service");
            }
            told = failure;
        }
    }
}

/// Passes on what was heard to those whom it concerns.
pub fn hear(app: &App, upstream: &HttpUpstream, heard: &Heard) {
    match heard {
        Heard::Gap => {
            app.engine.heard_gap();
            app.gate.doubt_all();
        }
        // Others may use the channel too.
        Heard::Message(message) => {
            if let Some(notice) = Notice::parse(message) {
                app.engine.hear(&notice);
                app.gate.hear(&notice);
                upstream.hear(&notice);
                if notice == Notice::Probe {
                    app.metrics.upstreams.wake.notify_one();
                }
            }
        }
    }
}

/// The objects as files of one manifest each, opened.
fn texts(objects: &[StoredObject], sealer: Option<&Sealer>) -> Result<Vec<(String, String)>, ConfigError> {
    let Some(sealer) = sealer else {
        let sealed = objects.iter().filter(|object| object.sealed).count();
        if sealed > 0 {
            return Err(ConfigError::NoKey(sealed));
        }
        return Ok(objects.iter().map(|object| (object.place(), object.document.clone())).collect());
    };
    objects.iter().map(|object| Ok((object.place(), open(object, sealer)?))).collect()
}

/// The manifest of `object`.
///
/// # Errors
/// [`ConfigError::Sealed`].
pub fn open(object: &StoredObject, sealer: &Sealer) -> Result<String, ConfigError> {
    if !object.sealed {
        return Ok(object.document.clone());
    }
    let failed = |cause| ConfigError::Sealed {
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        cause,
    };
    let bytes = sealer.open(&object.place(), &object.document).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(SealError::Damaged))
}
