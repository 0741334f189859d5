//! The stores under test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_engine::gc::{self, Collector};
use artifactapi_model::{
    Local, PackageType, RepoName, SystemClock,
    policy::Patterns,
    ports::{BlobStore, Housekeeping, MetadataStore},
    repository::{Deletion, LocalSpec, ReadAccess},
};
use artifactapi_registry::{Registry, sweep};
use artifactapi_services::{Minio, Postgres};
use artifactapi_stores::{
    FsBlobs, PostgresMetadata, S3Blobs, S3Settings, SqliteMetadata, TieredBlobs,
    postgres::{PostgresSettings, PostgresTls},
};
use secrecy::SecretString;
use tempfile::TempDir;

/// One or two registries over the same stores.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    /// What requests go to, one after the other.
    pub(crate) registries: Vec<Registry>,
    /// Size of the largest body: more than one part where bodies come in parts.
    pub(crate) large: usize,
    metadata: Arc<dyn MetadataStore>,
    keeper: Arc<dyn Housekeeping>,
    /// What there is, without copies.
    blobs: Arc<dyn BlobStore>,
    numbers: AtomicU64,
    _directories: Vec<TempDir>,
    _services: Option<Services>,
}

struct Services {
    _minio: Minio,
    _postgres: Postgres,
}

impl Bench {
    pub(crate) async fn standalone() -> Self {
        // In memory where there is such: thousands of syncs say nothing here.
        let directory = artifactapi_services::scratch();
        let blobs = Arc::new(FsBlobs::open(directory.path()).await.unwrap());
        let file = directory.path().join("rows.sqlite");
        let rows = Arc::new(SqliteMetadata::open(file, Arc::default()).await.unwrap());
        let registry = Registry::new(rows.clone(), rows.clone(), Arc::new(blobs.uploads()), blobs.clone());
        Bench {
            name: "directory and SQLite",
            registries: vec![registry],
            large: 600_000,
            metadata: rows.clone(),
            keeper: rows,
            blobs,
            numbers: AtomicU64::new(0),
            _directories: vec![directory],
            _services: None,
        }
    }

    /// `None`: the services are not installed here.
    pub(crate) async fn replicas() -> Option<Self> {
        const TEST: &str = "the registry against its model on replicas";
        let minio = artifactapi_services::provided(Minio::start_in_memory(), TEST)?;
        let postgres = artifactapi_services::provided(Postgres::start(), TEST)?;
        let settings = PostgresSettings {
            host: "127.0.0.1".into(),
            port: postgres.process.port(),
            user: Postgres::USER.into(),
            password: SecretString::from(Postgres::PASSWORD).into(),
            database: Postgres::DATABASE.into(),
            tls: PostgresTls::Disable,
        };
        PostgresMetadata::migrate(&settings).await.unwrap();
        let (mut registries, mut directories, mut stores) = (vec![], vec![], vec![]);
        for _ in 0..2 {
            let rows = Arc::new(PostgresMetadata::open(settings.clone(), Arc::default()).await.unwrap());
            let directory = TempDir::new().unwrap();
            let s3 = S3Settings::new(
                minio.endpoint(),
                Minio::BUCKET,
                SecretString::from(Minio::ACCESS_KEY),
                SecretString::from(Minio::SECRET_KEY),
            );
            let s3 = S3Blobs::new(s3).unwrap();
            s3.follow(rows.clone());
            s3.check().await.unwrap();
            let blobs = Arc::new(TieredBlobs::open(s3, directory.path(), 64 << 20).await.unwrap());
            registries.push(Registry::new(
                rows.clone(),
                rows.clone(),
                Arc::new(blobs.uploads()),
                blobs.clone(),
            ));
            directories.push(directory);
            stores.push((rows, blobs));
        }
        let (rows, blobs) = stores.remove(0);
        Some(Bench {
            name: "MinIO and PostgreSQL",
            registries,
            large: 6 << 20,
            metadata: rows.clone(),
            keeper: rows,
            blobs,
            numbers: AtomicU64::new(0),
            _directories: directories,
            _services: Some(Services { _minio: minio, _postgres: postgres }),
        })
    }

    pub(crate) fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    pub(crate) async fn local(&self, name: &str) -> Local {
        let name: RepoName = name.parse().unwrap();
        let identity =
            self.metadata.ensure_repository("default", &name, PackageType::Docker, "").await.unwrap();
        let spec = LocalSpec {
            name,
            namespace: "default".into(),
            package_type: PackageType::Docker,
            read: ReadAccess::Anonymous,
            anonymous_write: true,
            read_only: false,
            allow_deletes: true,
            immutable_tags: Patterns::default(),
            untagged_ttl: None,
            terraform_protocols: vec![],
            quota: None,
            deletion: Deletion::Retain,
        };
        Local { identity, spec: Arc::new(spec) }
    }

    /// One sweep and one collection.
    pub(crate) async fn collect(
        &self,
        locals: &[Local],
        grace: Duration,
        untagged: Option<Duration>,
    ) -> Result<(), String> {
        let locals: Vec<Local> = locals
            .iter()
            .map(|local| {
                let spec = LocalSpec { untagged_ttl: untagged, ..(*local.spec).clone() };
                Local { identity: local.identity, spec: Arc::new(spec) }
            })
            .collect();
        // Small, so that paging is tried too.
        let options = sweep::Options { grace, step: 7, strays: true };
        let registry = &self.registries[0];
        registry.sweep(&*self.keeper, &locals, &options).await.map_err(|error| error.to_string())?;
        let collector = Collector {
            blobs: self.registries[0].blobs.clone(),
            metadata: self.metadata.clone(),
            keeper: self.keeper.clone(),
            clock: Arc::new(SystemClock),
            progress: Arc::default(),
        };
        let options =
            gc::Options { grace, step: 7, rest: Duration::ZERO, sweep: false, ..gc::Options::default() };
        let report = collector.run_once(None, &options).await.map_err(|error| error.to_string())?;
        if report.failed > 0 { Err(format!("the collection failed: {report}")) } else { Ok(()) }
    }

    /// Neither rows of blobs nor bytes of uploads are left.
    pub(crate) async fn check_nothing_left(&self) -> Result<(), String> {
        let uploads = self.registries[0].uploads.list(None, Duration::ZERO, 10).await;
        let uploads = uploads.map_err(|error| error.to_string())?;
        let blobs = self.blobs.list(None, 10).await.map_err(|error| error.to_string())?;
        let states = self.keeper.blob_states().await.map_err(|error| error.to_string())?;
        let rows = states.live.count + states.condemned.count + states.deleting.count;
        if uploads.is_empty() && blobs.is_empty() && rows == 0 {
            return Ok(());
        }
        Err(format!("left over: uploads {uploads:?}, blobs {blobs:?}, {rows} rows of blobs"))
    }
}
