//! Several proxies as one: `artifactapi serve` n times over one PostgreSQL, one Redis and one MinIO, with a link of
//! its own from each replica to each service, behind one balancer.

pub mod load;
mod replica;
pub mod sampler;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use artifactapi_services::{Minio, Missing, Postgres, Redis};
use futures_util::future::join_all;
use tempfile::TempDir;

pub use replica::Replica;

use crate::{
    Balancer, Link,
    link::http::HttpLink,
    process::{self, Told},
};
use replica::Links;

/// Starts tried when somebody else takes a port first.
const TRIES: usize = 3;
/// Pause between two looks at the readiness of a replica.
const READINESS: Duration = Duration::from_millis(100);
/// Keys of these clusters; nothing real is sealed with them.
const ENCRYPTION_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const PEER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// Space of a replica's own cache, unless a test says otherwise.
const CACHE_BYTES: &str = "1073741824";

/// The services that all clusters of a test binary share, one after the other.
pub struct Services {
    /// Metadata.
    pub postgres: Postgres,
    /// Coordination.
    pub redis: Redis,
    /// Bytes.
    pub minio: Minio,
    clusters: AtomicUsize,
}

impl Services {
    /// Starts all of them.
    ///
    /// # Errors
    /// When one is not installed.
    pub fn start() -> Result<Self, Missing> {
        let (postgres, redis, minio) = (Postgres::start()?, Redis::start()?, Minio::start()?);
        Ok(Services { postgres, redis, minio, clusters: AtomicUsize::new(0) })
    }
}

/// What a cluster is started with.
pub struct Options {
    manifests: String,
    replicas: usize,
    environment: Vec<(String, String)>,
}

impl Options {
    /// Three replicas with these manifests, one file of documents.
    pub fn new(manifests: impl Into<String>) -> Self {
        Options { manifests: manifests.into(), replicas: 3, environment: Vec::new() }
    }

    /// So many replicas.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Adds an environment variable to every replica.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the cluster on a database and a bucket of its own and an empty Redis, and waits until all replicas
    /// are ready.
    ///
    /// # Panics
    /// When it does not come up; shows what was said.
    pub async fn start(self, services: &Services) -> Cluster {
        let number = services.clusters.fetch_add(1, Relaxed) + 1;
        let (database, bucket) = (format!("cluster{number}"), format!("cluster{number}"));
        services.postgres.database(&database);
        services.minio.bucket(&bucket);
        services.redis.command("FLUSHALL");
        let s3 = HttpLink::to(services.minio.endpoint()).await;
        let home = TempDir::new().expect("a temporary directory");
        fs::create_dir(home.path().join("manifests")).expect("an empty directory");
        let at_postgres = |port: u16| {
            [
                ("DBHOST", "127.0.0.1".to_owned()),
                ("DBPORT", port.to_string()),
                ("DBUSER", Postgres::USER.to_owned()),
                ("DBPASS", Postgres::PASSWORD.to_owned()),
                ("DBNAME", database.clone()),
            ]
        };
        let common = [
            ("MINIO_ACCESS_KEY", Minio::ACCESS_KEY),
            ("MINIO_SECRET_KEY", Minio::SECRET_KEY),
            ("MINIO_BUCKET", &bucket),
            ("MINIO_SECURE", "false"),
            ("MINIO_REGION", "us-east-1"),
            ("ARTIFACTAPI_ENCRYPTION_KEY", ENCRYPTION_KEY),
            ("ARTIFACTAPI_PEER_KEY", PEER_KEY),
            ("ARTIFACTAPI_CACHE_BYTES", CACHE_BYTES),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let mut replicas = Vec::new();
        for number in 0..self.replicas {
            let links = Links {
                postgres: Link::to(format!("127.0.0.1:{}", services.postgres.process.port())).await,
                redis: Link::to(format!("127.0.0.1:{}", services.redis.0.port())).await,
                s3: Link::to(s3.address()).await,
            };
            let mut replica = Replica::new(number, links);
            let of_links = [
                ("REDIS_URL", format!("redis://{}", replica.redis().address())),
                ("MINIO_ENDPOINT", replica.s3().address()),
            ];
            let postgres = at_postgres(replica.postgres().port());
            let all = postgres.into_iter().chain(of_links).chain(common.clone());
            let all = all.map(|(name, value)| (name.to_owned(), value));
            replica.add_env(all.chain(self.environment.iter().cloned()));
            replicas.push(replica);
        }
        let balancer = Balancer::start(replicas.iter().map(Replica::host)).await;
        let direct = at_postgres(services.postgres.process.port()).into_iter();
        let ways = [("REDIS_URL", services.redis.url()), ("MINIO_ENDPOINT", services.minio.endpoint())];
        let direct = direct.chain(ways).chain(common).map(|(name, value)| (name.to_owned(), value)).collect();
        let mut cluster = Cluster { home, database, commands: direct, s3, balancer, replicas };
        cluster.prepare(&self.manifests).await;
        cluster
    }
}

/// Starts one replica of those behind `url`, on other ports where somebody else takes its own first.
async fn start(replica: &mut Replica, url: &str) {
    replica.add_env([("ARTIFACTAPI_PUBLIC_URL".to_owned(), url.to_owned())]);
    let mut tries = 0;
    while !replica.try_start().await {
        tries += 1;
        assert!(tries < TRIES, "replica {} did not start:\n{}", replica.number(), replica.logs());
        replica.take_new_ports();
    }
}

/// A running cluster; it ends when it is dropped. What it wrote stays in the services until they end.
pub struct Cluster {
    home: TempDir,
    database: String,
    /// Environment of subcommands, which reach the services without a link.
    commands: Vec<(String, String)>,
    s3: HttpLink,
    balancer: Balancer,
    replicas: Vec<Replica>,
}

impl Cluster {
    async fn prepare(&mut self, manifests: &str) {
        let told = self.command(&["migrate"]).await;
        assert_eq!(told.code, Some(0), "migrate: {}", told.text);
        let told = self.apply(manifests).await;
        assert_eq!(told.code, Some(0), "apply: {}", told.text);
        let url = self.balancer.url();
        join_all(self.replicas.iter_mut().map(|replica| start(replica, &url))).await;
        for replica in &self.replicas {
            // Its ports may be others than at first.
            self.balancer.replace(replica.number(), replica.host());
        }
        self.balancer.follow_readiness(READINESS);
    }

