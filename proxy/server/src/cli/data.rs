//! The stores that a command works on: a data directory, or those of a deployment of replicas.

use std::{path::PathBuf, sync::Arc};

use artifactapi_model::ports::{Accounts, BlobStore, Housekeeping, MetadataStore, Placements, RegistryStore};
use artifactapi_stores::{FsBlobs, PostgresMetadata, S3Blobs, SqliteMetadata};
use clap::Args;

use super::{Failure, settings};
use crate::{
    config::environment::{self, StoreSettings},
    layout,
};

/// Which stores a command works on.
#[derive(Args, Clone, Debug)]
pub(super) struct Data {
    /// Directory of a standalone proxy's database and cached files [default: data; where DBHOST is set, the
    /// stores that the environment names]
    #[arg(long, env = "ARTIFACTAPI_DATA_DIR", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Rows and bytes.
pub(super) struct Stores {
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) metadata: Arc<dyn MetadataStore>,
    pub(super) keeper: Arc<dyn Housekeeping>,
    pub(super) places: Arc<dyn Placements>,
}

/// One database, as each of its users sees it.
pub(super) struct Database {
    pub(super) keeper: Arc<dyn Housekeeping>,
    pub(super) accounts: Arc<dyn Accounts>,
    pub(super) registry: Arc<dyn RegistryStore>,
}

impl Database {
    fn of<D: Housekeeping + Accounts + RegistryStore>(database: Arc<D>) -> Self {
        Database { keeper: database.clone(), accounts: database.clone(), registry: database }
    }
}

impl Data {
    /// What the environment names, unless a directory was given.
    fn shared(&self) -> Result<Option<StoreSettings>, Failure> {
        if self.data.is_some() || (environment::process)("DBHOST").is_none() {
            return Ok(None);
        }
        settings(StoreSettings::read(&environment::process)).map(Some)
    }

    fn directory(&self) -> Result<PathBuf, Failure> {
        let data = self.data.clone().unwrap_or_else(|| "data".into());
        if layout::database(&data).is_file() {
            return Ok(data);
        }
        Err(format!("{} holds no data of this program", data.display()).into())
    }

    /// The database alone; proxies may be running on it.
    pub(super) async fn database(&self) -> Result<Database, Failure> {
        if let Some(settings) = self.shared()? {
            let database = PostgresMetadata::open(settings.database, Arc::default()).await?;
            return Ok(Database::of(Arc::new(database)));
        }
        let file = layout::database(&self.directory()?);
        Ok(Database::of(Arc::new(SqliteMetadata::open(file, Arc::default()).await?)))
    }

    /// Everything. The lock of a directory keeps a running proxy out; nothing keeps replicas out.
    pub(super) async fn stores(&self) -> Result<Stores, Failure> {
        if let Some(settings) = self.shared()? {
            let database = Arc::new(PostgresMetadata::open(settings.database, Arc::default()).await?);
            let blobs = S3Blobs::new(settings.s3)?;
            blobs.follow(database.clone());
            blobs.check().await?;
            return Ok(Stores {
                blobs: Arc::new(blobs),
                metadata: database.clone(),
                keeper: database.clone(),
                places: database,
            });
        }
        let directory = self.directory()?;
        let blobs = Arc::new(FsBlobs::open(&directory).await?);
        let database = Arc::new(SqliteMetadata::open(layout::database(&directory), Arc::default()).await?);
        Ok(Stores { blobs, metadata: database.clone(), keeper: database.clone(), places: database })
    }
}
