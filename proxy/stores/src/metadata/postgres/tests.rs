//! PostgreSQL against the suite, and what only a server can get wrong.

mod config;
mod conformance;
mod damage;
mod delta;
mod encryption;
mod housekeeping;
mod outages;
mod registry;
mod schema;
mod upgrade;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_services::Postgres;
use secrecy::SecretString;

use super::*;

/// A server, and databases on it.
pub(in crate::metadata) struct Server {
    postgres: Postgres,
    made: AtomicU32,
}

impl Server {
    /// `None` after a line that says that `test` is skipped.
    pub(in crate::metadata) fn start(test: &str) -> Option<Self> {
        let postgres = artifactapi_services::provided(Postgres::start(), test)?;
        Some(Server { postgres, made: AtomicU32::new(0) })
    }

    fn settings(&self, database: &str) -> PostgresSettings {
        PostgresSettings {
            host: "127.0.0.1".into(),
            port: self.postgres.process.port(),
            user: Postgres::USER.into(),
            password: SecretString::from(Postgres::PASSWORD).into(),
            database: database.into(),
            tls: PostgresTls::Disable,
        }
    }

    /// A new, empty database.
    pub(in crate::metadata) fn database(&self) -> PostgresSettings {
        let name = format!("test_{}", self.made.fetch_add(1, Relaxed));
        self.postgres.database(&name);
        self.settings(&name)
    }

    /// Takes every row there is.
    pub(in crate::metadata) fn empty(&self, settings: &PostgresSettings) {
        let tables = "repositories, artifacts, ledger, derived, blobs, secrets, access_log, replicas, objects, \
             uploads, local_usage, links, blob_places, retired_places, manifests, manifest_blobs, \
             manifest_children, tags, \
             robots, tokens, observations, probes, signing_keys";
        self.postgres.sql(&settings.database, &format!("TRUNCATE {tables} RESTART IDENTITY"));
    }

    /// A store on a new database.
    async fn store(&self) -> Arc<PostgresMetadata> {
        let settings = self.database();
        PostgresMetadata::migrate(&settings).await.unwrap();
        open(settings).await
    }

    fn sql(&self, store: &PostgresMetadata, sql: &str) -> String {
        self.postgres.sql(&store.settings.database, sql)
    }
}

/// A store that waits for its connections as long as a busy machine needs, where no test judges how long that is.
pub(in crate::metadata) async fn open(settings: PostgresSettings) -> Arc<PostgresMetadata> {
    let mut store = PostgresMetadata::open(settings, Arc::default()).await.unwrap();
    store.pool.connect = Duration::from_secs(30);
    Arc::new(store)
}