    /// Runs a subcommand with the environment that leads to the services.
    pub async fn command(&self, arguments: &[&str]) -> Told {
        process::command_with(arguments, &self.commands).await
    }

    /// The same with further variables.
    pub async fn command_env(&self, arguments: &[&str], more: &[(&str, &str)]) -> Told {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Vec<_> = self.commands.iter().cloned().chain(more).collect();
        process::command_with(arguments, &environment).await
    }

    /// Replaces all manifests by `documents` and runs `artifactapi apply` on them; what was there and is not among
    /// them stays.
    ///
    /// # Panics
    /// When the manifests cannot be written.
    pub async fn apply(&self, documents: &str) -> Told {
        self.apply_with(documents, &[]).await
    }

    /// The same with `--prune`: what is not among them goes.
    ///
    /// # Panics
    /// When the manifests cannot be written.
    pub async fn apply_only(&self, documents: &str) -> Told {
        self.apply_with(documents, &["--prune"]).await
    }

    async fn apply_with(&self, documents: &str, flags: &[&str]) -> Told {
        let manifests = self.home.path().join("manifests");
        fs::write(manifests.join("test.yaml"), documents).expect("space");
        self.command(&[&["apply", "-f", &manifests.to_string_lossy()], flags].concat()).await
    }

    /// The replicas.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// One replica.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn replica(&mut self, number: usize) -> &mut Replica {
        &mut self.replicas[number]
    }

    /// The balancer in front of the replicas.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The link between the links of all replicas and the object store.
    pub fn s3(&self) -> &HttpLink {
        &self.s3
    }

    /// Name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Root URL of the balancer, without a slash at its end.
    pub fn url(&self) -> String {
        self.balancer.url()
    }

    /// Base URL of a Remote through the balancer, with a slash at its end.
    pub fn remote(&self, name: &str) -> String {
        format!("{}/api/v1/remote/{name}/", self.url())
    }

    /// Everything that all replicas have written, under their numbers.
    pub fn logs(&self) -> String {
        let log = |replica: &Replica| format!("--- replica {}\n{}", replica.number(), replica.logs());
        self.replicas.iter().map(log).collect()
    }
}
