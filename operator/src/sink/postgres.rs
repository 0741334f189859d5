//! The configuration in PostgreSQL, from which replicas of the proxy take it. Secrets are stored sealed.

use std::sync::Arc;

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    Sealer,
    ports::{Accounts as _, Housekeeping as _, Manifests as _, MetadataError, accounts::Source},
    seal::SealError,
};
use artifactapi_stores::{
    PostgresMetadata,
    postgres::{self as rows, Config, Declared, StoredObject, Written},
};
use async_trait::async_trait;
use secrecy::ExposeSecret as _;

use super::{Contents, Delta, Records, Row, Sink, SinkError, StoredRow, digest_of};
use crate::seen::known_kind;

/// Rows that one step of a purge deletes.
const STEP: usize = 500;

/// The sink.
pub struct PostgresSink {
    store: Arc<PostgresMetadata>,
    sealer: Sealer,
}

impl PostgresSink {
    /// Writes to `store` what `sealer` seals.
    pub fn new(store: Arc<PostgresMetadata>, sealer: Sealer) -> Self {
        PostgresSink { store, sealer }
    }

    fn stored(&self, object: StoredObject) -> Option<StoredRow> {
        let place = object.place();
        let StoredObject { kind, namespace, name, document, sealed, version: _, uid, generation } = object;
        let kind = known_kind(&kind)?;
        let opened = if sealed {
            // One that was sealed under a former key counts as different, and is sealed anew.
            self.sealer.open(&place, &document).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        } else {
            Some(document)
        };
        Some(StoredRow {
            object: ObjectRef { kind, namespace, name },
            uid,
            generation,
            digest: opened.as_deref().map(digest_of),
            document: opened.filter(|_| !sealed),
        })
    }

    fn sealed(&self, row: &Row) -> Result<StoredObject, SealError> {
        let Row { object: ObjectRef { kind, namespace, name }, uid, generation, document } = row;
        let mut object = StoredObject {
            kind: (*kind).to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
            document: String::new(),
            sealed: row.is_secret(),
            version: 0,
            uid: Some(uid.clone()),
            generation: *generation,
        };
        object.document = if object.sealed {
            self.sealer.seal(&object.place(), document.expose_secret().as_bytes())?
        } else {
            document.expose_secret().to_owned()
        };
        Ok(object)
    }
}

fn failed(error: MetadataError) -> SinkError {
    match error {
        MetadataError::Unavailable(_) | MetadataError::Full(_) => SinkError::Unavailable(error.to_string()),
        MetadataError::Failed { .. } => SinkError::Refused(error.to_string()),
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn epoch(&self) -> Result<i64, SinkError> {
        self.store.fence().await.map_err(failed)
    }

    async fn raise(&self, epoch: i64) -> Result<i64, SinkError> {
        self.store.raise_fence(epoch).await.map_err(failed)
    }

    async fn load(&self) -> Result<Contents, SinkError> {
        let Config { mark, objects, repositories } = self.store.load_config().await.map_err(failed)?;
        let robots = self.store.robots().await.map_err(failed)?;
        Ok(Contents {
            version: mark.version,
            rows: objects.into_iter().filter_map(|object| self.stored(object)).collect(),
            records: Some(Records {
                repositories: repositories.into_iter().map(|(declared, _)| declared).collect(),
                robots: robots
                    .into_iter()
                    .filter(|(_, source)| *source == Source::Manifest)
                    .map(|(robot, _)| robot)
                    .collect(),
            }),
        })
    }

    async fn write(&self, epoch: i64, based_on: i64, delta: &Delta) -> Result<Written, SinkError> {
        let Delta { upserts, deletes, declare, retire, robots, robots_gone } = delta;
        let upserts = upserts.iter().map(|row| self.sealed(row)).collect::<Result<_, _>>();
        let key = |object: &ObjectRef| (object.kind.into(), object.namespace.clone(), object.name.clone());
        let delta = rows::Delta {
            upserts: upserts.map_err(|error| SinkError::Unavailable(error.to_string()))?,
            deletes: deletes.iter().map(key).collect(),
            declare: declare.clone(),
            retire: retire.clone(),
            robots: robots.clone(),
            robots_gone: robots_gone.clone(),
        };
        self.store.apply_delta(epoch, based_on, &delta).await.map_err(failed)
    }

    async fn purge(&self, repository: &Declared) -> Result<u64, SinkError> {
        let recorded = self.store.recorded(&repository.name).await.map_err(failed)?;
        let is_meant = |it: &&_| {
            let artifactapi_model::ports::housekeeping::Recorded { namespace, package_type, retired, .. } =
                it;
            *namespace == repository.namespace && *package_type == repository.package_type && *retired
        };
        // One that is there again keeps what it has.
        let Some(found) = recorded.iter().find(is_meant) else { return Ok(0) };
        let id = found.identity.id;
        let pushed = self.store.purge_local(id, STEP).await.map_err(failed)?;
        let cached = self.store.purge_artifacts(id, STEP).await.map_err(failed)?;
        Ok(pushed + cached)
    }
}
