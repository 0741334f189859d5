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

    /// Robots and tokens; proxies may be running on the same database.
    pub(super) async fn accounts(&self) -> Result<Arc<dyn Accounts>, Failure> {
        if let Some(settings) = self.shared()? {
            return Ok(Arc::new(PostgresMetadata::open(settings.database, Arc::default()).await?));
        }
        let file = layout::database(&self.directory()?);
        Ok(Arc::new(SqliteMetadata::open(file, Arc::default()).await?))
    }

    /// The database alone; proxies may be running on it.
    pub(super) async fn database(&self) -> Result<Arc<dyn Housekeeping>, Failure> {
        if let Some(settings) = self.shared()? {
            return Ok(Arc::new(PostgresMetadata::open(settings.database, Arc::default()).await?));
        }
        let file = layout::database(&self.directory()?);
        Ok(Arc::new(SqliteMetadata::open(file, Arc::default()).await?))
    }

    /// The database alone, also as that of Locals.
    pub(super) async fn rows(&self) -> Result<(Arc<dyn Housekeeping>, Arc<dyn RegistryStore>), Failure> {
        if let Some(settings) = self.shared()? {
            let database = Arc::new(PostgresMetadata::open(settings.database, Arc::default()).await?);
            return Ok((database.clone(), database));
        }
        let file = layout::database(&self.directory()?);
        let database = Arc::new(SqliteMetadata::open(file, Arc::default()).await?);
        Ok((database.clone(), database))
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
